// pg-boss: batches of 500 by two workers in the process, one call of the handler per batch, and no pause while batches come
// full. For latency NOTIFY is on and ten workers take one job each; its documents leave NOTIFY off otherwise.
import { PgBoss } from 'pg-boss'
import { run } from './program.mjs'

const QUEUES = ['noop', 'lag']

async function boss (given, options) {
  const made = new PgBoss({ connectionString: given.database, ...options })
  made.on('error', error => console.error(error))
  await made.start()
  return made
}

async function prepare (given) {
  const made = await boss(given, { max: 1, supervise: false, schedule: false })
  for (const name of QUEUES) await made.createQueue(name, { notify: name === 'lag' })
  await made.stop({ graceful: false })
}

async function client (given) {
  const notify = given.command === 'pace'
  const made = await boss(given, {
    max: given.connections, supervise: false, schedule: false, migrate: false, useListenNotify: notify
  })
  return {
    one: i => made.send('noop', { i }),
    many: numbers => made.insert('noop', numbers.map(i => ({ data: { i } }))),
    timed: at => made.send('lag', { at }),
    close: () => made.stop({ graceful: false })
  }
}

async function work (given, ledger) {
  const lag = given.task === 'lag'
  const made = await boss(given, { max: lag ? 12 : 4, useListenNotify: lag })
  if (lag) {
    await made.work('lag', { localConcurrency: 10, pollingIntervalSeconds: 0.5 }, async ([job]) => {
      ledger.lag(job.data.at)
    })
  } else {
    const options = { batchSize: 500, localConcurrency: 2, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true }
    await made.work('noop', options, async jobs => { for (const job of jobs) ledger.hit(job.data.i) })
  }
  return () => made.stop({ graceful: true, timeout: 5000 })
}

await run({ prepare, client, work })

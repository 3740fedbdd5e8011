// graphile-worker at the settings of its own performance page: 24 jobs at once, a local queue of 500, completions in
// batches without delay. Finished jobs are deleted: it keeps none.
import pg from 'pg'
import { Logger, makeWorkerUtils, runTaskList } from 'graphile-worker'
import { run } from './program.mjs'

const AT_ONCE = 24
const logger = new Logger(() => () => {})
process.env.NO_LOG_SUCCESS = '1'

function pool (given, max) {
  const made = new pg.Pool({ connectionString: given.database, max })
  made.on('error', () => {})
  made.on('connect', client => client.on('error', () => {}))
  return made
}

async function prepare (given) {
  const pgPool = pool(given, 1)
  const utils = await makeWorkerUtils({ pgPool, logger })
  await utils.migrate()
  await utils.release()
  await pgPool.end()
}

async function client (given) {
  const utils = await makeWorkerUtils({ pgPool: pool(given, given.connections), logger })
  return {
    one: i => utils.addJob('noop', { i }),
    many: numbers => utils.addJobs(numbers.map(i => ({ identifier: 'noop', payload: { i } }))),
    timed: at => utils.addJob('lag', { at }),
    close: () => utils.release()
  }
}

async function work (given, ledger) {
  const preset = {
    worker: {
      connectionString: given.database,
      concurrentJobs: AT_ONCE,
      maxPoolSize: AT_ONCE + 1,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0
    }
  }
  const tasks = { noop: async ({ i }) => { ledger.hit(i) }, lag: async ({ at }) => { ledger.lag(at) } }
  const worker = runTaskList({ preset, logger, noHandleSignals: true }, tasks, pool(given, AT_ONCE + 1))
  return () => worker.gracefulShutdown()
}

await run({ prepare, client, work })

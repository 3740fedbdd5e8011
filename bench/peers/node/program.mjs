// The twin of bench/peers/program.py: one program with six commands. A peer gives
// { prepare, client(given) -> { one, many, timed, close }, work(given, ledger) -> stop }.
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Ledger } from './ledger.mjs'

const PER_SECOND = 50
const CHUNK = 1000
const now = () => Number(process.hrtime.bigint())

function arguments_ () {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      database: { type: 'string' },
      count: { type: 'string', default: '0' },
      connections: { type: 'string', default: '1' },
      task: { type: 'string', default: 'noop' }
    }
  })
  const [command] = positionals
  return { ...values, command, count: Number(values.count), connections: Number(values.connections) }
}

async function fill (client, count) {
  for (let start = 0; start < count; start += CHUNK) {
    await client.many(Array.from({ length: Math.min(CHUNK, count - start) }, (_, index) => start + index))
  }
}

async function single (client, given) {
  let next = 0
  const took = []
  const lane = async () => {
    while (next < given.count) {
      const number = next++
      const began = now()
      await client.one(number)
      took.push((now() - began) / 1e6)
    }
  }
  await Promise.all(Array.from({ length: given.connections }, lane))
  return took
}

async function measured (client, given) {
  for (let turn = 0; turn < 3; turn++) {
    await Promise.all(Array.from({ length: given.connections }, () => client.one(-1)))
  }
  process.stdout.write('ready\n')
  await once(process.stdin, 'data')
  const spent = process.cpuUsage()
  const began = now()
  let took = [0]
  if (given.command === 'single') took = await single(client, given)
  else await fill(client, given.count)
  const seconds = (now() - began) / 1e9
  const { user, system } = process.cpuUsage(spent)
  took.sort((left, right) => left - right)
  const said = { seconds, cpu_s: (user + system) / 1e6, p50_ms: took[Math.floor(took.length / 2)] }
  process.stdout.write(JSON.stringify(said) + '\n')
}

async function pace (client, count) {
  let seed = 7
  const jitter = () => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed / 2147483648 * 0.8 - 0.4 }
  const began = now()
  for (let number = 0; number < count; number++) {
    const at = began + (number + jitter()) / PER_SECOND * 1e9
    await sleep(Math.max(0, (at - now()) / 1e6))
    await client.timed(now())
  }
}

export async function run (peer) {
  const given = arguments_()
  if (given.command === 'prepare') {
    await peer.prepare(given)
  } else if (given.command === 'work') {
    const ledger = new Ledger()
    const stop = await peer.work(given, ledger)
    await new Promise(resolve => process.once('SIGTERM', resolve))
    ledger.write()
    await stop()
  } else {
    const client = await peer.client(given)
    if (given.command === 'fill') await fill(client, given.count)
    else if (given.command === 'pace') await pace(client, given.count)
    else await measured(client, given)
    await client.close()
  }
  process.exit(0)
}

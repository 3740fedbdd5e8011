// The twin of bench/ledger.py: what the handlers of this process did, written down when it ends.
import fs from 'node:fs'
import path from 'node:path'

const STEP = 500

export class Ledger {
  ids = []
  lags = []
  first = 0
  #progress = -1
  #file

  constructor () {
    const file = path.join(process.env.BENCH_LEDGER, String(process.pid))
    this.#progress = fs.openSync(`${file}.progress`, 'a')
    this.#file = file
  }

  hit (number) {
    if (this.ids.length % STEP === 0) {
      if (this.ids.length === 0) this.first = Number(process.hrtime.bigint())
      fs.writeSync(this.#progress, '.')
    }
    this.ids.push(number)
  }

  lag (since) {
    this.lags.push((Number(process.hrtime.bigint()) - since) / 1e6)
  }

  write () {
    const kept = { count: this.ids.length, first_ns: this.first, ids: this.ids, lags_ms: this.lags, spans_ns: [] }
    fs.writeFileSync(`${this.#file}.part`, JSON.stringify(kept))
    fs.renameSync(`${this.#file}.part`, `${this.#file}.json`)
  }
}

// What every session with the SDK has: steps that print one JSON line each, and the error a call must end with.
import assert from "node:assert/strict";

const PATIENCE_MS = 20_000;
/** The SDK's own retries of a 404 take 9.3 seconds, the shortest of them one. */
const AT_ONCE_MS = 900;

export async function step(name, body) {
  const began = performance.now();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end after ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  try {
    await Promise.race([body(), late]);
    print({ step: name, ok: true, ms: since(began) });
  } catch (error) {
    print({ step: name, ok: false, ms: since(began), error: `${error.name}: ${error.message}`, at: error.stack });
    process.exitCode = 1;
  } finally {
    clearTimeout(timer);
  }
}

const print = (line) => console.log(JSON.stringify(line));
const since = (began) => Math.round(performance.now() - began);

/** The error that a call must end with, at once: one that came after retries is as wrong as another one. */
export async function refused(kind, status, call) {
  const began = performance.now();
  const error = await call().then(
    () => assert.fail(`expected a ${kind.name}`),
    (reason) => reason,
  );
  assert.ok(error instanceof kind, `expected a ${kind.name}, got ${error.constructor.name}: ${error.message}`);
  assert.equal(error.status, status);
  assert.ok(since(began) < AT_ONCE_MS, `took ${since(began)} ms: it was retried`);
  return error;
}

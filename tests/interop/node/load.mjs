// An application under load: triggers one run after the other in a few loops, single and in batches, with the SDK's own
// retries, until its input ends; BATCHES=0: no batches. Prints one JSON line per call: what was asked for, and whether it was accepted.
import { batch, tasks } from "@trigger.dev/sdk";

const LOOPS = Number(process.env.LOOPS ?? 4);
const BATCH = 5;
const began = performance.now();
let asked = 0;
let stopping = false;
process.stdin.resume().on("end", () => (stopping = true));

const now = () => Math.round(performance.now() - began);
const next = () => ({ n: asked++ });

async function call(payloads, send) {
  const from = now();
  try {
    await send(payloads);
    print({ payloads, from, to: now(), accepted: true });
  } catch (error) {
    print({ payloads, from, to: now(), accepted: false, error: `${error.name}: ${error.message}` });
  }
}

function print({ payloads, ...line }) {
  console.log(JSON.stringify({ numbers: payloads.map(({ n }) => n), ...line }));
}

async function loop(batches) {
  while (!stopping) {
    if (batches) {
      await call(Array.from({ length: BATCH }, next), (all) => batch.trigger(all.map((payload) => ({ id: "echo", payload }))));
    } else {
      await call([next()], ([payload]) => tasks.trigger("echo", payload));
    }
  }
}

await Promise.all(Array.from({ length: LOOPS }, (_, place) => loop(place === 0 && process.env.BATCHES !== "0")));

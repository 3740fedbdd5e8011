// Drives the official SDK against an adapter that runs the task "here" and hands everything else on. Exits with 1 when a
// step does not go as it does with Trigger.dev.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { auth, batch, runs, tasks, TriggerClient, UnprocessableEntityError } from "@trigger.dev/sdk";

const POLL = { pollIntervalMs: 100 };
const tag = `both-${randomUUID()}`;

const made = [];
for (let n = 0; n < 5; n++) made.unshift((await tasks.trigger(n % 2 ? "here" : "echo", { n }, { tags: [tag] })).id);
const ended = await Promise.all(made.map((id) => runs.poll(id, POLL)));
assert.deepEqual(ended.map((run) => run.taskIdentifier), ["echo", "here", "echo", "here", "echo"]);
assert.deepEqual(ended.map((run) => run.output), [{ n: 4 }, { here: { n: 3 } }, { n: 2 }, { here: { n: 1 } }, { n: 0 }]);
console.log("triggered and polled at both places");

const listed = [];
for await (const run of runs.list({ tag, limit: 2 })) listed.push(run.id);
assert.deepEqual(listed, made);
const first = await runs.list({ tag, limit: 2 });
const second = await first.getNextPage();
const back = await second.getPreviousPage();
assert.deepEqual(back.data.map((run) => run.id), made.slice(0, 2));
console.log("one list of both places, forward and back");

const large = { big: "x".repeat(200_000) };
const stored = await runs.poll(await tasks.trigger("echo", large, { tags: [tag] }), POLL);
assert.deepEqual(stored.output, large);
console.log("a payload that is stored goes along");

const idempotencyKey = randomUUID();
for (const task of ["here", "echo"]) {
  const one = await tasks.trigger(task, 1, { idempotencyKey, delay: "1h" });
  const two = await tasks.trigger(task, 1, { idempotencyKey });
  assert.deepEqual([two.id, two.isCached], [one.id, true]);
  await runs.cancel(one.id);
  assert.equal((await runs.retrieve(one.id)).status, "CANCELED");
  const again = await runs.replay(one.id);
  assert.equal((await runs.poll(again.id, POLL)).status, "COMPLETED");
}
console.log("keys, cancel and replay at both places");

for (const [task, id] of [["echo", made[0]], ["here", made[1]]]) {
  const accessToken = await auth.createPublicToken({ scopes: { read: { runs: [id] } } });
  const browser = new TriggerClient({ accessToken, baseURL: process.env.TRIGGER_API_URL });
  assert.equal((await browser.runs.retrieve(id)).taskIdentifier, task);
  await assert.rejects(browser.runs.retrieve(made[3]), (error) => error.status === 403);
}
console.log("a token that is made here reads at both places");

await assert.rejects(
  batch.trigger([{ id: "here", payload: 1 }, { id: "echo", payload: 2 }]),
  (error) => (error.apiError ?? error.cause ?? error) instanceof UnprocessableEntityError,
);
console.log("a batch of both places is refused");

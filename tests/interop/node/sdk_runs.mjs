// What the SDK does with runs that are there: read whole, filtered, paged, moved, replayed, acted on in bulk.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { BadRequestError, idempotencyKeys, NotFoundError, runs, tasks } from "@trigger.dev/sdk";
import { refused, step } from "./steps.mjs";

const POLL = { pollIntervalMs: 100 };
const NOBODY = "run_" + "1".repeat(26);
const session = `runs-${randomUUID()}`;
const start = (task, payload, options = {}) =>
  tasks.trigger(task, payload, { ...options, tags: [session, ...(options.tags ?? [])] });
const ids = (page) => page.data.map((run) => run.id);

await step("a run with its family, and what it was asked for", async () => {
  const asked = { machine: "small-2x", region: "eu-central-1", version: "20250101.1", ttl: "10m" };
  const handle = await start("family", { n: 1 }, asked);
  await runs.poll(handle, POLL);
  const run = await runs.retrieve(handle);
  assert.deepEqual([run.region, run.version, run.ttl, run.depth], ["eu-central-1", "20250101.1", "10m", 0]);
  const [child] = run.relatedRuns.children;
  const below = await runs.retrieve(child.id);
  assert.deepEqual([below.depth, below.relatedRuns.parent.id, below.relatedRuns.root.id], [1, run.id, run.id]);
  assert.deepEqual([run.relatedRuns.parent, run.triggerFunction], [undefined, "trigger"]);
  assert.equal(below.triggerFunction, "triggerAndWait");
  for (const filter of [{ machine: "small-2x" }, { region: ["eu-central-1"] }, { version: "20250101.1" }]) {
    assert.deepEqual(ids(await runs.list({ tag: session, ...filter })), [run.id], JSON.stringify(filter));
  }
});

await step("a payload and an output that are too large to be inline", async () => {
  const payload = { text: "ä".repeat(100_000) };
  const run = await runs.poll(await start("echo", payload), POLL);
  assert.equal(run.status, "COMPLETED");
  assert.deepEqual([run.payload, run.output], [payload, payload]);
});

await step("every filter at once, and those that find nothing", async () => {
  const queue = `queue-${randomUUID()}`;
  const handle = await start("echo", 1, { delay: "1h", queue, machine: "micro", region: "us", version: "1" });
  const now = Date.now();
  const every = {
    tag: [session, "another"],
    status: ["DELAYED", "QUEUED"],
    taskIdentifier: ["echo", "fail"],
    version: "1",
    isTest: false,
    from: new Date(now - 60_000),
    to: now + 60_000,
    queue: [{ type: "custom", name: queue }, { type: "task", name: "fail" }],
    machine: ["micro", "large-1x"],
    region: "us",
  };
  assert.deepEqual(ids(await runs.list(every)), [handle.id]);
  assert.deepEqual(ids(await runs.list("proj_any", { ...every, env: ["dev", "prod"] })), [handle.id]);
  for (const filter of [{ batch: "batch_1" }, { schedule: "sched_1" }, { bulkAction: "bulk_1" }, { isTest: true }]) {
    assert.deepEqual(ids(await runs.list({ ...every, ...filter })), [], JSON.stringify(filter));
  }
  assert.deepEqual(ids(await runs.list("proj_any", { ...every, env: "staging" })), []);
  await refused(BadRequestError, 400, () => runs.list({ limit: 101 }));
  await refused(BadRequestError, 400, () => runs.list({ after: "no cursor of ours" }));
});

await step("pages forward, back and in a loop", async () => {
  const tag = `pages-${randomUUID()}`;
  const made = [];
  for (let n = 0; n < 5; n++) made.unshift((await start("echo", n, { tags: [tag], delay: "1h" })).id);
  const found = [];
  for await (const run of runs.list({ tag, limit: 2 })) found.push(run.id);
  assert.deepEqual(found, made);
  // The SDK sends both cursors here.
  const second = await (await runs.list({ tag, limit: 2 })).getNextPage();
  const first = await second.getPreviousPage();
  assert.deepEqual(ids(first), made.slice(0, 2));
  assert.deepEqual([first.hasPreviousPage(), first.hasNextPage()], [false, true]);
});

await step("a delayed run is moved", async () => {
  const handle = await start("echo", 1, { delay: "1h" });
  const moved = await runs.reschedule(handle.id, { delay: "2h" });
  assert.equal(moved.status, "DELAYED");
  assert.ok(Math.abs(moved.delayedUntil - Date.now() - 7_200_000) < 60_000);
  const at = new Date(Date.now() + 86_400_000);
  assert.equal((await runs.reschedule(handle.id, { delay: at })).delayedUntil.getTime(), at.getTime());
  const bad = await refused(BadRequestError, 400, () => runs.reschedule(handle.id, { delay: "soon" }));
  assert.match(bad.message, /Invalid delay/);
  await runs.cancel(handle.id);
  await refused(BadRequestError, 400, () => runs.reschedule(handle.id, { delay: "1h" }));
  await refused(NotFoundError, 404, () => runs.reschedule(NOBODY, { delay: "1h" }));
});

await step("a run is replayed, as it was and otherwise", async () => {
  const original = await start("echo", { at: new Date(0) }, { metadata: { k: "v" }, machine: "micro" });
  await runs.poll(original, POLL);
  const again = await runs.poll(await runs.replay(original.id), POLL);
  assert.deepEqual([again.payload, again.metadata, again.tags], [{ at: new Date(0).toISOString() }, { k: "v" }, [session]]);
  const other = await runs.replay(original.id, { payload: { new: 1n }, tags: [session, "r"], delay: "1h", ttl: 90 });
  const run = await runs.retrieve(other.id);
  assert.deepEqual([run.payload, run.status, run.ttl], [{ new: 1 }, "DELAYED", "1m30s"]);
  await refused(NotFoundError, 404, () => runs.replay(NOBODY));
});

await step("an idempotency key is reset", async () => {
  const key = await idempotencyKeys.create(randomUUID(), { scope: "global" });
  const first = await start("echo", 1, { idempotencyKey: key });
  assert.equal((await start("echo", 1, { idempotencyKey: key })).id, first.id);
  assert.equal((await idempotencyKeys.reset("echo", key)).id, key);
  assert.notEqual((await start("echo", 1, { idempotencyKey: key })).id, first.id);
  await refused(NotFoundError, 404, () => idempotencyKeys.reset("echo", "f".repeat(64)));
});

await step("many runs are canceled and replayed at once", async () => {
  const tag = `bulk-${randomUUID()}`;
  const made = [];
  for (let n = 0; n < 3; n++) made.push((await start("echo", n, { tags: [tag], delay: "1h" })).id);
  const cancel = await runs.bulk.cancel({ filter: { tag, status: "DELAYED" }, name: "tidy up" });
  const canceled = await runs.bulk.poll(cancel.id, POLL);
  assert.deepEqual([canceled.status, canceled.counts], ["COMPLETED", { total: 3, success: 3, failure: 0 }]);
  assert.deepEqual(ids(await runs.list({ bulkAction: cancel.id })).sort(), [...made].sort());
  const replay = await runs.bulk.replay({ runIds: made.slice(0, 2), targetRegion: "eu" });
  assert.equal((await runs.bulk.poll(replay.id, POLL)).counts.success, 2);
  const found = await runs.list({ bulkAction: replay.id });
  assert.deepEqual(found.data.map((run) => run.region), ["eu", "eu"]);
  const [newest] = (await runs.bulk.list({ limit: 1 })).data;
  assert.deepEqual([newest.id, newest.type], [replay.id, "REPLAY"]);
  assert.equal((await runs.bulk.retrieve(cancel.id)).name, "tidy up");
  await refused(BadRequestError, 400, () => runs.bulk.abort(cancel.id));
  await refused(BadRequestError, 400, () => runs.bulk.cancel({ filter: {} }));
  await refused(NotFoundError, 404, () => runs.bulk.retrieve("bulk_" + "1".repeat(26)));
});

await step("a run that ends by its ttl ends a poll", async () => {
  // Nobody serves this task: it waits, and is over.
  const run = await runs.poll(await start("nobody-has-this", 1, { ttl: 1 }), POLL);
  assert.deepEqual([run.status, run.isCompleted, run.isFailed], ["EXPIRED", true, true]);
  assert.equal(run.error.message, "Run expired because the TTL (1s) was reached");
  await refused(NotFoundError, 404, () => runs.poll(NOBODY, POLL));
});

process.exit();

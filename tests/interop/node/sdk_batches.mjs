// What the SDK triggers together, and once: batches in all their forms, keys, debounce, tasks that nobody knows.
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import {
  auth,
  batch,
  BatchTriggerError,
  idempotencyKeys,
  NotFoundError,
  runs,
  task,
  tasks,
  TriggerClient,
  UnprocessableEntityError,
} from "@trigger.dev/sdk";
import { refused, step } from "./steps.mjs";

const POLL_MS = 50;
const OFFLOADED_BYTES = 131_072;
const sha256 = (text) => createHash("sha256").update(text).digest("hex");

/** The batch when its status is another than PENDING. */
async function ended(handle) {
  for (;;) {
    const found = await batch.retrieve(handle.batchId);
    if (found.status !== "PENDING") return found;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** The outputs of a batch's runs, in the order of its items. */
async function outputs(handle) {
  const found = await ended(handle);
  assert.equal(found.status, "COMPLETED", JSON.stringify(found));
  assert.deepEqual(found.processing.errors, []);
  assert.equal(found.runs.length, handle.runCount);
  return Promise.all(found.runs.map(async (id) => (await runs.retrieve(id)).output));
}

/** The error that a batch must end with; what is wrong with it is inside. */
async function batchRefused(phase, status, call) {
  const error = await call().then(
    () => assert.fail("expected a BatchTriggerError"),
    (reason) => reason,
  );
  assert.ok(error instanceof BatchTriggerError, `${error.constructor.name}: ${error.message}`);
  assert.equal(error.phase, phase);
  assert.equal(error.apiError?.status, status, error.message);
  return error;
}

await step("batch.trigger, of two tasks", async () => {
  const handle = await batch.trigger([
    { id: "echo", payload: { n: 1, at: new Date(0) }, options: { tags: ["batched"], metadata: { a: 1 } } },
    { id: "ns/task with space", payload: "text", options: { queue: "sdk-batches", concurrencyKey: "ck" } },
  ]);
  assert.match(handle.batchId, /^batch_/);
  assert.equal(handle.runCount, 2);
  assert.equal(handle.publicAccessToken.split(".").length, 3);
  assert.deepEqual(await outputs(handle), [{ n: 1, at: new Date(0).toISOString() }, "text"]);
  const found = await batch.retrieve(handle.batchId);
  const run = await runs.retrieve(found.runs[0]);
  assert.deepEqual([run.tags, run.metadata, run.batchId], [["batched"], { a: 1 }, handle.batchId]);
  assert.equal(run.triggerFunction, "batchTrigger");
  const listed = [];
  for await (const each of runs.list({ batch: handle.batchId })) listed.push(each.id);
  assert.deepEqual(listed.sort(), [...found.runs].sort());
  await auth.withAuth({ accessToken: handle.publicAccessToken }, async () => {
    assert.equal((await batch.retrieve(handle.batchId)).id, handle.batchId);
    assert.equal((await runs.retrieve(found.runs[0])).id, found.runs[0]);
  });
});

await step("tasks.batchTrigger, a thousand at once", async () => {
  const handle = await tasks.batchTrigger(
    "echo",
    Array.from({ length: 1000 }, (_, n) => ({ payload: n, options: { delay: "1h" } })),
  );
  const found = await batch.retrieve(handle.batchId);
  assert.deepEqual([found.status, found.runCount, new Set(found.runs).size], ["PENDING", 1000, 1000]);
});

await step("batch.triggerByTask, and a task's own batchTrigger", async () => {
  const echo = task({ id: "echo", run: async (payload) => payload });
  assert.deepEqual(await outputs(await batch.triggerByTask([{ task: echo, payload: 1 }, { task: echo, payload: [2] }])), [1, [2]]);
  assert.deepEqual(await outputs(await echo.batchTrigger([{ payload: "a" }, { payload: "b" }])), ["a", "b"]);
});

await step("items that come as a stream", async () => {
  async function* items() {
    for (let n = 0; n < 20; n++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      yield { payload: { n } };
    }
  }
  assert.deepEqual(await outputs(await tasks.batchTrigger("echo", items())), Array.from({ length: 20 }, (_, n) => ({ n })));
});

await step("payloads of a batch that are offloaded", async () => {
  const large = (n) => ({ n, big: "x".repeat(OFFLOADED_BYTES), tail: "☂" });
  const found = await outputs(await tasks.batchTrigger("echo", [{ payload: large(0) }, { payload: large(1) }, { payload: 2 }]));
  assert.deepEqual(found, [large(0), large(1), 2]);
});

await step("a batch under one key, and its items under keys made of it", async () => {
  const key = `order-${randomUUID()}`;
  const options = { idempotencyKey: key, idempotencyKeyTTL: "1h" };
  const items = [{ payload: 0 }, { payload: 1 }];
  const first = await tasks.batchTrigger("echo", items, options);
  const again = await tasks.batchTrigger("echo", [{ payload: "other" }, { payload: "others" }], options);
  assert.equal(again.batchId, first.batchId);
  assert.deepEqual(await outputs(first), [0, 1]);
  // What the SDK makes of a batch's key for each item holds outside of the batch, too.
  const { runs: made } = await batch.retrieve(first.batchId);
  const single = await tasks.trigger("echo", "third", { idempotencyKey: sha256(`${key}-1`) });
  assert.deepEqual([single.id, single.isCached], [made[1], true]);
});

await step("keys of items, and idempotencyKeys.create with its scopes", async () => {
  const name = randomUUID();
  const shared = await idempotencyKeys.create([name, "x"], { scope: "global" });
  assert.equal(shared, sha256(`${name}-x`));
  const first = await tasks.trigger("echo", 1, { idempotencyKey: shared });
  const handle = await tasks.batchTrigger("echo", [
    { payload: 2, options: { idempotencyKey: shared } },
    { payload: 3, options: { idempotencyKey: await idempotencyKeys.create(name, { scope: "run" }) } },
  ]);
  const found = await ended(handle);
  assert.equal(found.runs[0], first.id);
  const run = await runs.retrieve(found.runs[1]);
  assert.deepEqual([run.output, run.idempotencyKey], [3, name]);
  // Outside of a run all scopes are one.
  const attempt = await idempotencyKeys.create(name, { scope: "attempt" });
  const other = await tasks.trigger("echo", 4, { idempotencyKey: attempt });
  assert.deepEqual([other.id, other.isCached], [found.runs[1], true]);
});

await step("items that cannot be triggered", async () => {
  const tags = Array.from({ length: 11 }, (_, n) => `t${n}`);
  const handle = await tasks.batchTrigger("echo", [{ payload: 1, options: { tags } }, { payload: 2 }]);
  const found = await ended(handle);
  assert.equal(found.status, "PARTIAL_FAILED");
  assert.equal(found.runs.length, 1);
  assert.deepEqual(
    found.processing.errors.map((error) => [error.index, error.taskIdentifier]),
    [[0, "echo"]],
  );
  assert.match(found.processing.errors[0].error, /10 tags/);
});

await step("batches that cannot be", async () => {
  const items = (count) => Array.from({ length: count }, () => ({ payload: 1 }));
  await batchRefused("create", 400, () => tasks.batchTrigger("echo", items(1001)));
  await batchRefused("create", 400, () => batch.trigger([]));
  await batchRefused("stream", 422, () => batch.trigger([{ id: "", payload: 1 }]));
  await refused(NotFoundError, 404, () => batch.retrieve("batch_nosuchbatchatallxxxx"));
  const stranger = new TriggerClient({
    baseURL: process.env.TRIGGER_API_URL,
    accessToken: "tr_dev_notthekeyofanybodyatall",
  });
  await batchRefused("create", 401, () => stranger.tasks.batchTrigger("echo", items(1)));
  const token = await auth.createBatchTriggerPublicToken("echo");
  await auth.withAuth({ accessToken: token }, async () => {
    await batchRefused("create", 403, () => tasks.batchTrigger("slow", items(1)));
    assert.equal((await tasks.batchTrigger("echo", items(1))).runCount, 1);
    await batchRefused("create", 422, () => tasks.batchTrigger("echo", items(1)));
  });
});

await step("debounce, leading and trailing", async () => {
  for (const [mode, payload] of [["leading", "first"], ["trailing", "last"]]) {
    const options = { debounce: { key: randomUUID(), delay: "1s", mode, maxDelay: "1m" } };
    const first = await tasks.trigger("echo", "first", options);
    const again = await tasks.trigger("echo", "last", options);
    assert.deepEqual([again.id, first.isCached, again.isCached], [first.id, false, true]);
    assert.equal((await runs.retrieve(first)).status, "DELAYED");
    assert.equal((await runs.poll(first, { pollIntervalMs: POLL_MS })).output, payload);
    const next = await tasks.trigger("echo", "next", options);
    assert.notEqual(next.id, first.id);
    await runs.cancel(next.id);
  }
  for (const debounce of [{ key: "k", delay: "soon" }, { key: "k", delay: "5s", maxDelay: "1s" }]) {
    await refused(UnprocessableEntityError, 422, () => tasks.trigger("echo", 1, { debounce }));
  }
});

await step("a task that nobody knows", async () => {
  const handle = await tasks.trigger("not deployed yet", { n: 1 }, { machine: "small-2x", region: "eu-central-1" });
  const run = await runs.retrieve(handle);
  assert.deepEqual([run.status, run.isQueued, run.region], ["PENDING_VERSION", true, "eu-central-1"]);
  assert.equal((await runs.cancel(handle.id)).id, handle.id);
  assert.equal((await runs.retrieve(handle)).status, "CANCELED");
});

// What a step that came too late has left behind is not waited for.
process.exit();

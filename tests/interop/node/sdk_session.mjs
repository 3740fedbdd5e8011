// Drives the official SDK against the server named by TRIGGER_API_URL with TRIGGER_SECRET_KEY, as an application would.
// Prints one JSON line per step; exits with 1 when one did not go as it does with Trigger.dev.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { AuthenticationError, NotFoundError, runs, tasks, TriggerClient, UnprocessableEntityError } from "@trigger.dev/sdk";
import { refused, step } from "./steps.mjs";

const POLL = { pollIntervalMs: 100 };
/** From this size on the SDK stores a payload first, and sends only where it lies. */
const OFFLOADED_BYTES = 131_072;

/** Every run of this session can be listed by it, and no run of another one. */
const session = `session-${randomUUID()}`;

const later = (ms) => new Date(Date.now() + ms);

async function completed(handle) {
  const run = await runs.poll(handle, POLL);
  assert.equal(run.status, "COMPLETED", JSON.stringify(run.error));
  assert.deepEqual([run.isCompleted, run.isSuccess, run.isFailed, run.isCancelled], [true, true, false, false]);
  assert.ok(run.startedAt instanceof Date && run.finishedAt >= run.startedAt);
  return run;
}

async function listed(filters) {
  const found = [];
  for await (const run of runs.list({ period: "1h", tag: session, ...filters })) found.push(run.id);
  return found;
}

await step("trigger and poll", async () => {
  const payload = {
    at: new Date("2026-11-22T10:00:00.123Z"),
    nested: { list: [1, 2.5, { deep: null }], empty: {}, none: [] },
    text: "größer ☂ 😀 \u2028 \" \\",
    yes: true,
  };
  const plain = JSON.parse(JSON.stringify(payload));
  const handle = await tasks.trigger("echo", payload, { tags: session });
  assert.match(handle.id, /^run_/);
  assert.equal(handle.isCached, false);
  assert.equal(handle.publicAccessToken.split(".").length, 3);
  const run = await completed(handle);
  assert.deepEqual(run.payload, plain);
  assert.deepEqual(run.output, plain);
});

await step("retrieve", async () => {
  const handle = await tasks.trigger("echo", { n: 1 }, { tags: [session, "vip"] });
  await completed(handle);
  for (const run of [await runs.retrieve(handle), await runs.retrieve(handle.id)]) {
    assert.equal(run.id, handle.id);
    assert.equal(run.taskIdentifier, "echo");
    assert.deepEqual(run.tags, [session, "vip"].sort());
    assert.deepEqual(run.output, { n: 1 });
    assert.equal(run.isTest, false);
    assert.equal(run.attemptCount, 1);
    assert.equal(run.error, undefined);
    assert.ok(run.createdAt instanceof Date && run.updatedAt instanceof Date);
    assert.ok(Math.abs(run.createdAt - Date.now()) < 60_000);
  }
});

await step("trigger with every option, twice under one idempotency key", async () => {
  const key = `order-${randomUUID()}`;
  const options = {
    idempotencyKey: key,
    idempotencyKeyTTL: "1h",
    delay: "2s",
    ttl: "10m",
    tags: [session, "a", "b:1"],
    metadata: { step: "start", nested: { x: 1 } },
    maxAttempts: 2,
    queue: "sdk-session",
    priority: 10,
    concurrencyKey: "tenant-1",
  };
  const first = await tasks.trigger("echo", { first: true }, options);
  assert.equal(first.isCached, false);
  const again = await tasks.trigger("echo", { first: false }, options);
  assert.deepEqual([again.id, again.isCached], [first.id, true]);
  const waiting = await runs.retrieve(first);
  assert.equal(waiting.status, "DELAYED");
  assert.equal(waiting.isQueued, true);
  assert.ok(waiting.delayedUntil > waiting.createdAt);
  assert.equal(waiting.ttl, "10m");
  assert.equal(waiting.idempotencyKey, key);
  assert.deepEqual(waiting.tags, [session, "a", "b:1"].sort());
  assert.deepEqual(waiting.metadata, { step: "start", nested: { x: 1 } });
  const run = await completed(first);
  assert.deepEqual(run.output, { first: true });
  assert.ok(run.startedAt >= waiting.delayedUntil, "started before it was due");
  const afterwards = await tasks.trigger("echo", { first: false }, options);
  assert.deepEqual([afterwards.id, afterwards.isCached], [first.id, true]);
});

await step("one idempotency key, two tasks", async () => {
  const idempotencyKey = randomUUID();
  const echo = await tasks.trigger("echo", 1, { idempotencyKey, tags: session });
  const other = await tasks.trigger("ns/task with space", 1, { idempotencyKey, tags: session });
  assert.notEqual(echo.id, other.id);
  assert.equal(other.isCached, false);
});

await step("payloads that are no objects", async () => {
  for (const payload of ["plain string", '{"looks":"like json"}', "", 42, false, null, [1, "two"]]) {
    const run = await completed(await tasks.trigger("echo", payload, { tags: session }));
    assert.deepEqual(run.output ?? null, payload, `payload ${JSON.stringify(payload)}`);
  }
});

await step("no payload", async () => {
  const run = await completed(await tasks.trigger("echo", undefined, { tags: session }));
  assert.equal(run.output ?? null, null);
});

await step("a payload that is offloaded", async () => {
  const payload = { big: "x".repeat(200_000), tail: "☂" };
  assert.ok(JSON.stringify(payload).length > OFFLOADED_BYTES);
  const run = await completed(await tasks.trigger("echo", payload, { tags: session }));
  assert.deepEqual(run.output, payload);
  assert.deepEqual(run.payload, payload);
});

await step("a task id with slash and space", async () => {
  const handle = await tasks.trigger("ns/task with space", { n: 1 }, { tags: session });
  const run = await completed(handle);
  assert.equal(run.taskIdentifier, "ns/task with space");
  assert.deepEqual(run.output, { n: 1 });
  assert.ok((await listed({ taskIdentifier: "ns/task with space" })).includes(handle.id));
});

await step("a run that fails", async () => {
  const key = randomUUID();
  const options = { tags: session, maxAttempts: 1, idempotencyKey: key };
  const handle = await tasks.trigger("fail", { message: "on purpose" }, options);
  const run = await runs.poll(handle, POLL);
  assert.equal(run.status, "FAILED");
  assert.deepEqual([run.isCompleted, run.isSuccess, run.isFailed, run.isCancelled], [true, false, true, false]);
  assert.equal(run.error.name, "ValueError");
  assert.match(run.error.message, /on purpose/);
  assert.equal(run.output, undefined);
  assert.ok(run.finishedAt instanceof Date);
  // A failed run gives its key free.
  const next = await tasks.trigger("fail", { message: "again" }, options);
  assert.notEqual(next.id, handle.id);
  assert.equal(next.isCached, false);
  await runs.poll(next, POLL);
});

await step("a run that fails once is tried again", async () => {
  const handle = await tasks.trigger("fail", { message: "first time", times: 1 }, { tags: session, maxAttempts: 2 });
  const run = await completed(handle);
  assert.equal(run.attemptCount, 2);
});

await step("cancel of a delayed run", async () => {
  const idempotencyKey = randomUUID();
  const handle = await tasks.trigger("echo", {}, { delay: later(3_600_000), tags: session, idempotencyKey });
  assert.equal((await runs.retrieve(handle)).status, "DELAYED");
  assert.equal((await runs.cancel(handle.id)).id, handle.id);
  const run = await runs.retrieve(handle);
  assert.equal(run.status, "CANCELED");
  assert.deepEqual([run.isCompleted, run.isSuccess, run.isFailed, run.isCancelled], [true, false, true, true]);
  assert.equal(run.startedAt, undefined);
  assert.equal((await runs.cancel(handle.id)).id, handle.id, "a second cancel is no error");
  const again = await tasks.trigger("echo", {}, { tags: session, idempotencyKey });
  assert.deepEqual([again.id, again.isCached], [handle.id, true], "a canceled run keeps its key");
});

await step("cancel of a running run", async () => {
  const handle = await tasks.trigger("slow", {}, { tags: session });
  while ((await runs.retrieve(handle)).status !== "EXECUTING") {
    await new Promise((resolve) => setTimeout(resolve, POLL.pollIntervalMs));
  }
  await runs.cancel(handle.id);
  const run = await runs.poll(handle, POLL);
  assert.equal(run.status, "CANCELED");
});

await step("list by status, task, tag and period", async () => {
  const tag = `list-${randomUUID()}`;
  const done = await tasks.trigger("echo", {}, { tags: [session, tag] });
  const delayed = await tasks.trigger("echo", {}, { tags: [session, tag], delay: "1h" });
  const failed = await tasks.trigger("fail", {}, { tags: [session, tag], maxAttempts: 1 });
  await completed(done);
  await runs.poll(failed, POLL);
  for (const [filters, expected] of [
    [{}, [failed, delayed, done]],
    [{ status: "COMPLETED" }, [done]],
    [{ status: ["COMPLETED", "DELAYED"] }, [delayed, done]],
    [{ status: "EXECUTING" }, []],
    [{ taskIdentifier: "fail" }, [failed]],
    [{ taskIdentifier: ["echo", "fail"], status: "FAILED" }, [failed]],
    [{ tag: [tag, "no-such-tag"] }, [failed, delayed, done]],
    [{ tag: "no-such-tag" }, []],
    [{ period: undefined, from: later(-60_000), to: later(60_000) }, [failed, delayed, done]],
    [{ period: undefined, to: later(-60_000) }, []],
  ]) {
    const wanted = expected.map((handle) => handle.id);
    assert.deepEqual(await listed({ tag, ...filters }), wanted, `filters ${JSON.stringify(filters)}`);
  }
  const page = await runs.list({ tag, status: "COMPLETED" });
  assert.equal(page.data[0].taskIdentifier, "echo");
  assert.equal(page.data[0].isSuccess, true);
  assert.equal(page.hasNextPage(), false);
  await runs.cancel(delayed.id);
});

await step("list in pages of two", async () => {
  const tag = `pages-${randomUUID()}`;
  const made = [];
  for (let n = 0; n < 5; n++) made.unshift((await tasks.trigger("echo", { n }, { tags: [session, tag] })).id);
  assert.deepEqual(await listed({ tag, limit: 2 }), made, "newest first, each once");
  const first = await runs.list({ tag, limit: 2 });
  assert.deepEqual(first.data.map((run) => run.id), made.slice(0, 2));
  assert.deepEqual([first.hasNextPage(), first.hasPreviousPage()], [true, false]);
  const second = await first.getNextPage();
  assert.deepEqual(second.data.map((run) => run.id), made.slice(2, 4));
  const last = await second.getNextPage();
  assert.deepEqual(last.data.map((run) => run.id), made.slice(4));
  assert.equal(last.hasNextPage(), false);
  const back = await last.getPreviousPage();
  assert.deepEqual(back.data.map((run) => run.id), made.slice(2, 4));
});

await step("an unknown run", async () => {
  const id = "run_nosuchrunatallxxxxxxx";
  await refused(NotFoundError, 404, () => runs.retrieve(id));
  await refused(NotFoundError, 404, () => runs.cancel(id));
});

await step("a wrong key", async () => {
  const stranger = new TriggerClient({
    baseURL: process.env.TRIGGER_API_URL,
    accessToken: "tr_dev_notthekeyofanybodyatall",
  });
  await refused(AuthenticationError, 401, () => stranger.tasks.trigger("echo", {}));
  await refused(AuthenticationError, 401, () => stranger.runs.retrieve("run_nosuchrunatallxxxxxxx"));
});

await step("more than ten tags", async () => {
  const tags = Array.from({ length: 11 }, (_, n) => `tag-${n}`);
  const error = await refused(UnprocessableEntityError, 422, () => tasks.trigger("echo", {}, { tags }));
  assert.match(error.message, /10 tags/);
});

// What a step that came too late has left behind is not waited for.
process.exit();

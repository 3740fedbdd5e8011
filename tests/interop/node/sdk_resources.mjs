// What the SDK keeps beside runs: schedules, queues, wait tokens, environment variables.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import {
  auth,
  BadRequestError,
  deployments,
  envvars,
  NotFoundError,
  PermissionDeniedError,
  queues,
  schedules,
  tasks,
  UnprocessableEntityError,
  wait,
} from "@trigger.dev/sdk";
import { refused, step } from "./steps.mjs";

await step("a schedule is made, made again, changed, turned and deleted", async () => {
  const deduplicationKey = randomUUID();
  const made = await schedules.create({
    task: "echo",
    cron: "0 0 * * *",
    deduplicationKey,
    externalId: "user_1",
    timezone: "America/New_York",
    window: "30m",
  });
  assert.match(made.id, /^sched_/);
  assert.deepEqual([made.type, made.active, made.window], ["IMPERATIVE", true, "30m"]);
  assert.equal(made.generator.expression, "0 0 * * *");
  const late = made.nextRunEffectiveAt - made.nextRun;
  assert.ok(late >= 0 && late < 30 * 60_000);
  const again = await schedules.create({ task: "echo", cron: "0 9 * * *", deduplicationKey });
  assert.deepEqual([again.id, again.timezone, again.externalId ?? null], [made.id, "UTC", null]);
  assert.equal(again.nextRun.getTime(), again.nextRunEffectiveAt.getTime(), "no window: at the very time");
  const changed = await schedules.update(made.id, { task: "echo", cron: "*/5 * * * *", externalId: "user_2" });
  assert.deepEqual([changed.deduplicationKey, changed.externalId], [deduplicationKey, "user_2"]);
  const paused = await schedules.deactivate(made.id);
  assert.deepEqual([paused.active, paused.nextRun ?? null], [false, null]);
  assert.ok((await schedules.activate(made.id)).nextRun > new Date());
  assert.equal((await schedules.retrieve(made.id)).id, made.id);
  const page = await schedules.list({ page: 1, perPage: 100 });
  assert.ok(page.data.some((each) => each.id === made.id));
  assert.ok((await schedules.timezones()).timezones.includes("Europe/Berlin"));
  assert.equal((await schedules.del(made.id)).id, made.id);
  await refused(NotFoundError, 404, () => schedules.retrieve(made.id));
});

await step("a schedule that cannot be", async () => {
  const wanted = { task: "echo", cron: "0 0 * * *", deduplicationKey: randomUUID() };
  for (const [over, words] of [
    [{ cron: "61 * * * *" }, /^Invalid cron expression: /],
    [{ cron: "0 0 0 * * *" }, /seconds are not allowed/],
    [{ timezone: "Mars/Base" }, /^Invalid IANA timezone: 'Mars\/Base'/],
    [{ task: "nobody" }, /^Task with identifier nobody not found in project\./],
  ]) {
    const error = await refused(UnprocessableEntityError, 422, () => schedules.create({ ...wanted, ...over }));
    assert.match(error.message, words);
  }
  for (const call of [schedules.update, schedules.del, schedules.activate, schedules.deactivate]) {
    await refused(NotFoundError, 404, () => call("sched_nosuchscheduleatall", wanted));
  }
});

await step("a queue is found, paused, resumed and limited", async () => {
  const queue = { type: "custom", name: `a/b c-${randomUUID()}` };
  await tasks.trigger("echo", {}, { queue: queue.name, delay: "1h" });
  const found = await queues.retrieve(queue);
  assert.match(found.id, /^queue_/);
  assert.deepEqual([found.name, found.paused, found.concurrencyLimit], [queue.name, false, null]);
  assert.equal((await queues.retrieve(found.id)).name, queue.name);
  assert.equal((await queues.retrieve({ type: "task", name: "ns/task with space" })).name, "default");
  assert.equal((await queues.pause(queue)).paused, true);
  assert.equal((await queues.resume(found.id)).paused, false);
  const limited = await queues.overrideConcurrencyLimit(found.id, 5);
  assert.deepEqual([limited.concurrencyLimit, limited.concurrency.override], [5, 5]);
  assert.ok(limited.concurrency.overriddenAt instanceof Date);
  assert.equal((await queues.resetConcurrencyLimit(queue)).concurrencyLimit, null);
  const page = await queues.list({ page: 1, perPage: 100 });
  assert.ok(page.data.some((each) => each.id === found.id));
});

await step("a queue that is not there, and a limit that cannot be", async () => {
  for (const call of [queues.retrieve, queues.pause, queues.resume, queues.resetConcurrencyLimit]) {
    const error = await refused(NotFoundError, 404, () => call("queue_nosuchqueueatallxxxxx"));
    assert.match(error.message, /queue-not-found/);
  }
  await refused(BadRequestError, 400, () => queues.overrideConcurrencyLimit({ type: "custom", name: "default" }, -1));
  await refused(UnprocessableEntityError, 422, () => queues.pause({ type: "task", name: "echo" }));
});

await step("a token is made, found by its key, completed once, and listed", async () => {
  const tag = `order:${randomUUID()}`;
  const made = await wait.createToken({ timeout: "10m", idempotencyKey: tag, idempotencyKeyTTL: "1h", tags: [tag, "x"] });
  assert.match(made.id, /^waitpoint_/);
  assert.deepEqual([made.isCached, made.publicAccessToken.split(".").length], [false, 3]);
  const again = await wait.createToken({ idempotencyKey: tag });
  assert.deepEqual([again.id, again.isCached, again.url], [made.id, true, made.url]);
  const waiting = await wait.retrieveToken(made);
  assert.deepEqual([waiting.status, waiting.idempotencyKey, waiting.tags.length], ["WAITING", tag, 2]);
  assert.ok(waiting.timeoutAt > new Date(Date.now() + 500_000));
  assert.equal((await wait.completeToken(made, { ok: 1, at: "now" })).success, true);
  assert.equal((await wait.completeToken(made.id, { ok: 2 })).success, true);
  const done = await wait.retrieveToken(made.id);
  assert.deepEqual([done.status, done.output, done.error], ["COMPLETED", { ok: 1, at: "now" }, undefined]);
  const inBrowser = { baseURL: process.env.TRIGGER_API_URL, accessToken: again.publicAccessToken };
  const twice = await auth.withAuth(inBrowser, () => wait.completeToken(made.id, {}));
  assert.equal(twice.success, true, "a public token may complete it");
  const called = await wait.createToken({ tags: tag });
  const reply = await fetch(called.url, { method: "POST", body: '{"from":"outside"}' });
  assert.deepEqual([reply.status, await reply.json()], [200, { success: true }]);
  assert.deepEqual((await wait.retrieveToken(called)).output, { from: "outside" });
  const found = [];
  for await (const each of wait.listTokens({ tags: [tag], status: ["COMPLETED"], period: "1h", limit: 1 })) found.push(each.id);
  assert.deepEqual(found, [called.id, made.id]);
});

await step("a token that was not completed in time, one that is not there, and one of somebody else", async () => {
  const late = await wait.createToken({ timeout: new Date(Date.now() - 1000) });
  const timedOut = await wait.retrieveToken(late);
  assert.equal(timedOut.status, "TIMED_OUT");
  assert.match(timedOut.error.message, /timed out/i);
  await refused(NotFoundError, 404, () => wait.retrieveToken("waitpoint_nosuchtokenatall"));
  await refused(NotFoundError, 404, () => wait.completeToken("waitpoint_nosuchtokenatall", {}));
  await refused(UnprocessableEntityError, 422, () => wait.createToken({ timeout: "soon" }));
  const stranger = { baseURL: process.env.TRIGGER_API_URL, accessToken: late.publicAccessToken };
  const other = await wait.createToken({});
  await refused(PermissionDeniedError, 403, () => auth.withAuth(stranger, () => wait.completeToken(other.id, {})));
});

await step("variables are set, imported, read and removed", async () => {
  const [project, slug] = ["proj_abc", "dev"];
  assert.equal((await envvars.create(project, slug, { name: "A", value: "b" })).success, true);
  assert.equal((await envvars.create(project, slug, { name: "S", value: "hidden", isSecret: true })).success, true);
  const variables = { A: "1", B: "2" };
  assert.equal((await envvars.upload(project, slug, { variables, override: true })).success, true);
  assert.equal((await envvars.retrieve(project, slug, "A")).value, "1");
  const listed = await envvars.list(project, slug);
  assert.deepEqual(
    listed.map((each) => [each.name, each.value, each.isSecret]),
    [["A", "1", false], ["B", "2", false], ["S", "<redacted>", true]],
  );
  assert.equal((await envvars.del(project, slug, "A")).success, true);
});

await step("variables and deployments that are not there", async () => {
  await refused(NotFoundError, 404, () => envvars.retrieve("proj_abc", "dev", "NOBODY"));
  await refused(NotFoundError, 404, () => envvars.del("proj_abc", "dev", "NOBODY"));
  await refused(NotFoundError, 404, () => envvars.list("proj_abc", "moon"));
  await refused(BadRequestError, 400, () => envvars.create("proj_abc", "dev", { name: "1 x", value: "" }));
  await refused(BadRequestError, 400, () => envvars.upload("proj_abc", "dev", { variables: { B: "3" } }));
  await refused(NotFoundError, 404, () => deployments.retrieveCurrent());
  assert.deepEqual((await deployments.list()).data, []);
});

process.exit();

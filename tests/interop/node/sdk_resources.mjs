// What the SDK keeps beside runs: schedules.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { NotFoundError, schedules, UnprocessableEntityError } from "@trigger.dev/sdk";
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

process.exit();

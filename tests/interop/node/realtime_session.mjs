// Subscribes to runs with the official SDK, against the server named by TRIGGER_API_URL with TRIGGER_SECRET_KEY.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { auth, batch, runs, tasks } from "@trigger.dev/sdk";
import { step } from "./steps.mjs";

const API = process.env.TRIGGER_API_URL;
const KEY = process.env.TRIGGER_SECRET_KEY;

/** What the SDK's realtime client has asked for, in order. */
const asked = [];
const { fetch } = globalThis;
globalThis.fetch = (input, init) => {
  const url = new URL(input.url ?? input);
  if (url.pathname.startsWith("/realtime/")) asked.push(url);
  return fetch(input, init);
};

/** A subscription's states, until it ends or `enough` says so; and how many requests it took. */
async function followed(subscription, enough = () => false) {
  const before = asked.length;
  const states = [];
  for await (const run of subscription) {
    states.push(run);
    if (enough(states)) break;
  }
  return { states, requests: asked.length - before };
}

const statuses = (states) => states.map((run) => run.status);

/** The answer to a bare request of the protocol. */
async function get(path, { key = KEY, headers = {} } = {}) {
  const response = await fetch(`${API}${path}`, { headers: { authorization: `Bearer ${key}`, ...headers } });
  return { status: response.status, headers: response.headers, body: await response.json().catch(() => null) };
}

await step("a run to its end, with its progress", async () => {
  const handle = await tasks.trigger("in steps", { steps: 3 }, { delay: "1s" });
  const { states, requests } = await followed(runs.subscribeToRun(handle.id));
  const order = ["DELAYED", "QUEUED", "EXECUTING", "COMPLETED"];
  const places = statuses(states).map((status) => order.indexOf(status));
  assert.deepEqual(places, places.toSorted(), statuses(states).join());
  assert.equal(states[0].status, "DELAYED");
  assert.ok(statuses(states).includes("EXECUTING"), "its run was not seen");
  const seen = states.filter((run) => run.status === "EXECUTING").map((run) => run.metadata?.progress?.value ?? 0);
  assert.ok(seen.some((value) => value > 0 && value <= 1), `progress was not seen: ${seen}`);
  const last = states.at(-1);
  assert.equal(last.status, "COMPLETED");
  assert.deepEqual([last.output, last.payload, last.isCompleted], [{ done: 3 }, { steps: 3 }, true]);
  assert.equal(last.id, handle.id);
  assert.ok(last.createdAt instanceof Date && Math.abs(last.createdAt - Date.now()) < 60_000);
  assert.ok(last.finishedAt >= last.startedAt);
  assert.ok(requests <= states.length + 2, `${requests} requests for ${states.length} states`);
});

await step("a run that has ended already", async () => {
  const handle = await tasks.trigger("echo", { n: 1 });
  await runs.poll(handle, { pollIntervalMs: 50 });
  const { states, requests } = await followed(runs.subscribeToRun(handle.id));
  assert.deepEqual(statuses(states), ["COMPLETED"]);
  assert.ok(requests <= 2, `${requests} requests`);
});

await step("a run that fails, and one that is canceled", async () => {
  const failing = await tasks.trigger("fail", { message: "as it was asked to" });
  const failed = (await followed(runs.subscribeToRun(failing.id))).states.at(-1);
  assert.deepEqual([failed.status, failed.isFailed, failed.error.name], ["FAILED", true, "ValueError"]);
  assert.equal(failed.error.message, "as it was asked to");
  const slow = await tasks.trigger("slow", null);
  const subscription = runs.subscribeToRun(slow.id);
  const states = [];
  for await (const run of subscription) {
    if (run.status === "EXECUTING" && !states.includes("EXECUTING")) await runs.cancel(slow.id);
    states.push(run.status);
  }
  assert.equal(states.at(-1), "CANCELED", states.join());
});

await step("nobody asks while nothing happens", async () => {
  const handle = await tasks.trigger("echo", null, { delay: "1h" });
  const subscription = runs.subscribeToRun(handle.id);
  const before = asked.length;
  const following = followed(subscription);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  assert.ok(asked.length - before <= 2, `${asked.length - before} requests in three idle seconds`);
  await runs.cancel(handle.id);
  const { states } = await following;
  assert.deepEqual(statuses(states), ["DELAYED", "CANCELED"]);
});

await step("runs with all of some tags, those to come as well", async () => {
  const [one, other] = [`one-${randomUUID()}`, `other-${randomUUID()}`];
  const trigger = (n, tags) => tasks.trigger("echo", n, { tags });
  const first = await trigger(1, [one, other, "third"]);
  await trigger(2, [one]);
  const done = new Set();
  const expected = new Set([first.id]);
  let last;
  const subscription = runs.subscribeToRunsWithTag([one, other], { createdAt: "1h", skipColumns: ["payload"] });
  const { states, requests } = await followed(subscription, (seen) => {
    const run = seen.at(-1);
    if (run.status === "COMPLETED") done.add(run.id);
    if (last === undefined) {
      last = Promise.all([trigger(3, [other, one]), trigger(4, [other]), trigger(5, [one, other])]);
      last.then(([third, , fifth]) => expected.add(third.id).add(fifth.id));
    }
    return done.size >= 3;
  });
  await last;
  assert.deepEqual([...new Set(states.map((run) => run.id))].toSorted(), [...expected].toSorted());
  assert.ok(states.every((run) => run.payload === undefined), "a skipped column was sent");
  assert.ok(states.some((run) => run.output === 5));
  assert.ok(requests <= states.length + 2, `${requests} requests for ${states.length} states`);
});

await step("a batch, by the token that its caller was given", async () => {
  const handle = await batch.trigger([1, 2, 3].map((n) => ({ id: "echo", payload: { n } })));
  const done = new Map();
  const { states, requests } = await auth.withAuth({ accessToken: handle.publicAccessToken, baseURL: API }, () =>
    followed(runs.subscribeToBatch(handle.batchId), (seen) => {
      const run = seen.at(-1);
      if (run.status === "COMPLETED") done.set(run.id, run.output.n);
      return done.size === 3;
    }),
  );
  assert.deepEqual([...done.values()].toSorted(), [1, 2, 3]);
  assert.ok(requests <= states.length + 2, `${requests} requests for ${states.length} states`);
  assert.equal((await get(`/realtime/v1/batches/batch_${"2".repeat(26)}`)).status, 404);
});

await step("a token sees what its scopes name", async () => {
  const tag = `tag-${randomUUID()}`;
  const [mine, others] = [await tasks.trigger("echo", { of: 1 }, { tags: tag }), await tasks.trigger("echo", { of: 2 })];
  const own = await auth.withAuth({ accessToken: mine.publicAccessToken, baseURL: API }, () =>
    followed(runs.subscribeToRun(mine.id)),
  );
  assert.equal(own.states.at(-1).status, "COMPLETED");
  const token = await auth.createPublicToken({ scopes: { read: { tags: tag } }, realtime: { skipColumns: ["payload"] } });
  const statusOf = async (path, key) => (await get(path, { key })).status;
  assert.equal(await statusOf(`/realtime/v1/runs/${others.id}`, mine.publicAccessToken), 403);
  assert.equal(await statusOf(`/realtime/v1/runs?tags=${tag}`, mine.publicAccessToken), 403);
  assert.equal(await statusOf(`/realtime/v1/runs?tags=${tag}`, token), 200);
  assert.equal(await statusOf(`/realtime/v1/runs?tags=other`, token), 403);
  assert.equal(await statusOf(`/realtime/v1/runs/${others.id}`, token), 403);
  const hidden = await get(`/realtime/v1/runs/${mine.id}`, { key: token });
  assert.equal(hidden.status, 200);
  assert.ok(!("payload" in hidden.body[0].value), "what the token skips was sent");
  assert.equal(await statusOf(`/realtime/v1/runs/${mine.id}`, "tr_dev_wrong"), 401);
});

await step("what is not there", async () => {
  const unknown = `run_${"2".repeat(26)}`;
  assert.equal((await get(`/realtime/v1/runs/${unknown}`)).status, 404);
  assert.equal((await get("/realtime/v1/runs/run_nope")).status, 404);
  assert.equal((await get("/realtime/v1/runs")).status, 400);
  assert.equal((await get("/realtime/v1/batches/batch_nope")).status, 404);
  assert.equal((await get(`/realtime/v1/streams/${unknown}/openai`)).status, 404);
});

// A held request keeps the process alive.
process.exit();

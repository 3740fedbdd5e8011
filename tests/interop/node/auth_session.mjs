// What the official SDK does with keys and tokens, against TRIGGER_API_URL. ROOT_KEY and SECRET_KEY (tr_…_sk_…) are good.
// Prints one JSON line per step, or ends with 1.
import assert from "node:assert/strict";
import { auth, TriggerClient } from "@trigger.dev/sdk";

const baseURL = process.env.TRIGGER_API_URL;
const once = { requestOptions: { retry: { maxAttempts: 1 } } };
const as = (accessToken) => new TriggerClient({ baseURL, accessToken, ...once });
const status = (call) => call.then(() => 200, (error) => error.status);

async function step(name, body) {
  await body();
  console.log(JSON.stringify(name));
}

for (const [kind, key] of [["root", process.env.ROOT_KEY], ["additional", process.env.SECRET_KEY]]) {
  const client = as(key);
  await step(`${kind}: a handle has a token for its run alone`, async () => {
    const [mine, other] = [await client.tasks.trigger("echo", 1), await client.tasks.trigger("echo", 2)];
    const reader = as(mine.publicAccessToken);
    assert.equal((await reader.runs.retrieve(mine.id)).id, mine.id);
    assert.equal(await status(reader.runs.retrieve(other.id)), 403);
    assert.equal(await status(reader.tasks.trigger("echo", 3)), 403);
  });
  await step(`${kind}: a public token reads what it says`, async () => {
    const token = await client.auth.createPublicToken({ scopes: { read: { tags: ["vip"] } }, expirationTime: "5m" });
    const handle = await client.tasks.trigger("echo", 1, { tags: ["vip"] });
    const plain = await client.tasks.trigger("echo", 1);
    assert.equal((await as(token).runs.retrieve(handle.id)).id, handle.id);
    assert.equal(await status(as(token).runs.retrieve(plain.id)), 403);
  });
  await step(`${kind}: a token that triggers once`, async () => {
    const token = await client.auth.createTriggerPublicToken("echo");
    assert.match((await as(token).tasks.trigger("echo", 1)).id, /^run_/);
    assert.equal(await status(as(token).tasks.trigger("echo", 1)), 422);
    assert.equal(await status(as(token).tasks.trigger("other", 1)), 403);
  });
}

await step("a key that is none", async () => {
  assert.equal(await status(as("tr_prod_sk_" + "x".repeat(24)).tasks.trigger("echo", 1)), 401);
  assert.equal(await status(as("tr_pat_" + "x".repeat(24)).runs.retrieve("run_x")), 401);
});

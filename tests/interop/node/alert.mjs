// Reads an alert as an application of the official SDK does: from the raw body, its header and the shared secret.
import assert from "node:assert/strict";
import { WebhookError, webhooks } from "@trigger.dev/sdk";

const { BODY, SIGNATURE, SECRET, RUN } = process.env;
const request = (body, signature) =>
  new Request("http://receiver.test/", {
    method: "POST",
    headers: { "x-trigger-signature-hmacsha256": signature },
    body,
  });

const event = await webhooks.constructEvent(request(BODY, SIGNATURE), SECRET);
assert.equal(event.type, "alert.run.failed");
assert.equal(event.object.run.id, RUN);
assert.equal(event.object.run.status, "FAILED");
assert.ok(event.object.run.createdAt instanceof Date && event.object.run.completedAt instanceof Date);
assert.deepEqual(event.object.run.tags, ["vip"]);
assert.deepEqual([event.object.run.error.name, event.object.run.error.message], ["ValueError", "boom"]);
await assert.rejects(webhooks.constructEvent(request(`${BODY} `, SIGNATURE), SECRET), WebhookError);
await assert.rejects(webhooks.constructEvent(request(BODY, SIGNATURE), "another"), WebhookError);
console.log("read");

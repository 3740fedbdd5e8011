/** What the hooks and the fence share: which job a run belongs to, and a signed way to the adapter. */
import { createHash, createHmac } from "node:crypto";

/** A job of the adapter, in one of its routing generations. */
export type Job = { id: string; epoch: number };

/** The part of Trigger.dev's task context that is read here. */
export type Context = {
  task: { id: string };
  attempt: { number: number };
  run: { id: string; tags: string[]; startedAt: Date };
};

export type Reply = { status: number; body: unknown };

/** No try came to an answer that settles anything. */
export class AdapterUnreachableError extends Error {
  override name = "AdapterUnreachableError";
}

/** Three tries of at most five seconds each end well before the 30 seconds that a canceled run is left. */
export const limits = { tries: 3, timeoutMs: 5_000, backoffMs: 250 };

const JOB_TAG = /^job:([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}):([1-9][0-9]{0,8})$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
/** Statuses that say nothing about the request: it is sent again. */
const TRANSIENT = new Set([408, 425, 429]);

/** The job a run was submitted for, by its tag `job:{id}:{epoch}`; undefined for a run that is nobody's job. */
export function jobOf(tags: readonly string[]): Job | undefined {
  for (const tag of tags) {
    const [, id, epoch] = JOB_TAG.exec(tag) ?? [];
    if (id !== undefined) return { id, epoch: Number(epoch) };
  }
  return undefined;
}

/** An id that is the same however often one message is sent, so that the receiver applies it once. */
export function messageId(context: Context, what: string): string {
  return createHash("sha256").update(`${context.run.id}:${context.attempt.number}:${what}`).digest("hex");
}

/** The `webhook-signature` of Standard Webhooks; `secret` is `whsec_` and base64, `timestamp` unix seconds. */
export function sign(secret: string, id: string, timestamp: number, body: string): string {
  const key = secret.replace(/^whsec_/, "");
  if (!BASE64.test(key)) throw new Error("ADAPTER_WEBHOOK_SECRET is not whsec_ followed by base64");
  const mac = createHmac("sha256", Buffer.from(key, "base64")).update(`${id}.${timestamp}.${body}`);
  return `v1,${mac.digest("base64")}`;
}

/**
 * Sends one signed message and returns the adapter's answer, whatever it says.
 * Throws `AdapterUnreachableError` when all tries ended without one, or with "not now".
 */
export async function post(path: string, id: string, message: unknown): Promise<Reply> {
  const url = setting("ADAPTER_URL").replace(/\/+$/, "") + path;
  const secret = setting("ADAPTER_WEBHOOK_SECRET");
  const body = JSON.stringify(message);
  let last = "";
  for (let tried = 0; tried < limits.tries; tried++) {
    if (tried > 0) await pause(limits.backoffMs * 4 ** (tried - 1));
    const timestamp = Math.floor(Date.now() / 1000);
    const headers = {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(timestamp),
      "webhook-signature": sign(secret, id, timestamp, body),
    };
    try {
      const signal = AbortSignal.timeout(limits.timeoutMs);
      const response = await fetch(url, { method: "POST", headers, body, signal, redirect: "manual" });
      const text = await response.text();
      if (response.status < 500 && !TRANSIENT.has(response.status)) {
        return { status: response.status, body: parsed(text) };
      }
      last = `answered ${response.status}`;
    } catch (error) {
      last = reason(error);
    }
  }
  throw new AdapterUnreachableError(`POST ${path}: ${limits.tries} tries, the last one: ${last}`);
}

function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set in this environment`);
  return value;
}

/** Waits, with jitter: many runs may have lost the adapter in the same moment. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms * (0.5 + Math.random() / 2)));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `fetch` says only "fetch failed"; the cause says why. */
function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

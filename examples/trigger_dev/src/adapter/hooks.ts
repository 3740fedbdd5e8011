/** Lifecycle hooks that tell the adapter how a run goes on. They make it fast; its own polling makes it true. */
import { tasks } from "@trigger.dev/sdk";
import { type Context, type Job, jobOf, messageId, post } from "./client.js";

export type EventType = "RUN_STARTED" | "RUN_COMPLETED" | "RUN_FAILED" | "RUN_CANCELED";

export type RunError = { name: string; message: string; stack?: string };

/** What came of a run. `outputOmitted` tells the adapter to fetch the output from Trigger.dev. */
export type Result = { output?: unknown; outputOmitted?: true; error?: RunError };

const STATUS = {
  RUN_STARTED: "EXECUTING",
  RUN_COMPLETED: "COMPLETED",
  RUN_FAILED: "FAILED",
  RUN_CANCELED: "CANCELED",
} as const satisfies Record<EventType, string>;

/** Bytes of JSON of the largest output that is sent. */
const MAX_OUTPUT = 128 * 1024;
/** Characters kept of an error's message and stack. */
const MAX_MESSAGE = 8_000;
const MAX_STACK = 16_000;

/** Reports the start of every attempt and the end of every run that has a job's tag. */
export function registerAdapterHooks(): void {
  tasks.onStartAttempt("adapter", ({ ctx }) => report("RUN_STARTED", ctx));
  tasks.onSuccess("adapter", ({ ctx, output }) => report("RUN_COMPLETED", ctx, sendable(output)));
  tasks.onFailure("adapter", ({ ctx, error }) => report("RUN_FAILED", ctx, { error: described(error) }));
  tasks.onCancel("adapter", ({ ctx }) => report("RUN_CANCELED", ctx));
}

/** Sends one event. Never throws: a run must not fail since nobody listened. */
export async function report(
  type: EventType,
  context: Context,
  result: Result = {},
): Promise<void> {
  try {
    const job = jobOf(context.run.tags);
    if (job === undefined) return;
    const reply = await post("/api/trigger/webhook", messageId(context, type), event(type, context, job, result));
    if (reply.status < 200 || reply.status > 299) throw new Error(`the adapter answered ${reply.status}`);
  } catch (error) {
    console.warn(`${type} of ${context.run.id} was not reported; the adapter will find out by itself`, error);
  }
}

function event(type: EventType, context: Context, job: Job, result: Result) {
  const now = new Date().toISOString();
  const run = {
    id: context.run.id,
    status: STATUS[type],
    taskIdentifier: context.task.id,
    attempt: context.attempt.number,
    tags: context.run.tags,
    startedAt: new Date(context.run.startedAt).toISOString(),
    ...(type === "RUN_STARTED" ? {} : { finishedAt: now }),
    ...result,
  };
  return { type, timestamp: now, data: { source: "hook", run, job } };
}

/**
 * The output, if it is small and JSON says all of it.
 * A Map, a BigInt or NaN would reach the adapter as something else than what Trigger.dev stores.
 */
export function sendable(output: unknown): Result {
  let exact = true;
  let text: string | undefined;
  try {
    text = JSON.stringify(output, function (this: Record<string, unknown>, key: string, value: unknown) {
      exact &&= isExact(this[key]);
      return value;
    });
  } catch {
    exact = false; // a circle, or a BigInt
  }
  const whole = exact && text !== undefined && Buffer.byteLength(text) <= MAX_OUTPUT;
  return whole ? { output } : { outputOmitted: true };
}

function isExact(value: unknown): boolean {
  if (value === null || typeof value === "string" || typeof value === "boolean") return true;
  if (typeof value === "number") return Number.isFinite(value) && !Object.is(value, -0);
  if (typeof value !== "object") return false;
  if (value instanceof Date) return !Number.isNaN(value.getTime());
  const prototype: unknown = Object.getPrototypeOf(value);
  return Array.isArray(value) || prototype === Object.prototype || prototype === null;
}

function described(error: unknown): RunError {
  if (!(error instanceof Error)) return { name: "Error", message: asText(error).slice(0, MAX_MESSAGE) };
  return {
    name: error.name,
    message: error.message.slice(0, MAX_MESSAGE),
    ...(error.stack === undefined ? {} : { stack: error.stack.slice(0, MAX_STACK) }),
  };
}

function asText(value: unknown): string {
  if (typeof value === "string") return value;
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}

/** The start fence: no run starts a job's code before the adapter has said that this run may. */
import { AbortTaskRunError, tasks } from "@trigger.dev/sdk";
import { type Context, type Job, jobOf, messageId, post, type Reply } from "./client.js";

/**
 * The adapter has said no, and always will to this run: the job runs elsewhere, is done, or was canceled.
 * It keeps the name `AbortTaskRunError`, by which Trigger.dev knows that another attempt is of no use.
 */
export class StartRefusedError extends AbortTaskRunError {
  constructor(readonly reason: string) {
    super(`the adapter refused the start of this run: ${reason}`);
  }
}

/** Every run with a job's tag asks first. Register it before any other middleware: the first one is outermost. */
export function registerStartFence(): void {
  tasks.middleware("adapter-start-fence", async ({ ctx, next }) => {
    await claimStart(ctx);
    await next();
  });
}

/**
 * Returns when this attempt may start; a run that belongs to no job always may.
 * Throws `StartRefusedError` on a no, and any other error when there was no clear answer: ask again, do not start.
 */
export async function claimStart(context: Context): Promise<void> {
  if (context.run.tags.some((tag) => tag.startsWith("tombstone:"))) {
    // Submitted only to occupy the key of a run that may never have arrived, and meant to be canceled.
    throw new StartRefusedError("tombstone");
  }
  const job = jobOf(context.run.tags);
  if (job === undefined) return;
  const reply = await askToStart(job, context);
  const answer = isRecord(reply.body) ? reply.body : {};
  if (reply.status === 200 && answer.claimed === true) return;
  if (reply.status === 409 && answer.claimed === false) {
    throw new StartRefusedError(typeof answer.reason === "string" ? answer.reason : "no reason given");
  }
  throw new Error(`the adapter answered ${reply.status} to a start claim of job ${job.id}`);
}

function askToStart(job: Job, context: Context): Promise<Reply> {
  const claim = { job, run: { id: context.run.id, attempt: context.attempt.number } };
  return post("/api/trigger/claim", messageId(context, "claim"), claim);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

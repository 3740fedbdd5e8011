import { AbortTaskRunError, task } from "@trigger.dev/sdk";

export type Email = { to: string; subject: string; body: string };

export const reliableEmailSender = task({
  id: "reliable-email-sender",
  retry: { maxAttempts: 5, minTimeoutInMs: 2000, maxTimeoutInMs: 60_000, factor: 2, randomize: true },
  run: async (email: Email, { ctx, signal }) => {
    const url = process.env.EMAIL_API_URL;
    if (!url) throw new AbortTaskRunError("EMAIL_API_URL is not set");
    const response = await fetch(url, {
      method: "POST",
      // A retry after a lost answer sends the same key, so the provider does not deliver twice.
      headers: { "content-type": "application/json", "idempotency-key": ctx.run.id },
      body: JSON.stringify(email),
      signal,
    });
    if (response.status === 429 || response.status >= 500) throw new Error(`not now: ${response.status}`);
    if (!response.ok) throw new AbortTaskRunError(`refused by the provider: ${response.status}`);
    return { to: email.to, status: response.status };
  },
});

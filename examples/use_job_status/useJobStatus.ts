// A job's status in a React component, kept up to date by the adapter's stream. Copy it into your project.
import { useEffect, useState } from "react";

/** A row of the view `job_runs`: what `GET /api/jobs/{id}/stream?shape=job_runs` sends. */
export interface JobStatus<Result = unknown> {
  id: string;
  taskId: string;
  status: "pending" | "active" | "completed" | "failed";
  payload: unknown;
  result: Result | null;
  error: string | null;
  startedAt: string | null;
  completedAt: string | null;
  createdAt: string;
}

const LONGEST_PAUSE_MS = 10_000;

/**
 * Follow a job until it has ended. `jobId` is the adapter's id or `run_…`; `accessToken` a public token that may read
 * it, such as the `publicAccessToken` of a trigger call: never a secret key, since this runs in browsers.
 */
export function useJobStatus<Result = unknown>(jobId: string | null, accessToken: string | null, baseUrl = "") {
  const [status, setStatus] = useState<JobStatus<Result> | null>(null);
  const [error, setError] = useState<Error | null>(null);

  useEffect(() => {
    setStatus(null);
    setError(null);
    if (!jobId || !accessToken) return;
    const leaving = new AbortController();
    const url = `${baseUrl}/api/jobs/${encodeURIComponent(jobId)}/stream?shape=job_runs`;
    follow<Result>(url, accessToken, leaving.signal, setStatus).catch((reason) => {
      if (!leaving.signal.aborted) setError(reason);
    });
    return () => leaving.abort();
  }, [jobId, accessToken, baseUrl]);

  return { status, error };
}

/** Read the stream with a Bearer header, which an EventSource cannot send; come back when it was cut. */
async function follow<Result>(
  url: string,
  token: string,
  signal: AbortSignal,
  tell: (status: JobStatus<Result>) => void,
): Promise<void> {
  let last = "";
  for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    try {
      const headers = { authorization: `Bearer ${token}`, ...(last && { "last-event-id": last }) };
      const response = await fetch(url, { headers, signal });
      if (response.status === 204) return;
      if (response.status >= 400 && response.status < 500 && response.status !== 429) {
        throw new RefusedError(`the stream was refused: ${response.status}`);
      }
      if (response.ok && response.body) {
        for await (const event of events(response.body)) {
          const status = JSON.parse(event.data);
          if (status.error === "not_found") throw new RefusedError("there is no such job");
          last = event.id;
          pause = 500;
          tell(status);
          if (status.status === "completed" || status.status === "failed") return;
        }
      }
    } catch (reason) {
      if (signal.aborted || reason instanceof RefusedError) throw reason;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

class RefusedError extends Error {}

/** The events of a stream that have data; comments only keep the connection alive. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<{ id: string; data: string }> {
  const reader = body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  let text = "";
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const blocks = (text + part.value).split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const fields = block.split("\n").map((line) => line.split(/: ?(.*)/s, 2));
        const event = Object.fromEntries(fields);
        if (event.data) yield { id: event.id ?? "", data: event.data };
      }
    }
  } finally {
    await reader.cancel();
  }
}

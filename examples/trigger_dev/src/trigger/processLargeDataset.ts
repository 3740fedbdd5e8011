import { logger, metadata, task } from "@trigger.dev/sdk";

export type ProcessLargeDataset = { datasetId: string; userId?: string; rows?: number };

const CHUNK = 1_000;

export const processLargeDataset = task({
  id: "process-large-dataset",
  queue: { concurrencyLimit: 5 },
  retry: { maxAttempts: 3, minTimeoutInMs: 1000, maxTimeoutInMs: 10_000, factor: 2 },
  run: async (payload: ProcessLargeDataset, { signal }) => {
    const rows = payload.rows ?? 10_000;
    let processed = 0;
    while (processed < rows) {
      signal.throwIfAborted(); // canceled: by the adapter, or in the dashboard
      processed += await processChunk(payload.datasetId, processed, Math.min(CHUNK, rows - processed));
      metadata.set("progress", processed / rows);
    }
    logger.info("dataset processed", { datasetId: payload.datasetId, processed });
    return { datasetId: payload.datasetId, processed };
  },
});

/** Stands for your own work on `count` rows from `offset` on. */
async function processChunk(datasetId: string, offset: number, count: number): Promise<number> {
  logger.debug("chunk", { datasetId, offset, count });
  return count;
}

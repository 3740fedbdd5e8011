import { logger, task } from "@trigger.dev/sdk";

/** The adapter owns the clock: its cron schedules this like any other job, so the task is not a `schedules.task`. */
export type DailyReport = { day?: string };

export const dailyReportGeneration = task({
  id: "daily-report-generation",
  maxDuration: 900,
  run: async (payload: DailyReport, { ctx }) => {
    // The run's own time, not now: every attempt then writes the same day's report.
    const day = payload.day ?? ctx.run.createdAt.toISOString().slice(0, 10);
    const figures = await collectFigures(day);
    logger.info("report written", { day, ...figures });
    return { day, ...figures };
  },
});

/** Stands for your own queries. */
async function collectFigures(day: string): Promise<{ orders: number; signups: number }> {
  logger.debug("collecting", { day });
  return { orders: 0, signups: 0 };
}

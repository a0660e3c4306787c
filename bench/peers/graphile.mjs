// graphile-worker with the settings of its own performance page: local queue of 500, batched completion.
// Usage: graphile.mjs setup | work
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { CONCURRENCY, deliver } from "./deliver.mjs";

const connectionString = process.env.DATABASE_URL;

if (process.argv[2] === "setup") {
  const utils = await makeWorkerUtils({ connectionString });
  await utils.migrate();
  await utils.release();
} else {
  // A log line per job would cost it throughput; errors are kept.
  const logger = new Logger(() => (level, message) => {
    if (level === "error") console.error(message);
  });
  const runner = await run({
    preset: {
      worker: {
        connectionString,
        logger,
        concurrentJobs: CONCURRENCY,
        maxPoolSize: CONCURRENCY + 2,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
    taskList: { deliver: (payload, { job }) => deliver(job.id, payload) },
  });
  await runner.promise;
}

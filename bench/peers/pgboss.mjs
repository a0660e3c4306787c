// pg-boss with batch fetch, immediate refetch while batches are full, and LISTEN/NOTIFY wake-up.
// Usage: pgboss.mjs setup | work
import { PgBoss } from "pg-boss";
import { deliver } from "./deliver.mjs";

const QUEUE = "deliver";
// Of the combinations tried (64 x 1 to 1000 x 2), larger ones gain less than a tenth and hold more jobs at once.
const BATCH_SIZE = 500;
const LOCAL_CONCURRENCY = 2;

const boss = new PgBoss({
  connectionString: process.env.DATABASE_URL,
  max: LOCAL_CONCURRENCY + 4,
  useListenNotify: true,
});
boss.on("error", (error) => console.error(error));
await boss.start();

if (process.argv[2] === "setup") {
  // A table of its own, so that its indexes hold this queue only.
  await boss.createQueue(QUEUE, { partition: true, notify: true });
  await boss.stop({ graceful: false });
} else {
  // Settled one by one: without it, one failed request would send its whole batch again.
  const options = {
    batchSize: BATCH_SIZE,
    localConcurrency: LOCAL_CONCURRENCY,
    burstWhenBatchFull: true,
    pollingIntervalSeconds: 0.5,
    perJobResults: true,
  };
  await boss.work(QUEUE, options, (jobs) =>
    Promise.all(
      jobs.map(async (job) => {
        try {
          await deliver(job.id, job.data);
          return { id: job.id, status: "completed" };
        } catch (error) {
          return { id: job.id, status: "failed", output: { message: error.message } };
        }
      }),
    ),
  );
}

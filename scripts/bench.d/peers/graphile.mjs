// graphile-worker burning down trivial jobs.
//
//   node graphile.mjs plain|batched JOBS        the database is in DATABASE_URL
//
// Prints one line of JSON. `batched` is the preset of its documentation's chapter on performance:
// a local queue, and completions in batches.

import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";

const [, , how, count] = process.argv;
const jobs = Number(count);
const connectionString = process.env.DATABASE_URL;
const concurrentJobs = 24;
const logger = new Logger(() => () => {});

// When jobs were handed to the queue, a thousand at a time, and how long each then took to start.
const submitted = [];
const started = [];

await runMigrations({ connectionString, logger });
const utils = await makeWorkerUtils({ connectionString, logger });
for (let at = 0; at < jobs; at += 1000) {
  const some = Array.from({ length: Math.min(1000, jobs - at) }, (_, n) => ({
    identifier: "work",
    payload: { id: at + n },
  }));
  submitted.push(performance.now());
  await utils.addJobs(some);
}

let done = 0;
let finished;
const all = new Promise((resolve) => (finished = resolve));
const work = async ({ id }) => {
  started.push(performance.now() - submitted[Math.floor(id / 1000)]);
  if (++done === jobs) finished();
};
const taskList = { work };
const batched = {
  localQueue: { size: 500 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
};
const begun = process.hrtime.bigint();
const runner = await run({
  taskList,
  preset: {
    worker: {
      connectionString, concurrentJobs, logger, maxPoolSize: concurrentJobs + 2,
      ...(how === "batched" ? batched : {}),
    },
  },
});
await all;
await runner.stop();
// What was done counts once the database knows of it.
const left = async () => utils.withPgClient(async (pg) =>
  Number((await pg.query("select count(*) from graphile_worker.jobs")).rows[0].count));
for (let tries = 0; (await left()) > 0; tries++) {
  if (tries === 1000) throw new Error("jobs are left");
  await new Promise((resolve) => setTimeout(resolve, 10));
}
const secs = Number(process.hrtime.bigint() - begun) / 1e9;
await utils.release();
started.sort((a, b) => a - b);
const at = (permille) => started[Math.max(Math.ceil((started.length * permille) / 1000), 1) - 1];
console.log(JSON.stringify({
  per_sec: jobs / secs, to_start: { p50_ms: at(500), p99_ms: at(990) },
}));

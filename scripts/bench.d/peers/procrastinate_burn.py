"""procrastinate burning down trivial jobs.

    python3 procrastinate_burn.py JOBS        the database is in DATABASE_URL

Prints one line of JSON.
"""

import asyncio
import json
import os
import sys
import time

import procrastinate

CONCURRENCY = 32

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=os.environ["DATABASE_URL"], min_size=4, max_size=CONCURRENCY
    )
)


# When jobs were handed to the queue, a thousand at a time, and how long each then took to start.
submitted = []
started = []


@app.task(queue="bench")
async def work(number):
    started.append(time.perf_counter() - submitted[number // 1000])


async def main():
    jobs = int(sys.argv[1])
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for at in range(0, jobs, 1000):
            some = [{"number": n} for n in range(at, min(at + 1000, jobs))]
            submitted.append(time.perf_counter())
            await work.batch_defer_async(*some)
        begun = time.perf_counter()
        await app.run_worker_async(
            queues=["bench"], concurrency=CONCURRENCY, wait=False, listen_notify=False,
            install_signal_handlers=False,
        )
        secs = time.perf_counter() - begun
        done = await app.job_manager.list_jobs_async(status="succeeded")
        if len(list(done)) != jobs:
            raise SystemExit("jobs are left")
    started.sort()
    at = lambda permille: started[max(-(-len(started) * permille // 1000), 1) - 1] * 1000
    print(json.dumps(
        {"per_sec": jobs / secs, "to_start": {"p50_ms": at(500), "p99_ms": at(990)}}
    ))


asyncio.run(main())

"""Clients that submit jobs at a steady pace and come back until each is accepted.

One line of JSON per job: the job's id, how often it was tried, how long it took, and what the
client was told meanwhile. Only Python's standard library.
"""

import argparse
import collections
import json
import random
import threading
import time
import urllib.error
import urllib.request
import uuid

# Longer than a coordinator works at a request.
PATIENCE_SECS = 40


def job(number, options):
    """Programs that take between two and six seconds, and some real work."""
    if number % 10 == 0:
        body = {"workload": "hash", "input": {"inline": {"text": f"job {number}"}}}
    elif number % 10 == 5 and options.input:
        body = {
            "command": "sort",
            "args": ["-o", "sorted.txt", "input/lines.txt"],
            "input": {"files": [{"name": "lines.txt", "sha256": options.input}]},
            "artifacts": [{"path": "sorted.txt"}],
        }
    else:
        body = {"command": "sleep", "args": [str(2 + number % 5)]}
    if options.region and number % 3 == 0:
        body["constraints"] = {"region": options.region}
    body["max_attempts"] = 10
    if options.ttl:
        body["ttl_seconds"] = options.ttl
    return body


def submit(request, answers):
    """Returns the job's id, or None and for how long to stay away."""
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECS) as reply:
            return json.load(reply)["job_id"], 0
    except urllib.error.HTTPError as error:
        pause = float(error.headers.get("Retry-After") or 0)
        try:
            word = json.load(error)["error"]["code"]
        except (ValueError, KeyError, OSError):
            # The balancer's own words: no replica is ready, or one did not answer to the end.
            word = {502: "no answer", 503: "balancer", 504: "no answer"}.get(error.code, "unexplained")
        answers[f"{error.code} {word}"] += 1
        return None, pause
    except (OSError, ValueError) as error:
        answers[f"no answer ({type(error).__name__})"] += 1
        return None, 0


def accepted(number, options, header):
    request = urllib.request.Request(
        options.url + "/v1/jobs",
        data=json.dumps(job(number, options)).encode(),
        headers={
            header[0]: header[1],
            "Content-Type": "application/json",
            "Idempotency-Key": str(uuid.uuid4()),
        },
        method="POST",
    )
    answers, tries, started, identity = collections.Counter(), 0, time.monotonic(), None
    while identity is None and time.monotonic() < started + options.deadline:
        tries += 1
        identity, pause = submit(request, answers)
        if identity is None:
            time.sleep(max(pause, random.uniform(0.5, 1.5)))
    took = time.monotonic() - started
    return {"job_id": identity, "tries": tries, "took_secs": round(took, 3), "refusals": answers}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--header", required=True, help="a file with the header of the API key")
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="over which to spread them")
    parser.add_argument("--out", required=True)
    parser.add_argument("--input", help="the hash of an uploaded file to be sorted")
    parser.add_argument("--region", help="for a third of the jobs")
    parser.add_argument("--ttl", type=int)
    parser.add_argument("--deadline", type=float, default=600, help="seconds for each job")
    options = parser.parse_args()
    with open(options.header, encoding="ascii") as file:
        header = file.read().strip().split(": ", 1)
    lock = threading.Lock()

    def client(number):
        line = json.dumps(accepted(number, options, header))
        with lock, open(options.out, "a", encoding="ascii") as out:
            out.write(line + "\n")

    clients = []
    started = time.monotonic()
    for number in range(options.jobs):
        time.sleep(max(0, started + number * options.seconds / options.jobs - time.monotonic()))
        clients.append(threading.Thread(target=client, args=(number,)))
        clients[-1].start()
    for one in clients:
        one.join()


main()

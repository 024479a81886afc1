#!/usr/bin/env python3
"""Celery: kvstore keeps the results; the broker is a directory. Started by scripts/apps.py, and as a worker by itself."""

import subprocess
import sys
import tempfile
from pathlib import Path

import celery
import redis

PORT = sys.argv[1]
LIFETIME_SECONDS, SECONDS_MAX = 600, 60

app = celery.Celery("sums", broker="filesystem://", backend=f"redis://127.0.0.1:{PORT}")
app.conf.update(result_expires=LIFETIME_SECONDS, result_extended=True)


def use_broker(folder):
    """Tasks go through files of this directory."""
    app.conf.broker_transport_options = {
        "data_folder_in": f"{folder}/queue", "data_folder_out": f"{folder}/queue",
        "control_folder": f"{folder}/control",
    }


@app.task(name="add")
def add(one, other):
    """What the worker does."""
    return one + other


@app.task(name="fail")
def fail():
    """A task whose error comes back to the caller."""
    raise ValueError("no such order")


def check():
    """Results, errors, many results at once, and that they will expire."""
    assert add.delay(40, 2).get(timeout=SECONDS_MAX) == 42
    many = celery.group(add.s(n, n) for n in range(20)).delay()
    assert many.get(timeout=SECONDS_MAX) == [2 * n for n in range(20)]
    failed = fail.delay()
    try:
        failed.get(timeout=SECONDS_MAX)
    except ValueError as error:
        assert "no such order" in str(error)
    else:
        raise AssertionError("the error is lost")
    assert failed.state == "FAILURE" and app.AsyncResult(failed.id).name == "fail"
    lifetime = redis.Redis(port=int(PORT)).ttl(f"celery-task-meta-{failed.id}")
    assert 0 < lifetime <= LIFETIME_SECONDS, f"a result would expire after {lifetime} s"
    failed.forget()
    assert app.AsyncResult(failed.id).state == "PENDING"


def main():
    """A worker in a process of its own, and the caller here."""
    if len(sys.argv) > 2:
        use_broker(sys.argv[2])
        app.worker_main(["worker", "--pool=solo", "--loglevel=WARNING", "--without-gossip", "--without-mingle"])
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "queue").mkdir()
        use_broker(folder)
        worker = subprocess.Popen([sys.executable, "-B", __file__, PORT, folder], stdout=sys.stderr)
        try:
            check()
        finally:
            worker.kill()
            worker.wait()
    print(f"Celery {celery.__version__}: result backend: results, a group of 20, an error, expiry, forget")


if __name__ == "__main__":
    main()

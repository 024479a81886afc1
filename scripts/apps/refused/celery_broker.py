#!/usr/bin/env python3
"""Celery with kvstore as its broker. celery_results.py shows what works: the results here, the broker elsewhere."""

import sys

import celery
from common import refused
from kombu.exceptions import OperationalError

app = celery.Celery("sums", broker=f"redis://127.0.0.1:{sys.argv[1]}")
app.conf.task_publish_retry = False


@app.task
def add(one, other):
    """Is never run."""
    return one + other


said = refused(OperationalError, "unknown command 'LLEN'", lambda: add.delay(1, 2))
print(f"Celery {celery.__version__}'s broker: {said}; use instead: another broker, with kvstore as result backend")

#!/usr/bin/env python3
"""RQ: a queue of jobs is a list, a set and a hash."""

import sys
from importlib.metadata import version

import redis
from common import refused
from rq import Queue

queue = Queue(connection=redis.Redis(port=int(sys.argv[1])))
said = refused(redis.ResponseError, "unknown command 'SADD'", lambda: queue.enqueue(len, "abc"))
print(f"RQ {version('rq')}: {said}; use instead: a queue that does not need Redis")

#!/usr/bin/env python3
"""redis-py's Lock: it is taken, and its release needs a script. Then a lock without one."""

import secrets
import sys
import threading

import redis
from common import refused

LEASE_MS, WORKERS, ROUNDS = 30_000, 4, 25
client = redis.Redis(port=int(sys.argv[1]))


def with_lock(name, work):
    """Runs `work` once the lock is ours. Returns False if another has it."""
    token = secrets.token_hex(16)
    if not client.set(name, token, nx=True, px=LEASE_MS):
        return False
    try:
        work()
    finally:
        # Deletes the lock only if it is still ours: after the lease another may hold it.
        client.execute_command("DELEX", name, "IFEQ", token)
    return True


def count():
    """A read and a write that only a lock keeps together."""
    client.set("count", int(client.get("count") or 0) + 1)


def worker():
    """Counts so many times, each time with the lock."""
    for _ in range(ROUNDS):
        while not with_lock("lock", count):
            pass


lock = client.lock("theirs", timeout=LEASE_MS / 1000)
assert lock.acquire(), "not even taken"
said = refused(redis.ResponseError, "unknown command 'EVALSHA'", lock.release)
assert client.exists("theirs"), "the lock that was not released"

workers = [threading.Thread(target=worker) for _ in range(WORKERS)]
for thread in workers:
    thread.start()
for thread in workers:
    thread.join()
assert int(client.get("count")) == WORKERS * ROUNDS, "two held the lock at once"
client.set("lock", "of another", px=LEASE_MS)
assert client.execute_command("DELEX", "lock", "IFEQ", "ours") == 0 and client.exists("lock")
print(f"redis-py {redis.__version__}'s Lock: {said}; use instead: SET lock token NX PX ms, DELEX lock IFEQ token")

#!/usr/bin/env python3
"""Checks redis-py's Sentinel class, unchanged: it finds the leader, and the next one when that is killed.

Usage: redis_py_sentinel.py LEADER_PORT LEADER_PID SENTINEL_PORT…, with the library on PYTHONPATH.
Starts nothing; scripts/clients.sh starts a leader, two followers and the Sentinels. Ends the leader.
"""

import os
import signal
import sys
import time

import redis
from redis.sentinel import Sentinel

LEADER_PORT, LEADER_PID = int(sys.argv[1]), int(sys.argv[2])
SENTINELS = [("127.0.0.1", int(port)) for port in sys.argv[3:]]
SECONDS_MAX = 30


def eventually(what, action):
    """Tries until it is true; errors during a failover are retried. Returns the seconds that it took."""
    began, last = time.monotonic(), None
    while time.monotonic() - began < SECONDS_MAX:
        try:
            if action():
                return time.monotonic() - began
        except redis.RedisError as error:
            last = error
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}; last error: {last!r}")


def failover():
    """Leader and followers are found through the Sentinels, before and after the leader's death."""
    sentinel = Sentinel(SENTINELS, socket_timeout=1)
    master, replica = sentinel.master_for("kv"), sentinel.slave_for("kv")
    eventually("two followers", lambda: len(sentinel.discover_slaves("kv")) == 2)
    others = len(SENTINELS) - 1
    for asked in sentinel.sentinels:
        known = lambda asked=asked: asked.sentinel_master("kv")["num-other-sentinels"] == others
        eventually("the other Sentinels", known)
    assert sentinel.discover_master("kv")[1] == LEADER_PORT
    assert master.set("before", "kept")
    eventually("two followers to have it", lambda: master.wait(2, 500) == 2)
    eventually("a read from a follower", lambda: replica.get("before") == b"kept")

    os.kill(LEADER_PID, signal.SIGKILL)
    seconds = eventually("a write after the kill", lambda: master.set("after", "too"))
    assert sentinel.discover_master("kv")[1] != LEADER_PORT
    assert master.get("before") == b"kept"
    eventually("a read from the follower that is left", lambda: replica.get("after") == b"too")
    return seconds


def main():
    """One check."""
    name = f"redis-py {redis.__version__}, Sentinel"
    try:
        print(f"ok   {name}: writes go on {failover():.1f} s after kill -9 of the leader", flush=True)
    except Exception as error:  # pylint: disable=broad-except
        print(f"FAIL {name}: {type(error).__name__}: {str(error)[:500]}", flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

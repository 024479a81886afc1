#!/usr/bin/env python3
"""redis-py's Sentinel class at three nodes of kvstore; see ../cluster.py. Usage: redis_py.py PASSWORD PORT…

For each line on standard input: writes that key, reads it from a follower, and prints it.
"""

import sys
import time

import redis
from redis.sentinel import Sentinel

PASSWORD, PORTS = sys.argv[1], sys.argv[2:]
SECONDS_MAX = 25


def eventually(action):
    """Tries until it is true; errors during a failover are retried."""
    end, last = time.monotonic() + SECONDS_MAX, None
    while time.monotonic() < end:
        try:
            if action():
                return
        except redis.RedisError as error:
            last = error
        time.sleep(0.02)
    sys.exit(f"redis-py {redis.__version__}: in vain; last error: {last!r}")


def main():
    """Reads keys until the end."""
    sentinel = Sentinel([("127.0.0.1", int(port)) for port in PORTS], socket_timeout=1, password=PASSWORD,
                        sentinel_kwargs={"password": PASSWORD})
    master, replica = sentinel.master_for("kvstore"), sentinel.slave_for("kvstore")
    for key in map(str.strip, sys.stdin):
        eventually(lambda key=key: master.set(key, key))
        eventually(lambda key=key: replica.get(key) == key.encode())
        print(key, flush=True)


if __name__ == "__main__":
    main()

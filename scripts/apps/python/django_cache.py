#!/usr/bin/env python3
"""Django: its own cache backend for Redis, and sessions that are kept in that cache. Started by scripts/apps.py."""

import sys
import threading
import time

import django
from django.conf import settings

settings.configure(
    CACHES={"default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": f"redis://127.0.0.1:{sys.argv[1]}",
        "KEY_PREFIX": "site",
    }},
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
)
django.setup()

from django.contrib.sessions.backends.cache import SessionStore  # noqa: E402
from django.core.cache import cache  # noqa: E402

SECONDS_MAX = 20


def values():
    """Objects that are pickled, many keys at once, and what an add or a version does."""
    cache.set("profile", {"name": "Ada", "langs": ["en", "fr"]})
    assert cache.get("profile") == {"name": "Ada", "langs": ["en", "fr"]}
    assert cache.get("nothing", "default") == "default"
    assert cache.add("profile", "other") is False
    assert cache.get_or_set("made", lambda: b"\x00\xff") == b"\x00\xff"
    assert cache.set_many({"a": 1, "b": "two"}) == []
    assert cache.get_many(["a", "b", "nothing"]) == {"a": 1, "b": "two"}
    assert "a" in cache and cache.has_key("b")
    cache.delete_many(["a", "b"])
    assert cache.get_many(["a", "b"]) == {}
    assert cache.delete("made") is True and cache.delete("made") is False
    cache.set("page", "old", version=1)
    assert cache.incr_version("page") == 2 and cache.get("page", version=2) == "old"


def counters():
    """Threads of a web server count together."""
    cache.set("visits", 0)
    threads = [threading.Thread(target=lambda: [cache.incr("visits") for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.incr("visits", 2) == 402 and cache.decr("visits") == 401
    try:
        cache.incr("nothing")
    except ValueError:
        return
    raise AssertionError("incr of a key that is not there must raise ValueError")


def expiry():
    """An entry goes after its timeout, one that was touched stays."""
    cache.set("short", 1, timeout=1)
    cache.set("touched", 1, timeout=1)
    assert cache.touch("touched", 1000)
    deadline = time.monotonic() + SECONDS_MAX
    while cache.get("short") is not None:
        assert time.monotonic() < deadline, "an entry outlives its timeout"
        time.sleep(0.02)
    assert cache.get("touched") == 1


def session():
    """A session is there for the next request, after a crash of the server too, until it is flushed."""
    first = SessionStore()
    first["user"] = 42
    first.save()
    print("restart", flush=True)
    input()
    again = SessionStore(first.session_key)
    assert again["user"] == 42, "the session is gone"
    again.flush()
    assert not SessionStore().exists(first.session_key)


values()
counters()
expiry()
session()
cache.clear()
assert cache.get("profile") is None
print(f"Django {django.__version__}: cache: values, many at once, counters, expiry; sessions, after kill -9 too")

#!/usr/bin/env python3
"""redis-py with the URL of a second database; then a prefix, which does what it is used for."""

import sys

import redis
from common import refused

URL = f"redis://127.0.0.1:{sys.argv[1]}"

said = refused(redis.ResponseError, "DB index is out of range", redis.from_url(f"{URL}/1").ping)
one = redis.from_url(f"{URL}/0")
one.set("shop:name", "Ada")
one.set("blog:name", "Bob")
assert one.get("shop:name") == b"Ada"
for key in one.scan_iter("shop:*"):
    one.delete(key)
assert one.keys() == [b"blog:name"]
print(f"redis://…/1 in redis-py {redis.__version__}: {said}; use instead: a prefix for each, as shop:name")

#!/usr/bin/env python3
"""Checks redis-py, unchanged: with its defaults, with RESP2 and with RESP3.

Usage: redis_py.py PORT PASSWORD_PORT PASSWORD, with the library on PYTHONPATH.
Starts nothing; scripts/clients.sh starts the servers.
"""

import sys
import threading
import time

import redis

PORT, PASSWORD_PORT, PASSWORD = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
MODES = {"defaults": {}, "RESP2": {"protocol": 2}, "RESP3": {"protocol": 3}}


def equal(got, wanted):
    """An assert that prints both values."""
    assert got == wanted, f"got {got!r}, wanted {wanted!r}"


def raises(kind, text, action):
    """The action must fail with this error; clients match its text."""
    try:
        action()
    except kind as error:
        assert text in str(error), f"error says {error}, wanted {text}"
    else:
        raise AssertionError(f"no {kind.__name__}")


def strings(r):
    """Values of all kinds, and missing keys."""
    equal(r.set("s", "hello big world"), True)
    equal(r.get("s"), b"hello big world")
    equal(r.get("nothing"), None)
    binary = bytes(range(256))
    equal(r.set(binary, binary), True)
    equal(r.get(binary), binary)
    equal(r.set("s", "x", nx=True), None)
    equal(r.set("s", "y", get=True), b"hello big world")
    equal(r.append("s", "es"), 3)
    equal(r.getrange("s", 1, 2), b"es")
    equal(r.setrange("s", 5, "!"), 6)
    equal(r.strlen("s"), 6)
    equal(r.mset({"a": 1, "b": 2}), True)
    equal(r.mget("a", "nothing", "b"), [b"1", None, b"2"])
    equal(r.incrby("a", 41), 42)
    equal(float(r.incrbyfloat("a", 0.5)), 42.5)
    equal(r.setbit("bits", 7, 1), 0)
    equal(r.bitcount("bits"), 1)
    equal(r.getdel("b"), b"2")
    big = b"z" * 5_000_000
    equal(r.set("big", big), True)
    equal(r.get("big"), big)


def keys(r):
    """Commands on keys."""
    r.mset({"k:1": "1", "k:2": "2"})
    equal(r.exists("k:1", "k:2", "k:3"), 2)
    equal(r.type("k:1"), b"string")
    equal(r.rename("k:1", "k:9"), True)
    equal(r.copy("k:9", "k:8"), True)
    equal(sorted(r.keys("k:*")), [b"k:2", b"k:8", b"k:9"])
    equal(r.dbsize(), 3)
    equal(r.delete("k:2", "k:8", "k:9", "k:none"), 3)


def expiry(r):
    """Deadlines, and a key that has expired."""
    r.set("e", "x", ex=100)
    assert 98 <= r.ttl("e") <= 100, "TTL is off"
    equal(r.persist("e"), True)
    equal(r.ttl("e"), -1)
    equal(r.ttl("nothing"), -2)
    equal(r.pexpire("e", 50), True)
    r.setex("e2", 100, "x")
    deadline = int(time.time()) + 1000
    equal(r.expireat("e2", deadline), True)
    equal(r.expiretime("e2"), deadline)
    time.sleep(0.1)
    equal(r.get("e"), None)
    equal(r.exists("e"), 0)


def pipeline(r):
    """100,000 commands are sent before the first reply is read."""
    batch = r.pipeline(transaction=False)
    for n in range(50_000):
        batch.set(f"p:{n}", n)
    for n in range(50_000):
        batch.get(f"p:{n}")
    replies = batch.execute()
    equal(replies[:50_000], [True] * 50_000)
    equal(replies[50_000:], [b"%d" % n for n in range(50_000)])


def transactions(r):
    """MULTI and EXEC; and WATCH, tried again after a change."""
    equal(r.pipeline().set("t", 1).incr("t").get("none").execute(), [True, 2, None])
    raises(redis.ResponseError, "not an integer", r.pipeline().set("w", "x").incr("w").execute)
    equal(r.get("w"), b"x")
    tries = []

    def double(pipe):
        old = int(pipe.get("t"))
        if not tries:
            r.incr("t")
        tries.append(old)
        pipe.multi()
        pipe.incrby("t", old)

    equal(r.transaction(double, "t"), [6])
    equal(tries, [2, 3])


def scan(r):
    """SCAN returns each key at least once; its filters."""
    r.mset({f"scan:{n}": n for n in range(3_000)})
    r.set("other", 1)
    equal(len(set(r.scan_iter())), 3_001)
    equal(len(set(r.scan_iter(match="scan:*", count=100))), 3_000)
    equal(len(set(r.scan_iter(match="scan:1*", _type="string"))), 1_111)


def errors(r):
    """The texts that the library turns into exceptions."""
    r.set("t", "text")
    raises(redis.ResponseError, "value is not an integer or out of range", lambda: r.incr("t"))
    raises(redis.ResponseError, "unknown command", lambda: r.execute_command("NOSUCH"))
    raises(redis.ResponseError, "wrong number of arguments", lambda: r.execute_command("GET"))
    equal(r.ping(), True)


def server(r):
    """Fields that monitoring tools and the library itself read."""
    info = r.info()
    assert info["redis_version"] and info["role"] == "master", "INFO lacks fields"
    equal(list(r.config_get("maxclients")), ["maxclients"])
    equal(r.client_setname("tester"), True)
    equal(r.client_getname() in ("tester", b"tester"), True)
    assert any(c["name"] == "tester" for c in r.client_list()), "CLIENT LIST lacks this client"
    assert r.client_id() > 0, "no client id"
    equal(r.echo("x"), b"x")
    assert abs(r.time()[0] - time.time()) < 5, "TIME is off"
    assert r.command_count() > 50, "COMMAND COUNT"
    assert "get" in {name.lower() for name in r.command()}, "COMMAND"


def threads(r):
    """A pool that threads share, as in a web server."""

    def work():
        for _ in range(1_000):
            r.incr("shared")

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    equal(r.get("shared"), b"8000")


def password(_, options):
    """A password in the handshake; the errors without it or with a wrong one."""

    def connect(**more):
        return redis.Redis(port=PASSWORD_PORT, **options, **more).ping()

    equal(connect(password=PASSWORD), True)
    equal(connect(password=PASSWORD, client_name="named"), True)
    raises(redis.AuthenticationError, "", lambda: connect(password="wrong"))
    raises(redis.AuthenticationError, "", connect)


def main():
    """Every check in every mode, each on an empty server."""
    failed = False
    for mode, options in MODES.items():
        checks = [strings, keys, expiry, pipeline, transactions, scan, errors, server, threads]
        for check in checks + [password]:
            name = f"redis-py {redis.__version__}, {mode}: {check.__name__}"
            client = redis.Redis(host="127.0.0.1", port=PORT, **options)
            try:
                client.flushall()
                check(client, options) if check is password else check(client)
                print(f"ok   {name}", flush=True)
            except Exception as error:  # pylint: disable=broad-except
                failed = True
                print(f"FAIL {name}: {type(error).__name__}: {str(error)[:500]}", flush=True)
            finally:
                client.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""Lab 4: fsyncs per write, with one client and with fifty."""

import contextlib
import time

from failover.client import Client
from labs.slow_disk import slow_disk

CLIENTS = 50
WRITES_ALONE = 100
ROUNDS = 20
SLOW_MILLISECONDS = 5
# On the slow disk, fifty clients need fewer fsyncs per write than this. A round of fifty writes takes one or two.
SHARED_MAX = 0.2


def run(lab):
    """The lab."""
    lab.say(f"Under appendfsync always an OK waits for an fsync. A disk does few of them in a second, a rotating one "
            f"about a hundred. But one fsync makes all records durable that are in the file by then, no matter whose "
            f"they are.\nThe measure is fsyncs per write: the growth of kvstore_fsyncs in INFO, divided by the number "
            f"of OKs. Once with one client, which sends a SET and waits for its OK, and once with {CLIENTS} clients "
            f"that do so at the same time.")
    server = lab.server("A", "--appendfsync=always")
    lab.part("This disk")
    lab.predict("one client: one fsync for each write. More clients: fewer, if the disk is slow enough that writes "
                "gather while it works.")
    alone, _ = measure_both(lab, server)
    lab.expect("one client: each write has an fsync of its own", alone >= 1)
    lab.part(f"A disk that takes {SLOW_MILLISECONDS} ms for each fsync")
    lab.predict(f"one client: one fsync for each write, so at most {1000 // SLOW_MILLISECONDS} writes in a second. "
                f"{CLIENTS} clients: nearly all of them share each fsync, so many times as many writes.")
    with slow_disk(lab, server, SLOW_MILLISECONDS) as is_slow:
        if is_slow:
            alone, shared = measure_both(lab, server)
            lab.expect("one client: each write has an fsync of its own", alone >= 1)
            lab.expect(f"{CLIENTS} clients: less than {SHARED_MAX} fsyncs per write", 0 < shared < SHARED_MAX)
    lab.say("What the clients share is only the wait. Each OK still says that its write is on the disk: lab 1 "
            "checks it.")
    lab.ask("Some databases wait a millisecond before they sync, so that others can join. Here nothing waits for "
            "company, and a single client is not slower. How do the writes gather?", "src/engine/gate.rs", "try_pass")
    lab.ask("Fifty connections wait for one fsync. Who sends their replies, and what would it cost to wake fifty "
            "threads?",
            "src/engine/gate.rs", "release_parked")


def measure_both(lab, server):
    """Draws what one client and many clients need. Returns both numbers of fsyncs per write."""
    alone, alone_per_second = measure(server, 1, WRITES_ALONE)
    shared, shared_per_second = measure(server, CLIENTS, ROUNDS)
    lab.say("fsyncs per write:")
    lab.bars([(" 1 client", alone, f"{alone:.2f}"), (f"{CLIENTS} clients", shared, f"{shared:.2f}")])
    lab.say("writes per second, as this script manages to send them:")
    lab.bars([(" 1 client", alone_per_second, f"{alone_per_second:,.0f}"),
              (f"{CLIENTS} clients", shared_per_second, f"{shared_per_second:,.0f}")])
    return alone, shared


def measure(server, count, rounds):
    """So many clients send a SET each and wait for their OKs, again and again. Returns fsyncs per write, and writes per
    second."""
    before = fsyncs(server)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(count)]
        began = time.monotonic()
        for number in range(rounds):
            for client in clients:
                client.send([("SET", "key", number)])
            for client in clients:
                client.read()
        seconds = time.monotonic() - began
    return (fsyncs(server) - before) / (count * rounds), count * rounds / seconds


def fsyncs(server):
    """How many fsyncs the log has had."""
    return int(server.info("persistence")["kvstore_fsyncs"])

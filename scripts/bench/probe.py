"""A paced latency probe, run as a separate process: GETs or SETs at a fixed pace over a few
connections.

Usage: python3 probe.py PORT get|set PREFIX KEYS START SECONDS_MAX       (START is a Unix time)
Goes over keys <PREFIX>:000000000000 and on, in a scrambled order.
SIGTERM ends it: it waits for the replies that are due, then writes pairs of doubles, due time and
latency, to stdout. `latency.py` is its other end.

The latency of a request counts from the moment at which it was *due*, not from when it could be
sent: a server that stands still for 20 ms is seen by every request of those 20 ms. A client that
waits for one reply before it sends the next would report that pause once and call it rare.
Replies are fixed in length (a 64-byte value, or OK), so counting bytes is parsing enough.
"""

import array
import collections
import gc
import select
import signal
import socket
import sys
import time

CONNECTIONS = 8
INTERVAL_SECONDS = 0.000_25
VALUE_BYTES = 64
# A step through the keys that visits all of them and makes no clusters.
STRIDE = 618_033
REPLY_HEADS = {"get": b"$%d\r\n" % VALUE_BYTES, "set": b"+OK\r\n"}
REPLY_BYTES = {"get": len("$64\r\n") + VALUE_BYTES + len("\r\n"), "set": len("+OK\r\n")}
DRAIN_SECONDS_MAX = 30


class Stop:
    """Set by SIGTERM: no request is due after that."""

    def __init__(self):
        self.at = float("inf")
        signal.signal(signal.SIGTERM, self._signalled)

    def _signalled(self, *_):
        self.at = time.time()


def request_pattern(verb, prefix):
    """The request, with a placeholder for the key's number."""
    words = [verb.upper().encode(), prefix + b":%012d"] + [b"y" * VALUE_BYTES] * (verb == "set")
    lengths = [len(words[0]), len(prefix) + 13, VALUE_BYTES]
    parts = [b"$%d\r\n%s\r\n" % (length, word) for length, word in zip(lengths, words)]
    return b"*%d\r\n" % len(parts) + b"".join(parts)


def run(port, verb, prefix, keys, start, seconds_max):
    """Pairs of due time and latency in seconds, flat."""
    stop = Stop()
    request = request_pattern(verb, prefix)
    reply_head, reply_bytes = REPLY_HEADS[verb], REPLY_BYTES[verb]
    links = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for link in links:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waiting = {link: collections.deque() for link in links}
    received = dict.fromkeys(links, 0)
    samples = array.array("d")
    outstanding = 0
    sent = 0
    due = start
    while True:
        now = time.time()
        end = min(stop.at, start + seconds_max)
        while due <= now and due < end:
            link = links[sent % CONNECTIONS]
            link.sendall(request % (sent * STRIDE % keys))
            waiting[link].append(due)
            outstanding += 1
            sent += 1
            due = start + sent * INTERVAL_SECONDS
            now = time.time()
        if due >= end and (outstanding == 0 or now > end + DRAIN_SECONDS_MAX):
            break
        pause = due - now if due < end else 0.1
        readable, _, _ = select.select(links, [], [], max(0.0, pause))
        now = time.time()
        for link in readable:
            answer = link.recv(1 << 16)
            at_reply = received[link] % reply_bytes == 0
            if not answer or (at_reply and not answer.startswith(reply_head)):
                sys.exit(f"the probe's {verb} was answered {answer[:100]!r}")
            replies_before = received[link] // reply_bytes
            received[link] += len(answer)
            for _ in range(received[link] // reply_bytes - replies_before):
                asked = waiting[link].popleft()
                samples.extend((asked, now - asked))
                outstanding -= 1
    # Requests without an answer have waited at least this long.
    for queue in waiting.values():
        for asked in queue:
            samples.extend((asked, time.time() - asked))
    return samples


if __name__ == "__main__":
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this
    to_port, to_verb, to_prefix, key_count, at, seconds = sys.argv[1:]
    measured = run(
        int(to_port), to_verb, to_prefix.encode(), int(key_count), float(at), float(seconds)
    )
    measured.tofile(sys.stdout.buffer)

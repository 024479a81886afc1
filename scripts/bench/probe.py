"""A paced latency probe, run as a process of its own: GETs at a fixed pace over a few connections.

Usage: python3 probe.py PORT KEY START SECONDS_MAX       (START is a Unix time)
SIGTERM ends it: it waits for the replies that are due, then writes pairs of doubles, due time and
latency, to stdout.

The latency of a request counts from the moment at which it was *due*, not from when it could be
sent: a server that stands still for 20 ms is seen by every request of those 20 ms. A client that
waits for one reply before it sends the next would report that pause once and call it rare.
The reply is fixed in length (a 64-byte value), so counting bytes is parsing enough.
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
REPLY_BYTES = len("$64\r\n") + 64 + len("\r\n")
DRAIN_SECONDS_MAX = 30


class Stop:
    """Set by SIGTERM: from then on nothing more is due."""

    def __init__(self):
        self.at = float("inf")
        signal.signal(signal.SIGTERM, self._signalled)

    def _signalled(self, *_):
        self.at = time.time()


def run(port, key, start, seconds_max):
    """Pairs of due time and latency in seconds, flat."""
    stop = Stop()
    request = b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key)
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
            link.sendall(request)
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
            if not answer or (received[link] == 0 and not answer.startswith(b"$64\r\n")):
                sys.exit(f"the probe's GET was answered {answer[:100]!r}")
            replies_before = received[link] // REPLY_BYTES
            received[link] += len(answer)
            for _ in range(received[link] // REPLY_BYTES - replies_before):
                asked = waiting[link].popleft()
                samples.extend((asked, now - asked))
                outstanding -= 1
    # What was never answered still waited at least this long.
    for queue in waiting.values():
        for asked in queue:
            samples.extend((asked, time.time() - asked))
    return samples


if __name__ == "__main__":
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this
    measured = run(int(sys.argv[1]), sys.argv[2].encode(), float(sys.argv[3]), float(sys.argv[4]))
    measured.tofile(sys.stdout.buffer)

"""Workloads about PUBLISH: how many messages arrive, and how much a storm slows other traffic."""

import os
import subprocess
import sys
import time

from bench import BenchError
from bench.latency import Probe
from bench.load import VALUE, VALUE_BYTES, Connection, redis_benchmark
from bench.workload import CLIENT_SHARE, Target, Workload

CHANNEL = "storm"
LISTEN_SECONDS_MAX = 120.0


def message_bytes(payload_bytes):
    """The length of one message in RESP2."""
    head = f"*3\r\n$7\r\nmessage\r\n${len(CHANNEL)}\r\n{CHANNEL}\r\n${payload_bytes}\r\n"
    return len(head) + payload_bytes + len("\r\n")


class Listeners:
    """`with Listeners(server, 50, bytes_each) as listeners:` begins when all are subscribed."""

    def __init__(self, server, count, bytes_each, stalled=0):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "listeners.py")
        words = [server.port, CHANNEL, count, stalled, bytes_each, LISTEN_SECONDS_MAX]
        argv = [sys.executable, "-B", script, *map(str, words)]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        if self.process.stdout.readline() != "ready\n":
            self.__exit__(None, None, None)
            raise BenchError("the subscribers are not there (see above)")
        return self

    def __exit__(self, *_exception):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def ended_at(self):
        """Waits until all have received everything; returns when that was, as Unix time."""
        line = self.process.stdout.readline()
        if not line:
            raise BenchError("the subscribers failed (see above)")
        return float(line)


class Fanout(Workload):
    """PUBLISH by redis-benchmark to this many subscribers that read."""

    group = "pubsub"
    clients = 8

    def __init__(self, name, title, subscribers, messages, pipeline=1):
        super().__init__(name, title)
        self.subscribers = subscribers
        self.messages = messages
        self.pipeline = pipeline

    def run(self, server, quick):
        messages = max(200, self.messages // 100) if quick else self.messages
        messages -= messages % (self.clients * self.pipeline)  # it sends whole pipelines
        bytes_each = messages * message_bytes(VALUE_BYTES)
        with Listeners(server, self.subscribers, bytes_each) as listeners:
            cpu_before = server.cpu_seconds()
            began = time.time()
            arguments = ["PUBLISH", CHANNEL, VALUE.decode()]
            outcome = redis_benchmark(server, messages, self.clients, self.pipeline, arguments)
            seconds = listeners.ended_at() - began
            cpu = server.cpu_seconds() - cpu_before
        deliveries = messages * self.subscribers
        return {
            "throughput": outcome.throughput,
            "p50_ms": outcome.p50_ms,
            "p99_ms": outcome.p99_ms,
            "deliveries": deliveries / seconds,
            "cpu_delivery_us": cpu / deliveries * 1e6,
            CLIENT_SHARE: outcome.client_share,
        }


class Storm(Workload):
    """Latency of other traffic while 50 subscribers get 2,000 messages a second and another does not read.

    Other traffic is `probe.py`: 4,000 GETs a second, latency counted from when each was due. The one who
    does not read is cut off at its limit while the storm lasts.
    """

    group = "pubsub"
    subscribers = 50
    payload = "x" * 1000
    messages_a_second = 2_000
    batch = 20
    limit = "pubsub 1048576 0 0"
    keys = 1_000
    targets = (Target("p99_growth", 2.0, of_redis=False),)

    def run(self, server, quick):
        calm_seconds, messages = (1.0, 2_000) if quick else (4.0, 20_000)
        bytes_each = messages * message_bytes(len(self.payload))
        with Connection(server) as connection:
            connection.load(self.keys)
            connection.ask("CONFIG", "SET", "client-output-buffer-limit", self.limit)
            start = time.time() + 0.5
            seconds_max = calm_seconds + messages / self.messages_a_second + LISTEN_SECONDS_MAX
            with (
                Listeners(server, self.subscribers, bytes_each, stalled=1) as listeners,
                Probe(server, "get", "key", self.keys, start, seconds_max) as probe,
            ):
                time.sleep(max(0.0, start + calm_seconds - time.time()))
                cpu_before = server.cpu_seconds()
                began = time.time()
                receivers = self._publish(connection, messages)
                ended = listeners.ended_at()
                cpu = server.cpu_seconds() - cpu_before
                probe.end()
        # A smoke run is too short to fill the kernel's buffers.
        if receivers > self.subscribers and not quick:
            raise BenchError("the subscriber that does not read is still there")
        return {
            "deliveries": messages * self.subscribers / (ended - began),
            "cpu_delivery_us": cpu / messages / self.subscribers * 1e6,
            **probe.figures((start + calm_seconds / 4, began), (began, ended)),
        }

    def _publish(self, connection, messages):
        """Publishes at a steady pace, some at a time; returns how many clients got the last message."""
        words = [b"PUBLISH", CHANNEL.encode(), self.payload.encode()]
        request = b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        began = time.monotonic()
        for sent in range(0, messages, self.batch):
            time.sleep(max(0.0, began + sent / self.messages_a_second - time.monotonic()))
            receivers = connection.ask_at_once(request, self.batch)[-1]
        return int(receivers.removeprefix(b":"))

"""Load: redis-benchmark as the neutral generator, and a loader over a plain socket.

redis-benchmark runs single-threaded for every product, so that no product's client is better than
another's. It is bounded in requests and in time.
"""

import os
import re
import socket
import subprocess
import time

from bench import BenchError
from bench.servers import on_core

VALUE_BYTES = 64
VALUE = b"x" * VALUE_BYTES
# redis-benchmark's own pattern: `key:` and 12 digits, 16 bytes.
KEY_PATTERN = "key:%012d"
CHUNK_COMMANDS = 5_000
SOCKET_SECONDS_MAX = 60


class Connection:
    """A RESP connection that can load many keys and run single commands."""

    def __init__(self, server):
        address = ("127.0.0.1", server.port)
        self.socket = socket.create_connection(address, timeout=SOCKET_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # For `values`, which leaves nothing in it.
        self.reader = self.socket.makefile("rb", 1 << 18)

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.reader.close()
        self.socket.close()

    def _read(self, byte_count, at_most=None):
        """Reads this many bytes; or all that are there, up to `at_most`."""
        answer = bytearray()
        while len(answer) < byte_count:
            got = self.socket.recv(at_most or min(1 << 16, byte_count - len(answer)))
            if not got:
                raise BenchError(f"the server closed the connection after {bytes(answer[:200])!r}")
            answer += got
        return bytes(answer)

    def load(self, key_count, deadline_ms=None, prefix="key", value=VALUE, stride=1):
        """Sets keys `<prefix>:000000000000` and on, a few thousand commands at a time.

        A stride that has no factor in common with the count visits all of them in another order.
        """
        option = b""
        if deadline_ms is not None:
            option = b"$4\r\nPXAT\r\n$%d\r\n%d\r\n" % (len(str(deadline_ms)), deadline_ms)
        count = 5 if option else 3
        key_bytes = len(prefix) + 13
        head = b"*%d\r\n$3\r\nSET\r\n$%d\r\n%s:" % (count, key_bytes, prefix.encode())
        tail = b"\r\n$%d\r\n%s\r\n%s" % (len(value), value, option)
        command = head + b"%012d" + tail
        for first in range(0, key_count, CHUNK_COMMANDS):
            chunk = range(first, min(first + CHUNK_COMMANDS, key_count))
            self.socket.sendall(b"".join([command % (n * stride % key_count) for n in chunk]))
            self.expect_ok(len(chunk))

    def send(self, commands):
        """Many commands, each a tuple of bytes; returns how many bytes they were."""
        parts = []
        for words in commands:
            parts.append(b"*%d\r\n" % len(words))
            for word in words:
                parts += (b"$%d\r\n" % len(word), word, b"\r\n")
        request = b"".join(parts)
        self.socket.sendall(request)
        return len(request)

    def expect_ok(self, count):
        """Reads the OKs of this many commands."""
        expected = b"+OK\r\n" * count
        answer = self._read(len(expected))
        if answer != expected:
            raise BenchError(f"SET was answered {answer[:200]!r}")

    def values(self, count):
        """For each of this many GETs, True if there was a value."""
        for _ in range(count):
            size = int(self.reader.readline()[1:])
            if size >= 0:
                self.reader.read(size + 2)
            yield size >= 0

    def ask(self, *words):
        """Runs one command; returns its reply as text, unless it is an array."""
        parts = [b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(parts))
        line = b""
        while not line.endswith(b"\r\n"):
            line += self._read(1)
        if line[:1] not in (b"+", b":", b"$"):
            raise BenchError(f"{' '.join(words)} was answered {line!r}")
        text = line[1:-2]
        if line.startswith(b"$") and int(text) >= 0:
            text = self._read(int(text) + 2)[:-2]
        return text.decode()

    def ask_at_once(self, request, count):
        """Sends the same request this many times in one packet; returns the reply lines."""
        self.socket.sendall(request * count)
        answer = b""
        while answer.count(b"\n") < count:
            answer += self._read(1, at_most=1 << 16)
        lines = answer.split(b"\r\n")[:count]
        if not all(line.startswith(b":") for line in lines):
            raise BenchError(f"{request[:60]!r} was answered {lines[0]!r}")
        return lines

    def dbsize(self):
        """DBSIZE."""
        return int(self.ask("DBSIZE"))

    def fields(self, section):
        """The fields of a section of INFO."""
        lines = self.ask("INFO", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def persistence(self):
        """The fields of INFO persistence."""
        return self.fields("persistence")


class Outcome:
    """The result of one run of redis-benchmark."""

    def __init__(self, output, client_share):
        self.client_share = client_share
        self.throughput = self._number(output, r"throughput summary: ([\d.]+) requests")
        columns = r"avg +min +p50 +p95 +p99 +max\s+" + r"([\d.]+) +" * 5 + r"([\d.]+)"
        found = re.search(columns, output)
        if not found:
            raise BenchError(f"redis-benchmark printed no latency summary:\n{output[-2000:]}")
        self.p50_ms, self.p99_ms, self.max_ms = (float(found.group(n)) for n in (3, 5, 6))
        self.distribution = [
            (int(count), float(latency))
            for latency, count in re.findall(
                r"% <= ([\d.]+) milliseconds \(cumulative count (\d+)\)", output
            )
        ]

    @staticmethod
    def _number(output, pattern):
        found = re.search(pattern, output)
        if not found:
            raise BenchError(f"redis-benchmark printed no {pattern!r}:\n{output[-2000:]}")
        return float(found.group(1))

    def percentile_ms(self, percent):
        """The smallest printed latency that at least `percent` of the requests did not exceed."""
        requests = max(count for count, _ in self.distribution)
        needed = requests * percent / 100
        return min(latency for count, latency in self.distribution if count >= needed)


def redis_benchmark(server, requests, clients, pipeline, arguments, core=None):
    """Runs redis-benchmark, on one core if that is given. An error reply fails the measurement."""
    argv = [*on_core(core), "redis-benchmark", "-h", "127.0.0.1", "-p", str(server.port)]
    argv += ["-n", str(requests)]
    argv += ["-c", str(clients), "-P", str(pipeline), "-d", str(VALUE_BYTES), *arguments]
    started = time.monotonic()
    before = os.times()
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=120 + requests / 1_000
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{' '.join(argv)} did not end:\n{server.log_tail()}") from error
    after = os.times()
    seconds = time.monotonic() - started
    # children_* count the children that were waited for meanwhile: only this one.
    used = after.children_user - before.children_user
    used += after.children_system - before.children_system
    if done.returncode != 0 or "rror" in done.stderr:
        raise BenchError(f"{' '.join(argv)} failed:\n{done.stdout[-500:]}{done.stderr[-1500:]}")
    return Outcome(done.stdout, used / seconds)

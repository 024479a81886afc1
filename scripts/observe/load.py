"""Clients whose traffic is known to the byte.

Each has its own keys, so that hits, misses and failures are certain; it pipelines a round of
commands, reads all replies, and waits for its next turn.
"""

import collections
import socket
import threading
import time

CLIENTS = 8
ROUNDS_PER_SECOND = 20


class Load:
    """Runs in its own threads for this many seconds; the figures are complete after `join`."""

    def __init__(self, port, seconds):
        self.port, self.rounds, self.value = port, int(seconds * ROUNDS_PER_SECOND), b"v" * 64
        self.lock = threading.Lock()
        self.commands, self.failures = collections.Counter(), collections.Counter()
        self.errors, self.rejections = collections.Counter(), collections.Counter()
        self.sent_bytes = self.received_bytes = self.hits = self.misses = self.writes = self.unknown = 0
        self.keys = 0
        self.broken = []
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def join(self):
        for thread in self.threads:
            thread.join()
        assert not self.broken, f"the load failed: {self.broken}"

    def _run(self, number):
        try:
            with Client(self.port) as client:
                for turn in range(self.rounds):
                    began = time.monotonic()
                    self._round(client, number, turn)
                    time.sleep(max(0, 1 / ROUNDS_PER_SECOND - (time.monotonic() - began)))
        except Exception as error:
            self.broken.append(error)

    def _round(self, client, number, turn):
        key = f"key:{number}:{turn % 100}".encode()
        counter = f"counter:{number}".encode()
        requests = []
        requests += [(b"SET", key, self.value)] * 10
        requests += [(b"GET", key)] * 20
        requests += [(b"GET", b"nothing")] * 3
        requests += [(b"INCR", counter)] * 5
        requests += [(b"INCR", key)]
        requests += [(b"GET",), (b"NOSUCHCOMMAND",), (b"PING",)]
        errors = client.call(requests)
        with self.lock:
            self.commands.update({"set": 10, "get": 23, "incr": 6, "ping": 1})
            self.failures["incr"] += 1
            self.rejections["get"] += 1
            self.errors.update(errors)
            self.unknown += 1
            self.hits += 20
            self.misses += 3
            self.writes += 15
            self.keys += (turn < 100) + (turn == 0)
            self.sent_bytes += client.sent
            self.received_bytes += client.received
            client.sent = client.received = 0


class Client:
    """A RESP client that counts bytes."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.buffer = b""
        self.sent = self.received = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def call(self, requests):
        """Sends all, reads all replies; returns the codes of those that are errors."""
        data = b"".join(encode(request) for request in requests)
        self.socket.sendall(data)
        self.sent += len(data)
        replies = [self._reply() for _ in requests]
        return [reply.split(b" ")[0][1:].decode() for reply in replies if reply[:1] == b"-"]

    def _reply(self):
        line = self._take(self._find_line())
        if line[:1] == b"$" and line[:2] != b"$-":
            self._take(int(line[1:]) + 2)
        return line

    def _find_line(self):
        while b"\r\n" not in self.buffer:
            self._read()
        return self.buffer.index(b"\r\n") + 2

    def _take(self, length):
        while len(self.buffer) < length:
            self._read()
        taken, self.buffer = self.buffer[:length], self.buffer[length:]
        return taken

    def _read(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server has closed the connection")
        self.received += len(data)
        self.buffer += data


def encode(words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)

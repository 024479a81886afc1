"""Workloads that measure what an observer costs. Each server is compared with itself, with and without the
observer, in alternating turns on one process: so a drift of the machine affects both."""

import socket
import threading

from bench.load import Connection, redis_benchmark
from bench.servers import Kvstore
from bench.workload import Target, Workload


class Looking(Workload):
    """Throughput without and with an observer, in turns."""

    group = "seeing"
    turns = 6
    turns_quick = 2
    clients = 50
    pipeline = 1
    requests = 100_000
    keyspace = 10_000
    alone, looked_at, share = "throughput_unseen", "throughput_seen", "seen_share"

    def run(self, server, quick):
        requests = 5_000 if quick else self.requests
        sums = {False: 0.0, True: 0.0}
        with Connection(server) as connection:
            connection.load(self.keyspace)
            self._load(server, requests // 4)
            for turn in range(2 * (self.turns_quick if quick else self.turns)):
                # Off, on, on, off, …: a drift affects both.
                on = turn % 4 in (1, 2)
                with self.look(server, connection, on):
                    sums[on] += self._load(server, requests)
        turns = self.turns_quick if quick else self.turns
        return {
            self.alone: sums[False] / turns,
            self.looked_at: sums[True] / turns,
            self.share: sums[True] / sums[False],
        }

    def _load(self, server, requests):
        arguments = ["-r", str(self.keyspace), "-t", self.command]
        return redis_benchmark(server, requests, self.clients, self.pipeline, arguments).throughput

    def look(self, server, connection, on):
        """A context manager: the observer during a turn."""
        raise NotImplementedError


class Sampling(Looking):
    """TRACE SAMPLE 100 beside TRACE SAMPLE 0. Redis has no such command: its column shows the noise."""

    targets = (Target("seen_share", 0.98, at_least=True, of_redis=False),)

    def __init__(self, name, title, command, pipeline, requests):
        super().__init__(name, title)
        self.command, self.pipeline, self.requests = command, pipeline, requests

    def look(self, server, connection, on):
        return _Sampled(connection, on and isinstance(server.product, Kvstore))


class Monitored(Looking):
    """A client runs MONITOR and reads everything. The target is the loss of Redis."""

    command = "set"
    targets = (Target("seen_share", 1.0, at_least=True),)

    def look(self, server, connection, on):
        return _Monitor(server) if on else _Nobody()


class _Nobody:
    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        pass


class _Sampled(_Nobody):
    def __init__(self, connection, on):
        self.connection, self.on = connection, on

    def __enter__(self):
        if self.on:
            self.connection.ask("TRACE", "SAMPLE", "100")

    def __exit__(self, *_exception):
        if self.on:
            self.connection.ask("TRACE", "SAMPLE", "0")


class _Monitor(_Nobody):
    """Reads into one buffer and ignores it, so that the reader costs little, and the same for all."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.sendall(b"*1\r\n$7\r\nMONITOR\r\n")
        self.socket.recv(5)
        self.thread = threading.Thread(target=self._read, daemon=True)

    def _read(self):
        buffer = bytearray(1 << 20)
        while self.socket.recv_into(buffer) > 0:
            pass

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_exception):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()

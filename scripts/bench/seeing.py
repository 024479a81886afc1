"""Workloads about what looking on costs: each server is compared with itself, looked at and not, in
alternating rounds on one process, so that neither the machine's mood nor the memory's layout decides."""

import socket
import threading

from bench.load import Connection, redis_benchmark
from bench.workload import Target, Workload


class Looking(Workload):
    """Throughput alone and looked at, by turns."""

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
                # Off, on, on, off, …: a drift weighs on both alike.
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
        """What is on during a turn."""
        raise NotImplementedError


class Sampling(Looking):
    """TRACE SAMPLE 100 beside TRACE SAMPLE 0. Redis has no such thing: its column is its noise."""

    targets = (Target("seen_share", 0.98, at_least=True, of_redis=False),)

    def __init__(self, name, title, command, pipeline, requests):
        super().__init__(name, title)
        self.command, self.pipeline, self.requests = command, pipeline, requests

    def look(self, server, connection, on):
        return _Sampled(connection, on and server.product.name == "kvstore")


class Monitored(Looking):
    """A client that monitors and reads all it gets. The target is Redis's own loss."""

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
    """Reads into one buffer and looks at nothing, so that the reader costs little, and the same for all."""

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

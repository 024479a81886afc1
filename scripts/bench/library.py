"""Workload: the cost of the client library. `examples/src/bin/overhead.rs` calls `client.get` and sends GET over a bare
socket, in turns, on one server."""

import subprocess

from bench import BenchError
from bench.workload import Workload
from programs import built

SECONDS_MAX = 120


class Library(Workload):
    """One thread. Both wait for each answer, so the difference is what the library does beside that."""

    calls = 100_000
    calls_quick = 2_000

    def run(self, server, quick):
        program = built("overhead")
        if not program:
            print("  skipped: the client library needs cargo")
            return {}
        words = [program, str(self.calls_quick if quick else self.calls), f"127.0.0.1:{server.port}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
        if done.returncode != 0:
            raise BenchError(f"{' '.join(words)} failed:\n{done.stderr[-1500:]}")
        _, bare, _, library = done.stdout.split()
        return {
            "throughput_bare": float(bare),
            "throughput_library": float(library),
            "library_share": float(library) / float(bare),
        }

"""Runs `probe.py` and returns the latency between two times."""

import array
import math
import os
import subprocess
import sys

from bench import BenchError

END_SECONDS_MAX = 60.0


class Probe:
    """`with Probe(server, "set", "key", 1000, start, seconds_max) as probe:`, then `probe.end()`."""

    def __init__(self, server, verb, prefix, keys, start, seconds_max):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "probe.py")
        argv = [sys.executable, "-B", script, str(server.port), verb, prefix, str(keys)]
        argv += [repr(start), repr(seconds_max)]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.pairs = []

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def end(self):
        """Ends the probe and reads its figures."""
        self.process.terminate()
        try:
            output, _ = self.process.communicate(timeout=END_SECONDS_MAX)
        except subprocess.TimeoutExpired as error:
            raise BenchError("the latency probe does not end") from error
        if self.process.returncode != 0:
            raise BenchError("the latency probe failed (see above)")
        samples = array.array("d")
        samples.frombytes(output)
        self.pairs = list(zip(samples[0::2], samples[1::2]))

    def figures(self, calm, meanwhile):
        """The p99 in two windows, each from one Unix time until another, and how much it grew."""
        before, during = self.p99_ms(*calm), self.p99_ms(*meanwhile)
        return {"p99_before_ms": before, "p99_during_ms": during, "p99_growth": during / before}

    def p99_ms(self, start, until):
        """The percentile over requests that were due from `start` until `until` (Unix times)."""
        return percentile([took for due, took in self.pairs if start <= due < until], 99) * 1000


def percentile(values, percent):
    """By nearest rank."""
    if not values:
        raise BenchError("no samples in the window")
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]

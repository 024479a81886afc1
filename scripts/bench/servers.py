"""The products that are measured, and one running server of any of them.

A product knows its command line. A server is a child process on a port of 127.0.0.1. It has a temporary
directory below $TMPDIR (or /tmp), which is removed when the server is stopped.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from bench import BenchError

# Long, because reading back a large log is part of it.
READY_SECONDS_MAX = 180
READY_POLL_SECONDS = 0.002
STOP_SECONDS_MAX = 30
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def filesystem():
    """The type of the file system that servers have their files on."""
    directory = os.path.realpath(tempfile.gettempdir())
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        mounts = [line.split()[1:3] for line in file]
    around = [m for m in mounts if os.path.commonpath([m[0], directory]) == m[0]]
    # Of two mounts on the same directory, the later one counts.
    return max(enumerate(around), key=lambda found: (len(found[1][0]), found[0]))[1][1]


class Product:
    """How one product is started. `durability` is a key of its table: a new level is a new line."""

    name = ""
    title = ""
    durability_options = {}
    # Settings of a leader, as pairs for CONFIG SET, after which a new follower needs a full copy.
    no_backlog = ()

    def __init__(self, binary):
        self.binary = binary

    def options(self, durability):
        """The options for a level of durability, the same level for all products."""
        return list(self.durability_options[durability])

    def argv(self, durability, port):
        """The command line. Port 0 means that the server chooses."""
        raise NotImplementedError

    def choose_port(self):
        """The port to ask for."""
        raise NotImplementedError

    def ready_port(self, stdout_text, asked_port):
        """The port that it listens on, or None while it is starting."""
        raise NotImplementedError

    def following(self, port):
        """The options for following a leader on this port."""
        raise NotImplementedError

    def loading_seconds(self, stdout_text, persistence):
        """How long reading back its log took, as it reports. `persistence` is that part of INFO."""
        raise NotImplementedError

    def version(self):
        """Its version, such as `7.0.15`; `?` if it does not print one."""
        try:
            answer = subprocess.run(
                [self.binary, "--version"], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return "?"
        found = re.search(r"\d+\.\d+\.\d+", answer.stdout)
        return found.group(0) if found else "?"

    def label(self):
        """The heading of its column."""
        return f"{self.title} {self.version()}"


class Redis(Product):
    """redis-server, and valkey-server, which takes the same options."""

    name = "redis"
    title = "Redis"
    # The log is never rewritten automatically: a rewrite would disturb some rounds and not others.
    _logged = ["--save", "", "--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]
    # A leader would wait for a follower that has just been stopped.
    _logged += ["--shutdown-timeout", "0"]
    durability_options = {
        "none": ["--save", "", "--appendonly", "no"],
        "everysec": [*_logged, "--appendfsync", "everysec"],
        "everysec-plain": [*_logged, "--appendfsync", "everysec", "--aof-use-rdb-preamble", "no"],
        "always": [*_logged, "--appendfsync", "always"],
    }

    # It would wait five seconds for more followers.
    no_backlog = (("repl-diskless-sync-delay", "0"),)

    def following(self, port):
        return ["--replicaof", "127.0.0.1", str(port)]

    def choose_port(self):
        # Redis takes port 0 for "do not listen". Between this close and its bind another process
        # could take the port. Redis then ends at once, and the start is tried again.
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def argv(self, durability, port):
        return [self.binary, "--port", str(port), "--bind", "127.0.0.1", *self.options(durability)]

    def ready_port(self, stdout_text, asked_port):
        return asked_port if "eady to accept connections" in stdout_text else None

    def loading_seconds(self, stdout_text, persistence):
        found = re.search(r"DB loaded from append only file: ([\d.]+) seconds", stdout_text)
        if not found:
            raise BenchError(f"{self.title} does not say that it loaded its append-only file")
        return float(found.group(1))


class RedisAgain(Redis):
    """The same program as the subject: an A/A run, whose ratios are the machine's noise."""

    name = "redis2"
    title = "Redis again"


class Valkey(Redis):
    """The fork, where it is installed."""

    name = "valkey"
    title = "Valkey"


class Kvstore(Product):
    """The release build. It picks a port and says which in its first line of output."""

    name = "kvstore"
    title = "kvstore"
    _logged = ["--appendonly", "yes", "--dir", "data", "--auto-compact-percentage", "0"]
    durability_options = {
        "none": ["--appendonly", "no"],
        "everysec": [*_logged, "--appendfsync", "everysec"],
        "everysec-plain": [*_logged, "--appendfsync", "everysec"],  # its base always is plain
        "always": [*_logged, "--appendfsync", "always"],
    }

    no_backlog = (("repl-backlog-size", "0"),)

    def following(self, port):
        return ["--replicaof", f"127.0.0.1:{port}"]

    def choose_port(self):
        return 0

    def argv(self, durability, port):
        address = ["--port", str(port), "--bind", "127.0.0.1"]
        return [self.binary, "serve", *address, *self.options(durability)]

    def ready_port(self, stdout_text, asked_port):
        found = re.search(r"ready on 127\.0\.0\.1:(\d+)", stdout_text)
        return int(found.group(1)) if found else None

    def loading_seconds(self, stdout_text, persistence):
        return int(persistence["kvstore_recovery_milliseconds"]) / 1000


class OldKvstore(Kvstore):
    """Another build, for example of the commit before a change."""

    name = "old"
    title = "old kvstore"


class Echo(Kvstore):
    """`examples/src/bin/echo.rs`: a thread for each connection, and nothing done for the answers."""

    name = "echo"
    title = "a bare echo server"

    def argv(self, durability, port):
        return [self.binary]

    def label(self):
        return self.title


def on_core(core):
    """The words before a command line that keep it on this core; none if that is None."""
    return [] if core is None else ["taskset", "-c", str(core)]


class Server:
    """One running server: `with Server(product) as server:` starts it and stops it.

    `stop` and `start` in between restart it in the same directory. If `is_pinned`, it has one core and
    redis-benchmark another one, as if on two machines.
    """

    def __init__(self, product, durability="none", options=(), is_pinned=False):
        self.product = product
        self.durability = durability
        self.options = list(options)
        self.core, self.client_core = (0, 1) if is_pinned else (None, None)
        self.process = None
        self.port = None
        self.directory = None

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="kvstore-bench-")
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_exception):
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def start(self):
        """Returns the seconds from its start until it was ready."""
        for attempts_left in (2, 1, 0):
            seconds = self._start(may_retry=attempts_left > 0)
            if seconds is not None:
                return seconds
        raise AssertionError("the last attempt returns or raises")

    def _start(self, may_retry):
        asked_port = self.product.choose_port()
        argv = [*on_core(self.core), *self.product.argv(self.durability, asked_port), *self.options]
        started = time.monotonic()
        with open(self._path("stdout"), "wb") as out, open(self._path("stderr"), "wb") as err:
            try:
                self.process = subprocess.Popen(
                    argv, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=out, stderr=err
                )
            except OSError as error:
                raise BenchError(f"cannot start {argv[0]}: {error}") from error
        while time.monotonic() < started + READY_SECONDS_MAX:
            self.port = self.product.ready_port(self.stdout(), asked_port)
            if self.port is not None:
                return time.monotonic() - started
            if self.process.poll() is not None:
                if may_retry:
                    return None
                break
            time.sleep(READY_POLL_SECONDS)
        raise BenchError(f"{' '.join(argv)} did not become ready:\n{self.log_tail()}")

    def stop(self):
        """Asks it to end, and waits for that."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            print(f"  NOTE: {self.product.name} ignored SIGTERM for {STOP_SECONDS_MAX} s; killed")

    def _path(self, name):
        return os.path.join(self.directory, name)

    def _read(self, name):
        with open(self._path(name), encoding="utf-8", errors="replace") as file:
            return file.read()

    def stdout(self):
        """Its output since its start."""
        return self._read("stdout")

    def log_tail(self):
        """The end of the server's log, for a failure message."""
        return (self._read("stdout") + self._read("stderr"))[-2000:]

    def cpu_seconds(self):
        """User and system time used so far, by all threads that it has and had."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii", errors="replace") as file:
            # The second field is the program's name in brackets and may hold blanks.
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def resident_mib(self):
        """VmRSS."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        raise BenchError(f"{self.product.name} has no VmRSS: it has ended\n{self.log_tail()}")

    def memory_mib(self):
        """Resident memory, and what forked children hold beside it.

        Pages that a child shares with its parent are the parent's; those that the parent has changed
        since the fork exist twice, and the child's copies are its private dirty pages.
        """
        pid = self.process.pid
        total = _smaps_kib(pid, "Rss")
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = file.read().split()
        for child in children:
            try:
                total += _smaps_kib(child, "Private_Dirty")
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has just ended
        return total / 1024


def _smaps_kib(pid, field):
    """One field of the sum over a process's mappings; 0 for a process that is ending."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    return 0

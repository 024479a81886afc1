"""Runs an application's program with a server of its own."""

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from apps.install import environment_of, missing
from failover import FailoverError
from failover.nodes import STARTS_MAX, Node, free_ports, wait_until

PROGRAMS = Path(__file__).resolve().parent
BINARY = os.environ.get("KVSTORE", str(PROGRAMS.parents[1] / "target/release/kvstore"))
SECONDS_MAX = 120
INTERPRETERS = {".py": ["python3", "-B"], ".js": ["node"], ".php": ["php"], ".rb": ["ruby"], ".pl": ["perl"]}


@dataclass
class Row:
    """What came of an application."""

    name: str
    done: str
    outcome: str

    def __str__(self):
        return ": ".join(part for part in (self.name, self.done, self.outcome) if part)


class Server(Node):
    """A kvstore that can be killed and started again."""

    def serve(self):
        """Starts it, and waits until it answers. The port of the first start is kept."""
        for _ in range(STARTS_MAX):
            options = [f"--port={self.port}", "--metrics-port=0", f"--dir={self.directory}/data"]
            self.start([BINARY, "serve", *options])
            wait_until(lambda: self.ask("PING") == "PONG" or self.process.poll() is not None, "kvstore serves")
            if self.process.poll() is None:
                return
        raise FailoverError(f"kvstore does not start:\n{self.log_tail()}")

    def restart(self):
        """kill -9, and a new start on the same port and data."""
        self.signal(signal.SIGKILL)
        self.serve()


def run(app):
    """Runs it. Returns its row."""
    if lacks := missing(app):
        return Row(app.name, "", f"skipped: {lacks}")
    directory = tempfile.mkdtemp(prefix="kvstore-apps-")
    server = Server("server", free_ports(1)[0], directory)
    try:
        server.serve()
        said, code = converse(app, directory, server)
        name, _, done = said.partition(": ")
        if code == 0 and done:
            return Row(name, done, "ok")
        with open(f"{directory}/errors", encoding="utf-8", errors="replace") as errors:
            tail = errors.read()[-1500:]
        return Row(app.name, "", f"FAIL: exit code {code}: {said}\n{tail}\n{server.log_tail()}")
    except (FailoverError, OSError, subprocess.CalledProcessError) as error:
        return Row(app.name, "", f"FAIL: {error}")
    finally:
        server.end()
        shutil.rmtree(directory, ignore_errors=True)


def command(app, directory):
    """What to start. A program in C is compiled first."""
    source = PROGRAMS / app.program
    if source.suffix != ".c":
        return [*INTERPRETERS[source.suffix], str(source)]
    program = f"{directory}/program"
    subprocess.run(["gcc", "-Wall", "-Wextra", "-o", program, str(source), "-lhiredis"], check=True)
    return [program]


def converse(app, directory, server):
    """Starts the program, and the server again when it asks for that. Returns its last line and its exit code."""
    with open(f"{directory}/errors", "wb") as errors:
        # A session of its own, so that the program's children end with it.
        program = subprocess.Popen([*command(app, directory), str(server.port)], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=errors, cwd=directory, env=environment_of(app),
                                   start_new_session=True)
    try:
        said = last_line(program, server)
        return said, program.wait(timeout=SECONDS_MAX)
    finally:
        try:
            os.killpg(program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        program.wait()
        program.stdin.close()
        program.stdout.close()


def last_line(program, server):
    """Reads what it says to the end."""
    deadline, said, rest = time.monotonic() + SECONDS_MAX, "", b""
    while True:
        if not select.select([program.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
            raise FailoverError(f"not done after {SECONDS_MAX} s, last: {said}")
        piece = os.read(program.stdout.fileno(), 65536)
        if not piece:
            return said
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            said = line.decode()
            if said == "restart":
                server.restart()
                program.stdin.write(b"\n")
                program.stdin.flush()

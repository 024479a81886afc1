"""A disk on which each sync takes long, imitated by strace. It needs strace, and the right to trace a process."""

import contextlib
import shutil
import subprocess

from failover.nodes import wait_until


@contextlib.contextmanager
def slow_disk(lab, server, milliseconds):
    """Each fdatasync of the server takes so long, until this ends. Yields False if that cannot be had."""
    if not shutil.which("strace"):
        lab.skip("strace is not installed (apt-get install strace)")
        yield False
        return
    delay = f"inject=fdatasync:delay_enter={1000 * milliseconds}"
    lab.command(f"strace -f -p {server.process.pid} -e trace=fdatasync -e {delay}")
    messages = f"{server.directory}/strace"
    with open(messages, "wb") as file:
        strace = subprocess.Popen(
            ["strace", "-f", "-p", str(server.process.pid), "-o", "/dev/null", "-e", "trace=fdatasync", "-e", delay],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    def said():
        with open(messages, encoding="utf-8") as file:
            return file.read()

    try:
        wait_until(lambda: " attached" in said() or strace.poll() is not None, "strace attaches")
        if strace.poll() is not None:
            lab.skip(f"strace cannot trace: {said().strip()}")
        yield strace.poll() is None
    finally:
        # It lets go of the server.
        strace.terminate()
        strace.wait()

#!/usr/bin/env python3
"""Uses redis-cli as a person does, at a pseudo-terminal, with hints enabled.

Usage: redis_cli_terminal.py PORT. Starts redis-cli only; scripts/clients.sh starts the server.
"""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import tempfile
import termios
import time

SECONDS_MAX = 10
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A child at a pseudo-terminal, and its output that has not been matched yet."""

    def __init__(self, argv, home):
        self.shown = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # A HOME without history or preferences of a user.
            environment = dict(os.environ, TERM="xterm", HOME=home)
            try:
                # Without a size, linenoise would ask the terminal for its cursor position and wait.
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
                os.execvpe(argv[0], argv, environment)
            finally:
                os._exit(127)

    def wait_for(self, pattern):
        """Reads until the pattern appears, and drops the output up to its end. Fails after SECONDS_MAX."""
        give_up = time.monotonic() + SECONDS_MAX
        while True:
            found = re.search(pattern, self.shown)
            if found:
                self.shown = self.shown[found.end() :]
                return found.group(0)
            ready, _, _ = select.select([self.fd], [], [], max(0, give_up - time.monotonic()))
            if not ready:
                raise AssertionError(f"waited for {pattern!r}, saw {self.shown[-500:]!r}")
            try:
                got = os.read(self.fd, 65536)
            except OSError:  # how Linux reports that the child has gone
                got = b""
            if not got:
                raise AssertionError(f"redis-cli ended; waited for {pattern!r}, {self.shown!r}")
            self.shown += ESCAPES.sub("", got.decode("utf-8", "replace"))

    def type(self, text):
        """Key by key, as linenoise redraws after each."""
        for key in text:
            os.write(self.fd, key.encode())
            time.sleep(0.005)

    def end(self):
        """Waits until it ends by itself; returns its exit code."""
        give_up = time.monotonic() + SECONDS_MAX
        while time.monotonic() < give_up:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = None
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        raise AssertionError("redis-cli did not leave")

    def kill(self):
        """Ends it if it still runs."""
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


def session(terminal, port):
    """Pairs of a check's name and its function, in the order of typing."""
    prompt = rf"127\.0\.0\.1:{port}> "

    def command(line, reply):
        def run():
            terminal.type(line + "\r")
            terminal.wait_for(r"\r\n" + reply + r"\r\n")
            terminal.wait_for(prompt)

        return run

    def hint():
        terminal.type("SET hinted ")
        terminal.wait_for(r"SET hinted value")
        terminal.type("x\r")
        terminal.wait_for(r"\r\nOK\r\n")
        terminal.wait_for(prompt)

    def help_text():
        terminal.type("help SET\r")
        terminal.wait_for(r"SET key value")
        terminal.wait_for(prompt)

    def leave():
        terminal.type("quit\r")
        assert terminal.end() == 0, "exit code is not 0"

    yield "connects and prompts", lambda: terminal.wait_for(prompt)
    yield "SET", command('SET greeting "hello big world"', "OK")
    yield "GET", command("GET greeting", r'"hello big world"')
    yield "a missing key", command("GET nothing", r"\(nil\)")
    yield "an integer", command("APPEND greeting !", r"\(integer\) 16")
    yield "an array", command("MGET greeting nothing", r'1\) "hello big world!"\r\n2\) \(nil\)')
    yield "an error", command("INCR greeting", r"\(error\) ERR value is not an integer.*")
    yield "a hint while typing", hint
    yield "help SET", help_text
    yield "quit", leave


def watch_stat(terminal):
    """`--stat` prints a line each interval until it is interrupted."""
    terminal.wait_for(r"keys +mem +clients")
    for _ in range(3):
        terminal.wait_for(r"\d+ +[\d.]+[BKMG] +\d+ ")
    terminal.type("\x03")


def check(name, run):
    """Runs one check and prints its line. After a failure the screen is unknown, so the script ends."""
    try:
        run()
    except AssertionError as error:
        print(f"FAIL redis-cli at a terminal: {name}: {error}")
        sys.exit(1)
    print(f"ok   redis-cli at a terminal: {name}", flush=True)


def main():
    """A session of commands, then `--stat`."""
    port = sys.argv[1]
    argv = ["redis-cli", "-h", "127.0.0.1", "-p", port]
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(argv, home)
        try:
            for name, run in session(terminal, port):
                check(name, run)
        finally:
            terminal.kill()
        terminal = Terminal([*argv, "--stat", "-i", "0.2"], home)
        try:
            check("--stat", lambda: watch_stat(terminal))
        finally:
            terminal.kill()


if __name__ == "__main__":
    main()

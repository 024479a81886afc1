"""What a lab may do: say, predict, start servers, type, show, expect, and ask."""

import contextlib
import re
import subprocess
import textwrap

from failover.nodes import Nodes, wait_until
from labs.servers import Conversation, Server

WIDTH = 100
BAR_WIDTH = 50
COMMAND_SECONDS_MAX = 60


class Lab:
    """One run of a lab. `with Lab(…) as lab:` ends at last what the lab has started.

    Paths are printed without `directory`, which is where all files of the lab are.
    """

    def __init__(self, binary, directory, step=False):
        self.binary = binary
        self.directory = directory
        self.step = step
        self.faults = []
        self.questions = 0
        self.parts = 0
        self.servers = []
        self.conversations = {}  # by port
        self.resources = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        for conversation in self.conversations.values():
            conversation.close()
        self.resources.close()

    # --- the story -----------------------------------------------------------------------------------------------

    def part(self, title):
        """Begins a part. With `--step` it waits for Enter first."""
        self.parts += 1
        print(f"\n--- {self.parts}. {title}", flush=True)
        if self.step:
            input("    (Enter goes on) ")

    def say(self, text):
        """Explains something."""
        self._print(text, "    ")

    def predict(self, text):
        """Says what to expect, before it is shown."""
        self._print(f"Expect: {text}", "    ", "            ")

    def expect(self, text, condition):
        """Checks what was predicted. Returns the condition."""
        self._print(text, " ok " if condition else " FAILED: ", "    ")
        if not condition:
            self.faults.append(text)
        return condition

    def ask(self, question, file, item):
        """An interview question, and the file and item that answer it, which `house.py --check` looks for."""
        if self.questions == 0:
            print("\n    Questions, and where the code answers them:")
        self.questions += 1
        self._print(question, f"    {self.questions}. ", "       ")
        print(f"       → {file}, `{item}`")

    def show(self, output, only=None, lines_max=20):
        """Shows output of a program, or its lines that match a regular expression."""
        lines = [line for line in output.splitlines() if not only or re.search(only, line)]
        for line in lines[:lines_max]:
            self._print(line or " ", "    | ")
        if len(lines) > lines_max:
            print(f"    | … {len(lines) - lines_max} more lines")

    def command(self, words):
        """Shows a command that the lab runs."""
        self._print(words, "    $ ", "      ")

    def bars(self, rows):
        """Draws a bar for each (name, value, text)."""
        largest = max(value for _, value, _ in rows) or 1
        width = max(len(name) for name, _, _ in rows)
        for name, value, text in rows:
            print(f"    {name:<{width}}  {'█' * max(round(BAR_WIDTH * value / largest), 1)} {text}")

    def skip(self, why):
        """Says that a part is left out, and why."""
        self.say(f"skipped: {why}")

    def _print(self, text, first, others=None):
        text = str(text).replace(f"{self.directory}/", "").replace(self.directory, ".")
        others = first if others is None else others
        for line in text.splitlines():
            print(textwrap.fill(line, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False,
                                break_long_words=False, replace_whitespace=False), flush=True)
            first = others

    # --- servers and programs ------------------------------------------------------------------------------------

    def server(self, name, *options, environment=None, directory=None, start=True):
        """A server with these options, started unless `start` is False. Its files are in a new directory, which is in
        the lab's directory or in another one."""
        server = Server(self, name, options, environment, directory)
        self.servers.append(server)
        self.resources.callback(server.end)
        if start:
            server.start()
        return server

    def nodes(self, *options, names="ABC", network=None, status=False):
        """Servers that elect their leader, started; see `Nodes`."""
        nodes = self.resources.enter_context(Nodes(self.binary, self.directory, options, network, names, status))
        self.servers += nodes.all
        ports = ", ".join(f"{node.name}: port {node.port}, process {node.process.pid}" for node in nodes.all)
        self.command(f"kvstore serve {' '.join(nodes.options)}    # {len(nodes.all)} times, {ports}")
        return nodes

    def type(self, node, line, only=None):
        """Types a line on the connection to a node and shows the answer, or its lines that match; returns all of it."""
        answer = self.quietly(node, line)
        self._shown(node, line, answer, only)
        return answer

    def type_until(self, node, line, pattern, only=None):
        """As `type`, again and again until the answer matches; shows the last answer."""
        def answers():
            answer = self.quietly(node, line)
            return answer if re.search(pattern, answer, re.M) else None

        answer = wait_until(answers, f"{node.name} answers {line} with {pattern}")
        self._shown(node, line, answer, only)
        return answer

    def _shown(self, node, line, answer, only):
        self._print(line, f"    {node.name}> ", "       ")
        self.show(answer, only)

    def quietly(self, node, line):
        """As `type`, but shows nothing."""
        conversation = self.conversations.get(node.port)
        if not conversation or conversation.process is not node.process:
            conversation = self.conversations[node.port] = Conversation(node)
        return conversation.type(line)

    def run(self, *words, only=None, lines_max=20):
        """Runs `kvstore` with these words and shows what it prints. Returns the finished process."""
        self.command(" ".join(["kvstore", *words]))
        done = subprocess.run([self.binary, *words], cwd=self.directory, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=COMMAND_SECONDS_MAX,
                              check=False)
        self.show(done.stdout, only, lines_max)
        return done

    def check(self, server, *switches):
        """Runs `kvstore check` on a server's directory. Returns True if a server would start with it."""
        return self.run("check", server.data, *switches).returncode == 0

    def log_tails(self):
        """The ends of the servers' logs, for a failure's report."""
        return "\n".join(server.log_tail() for server in self.servers)

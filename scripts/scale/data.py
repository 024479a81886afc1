"""More data than one machine has memory: nutcracker spreads keys over three servers. What works through it, and what not?"""

from failover.client import Client, Refusal
from scale.proxies import nutcracker, program

KEYS = 300
# What is sent, and the answer. `{user:1}` puts keys with this tag on one server.
WORK = [
    (("SET", "name", "Ada", "EX", "100"), "OK"),
    (("GET", "name"), "Ada"),
    (("PERSIST", "name"), 1),
    (("INCRBY", "visits", "7"), 7),
    (("APPEND", "name", "!"), 4),
    (("MSET", "one", "1", "two", "2", "three", "3"), "OK"),
    (("MGET", "one", "two", "three", "four"), ["1", "2", "3", None]),
    (("DEL", "one", "two", "three"), 3),
    (("SET", "{user:1}:name", "Ada", "NX"), "OK"),
    (("GETRANGE", "{user:1}:name", "0", "1"), "Ad"),
]
# Each closes the connection, or is refused: nutcracker does not know it, or it has no single server to go to.
FAIL = [("MULTI",), ("EXEC",), ("WATCH", "name"), ("PUBLISH", "news", "x"), ("SUBSCRIBE", "news"), ("DBSIZE",),
        ("SCAN", "0"), ("KEYS", "*"), ("INFO",), ("FLUSHALL",), ("LASTSEQ",), ("WAIT", "1", "10"),
        ("RENAME", "name", "other"), ("MSETNX", "a", "1", "b", "2"), ("SELECT", "0")]


def run(lab):
    """Keys through nutcracker."""
    if not program("nutcracker"):
        return lab.skip("needs nutcracker (apt-get install nutcracker)")
    lab.say("nutcracker (twemproxy) is a proxy that sends each key to one of several servers, by its hash. Each server holds "
            "a third of the keys and knows nothing of the others. In production each of them is a cluster of three "
            "with haproxy before it (scripts/scale.py safety), and nutcracker's list has the ports of these.")
    servers = [lab.server(name) for name in "ABC"]
    port = nutcracker(lab, servers)
    lab.say(f"clients: redis-cli -p {port}")
    spread(lab, servers, port)
    works(lab, port)
    fails(lab, servers, port)


def spread(lab, servers, port):
    """Keys go to all servers."""
    lab.part(f"{KEYS} keys")
    lab.predict("each server gets about a third of them.")
    with Client(port) as client:
        answers = client.ask_all([("SET", f"key-{number}", "1") for number in range(KEYS)])
        counts = [server.ask("DBSIZE") for server in servers]
        found = client.ask_all([("GET", f"key-{number}") for number in range(KEYS)])
    lab.bars([(server.name, count, f"{count} keys") for server, count in zip(servers, counts)])
    lab.expect(f"each has some, all together have {sum(counts)}, and all are found",
               answers == ["OK"] * KEYS and min(counts) > 0 and sum(counts) == KEYS and found == ["1"] * KEYS)


def works(lab, port):
    """Commands on single keys, and lists of keys that nutcracker can take apart."""
    lab.part("What works")
    lab.predict("all commands on one key, and MGET, MSET and DEL, which nutcracker splits. So MSET is not atomic: a reader "
                "may see a part of it.")
    with Client(port) as client:
        for words, wanted in WORK:
            answer = client.ask(*words)
            lab.expect(f"{' '.join(words)}: {answer}", answer == wanted)


def fails(lab, servers, port):
    """Commands that need one server, or all."""
    lab.part("What does not work")
    lab.predict("transactions, messages, and all that is about a whole server: a key has one server, but MULTI has none. "
                "nutcracker closes the connection.")
    answers = {words[0]: refused(port, words) for words in FAIL}
    lab.show("\n".join(f"{name:<10} {answer or 'works'}" for name, answer in answers.items()), lines_max=len(answers))
    lab.expect("none of these is answered", all(answers.values()))
    with Client(servers[0].port) as client:
        lab.expect("each server by itself does transactions as always: MULTI, INCR, EXEC",
                   client.ask_all([("MULTI",), ("INCR", "n"), ("EXEC",)]) == ["OK", "QUEUED", [1]])
    lab.say("What must change together belongs into one value, or on one server to which the client talks directly. A new "
            "server in the list moves a part of the keys: they are not copied, they are missed.")


def refused(port, words):
    """How a command fails; None if it does not."""
    with Client(port) as client:
        try:
            answer = client.ask(*words)
        except OSError:
            return "the connection is closed"
    return str(answer) if isinstance(answer, Refusal) else None

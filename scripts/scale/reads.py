"""More reads: followers answer them, too. A token makes a reader see its own writes."""

from collections import Counter

from failover.client import Client, Refusal
from labs.elected import remember
from scale.proxies import haproxy, program

CONNECTIONS = 30
ROUNDS = 200
WAIT_MS = 2000


def run(lab):
    """Reads through haproxy."""
    if not program("haproxy"):
        return lab.skip("needs haproxy (apt-get install haproxy)")
    lab.say("Three nodes elect their leader, which takes all writes. Each follower has all the data and answers reads, so "
            "reads grow with the number of nodes. haproxy gives two ports: one leads to the leader, one to any node.")
    nodes = lab.nodes("--election-timeout=1000", status=True)
    remember(nodes)
    writes, reads = haproxy(lab, nodes)
    lab.say(f"writes: redis-cli -p {writes}; reads: redis-cli -p {reads}")
    spread(lab, reads)
    tokens(lab, writes, reads)
    lab.part("What does not work")
    answers = [write(reads) for _ in range(3)]
    lab.expect(f"a write on the port for reads is refused by a follower: {answers}", "READONLY" in answers)
    lab.say("More nodes mean no more writes: each node applies all of them. And a follower may answer with what was true "
            "a moment ago, if a reader gives no token.")


def spread(lab, reads):
    """Connections go to all nodes."""
    lab.part("Reads spread over the nodes")
    lab.predict(f"of {CONNECTIONS} connections, each node gets a third.")
    counts = Counter()
    for _ in range(CONNECTIONS):
        with Client(reads) as client:
            counts[client.ask("CONFIG", "GET", "port")[1]] += 1
    lab.bars([(f"port {port}", count, str(count)) for port, count in sorted(counts.items())])
    lab.expect("all three answer reads", len(counts) == 3)


def tokens(lab, writes, reads):
    """A reader sees its own writes."""
    lab.part("A writer reads its own writes")
    lab.predict("it writes, and reads on another connection at once. Without a token a follower may not have the write yet. With "
                "the token that LASTSEQ gives, WAITSEQ on the follower waits until it has, and no read is old.")
    old = {False: 0, True: 0}
    with Client(writes) as writer:
        for number in range(ROUNDS):
            for with_token in old:
                key, value = f"{with_token}", str(number)
                ok, token = writer.ask_all([("SET", key, value), ("LASTSEQ",)])
                with Client(reads) as reader:
                    wait = [("WAITSEQ", token, WAIT_MS)] * with_token
                    *waited, found = reader.ask_all([*wait, ("GET", key)])
                old[with_token] += ok != "OK" or found != value or any(isinstance(it, Refusal) for it in waited)
    lab.show(f"SET name Ada\nLASTSEQ                     {token}\n(another connection)\nWAITSEQ {token} {WAIT_MS}\nGET name")
    lab.say(f"without a token, {old[False]} of {ROUNDS} reads were old (here a follower is a fraction of a "
            "millisecond away)")
    lab.expect(f"with a token, {old[True]} of {ROUNDS} were", old[True] == 0)


def write(port):
    """The first word of the answer to a write on a new connection."""
    with Client(port) as client:
        return client.ask("SET", "x", "1").split()[0]

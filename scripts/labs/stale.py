"""Lab 10: the leader stands still while another one is elected and takes a write. Then it goes on, and answers."""

import signal
from collections import Counter

from labs.elected import TIMEOUT_MS, Later, others, remember

READERS = 16
# It depends on chance whether the node answers before or after it learns that it does not lead.
TRIES_MAX = 4
READ = (("MULTI",), ("ROLE",), ("GET", "city"), ("EXEC",))
WROTE_NO_OK = "the write that waited there has no OK"


def run(lab):
    """The lab."""
    lab.say("A process can stand still at any moment: SIGSTOP, swapping, a virtual machine that moves. It does not "
            "notice, and goes on where it was. Meanwhile the others may have elected another leader, and it has taken "
            "writes.")
    lab.say(f"In each try below, the leader is stopped, and {READERS} readers and a writer send it a command, which "
            "waits in its sockets. Another node is elected, and city becomes Bonn. Then the old leader goes on. A "
            "reader asks for ROLE and city in one transaction: so it knows whether the node took itself for the "
            "leader.")
    nodes = lab.nodes(f"--election-timeout={TIMEOUT_MS}")
    remember(nodes)
    local(lab, nodes)
    index(lab, nodes)
    lab.ask("The leader must ask a majority after it has run the read. Why not before?",
            "src/cluster/election/mod.rs", "rounds_begun")
    lab.ask("One round of heartbeats can confirm a thousand reads. How do they wait for it without a thread each?",
            "src/engine/parking.rs", "Parking")


def local(lab, nodes):
    """Old reads."""
    lab.part("reads local, the default")
    lab.predict("each reader gets Aachen, the old value. The node answers from its memory and asks nobody. It may even "
                "say that it leads: it has not noticed yet. Its writer has no OK: before an OK, a leader looks at the "
                "clock.")
    answers = Counter()
    for _ in range(TRIES_MAX):
        found, writer = stand_still(lab, nodes)
        lab.expect(WROTE_NO_OK, writer != "OK")
        lab.expect("readers got the old value", any(city == "Aachen" for _, city in found))
        answers += found
        if ("master", "Aachen") in answers:
            break
    if ("master", "Aachen") not in answers:
        lab.say("This time the node has noticed first in each try, and has said that it follows.")


def index(lab, nodes):
    """No old reads."""
    lab.part("reads index")
    nodes.set_policy("reads", "index")
    lab.predict("no reader gets Aachen from a node that says that it leads. After it has run a read, a leader sends a "
                "heartbeat, and waits until a majority has answered it. Here none does, and the reader gets STALE. A "
                "node that has noticed by then says that it follows: followers answer what they have, under any "
                "setting.")
    for _ in range(TRIES_MAX):
        found, writer = stand_still(lab, nodes)
        lab.expect(WROTE_NO_OK, writer != "OK")
        lab.expect("no reader got the old value from a leader", ("master", "Aachen") not in found)
        if any(role == "STALE" for role, _ in found):
            break


def stand_still(lab, nodes):
    """One try. Returns how often each (role, city) was read, and what the writer got."""
    leader = remember(nodes)
    lab.type(leader, "SET city Aachen")
    remember(nodes)
    lab.command(f"kill -STOP {leader.process.pid}    # {leader.name}, which leads")
    leader.signal(signal.SIGSTOP)
    readers = [Later(lab, leader, *READ) for _ in range(READERS)]
    writer = Later(lab, leader, ("SET", "late", "1"))
    new = nodes.leader(others(nodes, leader))
    lab.type(new, "SET city Bonn")
    lab.command(f"kill -CONT {leader.process.pid}    # {leader.name}")
    leader.signal(signal.SIGCONT)
    found = Counter(read(reader.replies()[-1]) for reader in readers)
    for (role, city), count in found.items():
        lab.say(f"{count} of {READERS} readers: {role}{', city is ' * bool(city)}{city}")
    return found, writer.replies()[0]


def read(reply):
    """(role, city), or the first word of a refusal."""
    if isinstance(reply, list):
        (role, *_), city = reply
        return role, city
    return reply.split()[0], ""

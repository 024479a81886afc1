"""Lab 9: as lab 8, under `ack majority`. Nothing is lost, and its price is measured."""

import threading
import time

from failover.client import Client
from failover.losses import named
from labs import lost
from labs.elected import TIMEOUT_MS, remember
from labs.paths import Paths

SECONDS = 1.5
CLIENTS = 8


def run(lab):
    """The lab."""
    lab.say("Under `ack majority` an OK says: two of the three nodes have this write. Whoever leads next needs the "
            "votes of two, and a node does not vote for one whose log is older than its own. Any two of three share a "
            "node with any other two, so the next leader has every write with an OK.")
    price(lab)
    nodes = lab.nodes(f"--election-timeout={TIMEOUT_MS}", "--ack=majority", network=Paths)
    lab.part("kill -9 of the leader under load, as in lab 8")
    lab.predict("the writes that only the leader had are gone as they were there, but none of them had its OK. The "
                "client knows nothing about them: they are in doubt.")
    leader = remember(nodes)
    count, missing, new = lost.fail_over(lab, nodes, leader)
    lab.expect(f"of {count} writes with an OK, {new.name} lacks {len(missing)}{': ' * bool(missing)}{named(missing)}",
               count > 0 and not missing)
    nodes.start(leader)
    nodes.converge()
    aside = int(leader.info("replication")["kvstore_diverged_records"])
    lab.expect(f"{leader.name} is back, and has set {aside} records aside in diverged/, none of which had its OK",
               aside > 0)
    lab.ask("The OK waits for a majority. Who sends it when the majority is there, if no thread waits?",
            "src/engine/confirm.rs", "release_parked_of_cluster")
    lab.ask("Why is a write on a majority not yet committed if its leader has died meanwhile? (Lab 11)",
            "src/cluster/election/leading.rs", "commit")


def price(lab):
    """Measures both policies. The figures are printed and not checked: they are this machine's."""
    lab.part("The price")
    nodes = lab.nodes(f"--election-timeout={TIMEOUT_MS}", names="DEF")
    lab.predict("each OK waits for a follower's answer: one client alone waits longer. With many clients, one "
                "answer confirms the writes of all, and the difference shrinks. (These figures are not checked.)")
    rows = []
    for policy in ("leader", "majority"):
        nodes.set_policy("ack", policy)
        leader = nodes.converge()
        for clients in (1, CLIENTS):
            rows.append((f"ack {policy}, {clients} client{'s' * (clients > 1)}", writes_per_second(leader, clients)))
    rows.sort(key=lambda row: row[0].rsplit(",")[1])
    lab.bars([(name, speed, f"{speed:,.0f} writes/s") for name, speed in rows])
    lab.say("Clients and nodes share this machine, and the clients are Python. `make bench` has figures without that.")


def writes_per_second(leader, clients):
    """SETs, each after the OK of the one before, by so many clients at once."""
    counts = [0] * clients
    end = time.monotonic() + SECONDS

    def write(number):
        with Client(leader.port) as client:
            while time.monotonic() < end:
                client.ask("SET", f"speed-{number}", "1")
                counts[number] += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / SECONDS

"""Lab 13: a follower acknowledges a record before its disk has it, and loses power. May it vote?"""

import signal
import time

from failover.nodes import wait_until
from failover.power import cut_power
from labs import simulator
from labs.elected import TIMEOUT_MS, last_record, others, remember
from labs.paths import Paths

LOOKS = 30
LOOK_SECONDS = 0.1


def run(lab):
    """The lab."""
    lab.say("Under `ack majority` and `appendfsync everysec`, an OK says that a majority has written the record, not "
            "that their disks have it. One node that loses power forgets the end of its log. Raft's proof does not "
            "allow for that: it counts on it that a node remembers what it has acknowledged.")
    nodes = lab.nodes(f"--election-timeout={TIMEOUT_MS}", "--ack=majority", "--appendfsync=no", network=Paths)
    leader, forgets, behind = acknowledged_by_two(lab, nodes)
    lab.part("Power cut at one, death of the other")
    lab.predict(f"of the two that had x, {leader.name} is dead and {forgets.name} has forgotten it. {forgets.name} and "
                f"{behind.name} are a majority, but if they elected one of them, x would be gone. {forgets.name} finds "
                "another boot id of its machine than it has noted: it is 'recovering', and its vote does not count. So "
                "nobody leads until the third node is back.")
    fail_both(lab, nodes, leader, forgets)
    lab.type(forgets, "INFO cluster", "kvstore_cluster_memory")
    led = leads_within([forgets, behind])
    lab.expect(f"neither {forgets.name} nor {behind.name} leads for {LOOKS * LOOK_SECONDS:.0f} s", not led)
    lab.type(behind, "SET y 1")
    lab.say(f"Now {leader.name} starts again.")
    nodes.start(leader)
    new = remember(nodes)
    lab.expect(f"{new.name} leads, and x is there", lab.type(new, "GET x") == "1")
    lab.say(f"{forgets.name} has caught up, and its memory counts as whole again.")
    without(lab)
    lab.ask("A node has lost its last records and does not know which. How does it become whole again?",
            "src/cluster/term.rs", "Memory")
    lab.ask("With appendfsync always the vote counts at once. What is different?", "src/cluster/term.rs", "start")


def acknowledged_by_two(lab, nodes):
    """Returns the leader, the follower that has x, and the one that has not."""
    lab.part("x is acknowledged by two of three")
    for node in nodes.all:
        node.environment["KVSTORE_BOOT_ID"] = f"boot-1-of-{node.name}"
    leader = remember(nodes)
    forgets, behind = others(nodes, leader)
    nodes.network.cut_log(leader, behind)
    lab.say(f"{leader.name} leads. The log's way to {behind.name} is cut.")
    answer = lab.type(leader, "SET x 1")
    wait_until(lambda: last_record(forgets) == last_record(leader), "x is there")
    lab.expect(f"a client has an OK: {leader.name} and {forgets.name} have x, {behind.name} has not",
               answer == "OK" and last_record(behind) < last_record(forgets))
    return leader, forgets, behind


def fail_both(lab, nodes, leader, forgets):
    """One loses power and starts again, the other dies."""
    lab.say(f"(power fails at {forgets.name}: kill -9, then its log is cut after the last record that was synced; it "
            "gets another boot id)")
    forgets.signal(signal.SIGKILL)
    gone = cut_power(f"{forgets.directory}/data")
    forgets.environment["KVSTORE_BOOT_ID"] = f"boot-2-of-{forgets.name}"
    lab.expect(f"the power cut has taken the last {gone} records of {forgets.name}", gone > 0)
    lab.command(f"kill -9 {leader.process.pid}    # {leader.name}")
    leader.signal(signal.SIGKILL)
    nodes.start(forgets)
    nodes.network.heal()


def leads_within(nodes):
    """True if one of them leads within a few timeouts."""
    for _ in range(LOOKS):
        if any(node.info("replication").get("role") == "master" for node in nodes):
            return True
        time.sleep(LOOK_SECONDS)
    return False


def without(lab):
    """What the mutant does."""
    lab.part("The same without the rule, in the simulator")
    lab.predict("the vote of the node that has forgotten counts, and a leader without x is elected.")
    told = simulator.story(lab, "a_vote_of_a_node_that_lost_power_loses_no_write")
    if told:
        lab.expect("with the rule no promise is broken", told[0] == simulator.KEPT)
        lab.expect(f"without it: {told[1]}", "which a client saw confirmed" in told[1])

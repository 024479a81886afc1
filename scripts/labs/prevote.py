"""Lab 12: the link to one follower comes and goes. With a pre-vote that moves no epoch; without it, the follower
deposes a healthy leader each time it comes back."""

import time

from failover.network import Network
from failover.nodes import wait_until
from labs import simulator
from labs.elected import TIMEOUT_MS, others, remember, wait_info

FLAPS = 3
AWAY_SECONDS = 1.5


def run(lab):
    """The lab."""
    lab.say("A node that hears no leader wants an election. If it just began one, it would move to the next epoch, its "
            "Raft term. A node that is cut off would do that again and again, and come back with a high epoch: "
            "then the leader must step down, although two of three nodes were content with it. So a node asks first "
            "whether it would get the votes (a pre-vote), and keeps its epoch until a majority says yes.")
    nodes = lab.nodes(f"--election-timeout={TIMEOUT_MS}", network=Network)
    lab.part(f"A follower is cut off for {AWAY_SECONDS} s, {FLAPS} times")
    lab.predict("it asks in vain, since nobody hears it, and its epoch stays. When it is back, it follows as before. "
                "No election disturbs the leader.")
    leader = remember(nodes)
    flapping = others(nodes, leader)[0]
    before = leader.info("cluster")
    for _ in range(FLAPS):
        lab.say(f"(the network between {flapping.name} and the others is cut, then whole again)")
        nodes.network.isolate(flapping.port)
        wait_info(flapping, "cluster", "kvstore_cluster_leader", "")
        time.sleep(AWAY_SECONDS)
        asked = epoch(flapping)
        nodes.network.heal()
        wait_until(lambda: flapping.info("replication").get("master_link_status") == "up", "it follows")
        lab.say(f"{flapping.name}: epoch {asked} while it was away, {epoch(flapping)} now")
    after = leader.info("cluster")
    undisturbed = leader.info("replication")["role"] == "master"
    if not undisturbed or after["kvstore_cluster_stepdowns"] != before["kvstore_cluster_stepdowns"]:
        # On a machine that is so busy that a majority was silent for a timeout, a change of leader is right.
        with open(leader.log(), encoding="utf-8") as log:
            lab.expect(f"{leader.name} has stepped down because it heard no majority, on a busy machine",
                       "no majority" in log.read())
    else:
        lab.expect(f"{leader.name} leads, still in epoch {after['kvstore_cluster_epoch']}",
                   after["kvstore_cluster_epoch"] == before["kvstore_cluster_epoch"])
    without(lab)
    lab.ask("A node says no to a pre-vote while it hears a leader. Is a candidate's longer log no reason to say yes?",
            "src/cluster/election/asking.rs", "asked")
    lab.ask("Why is the epoch written to the disk before a vote is given, and not before a pre-vote is?",
            "src/cluster/election/asking.rs", "ballot")


def epoch(node):
    """The epoch that it knows."""
    return int(node.info("cluster")["kvstore_cluster_epoch"])


def without(lab):
    """What the mutant does."""
    lab.part("A minute of it in the simulator, with a pre-vote and without")
    lab.predict("0 epochs per minute with it; without it about one for each timeout that the follower is away, and one "
                "more election each time it comes back. During each, no node takes writes.")
    told = simulator.story(lab, "a_flapping_link_moves_no_epoch")
    if told:
        lab.expect("with the rule no promise is broken", told[0] == simulator.KEPT)
        lab.expect(f"without it: {told[1]}", "an epoch has moved" in told[1])

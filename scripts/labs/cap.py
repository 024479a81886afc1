"""Two nodes, then three, that elect their leader, while the network between them is cut: who takes writes, and what do
readers see?"""

from failover.network import Network
from labs.elected import TIMEOUT_MS, others, remember, wait_info


def run(lab):
    """The lab."""
    lab.say("CAP: while the network is cut into two parts, a store can stay consistent (C), or both parts can go on "
            "(A, available), but not both. In lab 6 two nodes were told to lead, and both took writes: A. Their logs "
            "parted. These nodes vote, and a leader needs more than half of all votes.")
    two = two_members(lab)
    together, alone, read = three_members(lab)
    lab.part("Side by side, during the cut")
    for who, what in (("two members, each of them", f"a write: {two}"),
                      ("three members, the two together", f"a write: {together}"),
                      ("three members, the one alone", f"a write: {alone}; a read: {read}, which is old")):
        lab.say(f"{who:<34} {what}")
    lab.say("For writes all chose C. Two members are less available than one node alone: each of them can stop both. "
            "The third one makes the difference. Followers' reads chose A; lab 10 shows reads that chose C.")
    lab.ask("Four nodes vote. How many may fail? Why does a fourth member make nothing better?",
            "src/cluster/members.rs", "majority")
    lab.ask("How does a leader that is cut off notice it by itself, although no node can tell it?",
            "src/cluster/election/leading.rs", "lost_quorum")


def write(lab, node, value):
    """Types a SET. Returns the word for the table, and whether it was taken."""
    answer = lab.type(node, f"SET city {value}")
    return ("taken" if answer == "OK" else answer.split()[0]), answer == "OK"


def two_members(lab):
    """Returns what becomes of writes."""
    lab.part("Two members, and a cut between them")
    nodes = lab.nodes(f"--election-timeout={TIMEOUT_MS}", names="AB", network=Network)
    leader = nodes.leader()
    lab.say(f"{leader.name} leads.")
    write(lab, leader, "Aachen")
    remember(nodes)
    lab.predict("one of two is no majority, so neither may lead. Both refuse writes, although both run and both have "
                "clients. They choose C.")
    lab.say("(the network between A and B is cut)")
    nodes.network.isolate(leader.port)
    for node in nodes.all:
        wait_info(node, "cluster", "kvstore_cluster_leader", "")
    results = [write(lab, node, "Bonn") for node in nodes.all]
    lab.expect("neither A nor B takes writes", not any(taken for _, taken in results))
    lab.say("(the cut ends)")
    nodes.network.heal()
    leader = nodes.leader()
    lab.expect(f"{leader.name} leads, and has the only value that was ever acknowledged",
               lab.type(leader, "GET city") == "Aachen")
    return results[0][0]


def three_members(lab):
    """Returns what becomes of a write at the two and at the one, and what a reader of the one gets."""
    lab.part("Three members, and the leader is cut off")
    nodes = lab.nodes(f"--election-timeout={TIMEOUT_MS}", names="CDE", network=Network)
    old = nodes.leader()
    left = others(nodes, old)
    lab.say(f"{old.name} leads.")
    write(lab, old, "Aachen")
    remember(nodes)
    lab.predict(f"{left[0].name} and {left[1].name} are a majority and elect one of them, which takes writes. "
                f"{old.name} hears no majority, gives the lead up and refuses writes. It still answers reads, with "
                "what it has.")
    lab.say(f"(the network between {old.name} and the others is cut)")
    nodes.network.isolate(old.port)
    new = nodes.leader(left)
    wait_info(old, "cluster", "kvstore_cluster_leader", "")
    lab.say(f"{new.name} leads now.")
    together, taken = write(lab, new, "Bonn")
    lab.expect(f"{new.name} takes a write", taken)
    alone, taken = write(lab, old, "Celle")
    lab.expect(f"{old.name} does not", not taken)
    read = lab.type(old, "GET city")
    lab.expect(f"a reader of {old.name} gets the value from before the cut", read == "Aachen")
    lab.say("(the cut ends)")
    nodes.network.heal()
    leader = nodes.converge()
    lab.expect(f"{leader.name} leads, and all three nodes have the write that was acknowledged during the cut",
               all(lab.type(node, "GET city") == "Bonn" for node in nodes.all))
    return together, alone, read

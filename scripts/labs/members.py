"""Lab 14: a cluster grows from one member to three, and a member whose disk is lost is replaced."""

import shutil
import signal

from failover.nodes import wait_until
from labs.elected import TIMEOUT_MS, last_record, others, remember, wait_info

KEYS = 500


def run(lab):
    """The lab."""
    lab.say("Who votes is itself a record in the log. So it is as safe as the data, and all nodes agree on it. It "
            "changes one member at a time: then any majority before the change and any majority after it share a node, "
            "and there are never two leaders.")
    nodes = lab.nodes(f"--election-timeout={TIMEOUT_MS}", "--ack=majority", names="A")
    grow(lab, nodes)
    replace(lab, nodes)
    lab.ask("Why must the previous change be committed before the next one begins?",
            "src/cluster/membership.rs", "Situation")
    lab.ask("A lost disk makes a new member with a new id, at the old address. Why may it not simply take the old id?",
            "src/cluster/node.rs", "read")


def grow(lab, nodes):
    """One member becomes three."""
    lab.part("One member, then two, then three")
    first = nodes.leader()
    lab.say("A votes alone, so it leads, and one vote of one is a majority.")
    with_data = all(first.ask("SET", f"key-{number}", "1") == "OK" for number in range(KEYS))
    lab.expect(f"A takes {KEYS} writes", with_data)
    lab.predict("B starts with A's address in its list. It finds A's cluster, takes the log and follows; its vote "
                "does not count yet. MEMBERS ADD makes it a member once it is less than 1000 records behind. A goes on "
                "leading. Then the same with C.")
    for name in "BC":
        node = learner(lab, nodes, name)
        add(lab, nodes, node)
        lab.type(nodes.leader(), "MEMBERS")
    leader = remember(nodes)
    if leader is first:
        # Otherwise this machine was so busy that a majority was silent for a timeout.
        lab.expect("no change has cost A the lead", first.info("cluster")["kvstore_cluster_stepdowns"] == "0")
    lab.expect("three members vote", leader.info("cluster")["kvstore_cluster_members"] == "3")
    lab.run("cluster", f"127.0.0.1:{first.port}")
    lab.predict("A dies, with which all began. B and C are two of three, and go on without it.")
    lab.command(f"kill -9 {first.process.pid}    # A")
    first.signal(signal.SIGKILL)
    leader = nodes.leader(others(nodes, first))
    lab.expect(f"{leader.name} leads and has all {KEYS} keys", has_all(leader))
    nodes.start(first)
    remember(nodes)


def learner(lab, nodes, name):
    """A node that knows the members, and does not vote yet."""
    node = nodes.add(name, ",".join(f"127.0.0.1:{member.port}" for member in nodes.all))
    lab.command(f"kvstore serve --port={node.port} {node.own[0]}    # {name}")
    wait_info(node, "replication", "master_link_status", "up")
    return node


def add(lab, nodes, node):
    """Makes it a member, as soon as it may be: that it follows is known to the leader a moment later."""
    remember(nodes)
    address = f"127.0.0.1:{node.port}"

    def is_added():
        leader = nodes.leader()
        return leader if leader.ask("MEMBERS", "ADD", address) == "OK" or id_at(leader, address) else None

    leader = wait_until(is_added, f"MEMBERS ADD {address}")
    lab.show(f"{leader.name}> MEMBERS ADD {address}\nOK")


def replace(lab, nodes):
    """A disk is lost."""
    lab.part("A disk is lost, and replaced by an empty one")
    leader = remember(nodes)
    lost = others(nodes, leader)[0]
    address = f"127.0.0.1:{lost.port}"
    old = id_at(leader, address)
    lab.say(f"{lost.name} is killed, and its directory removed.")
    lost.signal(signal.SIGKILL)
    shutil.rmtree(f"{lost.directory}/data")
    lab.predict("its memory of votes and acknowledgements is gone with the disk. With an empty one it is another node, "
                "with another id: it follows and copies, but does not vote. The member with the old id still counts as "
                "one that is down. So the operator removes that one and adds the new one. It starts with the addresses "
                "of all members: with a list that named only itself, it would begin a cluster of its own.")
    lost.own = ["--cluster-nodes=" + ",".join(f"127.0.0.1:{node.port}" for node in nodes.all)]
    lab.command(f"kvstore serve --port={lost.port} {lost.own[0]}    # {lost.name}")
    nodes.start(lost)
    wait_info(lost, "replication", "master_link_status", "up")
    wait_until(lambda: last_record(lost) == last_record(leader), "it has the log")
    lab.type(leader, "MEMBERS")
    refusal = lab.type_until(leader, f"MEMBERS ADD {address}", "remove that one first")
    lab.expect("the address is taken, by the member that is gone", not refusal.startswith("OK"))
    remove = f"MEMBERS REMOVE {old[:8]}"
    wait_until(lambda: id_at(leader, address) != old or lab.type(leader, remove) == "OK", "removal", 0.3)
    add(lab, nodes, lost)
    lab.type(leader, "MEMBERS")
    new = id_at(leader, address)
    lab.expect(f"{lost.name} is a member again, as {new[:8]} instead of {old[:8]}", new != old)
    remember(nodes)
    lab.predict(f"its vote counts: when {leader.name} dies, {lost.name} and the third node are a majority.")
    lab.command(f"kill -9 {leader.process.pid}    # {leader.name}")
    leader.signal(signal.SIGKILL)
    next_leader = nodes.leader(others(nodes, leader))
    lab.expect(f"{next_leader.name} leads, and {lost.name} has all {KEYS} keys", has_all(next_leader) and has_all(lost))


def id_at(leader, address):
    """The id of the member at an address; empty if there is none."""
    return dict(leader.ask("MEMBERS")).get(address, "")


def has_all(node):
    """True if it has all keys."""
    return node.ask("EXISTS", *(f"key-{number}" for number in range(KEYS))) == KEYS

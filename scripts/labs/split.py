"""Lab 6: two nodes that were both told to lead, and what becomes of the writes of one of them."""

from failover.losses import saved_keys
from labs.paths import Paths


def run(lab):
    """The lab."""
    lab.say("A leads and B follows it. There are no elections: a person decides who leads, with REPLICAOF or PROMOTE. "
            "The network between A and B breaks. The person cannot reach A and takes it for dead. A is alive, and so "
            "are its clients.")
    leader = lab.server("A", start=False)
    other = lab.server("B", f"--replicaof={leader.address}", start=False)
    network = lab.resources.enter_context(Paths([leader.port, other.port]))
    for server in (leader, other):
        server.environment["KVSTORE_ROUTE"] = network.route(server.port)
    leader.start()
    other.start()
    tokens = split(lab, leader, other, network)
    meet(lab, leader, other, network, tokens)
    prevention(lab, leader, other, network)
    lab.ask("Why does A not merge its writes with those of B when they meet again? Take the two balances as an "
            "example.",
            "src/replication/rejoin.rs", "give_up_after")
    lab.ask("How do two logs find the last record that they have in common, without sending each other all of it?",
            "src/replication/shared_past.rs", "last_shared")


def split(lab, leader, other, network):
    """Both lead. Returns the tokens of a write to each."""
    lab.part("Two leaders")
    lab.predict("both say OK to contradicting writes. Neither can know better: each of them does what it was told.")
    other.wait_for_link()
    lab.type(leader, "SET balance 100")
    lab.type(leader, "WAIT 1 10000")
    lab.say("The network breaks. The person types, on B:")
    network.cut_log(leader, other)
    lab.type(other, "REPLICAOF NO ONE")
    lab.say("A client of A takes 30 from the balance, a client of B takes 50.")
    answers = [lab.type(leader, "SET balance 70"), lab.type(leader, "SET receipt-of-30 given"),
               lab.type(other, "SET balance 50"), lab.type(other, "SET receipt-of-50 given")]
    roles = [lab.type(server, "ROLE", only="^1") for server in (leader, other)]
    lab.expect("both lead and both have said OK: split brain",
               answers == ["OK"] * 4 and all(role.startswith("1) master") for role in roles))
    return lab.type(leader, "LASTSEQ"), lab.type(other, "LASTSEQ")


def meet(lab, leader, other, network, tokens):
    """One of the two gives up what only it has."""
    lab.part("They meet again")
    lab.predict("A follows B. Its own two writes are undone, although it said OK to them. They are not thrown away: "
                "they are in A/data/diverged/.")
    network.open_log(leader, other)
    lab.type(leader, f"REPLICAOF 127.0.0.1 {other.port}")
    leader.wait_for_link()
    lab.expect("A has the balance of B", lab.type(leader, "GET balance") == "50")
    lab.expect("the receipt that A gave is gone", lab.type(leader, "EXISTS receipt-of-30") == "0")
    given_up = lab.type(leader, "INFO replication", only="^kvstore_diverged_")
    fields = dict(line.split(":", 1) for line in given_up.splitlines() if ":" in line)
    lab.expect("INFO counts what A gave up: 2 records", fields["kvstore_diverged_records"] == "2")
    lab.run("log", fields["kvstore_diverged_file"])
    lab.expect("a person can read there what was lost, and decide what to do about it",
               "receipt-of-30" in saved_keys(lab.binary, leader))
    lab.say("Does B have the write of A with the first token? A number alone could not tell: the logs of both have a "
            "record with this number.")
    refusal = lab.type(other, f"WAITSEQ {tokens[0]} 200")
    lab.expect("the token of the lost write is refused", refusal != "OK")
    lab.expect("the token of the kept write is not", lab.type(leader, f"WAITSEQ {tokens[1]} 10000") == "OK")


def prevention(lab, leader, other, network):
    """A leader that hears no follower stops."""
    lab.part("What would have helped")
    lab.predict("with min-replicas-to-write 1 a leader refuses writes once its follower has been silent for "
                "min-replicas-max-lag seconds. So only B would have taken writes after that second, and A would have "
                "lost at most those of one second. It narrows the window. Only votes close it: lab 7.")
    lab.say("B leads now, and A follows it.")
    lab.type(other, "CONFIG SET min-replicas-to-write 1 min-replicas-max-lag 1")
    lab.type_until(other, "SET balance 30", "^OK$")
    lab.say("B hears A, so it takes writes. The network breaks again.")
    network.cut_log(other, leader)
    refusal = lab.type_until(other, "SET balance 20", "^NOREPLICAS")
    lab.expect("after a second, B refuses", refusal.startswith("NOREPLICAS"))

"""Lab 5: a follower behind a slow link answers with old data, and does not if the reader brings a token."""

import time

from failover.client import Client
from labs.paths import Paths

DELAY_MILLISECONDS = 100
ROUNDS = 20
STALENESS_MILLISECONDS = 500


def run(lab):
    """The lab."""
    lab.say(f"A leads and B follows it. The link between them is slow: each packet of it takes {DELAY_MILLISECONDS} ms "
            "longer. A client writes to A and reads from B.")
    leader = lab.server("A", start=False)
    follower = lab.server("B", f"--replicaof={leader.address}", start=False)
    network = lab.resources.enter_context(Paths([leader.port, follower.port]))
    follower.environment["KVSTORE_ROUTE"] = network.route(follower.port)
    leader.start()
    follower.start()
    roles(lab, leader, follower)
    network.link_delay_seconds = DELAY_MILLISECONDS / 1000
    without(lab, leader, follower)
    stale(lab, leader, follower, network)
    with_token(lab, leader, follower)
    bounded(lab, leader, follower, network)
    lab.ask("A token names the epoch of the write with a checksum. After a failover that lost the write, another write "
            "has its number. What would a follower answer to a bare number?", "src/replication/token.rs", "Token")
    lab.ask("How can B tell that its data is older than half a second, if the clocks of A and B differ by an hour?",
            "src/cluster/freshness.rs", "heartbeat")


def roles(lab, leader, follower):
    """ROLE, whose numbers have no names."""
    lab.part("Who follows whom")
    follower.wait_for_link()
    lab.type(leader, "SET name Ada")
    lab.type(leader, "WAIT 1 10000")
    lab.say("WAIT answers how many followers have the writes of this connection: one.")
    role = lab.type(leader, "ROLE")
    lab.say("The answer has no names, as in Redis: 1) the role, 2) the number of the last record, 3) for each follower "
            "its host, its port, and the number of the last record that it has confirmed.")
    of_follower = lab.type(follower, "ROLE")
    lab.say("And: 1) the role, 2) and 3) the leader's host and port, 4) the state of the link, 5) the number of the "
            "last record that it has.")
    lab.expect("A leads, and B is connected to it", role.startswith("1) master") and "4) connected" in of_follower)


def without(lab, leader, follower):
    """Reads right after writes."""
    lab.part(f"{ROUNDS} times: write to A, then read from B at once")
    lab.predict("most reads are stale: B answers with what it has.")
    stale_reads, milliseconds = write_and_read(leader, follower, with_token=False)
    lab.say(f"{stale_reads} of {ROUNDS} reads were stale. A round took {milliseconds:.1f} ms.")


def write_and_read(leader, follower, with_token):
    """Returns how many reads were stale, and the milliseconds that a round has taken."""
    stale_reads = 0
    began = time.monotonic()
    with Client(leader.port) as writer, Client(follower.port) as reader:
        for number in range(ROUNDS):
            _, token = writer.ask_all([("SET", "page", number), ("LASTSEQ",)])
            if with_token:
                reader.ask("WAITSEQ", token, 10000)
            stale_reads += reader.ask("GET", "page") != str(number)
    return stale_reads, 1000 * (time.monotonic() - began) / ROUNDS


def stale(lab, leader, follower, network):
    """One stale read, step by step, while nothing passes the link."""
    lab.part("One stale read, slowly, and a token")
    lab.predict("while the link stands still, B has an old value and cannot know it. With a token it notices.")
    lab.type(leader, "SET cart empty")
    lab.type(leader, "WAIT 1 10000")
    lab.say("Now nothing passes the link any more.")
    network.cut_log(leader, follower)
    lab.type(leader, "SET cart full")
    lab.expect("B answers with the old value", lab.type(follower, "GET cart") == "empty")
    lag = lab.type_until(leader, "INFO replication", "lag_ms=[1-9]", only="^slave0")
    lab.say("offset: the last record that B has confirmed. lag_records: how many came after it. lag_ms: for how long "
            "the first of these has been waiting.")
    lab.expect("INFO on A says that B lacks one record", "lag_records=1," in lag)
    token = lab.type(leader, "LASTSEQ")
    epoch, crc = token.partition(":")[0].split(".")
    lab.say(f"This is the token of the write: record {token.partition(':')[2]} of epoch {epoch}, whose first record "
            f"has the checksum {crc}.")
    refusal = lab.type(follower, f"WAITSEQ {token} 200")
    lab.expect("B waits 200 ms for that record in vain, and says so: STALE", "STALE " in refusal)
    lab.say("The link works again.")
    network.open_log(leader, follower)
    lab.expect("now B waits until it has the record", lab.type(follower, f"WAITSEQ {token} 10000") == "OK")
    lab.expect("and answers with the new value", lab.type(follower, "GET cart") == "full")


def with_token(lab, leader, follower):
    """As `without`, with tokens."""
    lab.part(f"{ROUNDS} times again, with the token of each write")
    lab.predict("no read is stale. The price is the time that the record takes on the link.")
    stale_reads, milliseconds = write_and_read(leader, follower, with_token=True)
    lab.expect(f"{stale_reads} of {ROUNDS} reads were stale; a round took {milliseconds:.0f} ms", stale_reads == 0)


def bounded(lab, leader, follower, network):
    """Readers who have no token."""
    lab.part("Readers without a token: a bound on the age")
    lab.predict(f"with replica-max-staleness {STALENESS_MILLISECONDS} B refuses to answer once it has not heard from A "
                "for that long.")
    network.link_delay_seconds = 0
    lab.type(follower, f"CONFIG SET replica-max-staleness {STALENESS_MILLISECONDS}")
    lab.type_until(follower, "GET cart", "^full$")
    lab.say("Nothing passes the link any more.")
    network.cut_log(leader, follower)
    refusal = lab.type_until(follower, "GET cart", "^(STALE|$)")
    lab.expect("B refuses, instead of giving an old answer", refusal.startswith("STALE"))
    network.open_log(leader, follower)
    lab.type_until(follower, "GET cart", "^full$")
    lab.say("A has been heard again, and B answers.")

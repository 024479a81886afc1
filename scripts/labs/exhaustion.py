"""Lab 18: a pool of connections that are all in use: what its callers see, and the ways out."""

import re
import signal
import subprocess

from programs import built

# As in examples/src/bin/exhaustion.rs.
CALLS = 80
CHECKOUT_MS = 250
SECONDS_MAX = 60


def run(lab):
    """The lab."""
    program = build(lab)
    if not program:
        return
    lab.say("A pool lends a few connections to many callers. Its size is a bound: when all are in use, a caller waits, "
            f"and after its time for checkout, here {CHECKOUT_MS} ms, it gets an error. The pool is that of the client "
            "library, and the callers are threads of examples/src/bin/exhaustion.rs.")
    server = lab.server("A")
    queue(lab, program, server)
    order(lab, program, server)
    held(lab, program, server)
    returned(lab, program, server)
    larger(lab, program, server)
    lab.say("A Client of the library does not lend its connections: each call returns its own before it ends. A slow "
            "command still holds one as long as it takes. Watch `client.figures()`: `in_use` at the size, `waiting` "
            "above 0, and waits that grow, come before the first error.")
    lab.ask("A connection comes back while callers wait. Why is it given to the first of them, and not laid into the "
            "list of idle ones for a caller that is woken up?", "src/client/pool.rs", "hand_over")
    lab.ask("A caller's time is up, and in the same moment a connection is handed to it. What must it look at before it "
            "returns the error, and what would the pool lack otherwise?", "src/client/pool.rs", "take")


def build(lab):
    """The path of the program; None without cargo. The time that cargo takes does not count for the lab."""
    left = signal.alarm(0)
    lab.say("(cargo builds examples/, if they are not built yet)")
    program = built("exhaustion")
    signal.alarm(left)
    if not program:
        lab.skip("the pool's callers are a program in Rust, and cargo is not installed")
    return program


def story(lab, program, server, size, name):
    """Tells one story of the program. Returns what it printed, and how many connections and commands the server got."""
    before = counts(lab, server)
    lab.command(f"exhaustion {server.address} {size} {name}")
    done = subprocess.run([program, server.address, str(size), name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=SECONDS_MAX, check=False)
    lab.show("\n".join(line for line in done.stdout.splitlines() if not line.startswith("waited")))
    if done.returncode != 0:
        lab.expect("the program ends with exit code 0", False)
    connections, visits = (after - earlier for after, earlier in zip(counts(lab, server), before))
    return done.stdout, connections, visits


def counts(lab, server):
    """How many connections the server has accepted, and the counter that each caller with a connection adds 1 to."""
    stats = lab.quietly(server, "INFO stats")
    accepted = re.search(r"total_connections_received:(\d+)", stats)
    visits = lab.quietly(server, "GET visits")
    return int(accepted.group(1)), 0 if visits == "(nil)" else int(visits)


def queue(lab, program, server):
    """The figures, and the error."""
    lab.part("All connections are lent out")
    lab.predict("two callers keep the two connections of a pool. Three more wait. Each gets an error when its time is "
                "up; the server hears nothing of them, so that they may try again or shed the work. The two "
                "connections are idle after they were returned.")
    told, connections, visits = story(lab, program, server, 2, "queue")
    lab.expect("first: 2 in use, 0 wait", "all lent out: in use 2, idle 0, waiting 0" in told)
    lab.expect("then: 3 wait", "three more callers: in use 2, idle 0, waiting 3" in told)
    waited = [int(text) for text in re.findall(r"in use for (\d+) ms", told)]
    lab.expect(f"all 3 got the error, none before {CHECKOUT_MS} ms", len(waited) == 3 and min(waited) >= CHECKOUT_MS)
    lab.expect("a caller that gave up waits no more", "given up: in use 2, idle 0, waiting 0" in told)
    lab.expect("the two are idle in the end", "all returned: in use 0, idle 2, waiting 0" in told)
    lab.expect("the server counts 2 connections, and 2 commands", (connections, visits) == (2, 2))


def order(lab, program, server):
    """First come, first served."""
    lab.part("Who is next?")
    lab.predict("five callers wait for one connection, in the order 1 to 5. Each comes back as soon as it has had it. "
                "They get it in the order in which they came: 1 does not overtake those who still wait.")
    told, connections, _ = story(lab, program, server, 1, "order")
    lab.expect("the first round is 1 2 3 4 5", "served: 1 2 3 4 5 " in told)
    lab.expect("all of it went over one connection", connections == 1)


def held(lab, program, server):
    """The classic fault."""
    lab.part("The classic fault: work while a connection is held")
    lab.predict("16 callers share 4 connections. Each sends a command, which takes the server a moment, then works for "
                "100 ms with the answer, and returns the connection after that. 4 connections that are held for 0.1 s "
                "are enough for 40 calls in a second, and 16 callers want 160. So many fail.")
    told, connections, visits = story(lab, program, server, 4, "held")
    answered, refused = results(told)
    waits(lab, told)
    lab.expect(f"of {CALLS} calls, some were refused: {refused}", refused > 0 and answered + refused == CALLS)
    lab.expect("the server counts the answered ones only", visits == answered)
    lab.expect("and it never had more connections than the pool's size, 4", connections == 4)


def returned(lab, program, server):
    """The first way out."""
    lab.part("The first way out: hold it for less time")
    lab.predict("the same callers do the same work, and return the connection before the work. No call fails.")
    told, connections, visits = story(lab, program, server, 4, "returned")
    waits(lab, told)
    lab.expect(f"all {CALLS} calls were answered", results(told) == (CALLS, 0) and visits == CALLS)
    lab.expect("4 connections were enough", connections <= 4)
    lab.predict("connections in use = calls per second × seconds that each holds one, by Little's law. 160 calls per "
                "second × some 0.1 ms is far less than 1: even one connection is enough.")
    told, connections, _ = story(lab, program, server, 1, "returned")
    lab.expect(f"with a pool of 1, all {CALLS} calls were answered", results(told) == (CALLS, 0) and connections == 1)


def larger(lab, program, server):
    """The second way out."""
    lab.part("The second way out: a larger pool")
    lab.predict("if the connection must be held, as for a slow command, 160 calls per second × 0.1 s need 16 "
                "connections. With 16 no call fails. The price is a connection and a thread of the server for each "
                "caller.")
    told, connections, _ = story(lab, program, server, 16, "held")
    waits(lab, told)
    lab.expect(f"all {CALLS} calls were answered", results(told) == (CALLS, 0))
    lab.expect(f"the server had {connections} connections: more than 4, at most 16", 4 < connections <= 16)


def results(told):
    """How many calls were answered, and how many were refused."""
    found = re.search(r"answered (\d+), refused (\d+)", told)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def waits(lab, told):
    """Draws the pool's histogram: how long callers waited that got a connection."""
    ranges = [(int(limit) / 1000, int(count)) for limit, count in re.findall(r"waited up to (\d+) us: (\d+)", told)]
    short = sum(count for limit, count in ranges if limit < 2)
    rows = [(1, short)] * bool(short) + [(limit, count) for limit, count in ranges if limit >= 2]
    lab.say("waits of the calls that got a connection:")
    lab.bars([(f"up to {limit:.0f} ms".rjust(12), count, str(count)) for limit, count in rows])

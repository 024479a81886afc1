"""What the status page says about a server that needs attention, and about its nodes."""

import contextlib
import json
import os
import signal
import subprocess

from .checks import equal, fetch, kvstore, wait_until
from .load import Client
from .looks import STRUCTURE, schemes, widths

DISK_MEGABYTES = 2
ROWS = "return [...document.querySelectorAll('#node-rows tr')].map(r => r.innerText)"
REASONS = "return [...document.querySelectorAll('#reasons li')].map(r => r.className + ' ' + r.textContent)"
CLASS = "return document.getElementById(arguments[0]).className"


def run(checks, page, directory):
    """Servers of their own, with their data below this directory."""

    def place(name):
        os.mkdir(path := os.path.join(directory, name))
        return path

    with checks.check("a follower whose leader is dead is amber, and says why"):
        without_link(page, place("leader"), place("follower"))
    with checks.check("a follower that is late is amber on its leader's page"):
        late(page, place("leader-of-late"), place("late"))
    with checks.check("memory near maxmemory is amber, and above it red"):
        near_limit(page, place("memory"))
    with small_disk(place("disk")) as disk:
        if disk:
            with checks.check("a full disk is red, and says that writes are refused"):
                full_disk(page, disk)
        else:
            checks.skip("a full disk", "mounting a tmpfs is for root")
    with checks.check("a cluster is shown: who leads, its members"):
        elected(page, place("elected"))
    with checks.check("a cluster without a leader is shown, as a warning"):
        without_leader(page, place("alone"))


def opened(page, server):
    page.open(f"http://127.0.0.1:{server.page_port}/")
    wait_until(lambda: page.text("version"), "the page has figures")


def reason(page, className, *words):
    """Waits until a reason of this class has all of these words."""

    def found():
        reasons = page.run(REASONS)
        return any(r.startswith(f"banner {className} ") and all(w in r for w in words) for r in reasons)

    wait_until(found, f"a reason with {words}")


def shown_well(page):
    equal(page.run(STRUCTURE), [])
    schemes(page)
    widths(page)


def without_link(page, leader_dir, follower_dir):
    with kvstore(leader_dir) as leader:
        address = f"127.0.0.1:{leader.port}"
        with kvstore(follower_dir, "--port=0", f"--replicaof={address}") as follower:
            opened(page, follower)
            wait_until(lambda: page.text("state") == "ready", "it follows")
            equal((page.text("leads"), page.run(CLASS, "state")), (f"{address} leads", "good"))
            leader.kill()
            leader.wait()
            wait_until(lambda: page.text("state") == "leader lost", "the state")
            equal((page.run(CLASS, "state"), page.run(CLASS, "leads")), ("warn", "warn"))
            reason(page, "warn", address, "Connection refused")
            shown_well(page)


def late(page, leader_dir, follower_dir):
    with kvstore(leader_dir) as leader:
        with kvstore(follower_dir, "--port=0", f"--replicaof=127.0.0.1:{leader.port}") as follower:
            opened(page, leader)
            address = f"127.0.0.1:{follower.port}"
            wait_until(lambda: len(rows := page.run(ROWS)) == 2 and address in rows[1], "its row")
            with stopped(follower), Client(leader.port) as client:
                client.call([(b"SET", b"key", b"value")])
                reason(page, "warn", address, "behind")
                equal(page.run(CLASS, "state"), "warn")
            wait_until(lambda: page.text("state") == "ready", "it has caught up")


@contextlib.contextmanager
def stopped(process):
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def near_limit(page, directory):
    with kvstore(directory) as server, Client(server.port) as client:
        client.call([(b"SET", b"key:%d" % n, b"v" * 100_000) for n in range(100)])
        opened(page, server)
        equal(page.run(CLASS, "memory"), "big ", "without a limit")
        used = json.loads(fetch(f"http://127.0.0.1:{server.page_port}/status.json"))["memory"]["used"]
        for share, className in [(0.95, "warn"), (1.05, "bad"), (0.5, "")]:
            client.call([(b"CONFIG", b"SET", b"maxmemory", b"%d" % (used / share))])
            wait_until(lambda: page.run(CLASS, "memory") == f"big {className}", f"{share}: {className}")
            if className:
                reason(page, className, "of maxmemory")


@contextlib.contextmanager
def small_disk(path):
    """A disk of its own at this path, or None."""
    options = ["-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs"]
    try:
        mounted = subprocess.run(["mount", *options, path], capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield path if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", path], check=True)


def full_disk(page, disk):
    with kvstore(disk, "--port=0") as server, Client(server.port) as client:
        opened(page, server)
        value = b"v" * 50_000
        client.call([(b"SET", b"key:%d" % n, value) for n in range(20 * DISK_MEGABYTES + 10)])
        wait_until(lambda: page.text("state") == "read only", "the state")
        equal(page.run(CLASS, "state"), "bad")
        reason(page, "bad", "Writes are refused", "No space left on device")
        reason(page, "bad", "The disk has")
        shown_well(page)


@contextlib.contextmanager
def clustered(page, directory, *nodes):
    """A node of a cluster, the last of these; the others do not run. Shows its page."""
    options = [f"--cluster-nodes={','.join(nodes)}", f"--cluster-announce={nodes[-1]}", "--election-timeout=100"]
    with kvstore(directory, "--port=0", *options) as server:
        opened(page, server)
        yield


def elected(page, directory):
    own = "127.0.0.1:1"
    with clustered(page, directory, own):
        wait_until(lambda: page.text("leads") == f"{own} leads", "the leader")
        rows = page.run(ROWS)
        assert len(rows) == 1 and own in rows[0] and "leader" in rows[0], rows
        equal(page.run("return document.querySelector('main section').id"), "nodes", "the first card")
        shown_well(page)


def without_leader(page, directory):
    with clustered(page, directory, "127.0.0.1:1", "127.0.0.1:2"):
        wait_until(lambda: page.text("state") == "no leader", "no leader")
        equal(page.text("leads"), "No leader: an election is under way")
        equal((page.run(CLASS, "leads"), page.run(CLASS, "state")), ("warn", "warn"))
        reason(page, "warn", "an election is under way", "127.0.0.1:1 does not answer")
        shown_well(page)

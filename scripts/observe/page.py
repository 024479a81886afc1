"""The status page in a real browser: it renders, updates, and is accessible."""

import os
import time
from pathlib import Path

from . import states
from .checks import equal, kvstore, temporary_directory, wait_until
from .load import CLIENTS, Client, Load
from .looks import SCHEMES, STRUCTURE, WIDTHS, schemes, widths
from .states import ROWS
from .webdriver import browser, missing, number

TAB, SPACE = "\ue004", " "
TABLE = "return [...document.querySelectorAll('#command-rows tr')].map(r => [...r.cells].map(c => c.textContent))"
ALL = "return [...document.querySelector('#command-all tr').cells].map(c => c.textContent)"
# Long enough for all checks that need traffic; the load ends by itself.
LOAD_SECONDS = 30

REACHED = "const at = document.activeElement; return [at.id || at.getAttribute('href'), " \
    "getComputedStyle(at).outlineStyle, at === document.body]"
INTERACTIVE = "return [...document.querySelectorAll('a[href], button, input, select, [tabindex]')]" \
    ".filter(at => at.checkVisibility()).map(at => at.id || at.getAttribute('href'))"


def run(checks, shots):
    if missing():
        checks.skip("the status page", "not installed: apt-get install chromium chromium-driver")
        return
    with temporary_directory() as directory:
        names = ["first", "second", "third"]
        inside = [os.path.join(directory, name) for name in names]
        for path in inside:
            os.mkdir(path)
        with browser(directory) as page:
            with kvstore(inside[0]) as server:
                with kvstore(inside[1], "--port=0", f"--replicaof=127.0.0.1:{server.port}") as follower:
                    watch(checks, page, server, follower, shots)
                ports = ["--port", str(server.port), "--metrics-port", str(server.page_port)]
                # As a crash would.
                server.kill()
                server.wait()
            with checks.check("a lost connection is reported, once and clearly"):
                lost(page)
            with checks.check("it resumes by itself when the server is back"):
                with kvstore(inside[2], *ports):
                    wait_until(lambda: page.text("state") != "no answer", "the page is back")
                    hidden = page.run("return document.getElementById('lost').hidden")
                    equal((hidden, page.run("return document.body.className")), (True, ""))
            states.run(checks, page, directory)


def watch(checks, page, server, follower, shots):
    load = Load(server.port, LOAD_SECONDS).start()
    with checks.check("the page renders"):
        page.open(f"http://127.0.0.1:{server.page_port}/")
        wait_until(lambda: page.text("version"), "the figures")
        assert str(server.port) in page.text("facts"), page.text("facts")
    with checks.check("numbers change under load"):
        moves(page)
    with checks.check("slow commands are shown as text, whatever bytes they have"):
        slow(page, server)
    with checks.check("a follower is shown, with its lag"):
        equal(page.text("leads"), "This node leads")
        found = page.run(ROWS)
        assert len(found) == 2 and f"127.0.0.1:{follower.port}" in found[1], found
    with checks.check("the failures of all rows are all error replies; unknown commands are one of them"):
        adds_up(page)
    with checks.check("rates and table are of one window, which is named"):
        one_window(page)
    with checks.check("the charts show the last minutes after a reload"):
        reloaded(page)
    with checks.check("no error in the console"):
        equal(page.complaints(), [])
    with checks.check("light and dark, each with enough contrast"):
        schemes(page)
    with checks.check(f"no sideways scrolling at {', '.join(map(str, WIDTHS))} pixels"):
        widths(page)
    with checks.check("landmarks, headings, captions, words for each chart"):
        equal(page.run(STRUCTURE), [])
    with checks.check("each link and button is reached with the keyboard, visibly"):
        keyboard(page)
    with checks.check("nothing moves if the reader prefers reduced motion"):
        page.look(motion="reduce")
        moving = "return [...document.querySelectorAll('*')].filter(at => " \
            "getComputedStyle(at).transitionDuration !== '0s').length"
        equal(page.run(moving), 0)
        page.look()
    for scheme, width in [(s, w) for s in SCHEMES for w in (360, 1280)] if shots else []:
        page.look(scheme, width)
        page.shoot(Path(shots, f"status-{scheme}-{width}.png"))
    page.look()
    load.join()
    with checks.check("no error in the console until the end"):
        equal(page.complaints(), [])
    with checks.check("an injected script would not run"):
        injected(page)


def moves(page):
    def grows(name):
        first = wait_until(lambda: page.number(name), f"{name} is shown")
        wait_until(lambda: page.number(name) > first, f"{name} grows")

    for name in ["appended", "written", "durable"]:
        grows(name)
    wait_until(lambda: (page.number("rate") or 0) > 1000, "the load's rate")
    equal(page.text("clients"), str(CLIENTS + 1), "clients, and a follower")
    for name in ["p50", "p99", "p999", "batch"]:
        wait_until(lambda: page.text(name) != "–", f"{name} is known")
    rows = page.run(TABLE)
    assert {"set", "get", "incr", "ping"} <= {row[0] for row in rows}, rows
    assert "ERR" in page.text("errors"), page.text("errors")
    wait_until(lambda: drawn(page).count("L") >= 2, "the chart has a line")
    for name in ["rate-chart", "latency-chart", "log-chart", "batch-chart"]:
        labels = page.run("return [...document.querySelectorAll(`#${arguments[0]} span`)].map(s => s.textContent)", name)
        assert len(labels) >= 2 and all(labels), f"{name} has no scale: {labels}"
    assert "times the one below" in page.text("latency-caption"), page.text("latency-caption")
    sizes = page.run("return [...document.querySelectorAll('#batch-labels span')].map(s => s.textContent)")
    assert {"1", "4", "16"} <= set(sizes), f"batch sizes below the bars: {sizes}"


def drawn(page):
    return page.run("return document.querySelector('#rate-chart .one').getAttribute('d')")


def adds_up(page):
    rows, last, errors = page.run(f"return [(() => {{{TABLE}}})(), (() => {{{ALL}}})(), document.getElementById('errors').textContent]")
    failed = {row[0]: number(row[-1]) for row in rows}
    assert failed["(unknown commands)"] > 0, failed
    for total in [number(last[-1]), number(errors.removeprefix("Error replies by code: ERR "))]:
        equal(sum(failed.values()), total, f"failures of {failed}")


def one_window(page):
    rows, last, shown, words = page.run(f"return [(() => {{{TABLE}}})(), (() => {{{ALL}}})(),"
        "document.getElementById('rate').textContent, document.getElementById('window').textContent]")
    equal(last[1], shown, "the sum of the table and the rate")
    total, parts = number(shown), sum(number(row[1]) for row in rows if row[1] != "–")
    assert abs(total - parts) <= len(rows), f"{total} per second are not {parts}"
    wait_until(lambda: "the last 10 seconds" in page.text("window"), f"a whole window; it was {words}")


def reloaded(page):
    before = drawn(page).count("L")
    address = page.run("return location.href")
    page.open("about:blank")
    page.open(address)
    wait_until(lambda: page.text("version"), "the figures")
    after = drawn(page).count("L")
    assert after >= before >= 2, f"{before} lines before, {after} after"


def slow(page, server):
    value = "<img src=x onerror=document.title='caught'>" + " and more" * 9
    with Client(server.port) as client:
        client.call([(b"CONFIG", b"SET", b"slowlog-log-slower-than", b"0")])
        client.call([(b"MSET", *[b"slow", value.encode()] * 9)])
        client.call([(b"CONFIG", b"SET", b"slowlog-log-slower-than", b"10000")])
    has = "return [...document.querySelectorAll('#slow-rows code')].some(c => c.textContent.includes(arguments[0]))"
    wait_until(lambda: page.run(has, value), "the command is in the list")
    steps = page.run("return document.querySelectorAll('#slow-rows .steps span').length")
    assert steps >= 2, "its timeline has steps"
    lines = "return Math.max(...[...document.querySelectorAll('#slow-rows code')]" \
        ".map(c => c.clientHeight / parseFloat(getComputedStyle(c).lineHeight)))"
    equal(round(page.run(lines)), 2, "lines of the longest command")
    words = page.run("return document.getElementById('slow-rows').innerText")
    assert "waited for the log" in words and "its turn" in words, words
    equal(page.run("return document.querySelectorAll('main img').length"), 0, "images")


def keyboard(page):
    reached = []
    page.run("document.activeElement.blur()")
    wanted = page.run(INTERACTIVE)
    for _ in range(len(wanted) + 2):
        page.press(TAB)
        name, outline, is_body = page.run(REACHED)
        if not is_body:
            reached.append(name)
            assert outline != "none", f"the focus on {name} cannot be seen"
    equal(set(wanted) - set(reached), set(), "not reached")
    page.run("document.getElementById('pause').focus()")
    pressed = "return document.getElementById('pause').getAttribute('aria-pressed')"
    page.press(SPACE)
    equal(page.run(pressed), "true", "pressed")
    # An answer may be on its way when it is pressed.
    time.sleep(1.2)
    before = page.text("updated")
    time.sleep(2.2)
    equal(page.text("updated"), before, "it moves while it is paused:")
    page.press(SPACE)
    equal(page.run(pressed), "false", "pressed")
    wait_until(lambda: page.text("updated") != before, "it goes on")


def lost(page):
    wait_until(lambda: page.text("state") == "no answer", "the state")
    visible = page.run("return document.getElementById('lost').checkVisibility()")
    assert visible and "lost" in page.text("lost"), page.text("lost")
    equal(page.run("return document.getElementById('lost').getAttribute('role')"), "alert", "role")
    words = page.text("lost")
    time.sleep(2.2)
    equal(page.text("lost"), words, "an alert is read aloud at each change:")


def injected(page):
    """The Content-Security-Policy stops a script and a request to another site."""
    page.run("""
        const script = document.createElement('script');
        script.textContent = 'window.caught = true';
        document.body.append(script);
        document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.caught = true">');
        window.blocked = 0;
        addEventListener('securitypolicyviolation', () => window.blocked++);
        fetch('http://localhost:1/').catch(() => 0);
    """)
    wait_until(lambda: page.run("return window.blocked") > 0, "the request is blocked")
    equal(page.run("return window.caught === undefined"), True, "nothing has run:")

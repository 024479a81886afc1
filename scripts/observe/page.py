"""The status page in a real browser: it renders, updates, and is accessible."""

import contextlib
import os
import time
from pathlib import Path

from .checks import equal, kvstore, temporary_directory, wait_until
from .load import CLIENTS, Client, Load
from .webdriver import browser, missing

TAB, SPACE = "\ue004", " "
SCHEMES = ["light", "dark"]
WIDTHS = [320, 360, 768, 1280]
# Long enough for all checks that need traffic; the load ends by itself.
LOAD_SECONDS = 30

# The contrast of each piece of text with its background (WCAG 2.1, 1.4.3); returns the bad ones.
CONTRAST = """
const light = c => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4; };
const parts = c => c.match(/[\\d.]+/g).map(Number);
const luminance = c => .2126 * light(c[0]) + .7152 * light(c[1]) + .0722 * light(c[2]);
function background(at) {
  for (; at; at = at.parentElement) {
    const c = parts(getComputedStyle(at).backgroundColor);
    if (c.length < 4 || c[3] === 1) return c;
  }
  return [255, 255, 255];
}
const bad = [];
for (const at of document.querySelectorAll('body *')) {
  const own = [...at.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  if (!own || !at.checkVisibility() || at.closest('svg, script, style, noscript')) continue;
  const a = luminance(parts(getComputedStyle(at).color)), b = luminance(background(at));
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) bad.push(at.textContent + ' ' + ratio.toFixed(2));
}
return bad;
"""

# Elements that a screen reader needs; returns the missing ones.
STRUCTURE = """
const bad = [], visible = at => at.checkVisibility();
for (const name of ['header', 'main', 'footer', 'h1'])
  if (document.querySelectorAll(name).length !== 1) bad.push(name + ' is not there once');
for (const at of [...document.querySelectorAll('section')].filter(visible)) {
  const heading = document.getElementById(at.getAttribute('aria-labelledby'));
  if (!heading || heading.localName !== 'h2') bad.push('a section without a heading');
}
for (const at of [...document.querySelectorAll('svg')].filter(visible))
  if (at.getAttribute('role') !== 'img' || (at.getAttribute('aria-label') || '').length < 10)
    bad.push(at.id + ' has no words');
for (const at of document.querySelectorAll('table'))
  if (!at.caption || [...at.querySelectorAll('th')].some(th => !th.scope)) bad.push('a bare table');
if (!document.documentElement.lang) bad.push('no language');
return bad;
"""

REACHED = "const at = document.activeElement; return [at.id || at.getAttribute('href'), " \
    "getComputedStyle(at).outlineStyle, at === document.body]"
INTERACTIVE = "return [...document.querySelectorAll('a[href], button, input, select, [tabindex]')]" \
    ".filter(at => at.checkVisibility()).map(at => at.id || at.getAttribute('href'))"


def run(checks, shots):
    if missing():
        checks.skip("the status page", "not installed: apt-get install chromium chromium-driver")
        return
    with temporary_directory() as directory:
        names = ["first", "second", "follower", "elected", "alone"]
        inside = [os.path.join(directory, name) for name in names]
        for path in inside:
            os.mkdir(path)
        with browser(directory) as page:
            with kvstore(inside[0]) as server:
                with kvstore(inside[2], "--port=0", f"--replicaof=127.0.0.1:{server.port}") as follower:
                    watch(checks, page, server, follower, shots)
                ports = ["--port", str(server.port), "--metrics-port", str(server.page_port)]
                # As a crash would.
                server.kill()
                server.wait()
            with checks.check("a lost connection is reported, once and clearly"):
                lost(page)
            with checks.check("it resumes by itself when the server is back"):
                with kvstore(inside[1], *ports):
                    wait_until(lambda: page.text("state") == "ready", "the page is back")
                    hidden = page.run("return document.getElementById('lost').hidden")
                    equal((hidden, page.run("return document.body.className")), (True, ""))
            with checks.check("a cluster is shown: who leads, its members"):
                elected(page, inside[3])
            with checks.check("a cluster without a leader is shown, as a warning"):
                without_leader(page, inside[4])


def watch(checks, page, server, follower, shots):
    load = Load(server.port, LOAD_SECONDS).start()
    with checks.check("the page renders"):
        page.open(f"http://127.0.0.1:{server.page_port}/")
        wait_until(lambda: page.text("state") == "ready", "the state")
        assert str(server.port) in page.text("facts"), page.text("facts")
    with checks.check("numbers change under load"):
        moves(page)
    with checks.check("slow commands are shown as text, whatever bytes they have"):
        slow(page, server)
    with checks.check("a follower is shown, with its lag"):
        rows = "return [...document.querySelectorAll('#follower-rows tr')].map(r => r.innerText)"
        found = wait_until(lambda: page.run(rows), "the follower's row")
        assert len(found) == 1 and f"127.0.0.1:{follower.port}" in found[0], found
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
    rows = page.run("return [...document.querySelectorAll('#command-rows th')].map(t => t.textContent)")
    assert {"set", "get", "incr", "ping"} <= set(rows), rows
    assert "ERR" in page.text("errors"), page.text("errors")
    drawn = page.run("return document.querySelector('#rate-chart .one').getAttribute('d')")
    assert drawn.count("L") >= 2, f"the chart has hardly a line: {drawn}"


def slow(page, server):
    value = "<img src=x onerror=document.title='caught'>"
    with Client(server.port) as client:
        client.call([(b"CONFIG", b"SET", b"slowlog-log-slower-than", b"0")])
        client.call([(b"SET", b"slow", value.encode())])
        client.call([(b"CONFIG", b"SET", b"slowlog-log-slower-than", b"10000")])
    has = "return [...document.querySelectorAll('#slow-rows code')].some(c => c.textContent.includes(arguments[0]))"
    wait_until(lambda: page.run(has, value), "the command is in the list")
    steps = page.run("return document.querySelectorAll('#slow-rows .steps span').length")
    assert steps >= 2, "its timeline has steps"
    equal(page.run("return document.querySelectorAll('main img').length"), 0, "images")


def schemes(page):
    backgrounds = set()
    for scheme in SCHEMES:
        page.look(scheme)
        backgrounds.add(page.run("return getComputedStyle(document.body).backgroundColor"))
        equal(page.run(CONTRAST), [], f"texts with too little contrast, {scheme}")
    equal(len(backgrounds), 2, "different backgrounds")


def widths(page):
    for width in WIDTHS:
        page.look(width=width)
        measure = "const d = document.documentElement; return [d.scrollWidth, d.clientWidth]"
        scroll, client = page.run(measure)
        assert scroll <= client <= width, f"{scroll} of {client} pixels at {width}"
    page.look()


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


@contextlib.contextmanager
def clustered(page, directory, *nodes):
    """A node of a cluster, the last of these; the others do not run. Shows its page."""
    options = [f"--cluster-nodes={','.join(nodes)}", f"--cluster-announce={nodes[-1]}", "--election-timeout=100"]
    with kvstore(directory, "--port=0", *options) as server:
        page.open(f"http://127.0.0.1:{server.page_port}/")
        yield


def elected(page, directory):
    own = "127.0.0.1:1"
    with clustered(page, directory, own):
        wait_until(lambda: page.text("cluster-leader") == f"{own} leads", "the leader")
        rows = "return [...document.querySelectorAll('#member-rows tr')].map(r => r.innerText)"
        found = page.run(rows)
        assert len(found) == 1 and own in found[0] and "leader" in found[0], found
        equal(page.run(STRUCTURE), [])
        schemes(page)
        widths(page)


def without_leader(page, directory):
    with clustered(page, directory, "127.0.0.1:1", "127.0.0.1:2"):
        wait_until(lambda: page.text("cluster-leader") == "no leader: an election is under way", "no leader")
        equal(page.run("return document.getElementById('cluster-leader').className"), "warn")
        schemes(page)


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

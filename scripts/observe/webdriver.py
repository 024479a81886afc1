"""The part of WebDriver that the checks need: JSON over HTTP to chromedriver."""

import base64
import contextlib
import json
import shutil
import urllib.request
from pathlib import Path

from .checks import DEADLINE_SECONDS, OPENER, logged, process

# Keeps the browser's own requests off the network.
ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-default-browser-check", "--disable-dev-shm-usage", "--no-proxy-server",
]  # fmt: skip


def missing():
    """Programs that are not installed."""
    return [name for name in ["chromium", "chromedriver"] if not shutil.which(name)]


@contextlib.contextmanager
def browser(directory):
    """A browser, which ends with the `with` body."""
    with process(["chromedriver", "--port=0"], directory, "chromedriver") as driver:
        port = logged(driver, r"started successfully on port (\d+)")
        page = Browser(f"http://127.0.0.1:{port}", directory)
        try:
            yield page
        finally:
            page.call("DELETE", "")


def number(text):
    """The number that the page writes as `1,234` or `12.3 k`; None if it is not known."""
    words = text.replace(",", "").split()
    factor = {"k": 1e3, "M": 1e6, "G": 1e9}.get(words[1] if len(words) > 1 else "", 1)
    return None if words[0] == "–" else float(words[0]) * factor


class Browser:
    """One window."""

    def __init__(self, address, directory):
        self.address, self.session = address, ""
        chrome = {
            "args": [*ARGUMENTS, f"--user-data-dir={directory}/profile"],
            "binary": shutil.which("chromium"),
        }
        wanted = {"goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
        created = self.call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self.session = "/" + created["sessionId"]

    def call(self, method, path, body=None):
        data = json.dumps(body or {}).encode() if method == "POST" else None
        url = f"{self.address}/session{self.session}{path}"
        request = urllib.request.Request(
            url, data, {"Content-Type": "application/json"}, method=method
        )
        with OPENER.open(request, timeout=DEADLINE_SECONDS * 3) as answer:
            return json.load(answer)["value"]

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """Runs a function body in the page and returns its result."""
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, name):
        """The text of the element with this id."""
        return self.run("return document.getElementById(arguments[0]).textContent", name)

    def number(self, name):
        """The same, read as a number."""
        return number(self.text(name))

    def complaints(self):
        """Lines of the console since the last call."""
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]

    def press(self, key):
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "k", "actions": actions}]})

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, scheme="light", width=1280, motion="no-preference"):
        """Sets the colour scheme and the width that the page sees."""
        features = [("prefers-color-scheme", scheme), ("prefers-reduced-motion", motion)]
        features = [{"name": name, "value": value} for name, value in features]
        self.devtools("Emulation.setEmulatedMedia", features=features)
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)

    def shoot(self, path):
        """A picture of the whole page."""
        size = "const d = document.documentElement; return [innerWidth, d.scrollHeight]"
        width, height = self.run(size)
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

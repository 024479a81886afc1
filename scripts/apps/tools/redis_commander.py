#!/usr/bin/env python3
"""redis-commander: what its page asks for while a person looks at keys and edits one. Started by scripts/apps.py."""

import json
import os
import sys
from pathlib import Path
from urllib.parse import urlencode

from common import fetch, folder, free_ports, running, set_keys, wait_until

PORT, PACKAGE = int(sys.argv[1]), Path(os.environ["NODE_PATH"], "redis-commander")


class Page:
    """The page's own requests."""

    def __init__(self, listen):
        self.at = f"http://127.0.0.1:{listen}"
        self.headers = {}
        wait_until(lambda: fetch(self.at), "redis-commander listens")
        self.headers = {"Authorization": f"Bearer {self.ask('signin', {})['bearerToken']}"}
        wait_until(self.connections, "its connection to kvstore")
        self.id = self.connections()[0]["conId"]

    def connections(self):
        """Its open connections."""
        return self.ask("connections")["connections"]

    def ask(self, path, form=None):
        """The answer to a GET, or with a form to a POST."""
        body = None if form is None else urlencode(form).encode()
        answer = fetch(f"{self.at}/{path}", data=body, headers=self.headers)
        try:
            return json.loads(answer)
        except ValueError:
            return answer


def main():
    """The tree of keys, a value, an edit, a command of the person, the server's figures, a deletion."""
    set_keys(PORT, {"user:1": "Ada", "user:2": "Bob"})
    listen = free_ports(1)[0]
    argv = ["--redis-host", "127.0.0.1", "--redis-port", PORT, "-a", "127.0.0.1", "-p", listen, "--nosave", "--noload"]
    with folder() as home, running("node", PACKAGE / "bin/redis-commander.js", *argv,
                                   env={**os.environ, "HOME": home}):
        page = Page(listen)
        tree = page.ask(f"apiv2/keystree/{page.id}/user:")["data"]
        assert sorted(row["keyName"] for row in tree) == ["1", "2"], tree
        assert page.ask(f"apiv2/key/{page.id}/user:1")["value"] == "Ada"
        page.ask(f"apiv2/key/{page.id}/user:1", {"keyType": "string", "stringValue": "Ada L"})
        assert page.ask(f"apiv2/key/{page.id}/user:1")["value"] == "Ada L"
        assert page.ask(f"apiv2/exec/{page.id}", {"cmd": "INCR visits"})["data"] == 1
        figures = {row["key"]: row["value"] for row in page.ask("apiv2/server/info")["data"][0]["info"]}
        assert figures["Tcp port"] == str(PORT), figures
        page.ask(f"apiv2/key/{page.id}/user:2?action=delete", {})
        assert page.ask(f"apiv2/key/{page.id}/user:2")["type"] == "none"
    version = json.loads((PACKAGE / "package.json").read_text())["version"]
    print(f"redis-commander {version}: its page's requests: tree of keys, view, edit, delete, a command, figures")


main()

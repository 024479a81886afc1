#!/usr/bin/env python3
"""Flask-Session: a login that several workers of one site see. Started by scripts/apps.py."""

import sys
from datetime import timedelta
from importlib.metadata import version

import redis
from flask import Flask, session
from flask_session import Session

PORT = int(sys.argv[1])
LIFETIME_SECONDS = 600


def worker():
    """One worker: the site as a process of its own would have it."""
    app = Flask("site")
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis(port=PORT),
                      PERMANENT_SESSION_LIFETIME=timedelta(seconds=LIFETIME_SECONDS))
    Session(app)

    @app.get("/login/<name>")
    def login(name):
        session["name"] = name
        return "welcome"

    @app.get("/")
    def home():
        return session.get("name", "nobody")

    @app.get("/logout")
    def logout():
        session.clear()
        return "bye"

    return app.test_client()


def visit(browser, worker_of_site, path):
    """A request with the browser's cookie, which the answer may set or delete."""
    if browser.get("cookie"):
        worker_of_site.set_cookie("session", browser["cookie"])
    answer = worker_of_site.get(path)
    kept = worker_of_site.get_cookie("session")
    browser["cookie"] = kept.value if kept else None
    return answer.text


first, second, ada, eve = worker(), worker(), {}, {}
assert visit(ada, first, "/login/Ada") == "welcome"
assert visit(ada, second, "/") == "Ada", "the second worker does not see the session"
assert worker().get("/").text == "nobody", "a session without a cookie"
key, = redis.Redis(port=PORT).keys("session:*")
assert 0 < redis.Redis(port=PORT).ttl(key) <= LIFETIME_SECONDS, "the session would stay for ever"
print("restart", flush=True)
input()
assert visit(ada, first, "/") == "Ada", "the session is gone"
visit(ada, second, "/logout")
assert redis.Redis(port=PORT).dbsize() == 0, "the session is there after the logout"
print(f"Flask-Session {version('flask-session')}: a login that two workers see, its lifetime, logout; after kill -9 too")

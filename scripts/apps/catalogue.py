"""The applications, in the order of the README's tables, and what each needs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class App:
    """A program that drives an application."""

    # Its name until it has said its version.
    name: str
    # Below scripts/apps.
    program: str
    # Names in pip, npm or Debian, as the program's folder and ending say; see `install`.
    packages: str
    # What is on PATH once a package of Debian is there.
    command: str = ""
    # Also run by --short.
    short: bool = False

    @property
    def refused(self):
        """True if it shows something that does not work."""
        return self.program.startswith("refused/")

    @property
    def source(self):
        """Where its packages come from: pip, npm or apt."""
        if self.command:
            return "apt"
        return "npm" if self.program.endswith(".js") else "pip"


# Older or heavier than all others together, so it has a directory of its own, as its users would install it.
COMMANDER = App("redis-commander", "tools/redis_commander.py", "redis-commander")

APPS = (
    App("Django", "python/django_cache.py", "django redis", short=True),
    App("Flask-Session", "python/flask_sessions.py", "flask flask-session redis", short=True),
    App("Celery", "python/celery_results.py", "celery redis", short=True),
    App("connect-redis", "node/express_sessions.js", "express express-session connect-redis redis", short=True),
    App("@keyv/redis", "node/keyv_cache.js", "keyv @keyv/redis", short=True),
    App("@socket.io/redis-adapter", "node/socket_io.js",
        "socket.io socket.io-client @socket.io/redis-adapter redis", short=True),
    App("redis_exporter", "tools/redis_exporter.py", "prometheus-redis-exporter", "prometheus-redis-exporter"),
    App("collectd", "tools/collectd.py", "collectd-core libhiredis-dev", "collectd"),
    App("monit", "tools/monit.py", "monit", "monit"),
    App("haproxy", "tools/haproxy.py", "haproxy", "haproxy"),
    COMMANDER,
    App("hiredis (C)", "debian/hiredis.c", "gcc libc6-dev libhiredis-dev", "gcc"),
    App("phpredis", "debian/phpredis.php", "php-cli php-redis", "php"),
    App("ruby-redis", "debian/ruby_redis.rb", "ruby ruby-redis", "ruby"),
    App("Perl Redis.pm", "debian/perl_redis.pl", "perl libredis-perl", "perl"),
    App("redis://…/1, redis-py", "refused/database.py", "redis", short=True),
    App("redis://…/1, node-redis, ioredis", "refused/database.js", "redis ioredis", short=True),
    App("redis-py's Lock", "refused/lock.py", "redis", short=True),
    App("rate-limit-redis", "refused/rate_limit.js", "rate-limit-redis express-rate-limit express "
        "rate-limiter-flexible redis", short=True),
    App("Celery's broker", "refused/celery_broker.py", "celery redis packaging", short=True),
    App("RQ", "refused/rq_queue.py", "rq redis"),
    App("BullMQ", "refused/bullmq.js", "bullmq"),
    App("PUBLISH before SUBSCRIBE is confirmed", "refused/early_publish.py", "", short=True),
)

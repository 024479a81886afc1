"""promtool accepts the metrics, and a real Prometheus counts the same as the clients."""

import json
import shutil
import subprocess
import urllib.parse
from pathlib import Path

from .checks import equal, fetch, kvstore, logged, process, temporary_directory, wait_until
from .load import CLIENTS, Load

CONFIG = """\
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: kvstore
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


def run(checks, seconds):
    with temporary_directory() as directory, kvstore(directory) as server:
        if shutil.which("prometheus"):
            with checks.check(f"Prometheus scrapes for {seconds} s, and each counter adds up"):
                scrape(server, directory, seconds)
        else:
            checks.skip("Prometheus", "not installed: apt-get install prometheus")
        if shutil.which("promtool"):
            with checks.check("promtool check metrics"):
                lint(server)
        else:
            checks.skip("promtool", "not installed: apt-get install prometheus")


def lint(server):
    page = fetch(f"http://127.0.0.1:{server.page_port}/metrics")
    command = ["promtool", "check", "metrics"]
    result = subprocess.run(command, input=page, capture_output=True, text=True, timeout=60)
    said = (result.stdout + result.stderr).strip()
    equal((result.returncode, said), (0, ""), "promtool's code and complaints")


def scrape(server, directory, seconds):
    Path(directory, "prometheus.yml").write_text(CONFIG.format(port=server.page_port))
    options = ["--config.file=prometheus.yml", "--storage.tsdb.path=series"]
    options.append("--web.listen-address=127.0.0.1:0")
    with process(["prometheus", *options], directory, "prometheus") as child:
        port = logged(child, r'"Listening on" address=127\.0\.0\.1:(\d+)')
        logged(child, "Server is (ready) to receive web requests")
        prometheus = Prometheus(port)
        wait_until(lambda: prometheus.value("up") == 1, "the first scrape")
        load = Load(server.port, seconds).start()
        load.join()
        # Time for the sync of the last records and a scrape after it.
        wait_until(
            lambda: prometheus.value("kvstore_log_durable_seq") == load.writes + 1
            and prometheus.value("kvstore_connected_clients") == 0,
            "a scrape of the last state",
        )
        compare(prometheus, load, Path(directory, "data"))
        scrapes = prometheus.value("count_over_time(up[1h])")
        assert scrapes >= 0.8 * seconds, f"only {scrapes} scrapes in {seconds} s"
        equal(prometheus.value("min_over_time(up[1h])"), 1, "each scrape succeeds")
        equal(prometheus.value("max_over_time(kvstore_connected_clients[1h])"), CLIENTS, "clients")
        for name in ["kvstore_commands_total", "kvstore_network_sent_bytes_total"]:
            equal(set(prometheus.all(f"resets({name}[1h])").values()), {0}, f"{name} only grows")


def compare(prometheus, load, data):
    """Compares the last scrape with the work of the clients."""
    by_command = prometheus.all("kvstore_commands_total", "command")
    equal(by_command, dict(load.commands), "commands by name")
    for name, wanted in [("failures", load.failures), ("rejections", load.rejections)]:
        got = prometheus.all(f"kvstore_command_{name}_total", "command")
        equal(got, dict(wanted), f"{name} by name")
    timed = prometheus.all("kvstore_command_duration_seconds_count", "command")
    equal(timed, by_command, "commands that were timed")
    all_buckets = 'kvstore_command_duration_seconds_bucket{le="+Inf"}'
    equal(prometheus.all(all_buckets, "command"), by_command, "commands in the last bucket")
    synced = prometheus.value("kvstore_log_fsync_records_sum")
    equal(synced, load.writes + 1, "records that syncs made durable")
    equal(prometheus.all("kvstore_errors_total", "code"), dict(load.errors), "errors by code")
    for name, wanted in {
        "kvstore_network_received_bytes_total": load.sent_bytes,
        "kvstore_network_sent_bytes_total": load.received_bytes,
        "kvstore_connections_received_total": CLIENTS,
        "kvstore_connections_rejected_total": 0,
        "kvstore_unknown_commands_total": load.unknown,
        "kvstore_keyspace_hits_total": load.hits,
        "kvstore_keyspace_misses_total": load.misses,
        "kvstore_keys": load.keys,
        # Opening the log also writes a record.
        "kvstore_log_appended_seq": load.writes + 1,
        "kvstore_log_written_seq": load.writes + 1,
        "kvstore_log_pending_bytes": 0,
        "kvstore_log_up": 1,
        "kvstore_log_size_bytes": sum(file.stat().st_size for file in data.glob("*.aof")),
        "kvstore_log_segments": len(list(data.glob("log-*.aof"))),
    }.items():
        equal(prometheus.value(name), wanted, name)


class Prometheus:
    """Its HTTP interface."""

    def __init__(self, port):
        self.port = port

    def _query(self, query):
        words = urllib.parse.urlencode({"query": query})
        answer = json.loads(fetch(f"http://127.0.0.1:{self.port}/api/v1/query?{words}"))
        equal(answer["status"], "success", query)
        return answer["data"]["result"]

    def value(self, query):
        """The only value, if there is one."""
        result = self._query(query)
        assert len(result) <= 1, f"{query} has {len(result)} values"
        return float(result[0]["value"][1]) if result else None

    def all(self, query, label=None):
        """Values by this label, or by all of them."""
        values = {}
        for sample in self._query(query):
            labels = sample["metric"]
            values[labels[label] if label else str(labels)] = float(sample["value"][1])
        return values

"""Figures to text: medians, pair ratios, the Markdown tables, RESULTS.md, the JSON file."""

import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time

from bench.servers import filesystem
from bench.workload import CLIENT_SHARE, FIGURES
from bench.workloads import GROUPS

CLIENT_BOUND_SHARE = 0.95
HEAD = """# Benchmark results

Written by `make bench ARGS=--write`, which replaces the sections of the groups that it measures."""
RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "RESULTS.md")


def machine():
    """CPU, cores, memory and kernel, as the table names them."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    with open("/proc/meminfo", encoding="ascii") as file:
        memory_kib = int(re.search(r"MemTotal:\s*(\d+)", file.read()).group(1))
    name = model.group(1).strip() if model else os.uname().machine
    cores = len(os.sched_getaffinity(0))
    kernel = f"Linux {os.uname().release}"
    return f"{name}, {cores} cores, {memory_kib / 2**20:.0f} GiB, {kernel}, {filesystem()}"


def commit():
    """The commit that was measured, with a mark if the tree differs from it."""
    argv = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        answer = subprocess.run(argv, capture_output=True, text=True, cwd=here, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown commit"
    return f"commit {answer.stdout.strip()}" if answer.returncode == 0 else "unknown commit"


class Report:
    """Collects the figures of every round, product by product, and renders them."""

    def __init__(self, baseline, subject, others, judged, quick, rounds):
        self.baseline = baseline
        self.subject = subject
        self.products = [baseline, *others, subject]
        self.judged = judged
        self.quick = quick
        self.rounds = rounds
        self.date = time.strftime("%Y-%m-%d")
        self.started = time.monotonic()
        self.labels = {product.name: product.label() for product in self.products}
        self.measured = {}  # workload -> product name -> [figures of a round]

    def add(self, workload, product, figures):
        """One product's figures of one round."""
        by_product = self.measured.setdefault(workload, {})
        by_product.setdefault(product.name, []).append(figures)

    def median(self, workload, product, figure):
        """Over the rounds; NaN where this product does not report the figure."""
        rounds = self.measured[workload][product.name]
        values = [figures[figure] for figures in rounds if figure in figures]
        return statistics.median(values) if values else float("nan")

    def ratio(self, workload, figure):
        """Median of the ratios within each round, so that a drift between rounds cancels out."""
        subject = self.measured[workload][self.subject.name]
        baseline = self.measured[workload][self.baseline.name]
        pairs = [
            ours[figure] / theirs[figure]
            for ours, theirs in zip(subject, baseline)
            if theirs.get(figure, 0) > 0
        ]
        return statistics.median(pairs) if pairs else float("nan")

    def verdict(self, workload, figure):
        """(target, outcome), both empty for a figure without a target that applies."""
        for target in workload.targets:
            if target.figure != figure or (target.of_redis and self.baseline.name != "redis"):
                continue
            if target.of_redis:
                value = self.ratio(workload, figure)
            else:
                value = self.median(workload, self.subject, figure)
            if not self.judged:
                return target.text(), "not judged"
            return target.text(), "met" if target.is_met(value) else "**missed**"
        return "", ""

    def cell(self, workload, product, figure):
        """A median; † where the load generator was the limit."""
        value = self.median(workload, product, figure)
        if value != value:
            return "–"
        text = FIGURES[figure][1].format(value)
        if figure == "throughput" and self.is_client_bound(workload, product):
            text += " †"
        return text

    def is_client_bound(self, workload, product):
        """True if redis-benchmark used a whole core, so that the server could have done more."""
        return self.median(workload, product, CLIENT_SHARE) >= CLIENT_BOUND_SHARE

    def rows(self, group):
        """One row for each figure of each workload of a group, heading first."""
        heading = ["workload", "figure", *(self.labels[p.name] for p in self.products)]
        yield [*heading, f"ratio to {self.baseline.title}", "target", "outcome"]
        for workload, by_product in self.measured.items():
            if workload.group != group:
                continue
            title = workload.title
            for figure in FIGURES:
                if figure not in by_product[self.subject.name][0]:
                    continue
                cells = [self.cell(workload, product, figure) for product in self.products]
                ratio = self.ratio(workload, figure)
                yield [
                    title,
                    FIGURES[figure][0],
                    *cells,
                    f"{ratio:.2f}" if ratio == ratio else "",
                    *self.verdict(workload, figure),
                ]
                title = ""

    def markdown(self):
        """All sections, as they are printed."""
        return "\n\n".join(self.sections().values())

    def sections(self):
        """For each group that was measured: heading, table, circumstances and method. By heading."""
        groups = [group for group in GROUPS if any(w.group == group for w in self.measured)]
        return {
            GROUPS[group]: "\n\n".join(
                [f"## {GROUPS[group]}", self.table(group), self.circumstances(), self.method(group)]
            )
            for group in groups
        }

    def write(self, path):
        """Writes the sections to a file, in place of its older sections of these groups."""
        sections = self.sections()
        older = ""
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                older = file.read()
        head, *kept = re.split(r"^(?=## )", older, flags=re.MULTILINE)
        for section in kept:
            sections.setdefault(section.partition("\n")[0].removeprefix("## "), section.strip())
        order = list(GROUPS.values())
        titles = sorted(sections, key=lambda title: order.index(title) if title in order else len(order))
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n\n".join([head.strip() or HEAD, *(sections[title] for title in titles)]) + "\n")

    def circumstances(self):
        """Machine, date, commit, command and duration."""
        command = shlex.join(["python3", *sys.argv])
        minutes = (time.monotonic() - self.started) / 60
        text = f"{machine()}; {self.date}; {commit()}; `{command}`, {minutes:.0f} minutes."
        return f"SMOKE RUN: the figures mean nothing. {text}" if self.quick else text

    def table(self, group):
        """One group's rows as a Markdown table."""
        rows = list(self.rows(group))
        numeric = len(self.products) + 1
        rule = ["---", "---", *["---:"] * numeric, "---:", "---"]
        return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])

    def method(self, group):
        """How it was measured, in a few sentences."""
        rounds = f"{self.rounds} round(s)"
        measured = [w for w in self.measured if w.group == group]
        long = [w for w in measured if w.rounds(self.rounds) < self.rounds]
        if long:
            names = ", ".join(f"`{workload.name}`" for workload in long)
            rounds += f", {long[0].rounds(self.rounds)} of {names}"
        return (
            f"Medians over {rounds}. In each round the servers take turns, each freshly started; a ratio is "
            "the median of the ratios within the rounds. Values of 64 bytes; the client "
            "(redis-benchmark, one thread) runs on the same machine. "
            f"† marks where the client used {CLIENT_BOUND_SHARE:.0%} of a core or more: the "
            "server could have done more."
        )

    def missed(self):
        """`workload: figure` of each target that was missed."""
        return [
            f"{workload.name}: {FIGURES[target.figure][0]}"
            for workload in self.measured
            for target in workload.targets
            if "missed" in self.verdict(workload, target.figure)[1]
        ]

    def save_json(self, path):
        """Every single figure, for other statistics."""
        content = {
            "machine": machine(),
            "date": self.date,
            "commit": commit(),
            "command": sys.argv,
            "quick": self.quick,
            "rounds": self.rounds,
            "versions": self.labels,
            "workloads": [
                {
                    "name": workload.name,
                    "group": workload.group,
                    "title": workload.title,
                    "rounds": by_product,
                    "ratios": {
                        figure: None if (ratio := self.ratio(workload, figure)) != ratio else ratio
                        for figure in by_product[self.subject.name][0]
                    },
                    "targets": [
                        [t.figure, t.text(), self.verdict(workload, t.figure)[1]]
                        for t in workload.targets
                    ],
                }
                for workload, by_product in self.measured.items()
            ],
        }
        with open(path, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.write("\n")

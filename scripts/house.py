#!/usr/bin/env python3
"""How large the house is, and whether it is in order: `make size`, and with --check in `make check`.

Counts lines of Rust with comments and blank lines, without unit tests (from `#[cfg(test)]` on). --check fails
when the core, the whole or a file exceeds its budget, when files import each other in a circle (a `mod.rs` and
what is below it may), or when a link of the README leads nowhere.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

BLOCKS = {
    "core": ["protocol", "store", "commands", "aof", "engine", "clients", "server", "."],
    "more than one node": ["cluster", "replication", "pubsub"],
    "reference": ["commands/extra", "memory", "metrics", "observe", "server/http", "admin", "config",
                  "client", "cli"],
}
FILE_MAX = 450
# More than the budgets of 9,000 for the core, 27,500 for all, no circle and no large file: from here they may
# only shrink.
CORE_MAX = 14_700
WHOLE_MAX = 29_200
CIRCLES_MAX = 35
LARGE_FILES = {"commands/builtins.rs", "config/settings.rs", "store/tx.rs", "aof/recovery.rs"}


def counted(path):
    """The lines of a file, without its unit tests."""
    lines = path.read_text().splitlines()
    tests = next((at for at, line in enumerate(lines) if line.startswith("#[cfg(test)]")), len(lines))
    return lines[:tests]


def folder_of(path, folders):
    """The longest of these folders that a file is in."""
    inside = path.relative_to(SRC).parent.as_posix()
    fits = [name for name in folders if name != "." and (inside + "/").startswith(name + "/")]
    return max(fits, key=len, default=".")


def modules(files):
    """Each file by its module path."""
    def name(path):
        parts = list(path.relative_to(SRC).with_suffix("").parts)
        return tuple(parts[:-1] if parts[-1] in ("mod", "lib", "main") else parts)
    return {name(path): path for path in files}


def paths_of(tree, prefix=()):
    """The paths of a use tree: `a::{b, c::d}` is a::b and a::c::d."""
    head, brace, rest = tree.partition("{")
    parts = prefix + tuple(part for part in head.strip().split("::") if part)
    if not brace:
        return [tuple(part.split(" as ")[0].strip() for part in parts)]
    depth, start, found = 0, 0, []
    rest = rest.rstrip()[:-1]
    for at, char in enumerate(rest + ","):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            if rest[start:at].strip():
                found += paths_of(rest[start:at], parts)
            start = at + 1
    return found


def imports(path, module, by_module):
    """The files that a file names in its `use` lines and in paths from the crate's root."""
    text = re.sub(r"//.*", "", "\n".join(counted(path)))
    trees = re.findall(r"\buse ((?:crate|super|self)::[^;]+);", text)
    named = [parts for tree in trees for parts in paths_of(re.sub(r"\s+", " ", tree))]
    named += [tuple(found.split("::")) for found in re.findall(r"\b(?:crate|super)(?:::\w+)+", text)]
    for parts in named:
        ups = sum(part == "super" for part in parts)
        here = module if path.name == "mod.rs" or not ups else module
        base = here[: len(here) - ups] if ups else (module if parts[0] == "self" else ())
        full = base + parts[max(ups, 1):]
        ends = (full[:end] for end in range(len(full), 0, -1))
        target = next((by_module[end] for end in ends if end in by_module), None)
        if target and target != path:
            yield target


def is_parent(one, other):
    """Whether one is the mod.rs of a folder that the other is in."""
    return one.name == "mod.rs" and one.parent in other.parents


def circles(files):
    """Pairs of files that reach each other, but for a mod.rs and what is below it."""
    by_module = modules(files)
    edges = {path: set() for path in files}
    for module, path in by_module.items():
        for target in imports(path, module, by_module):
            if not is_parent(path, target) and not is_parent(target, path):
                edges[path].add(target)

    def reached(start):
        seen, todo = set(), [start]
        while todo:
            for target in edges[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        return seen

    reach = {path: reached(path) for path in files}
    return sorted(path.relative_to(SRC).as_posix() for path in files if path in reach[path])


def dead_links():
    """Links of the README to files that are not there."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text())
    return [link for link in links if "://" not in link and not (ROOT / link).exists()]


def main():
    files = sorted(SRC.rglob("*.rs"))
    folders = [folder for names in BLOCKS.values() for folder in names]
    lines = {path: len(counted(path)) for path in files}
    sums = {}
    for path, count in lines.items():
        total, number = sums.get(folder_of(path, folders), (0, 0))
        sums[folder_of(path, folders)] = (total + count, number + 1)
    totals = {}
    for block, names in BLOCKS.items():
        totals[block] = sum(sums.get(name, (0, 0))[0] for name in names)
        print(f"{block:<24}{totals[block]:>7}")
        for name in names:
            total, number = sums.get(name, (0, 0))
            if number:
                print(f"  src/{'*.rs' if name == '.' else name:<18}{total:>7}  {number:>3} files")
    whole = sum(totals.values())
    print(f"{'all':<24}{whole:>7}")

    in_circles = circles(files)
    name = {path: path.relative_to(SRC).as_posix() for path in files}
    large = [f"{name[path]} ({count})" for path, count in lines.items() if count > FILE_MAX]
    print(f"files in a circle of imports: {len(in_circles)}; over {FILE_MAX} lines: {', '.join(large)}")
    faults = [
        (totals["core"] > CORE_MAX, f"the core has {totals['core']} lines; at most {CORE_MAX}"),
        (whole > WHOLE_MAX, f"all has {whole} lines; at most {WHOLE_MAX}"),
        (len(in_circles) > CIRCLES_MAX, f"files in a circle of imports: {', '.join(in_circles)}"),
    ]
    faults += [
        (count > FILE_MAX and name[path] not in LARGE_FILES,
         f"src/{name[path]} has {count} lines; at most {FILE_MAX}")
        for path, count in lines.items()
    ]
    faults += [(True, f"README.md links to {link}, which is not there") for link in dead_links()]
    found = [text for is_fault, text in faults if is_fault]
    if "--check" in sys.argv:
        print("\n".join(f"FAULT: {text}" for text in found) or "in order")
        sys.exit(bool(found))
    if "--circles" in sys.argv:
        print("\n".join(in_circles))


if __name__ == "__main__":
    main()

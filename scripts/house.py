#!/usr/bin/env python3
"""Prints how many lines of code each folder of src/ has. `make size` runs it.

It starts nothing and changes nothing. Next: `make size ARGS=--circles` lists the files that import each other
in a circle, `make size ARGS=--longest` the longest files, and `make check` fails on what --check finds:

- the core, or all code, has more lines than the limits below;
- a file has more than 450 lines, or engine/ has more than 14 files;
- files import each other in a circle (a `mod.rs` and the files below it may);
- a link in README.md does not exist, or a file, a module or an item that a doc comment names;
- an answer that a lab names does not exist;
- a lock is missing in the table of src/lib.rs.

Lines count with comments and blank lines, but without unit tests: a file counts up to its `#[cfg(test)]`, and
a module that is declared under `#[cfg(test)]` does not count at all.
"""

import argparse
import ast
import re
import sys
from pathlib import Path

BLOCKS = {
    "core": ["protocol", "store", "commands", "aof", "engine", "clients", "server", "."],
    "more than one node": ["cluster", "failover", "replication", "pubsub"],
    "reference": ["commands/extra", "rdb", "memory", "metrics", "observe", "admin", "config", "client", "cli"],
}
FOLDERS = [folder for folders in BLOCKS.values() for folder in folders]
# The aims are 9,000 for the core and 27,500 for all, with elections and a client library. Until they are reached,
# these numbers only go down, except by what a feature adds.
CORE_MAX = 14_063
WHOLE_MAX = 41_447
FILE_MAX = 450
ENGINE_FILES_MAX = 14

TESTS = re.compile(r"#\[cfg\((?:test|all\(test\b.*)\)\]")


class Crate:
    """The source files under a root, without unit tests."""

    def __init__(self, root):
        self.root = root
        self.src = root / "src"
        files = sorted(self.src.rglob("*.rs"))
        test_modules = set()
        for path in files:
            text = path.read_text()
            for module in re.findall(TESTS.pattern + r"\s*(?:pub(?:\(\w+\))? )?mod (\w+);", text):
                folder = path.parent if path.name in ("mod.rs", "lib.rs", "main.rs") else path.with_suffix("")
                test_modules |= {folder / f"{module}.rs", folder / module}
        self.files = [path for path in files if not test_modules & {path, *path.parents}]
        self.lines = {path: self.without_tests(path) for path in self.files}

    @staticmethod
    def without_tests(path):
        """The lines of a file before its unit tests."""
        lines = path.read_text().splitlines()
        ends = (at for at, line in enumerate(lines) if TESTS.match(line) and not lines[at + 1].endswith(";"))
        return lines[:next(ends, len(lines))]

    def name(self, path):
        """A file's path as it is printed: below src/."""
        return path.relative_to(self.src).as_posix()

    def folder(self, path):
        """The folder of the table that a file counts for: the longest that it is in."""
        parent = self.name(path.parent) + "/"
        return max((name for name in FOLDERS if parent.startswith(name + "/")), key=len, default=".")

    def sizes(self):
        """Lines and number of files of each folder."""
        sums = {}
        for path, lines in self.lines.items():
            total, number = sums.get(self.folder(path), (0, 0))
            sums[self.folder(path)] = (total + len(lines), number + 1)
        return sums

    def modules(self):
        """Each file by its module path, as a tuple."""
        def module(path):
            parts = path.relative_to(self.src).with_suffix("").parts
            return parts[:-1] if parts[-1] in ("mod", "lib", "main") else parts
        return {module(path): path for path in self.files}

    def imports(self, path, module, by_module):
        """The files that a file names in its `use` lines, and in other paths from `crate` or `super`."""
        text = re.sub(r"//.*", "", "\n".join(self.lines[path]))
        trees = re.findall(r"\buse ((?:crate|super|self)::[^;]+);", text)
        named = [parts for tree in trees for parts in paths_of(re.sub(r"\s+", " ", tree))]
        named += [tuple(found.split("::")) for found in re.findall(r"\b(?:crate|super)(?:::\w+)+", text)]
        for parts in named:
            ups = sum(part == "super" for part in parts)
            start = () if parts[0] == "crate" else module[:len(module) - ups]
            full = start + parts[max(ups, 1):]
            ends = (full[:end] for end in range(len(full), 0, -1))
            target = next((by_module[end] for end in ends if end in by_module), None)
            if target and target != path:
                yield target

    def circles(self):
        """The files from which a chain of imports leads back to themselves."""
        by_module = self.modules()
        edges = {path: set() for path in self.files}
        for module, path in by_module.items():
            for target in self.imports(path, module, by_module):
                if not is_parent(path, target) and not is_parent(target, path):
                    edges[path].add(target)

        def reached(start):
            seen, todo = set(), [start]
            while todo:
                new = edges[todo.pop()] - seen
                seen |= new
                todo += new
            return seen

        return [self.name(path) for path in self.files if path in reached(path)]

    def dead_links(self):
        """Names that lead nowhere: links of README.md and of scripts/bench/RESULTS.md, and paths of files, modules
        and items in doc comments."""
        for page in [self.root / "README.md", self.root / "scripts/bench/RESULTS.md"]:
            text = re.sub(r"```.*?```", "", page.read_text() if page.exists() else "", flags=re.S)
            for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
                if "://" not in link and not (page.parent / link).exists():
                    yield f"{page.relative_to(self.root)} links to {link}"
            for anchor in re.findall(r"\]\(#([^)\s]+)\)", text):
                titles = re.findall(r"^#+ (.*)$", text, flags=re.M)
                if anchor not in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}:
                    yield f"{page.relative_to(self.root)} links to #{anchor}"
        sources = [path.relative_to(self.root).as_posix()
                   for folder in ("src", "tests") for path in (self.root / folder).rglob("*.rs")]
        by_module = self.modules()
        words_of = {path: set(re.findall(r"\w+", re.sub(r"//.*", "", "\n".join(lines))))
                    for path, lines in self.lines.items()}
        for path in self.files:
            comments = "\n".join(line for line in self.lines[path] if line.strip().startswith(("//!", "///")))
            for named in re.findall(r"`((?:src|tests|scripts)/[\w./-]*\w/?)`", comments):
                if not (self.root / named).exists():
                    yield f"src/{self.name(path)} names {named}"
            for named in re.findall(r"`(\w+(?:/\w+)*\.rs)`", comments):
                if not any(f"/{source}".endswith(f"/{named}") for source in sources):
                    yield f"src/{self.name(path)} names {named}"
            for named in re.findall(r"`([a-z_]+(?:::\w+)+)`", comments):
                if self.is_missing(tuple(named.split("::")), by_module):
                    yield f"src/{self.name(path)} names {named}"
            for owner, item in re.findall(r"`([A-Z]\w+)::(\w+)`", comments):
                if not any({owner, item} <= words for words in words_of.values()):
                    yield f"src/{self.name(path)} names {owner}::{item}"

    def is_missing(self, named, by_module):
        """True for a path `module::item` whose module is there and has no such item."""
        ends = (end for end in range(len(named), 0, -1) if named[:end] in by_module)
        end = next(ends, len(named))
        if end == len(named):
            return False
        module = by_module[named[:end]]
        around = module.parent.rglob("*.rs") if module.name == "mod.rs" else [module]
        word = re.compile(rf"\b{named[end]}\b")
        return not any(word.search("\n".join(self.lines.get(path, []))) for path in around)

    def dead_answers(self):
        """Files and items that `lab.ask` of a lab names and that do not exist."""
        for path in sorted((self.root / "scripts/labs").glob("*.py")):
            for call in ast.walk(ast.parse(path.read_text())):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "lab.ask":
                    file, item = (ast.literal_eval(word) for word in call.args[1:])
                    source = self.root / file
                    if not source.is_file() or not re.search(rf"\b{re.escape(item)}\b", source.read_text()):
                        yield f"{path.relative_to(self.root)} names {item} of {file}"

    def locks(self):
        """The names of all fields that are locks, each with its file; of a tuple's, the type's name."""
        lock = r"(?:Box<\[|\[|Arc<)?(?:Mutex|RwLock)<"
        for path in self.files:
            if path.name == "lock.rs":
                continue
            text = re.sub(r"//.*", "", "\n".join(self.lines[path]))
            bodies = re.findall(r"\b(?:struct|enum) (\w+)[^;{(]*(?:\{(.*?)\n\}|\((.*?)\);)", text, flags=re.S)
            for owner, fields, tuple_fields in bodies:
                if re.search(lock, tuple_fields):
                    yield owner, owner, path
                for field in re.findall(r"(\w+)(?:: |\()" + lock, fields):
                    yield owner, field, path

    def locks_not_listed(self):
        """Locks that the section about locks in lib.rs does not name."""
        section = (self.src / "lib.rs").read_text().partition("//! # Locks")[2].partition("//! # ")[0]
        named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", section))))
        for owner, field, path in self.locks():
            if field not in named and owner not in named:
                yield f"the lock {owner}::{field} of src/{self.name(path)} is missing in the table of src/lib.rs"


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


def is_parent(one, other):
    """True if one is the mod.rs of a folder that the other is in."""
    return one.name == "mod.rs" and one.parent in other.parents


def main():
    parser = argparse.ArgumentParser(description="Prints lines of code by folder.")
    parser.add_argument("--check", action="store_true", help="fail if a limit is exceeded or a link is dead")
    parser.add_argument("--circles", action="store_true", help="list the files in a circle of imports")
    parser.add_argument("--longest", action="store_true", help="list the 20 longest files")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent,
                        help="another copy of the project")
    options = parser.parse_args()
    crate = Crate(options.root.resolve())

    sizes = crate.sizes()
    totals = {}
    for block, folders in BLOCKS.items():
        totals[block] = sum(sizes.get(folder, (0, 0))[0] for folder in folders)
        print(f"{block:<24}{totals[block]:>7}")
        for folder in folders:
            if folder in sizes:
                total, number = sizes[folder]
                print(f"  src/{'*.rs' if folder == '.' else folder:<18}{total:>7}  {number:>3} files")
    core, whole = totals["core"], sum(totals.values())
    print(f"{'all':<24}{whole:>7}")

    by_length = sorted(((len(lines), crate.name(path)) for path, lines in crate.lines.items()), reverse=True)
    large = [(count, name) for count, name in by_length if count > FILE_MAX]
    in_circles = crate.circles()
    print(f"files in a circle of imports: {len(in_circles)}; over {FILE_MAX} lines: {len(large)}")
    if options.circles:
        print("\n".join(in_circles))
    if options.longest:
        print("\n".join(f"{count:>7}  src/{name}" for count, name in by_length[:20]))
    if not options.check:
        return

    faults = []
    if core > CORE_MAX:
        faults.append(f"the core has {core} lines; at most {CORE_MAX}")
    if whole > WHOLE_MAX:
        faults.append(f"all code has {whole} lines; at most {WHOLE_MAX}")
    if sizes["engine"][1] > ENGINE_FILES_MAX:
        faults.append(f"src/engine has {sizes['engine'][1]} files; at most {ENGINE_FILES_MAX}")
    faults += [f"src/{name} has {count} lines; at most {FILE_MAX}" for count, name in large]
    if in_circles:
        faults.append(f"files import each other in a circle: {', '.join(in_circles)}")
    faults += [f"{link}, which does not exist" for link in crate.dead_links()]
    faults += [f"{answer}, which does not exist" for answer in crate.dead_answers()]
    faults += crate.locks_not_listed()
    print("\n".join(f"FAULT: {fault}" for fault in faults) or "no fault")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()

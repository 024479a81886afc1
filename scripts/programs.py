"""The programs in examples/, which use the client library from outside: where they are built."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD_SECONDS_MAX = 300


def built(name):
    """The path of a program in examples/, built in release mode; None without cargo."""
    if not shutil.which("cargo"):
        return None
    target = ROOT / "target/examples"
    words = ["cargo", "build", "--release", "--quiet", "--locked", "--target-dir", target]
    subprocess.run(words, cwd=ROOT / "examples", timeout=BUILD_SECONDS_MAX, check=True)
    return str(target / "release" / name)

"""Installs what the applications need: with pip and npm below target/, as root also with apt."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from apps.catalogue import COMMANDER

ROOT = Path(__file__).resolve().parents[2]
PYTHON, COMMANDER_DIR = ROOT / "target/apps/python", ROOT / "target/apps/commander"
# Shared with scripts/clients.sh.
NODE = Path(os.environ.get("CLIENTS_DIR", ROOT / "target/clients")) / "node"
SECONDS_MAX = 400
# Packages of Debian that have a service ask this program whether they may start it.
POLICY = Path("/usr/sbin/policy-rc.d")


def environment():
    """Where the programs find what was installed, and the modules of scripts/."""
    return {"PYTHONPATH": os.pathsep.join(map(str, (PYTHON, ROOT / "scripts"))),
            "NODE_PATH": str(NODE / "node_modules")}


def environment_of(app):
    """As `environment`, for this application."""
    changed = {"NODE_PATH": str(COMMANDER_DIR / "node_modules")} if app is COMMANDER else {}
    return {**os.environ, **environment(), **changed}


def install(apps):
    """Installs what these applications need. A failure is told; the application is skipped later."""
    wanted = {source: sorted({package for app in apps if app is not COMMANDER and app.source == source
                              for package in app.packages.split()}) for source in ("pip", "npm", "apt")}
    pip(wanted["pip"])
    npm(NODE, wanted["npm"])
    if COMMANDER in apps:
        npm(COMMANDER_DIR, COMMANDER.packages.split())
    apt(wanted["apt"])


def pip(packages):
    """Installs into a directory of ours."""
    if not packages:
        return
    if importlib.util.find_spec("pip") is None:
        print("pip: not there (apt-get install python3-pip)", flush=True)
        return
    run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--root-user-action=ignore", "--upgrade", "--target", PYTHON, *packages])


def npm(directory, packages):
    """Installs into a directory of ours, without programs of the packages that would compile something."""
    if not packages:
        return
    if not shutil.which("npm"):
        print("npm: not there (apt-get install nodejs npm)", flush=True)
        return
    directory.mkdir(parents=True, exist_ok=True)
    run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", directory, *packages])


def apt(packages):
    """Installs packages of Debian, which go into the system: only as root. Their services do not start."""
    missing = [package for package in packages if not is_installed(package)]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        print(f"not installed, since that needs root: apt-get install {' '.join(missing)}", flush=True)
        return
    is_ours = not POLICY.exists()
    if is_ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        run(["apt-get", "-qq", "update"], env=quiet)
        # One after the other: a package that this Debian lacks keeps no other one out.
        for package in missing:
            run(["apt-get", "-qq", "install", "-y", "--no-install-recommends", package], env=quiet)
    finally:
        if is_ours:
            POLICY.unlink()


def is_installed(package):
    """True if dpkg knows it as installed."""
    try:
        said = subprocess.run(["dpkg-query", "-W", "-f", "${Status}", package], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return said.stdout.endswith("ok installed")


def run(argv, **options):
    """Runs an installer; shows its output if it fails."""
    argv = [str(word) for word in argv]
    try:
        done = subprocess.run(argv, check=False, timeout=SECONDS_MAX, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    except subprocess.TimeoutExpired:
        print(f"{' '.join(argv)}: not done after {SECONDS_MAX} s", flush=True)
        return
    if done.returncode:
        print(f"{' '.join(argv)} failed:\n{done.stdout[-2000:]}", flush=True)


def missing(app):
    """What an application lacks, in words; nothing if all is there."""
    packages = app.packages.split()
    if app.source == "apt":
        lacking = [] if shutil.which(app.command) else [app.command]
        lacking += [package for package in packages if shutil.which("dpkg-query") and not is_installed(package)]
        return lacking and f"apt-get install {' '.join(packages)}"
    needs_node = app.source == "npm" or app is COMMANDER
    if needs_node and not shutil.which("node"):
        return "apt-get install nodejs npm"
    where = Path(environment_of(app)["NODE_PATH"]) if needs_node else PYTHON
    lacking = [package for package in packages if not (where / package.replace("-", "_")).exists()
               and not (where / package).exists()]
    return lacking and f"not installed: {' '.join(lacking)}"

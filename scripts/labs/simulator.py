"""Stories of the simulator, `tests/cluster_sim/stories.rs`: each is told with a rule of the election, and without it.

They are tests in Rust, in which real rules run on a model of the machines and the network. So cargo builds them first.
"""

import re
import shutil
import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CARGO = ["cargo", "test", "--quiet", "--test", "cluster_sim"]
# The outcome of a story in which all went well.
KEPT = "no promise is broken"


def story(lab, name):
    """Tells a story. Returns its outcome with the rule and without it; None if that is not possible here."""
    if not shutil.which("cargo") or not (ROOT / "Cargo.toml").exists():
        lab.skip("the simulator needs cargo and the sources")
        return None
    if not build(lab):
        return None
    words = [*CARGO, "--", "--exact", "--nocapture", f"stories::{name}"]
    lab.command(" ".join(words))
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    told = done.stdout.partition("  with the rule:")
    lab.show("\n".join(line for line in (told[1] + told[2]).splitlines() if line.startswith("  ")), lines_max=60)
    outcomes = re.findall(r"=> (.*)", done.stdout)
    is_told = done.returncode == 0 and len(outcomes) == 2
    if not lab.expect("the story has been told twice, and ends as the test says", is_told):
        lab.show(done.stdout + done.stderr, lines_max=60)
        return None
    return outcomes


def build(lab):
    """Builds the simulator. That takes minutes the first time, which do not count for the lab."""
    left = signal.alarm(0)
    lab.say("(cargo builds the simulator, if it is not built yet: some minutes)")
    done = subprocess.run([*CARGO, "--no-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    signal.alarm(left)
    if done.returncode != 0:
        lab.skip(f"the simulator does not build here:\n{done.stderr[-500:]}")
    return done.returncode == 0

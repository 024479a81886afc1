"""The labs. Each is a file here with a function `run(lab)`; `frame.py` says what `lab` can do.

A lab tells a story in parts. Before each part it says what to expect, then it shows what happens and checks it, and
at the end it asks two questions and names the code that answers them. `scripts/lab.py` runs them.
"""

# The number of a lab: its title, and its file.
LABS = {
    1: ("kill -9 under each fsync policy", "kill"),
}

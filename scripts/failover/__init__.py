"""Three nodes that elect their leader, the network between them, and clients that number their writes.

`scripts/failover.py` shows with them what a failure costs, `scripts/bench/cluster.py` measures it.
"""


class FailoverError(Exception):
    """Something did not happen within its deadline, or a server answered nonsense."""

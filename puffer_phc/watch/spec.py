"""What a run tells the process that serves its page."""

from typing import NamedTuple


class Spec(NamedTuple):
    """Handed over at the process's start, as JSON."""

    run_dir: str
    policy: str
    """Where the run leaves its policy now and then, a checkpoint."""
    host: str
    port: int
    total_steps: int

"""A small training that is killed at random moments and resumed each time, beside one that is left alone.

``python tests/killing.py 50`` kills 50 times and prints what came of it as JSON. The processes that train are forked from this one, which
has loaded everything and computed nothing: so they live long enough to be killed in training, and not only while Python starts.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch._dynamo  # an optimizer does it anyway
from differences import logged_figures
from synthetic_motion import swaying_clip

from puffer_phc import main as program
from puffer_phc.learn.checkpoint import load_checkpoint
from puffer_phc.learn.run_folder import LATEST
from puffer_phc.motion.file import save_motion_file

OPTIONS = {
    "--env.num_envs": 4,
    "--train.batch_size": 64,
    "--policy.layer_sizes": 16,
    "--policy.hidden_size": 16,
    "--env.backend": "mujoco_cpu",
    "--train.eval_interval": 15,
    "--train.checkpoint_interval": 3,
    "--train.total_timesteps": 64 * 40,
}
LONGEST_LIFE = 0.6
"""Share of the time that the training takes when it is left alone."""


class Outcome(NamedTuple):
    """What killing did."""

    kills: int
    in_training: int
    """Kills after the process had logged an iteration of its own; the others came while it began."""
    runs: int
    """Runs that the kills were spread over: one that reaches its end is compared, and the next begins."""
    unborn: int
    """Kills before a run's first checkpoint, after which it has to be started again."""
    parts: int
    """Kills in the middle of writing a file, which leave a part of it."""
    equal: bool
    """Whether weights, optimiser, sampler, generators and environments at the end equal those of the run left alone, bit for bit."""
    same_log: bool
    """Whether the metrics logs have the same figures at the same steps, each once."""


def kill_and_resume(folder: Path, num_kills: int, seed: int) -> Outcome:
    """Kill ``num_kills`` times, at moments drawn up to ``LONGEST_LIFE`` after each start; then let the last run end."""
    draw = random.Random(seed)
    save_motion_file(folder / "motion.npz", [swaying_clip(40), swaying_clip(60, seed=1)])
    started = time.monotonic()
    wait(begin(folder, "whole"))
    longest = LONGEST_LIFE * (time.monotonic() - started)
    counts = {"in_training": 0, "runs": 1, "unborn": 0, "parts": 0}
    equal = same_log = True
    kills = 0
    while kills < num_kills:
        runs = folder / f"killed{counts['runs']}"
        lines = log_size(runs)
        process = begin(folder, runs.name)
        time.sleep(draw.uniform(0.0, longest))
        if is_over(process):
            equal, same_log = equal and same_state(folder / "whole", runs), same_log and same_figures(folder / "whole", runs)
            counts["runs"] += 1
            continue
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        kills += 1
        counts["in_training"] += log_size(runs) > lines
        counts["parts"] += any(runs.glob("*/*.part"))
        counts["unborn"] += discard_unborn(runs)
    wait(begin(folder, runs.name))
    equal, same_log = equal and same_state(folder / "whole", runs), same_log and same_figures(folder / "whole", runs)
    return Outcome(kills, equal=equal, same_log=same_log, **counts)


def begin(folder: Path, name: str) -> int:
    """Resume the run in ``folder / name``, or start it, in a new process; returns its id."""
    runs = folder / name
    options = {**OPTIONS, "-m": folder / "motion.npz", "--train.data_dir": runs}
    words = [str(word) for option in options.items() for word in option]
    if any(runs.glob("*")):
        words = ["--resume", str(only_run(runs))]
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        log = os.open(folder / f"{name}.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = program.main(words)
    finally:
        os._exit(code)


def wait(process: int) -> None:
    """Wait for the end, which has to be a good one."""
    code = os.waitpid(process, 0)[1]
    assert code == 0, f"a training ended with status {code}"


def is_over(process: int) -> bool:
    """Whether the process has come to its end, which has to be a good one."""
    ended, code = os.waitpid(process, os.WNOHANG)
    assert code == 0, f"a training ended with status {code}"
    return ended != 0


def only_run(runs: Path) -> Path:
    """The run's folder."""
    (run,) = runs.iterdir()
    return run


def log_size(runs: Path) -> int:
    """Lines in the run's metrics log."""
    return sum(len(path.read_bytes().splitlines()) for path in runs.glob("*/metrics.jsonl"))


def discard_unborn(runs: Path) -> int:
    """Delete a run's folder that was not given its first checkpoint; returns how many there were."""
    unborn = [run for run in runs.glob("*") if not (run / LATEST).exists()]
    for run in unborn:
        shutil.rmtree(run)
    return len(unborn)


def same_state(one: Path, other: Path) -> bool:
    """Whether two runs' last checkpoints hold the same, bit for bit."""
    first, second = load_checkpoint(only_run(one) / LATEST), load_checkpoint(only_run(other) / LATEST)
    return is_equal(first.policy, second.policy) and is_equal(first.trainer, second.trainer)


def same_figures(one: Path, other: Path) -> bool:
    """Whether two runs' logs say the same, but for what a clock does."""
    return logged_figures(only_run(one)) == logged_figures(only_run(other))


def is_equal(one: Any, other: Any) -> bool:
    """Equality of nested dictionaries and lists with tensors in them."""
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return one == other


def main() -> int:
    """Kill as often as the command line says; exit code 1 where something was lost."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        outcome = kill_and_resume(Path(folder), num_kills=int(sys.argv[1]), seed=int(sys.argv[2]))
    print(json.dumps(outcome._asdict()))
    return 0 if outcome.equal and outcome.same_log else 1


if __name__ == "__main__":
    sys.exit(main())

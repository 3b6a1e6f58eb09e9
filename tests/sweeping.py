"""A sweep of trainings that only count (fake_training.py), for tests; as a script it kills and goes on.

``python tests/sweeping.py FOLDER KILLS SEED`` kills the sweep or one of its trainings at random moments until it is over, and prints what
came of it as JSON. Sweeps are forked from this process, which has loaded everything.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch

from puffer_phc.files import FolderLock
from puffer_phc.sweep import runs
from puffer_phc.sweep.journal import JOURNAL, Journal
from puffer_phc.sweep.processes import is_running
from puffer_phc.sweep.random_search import RandomSearch
from puffer_phc.sweep.runs import Rules, Sweep
from puffer_phc.sweep.space import Numeric, Space

FAKE = Path(__file__).resolve().parent / "fake_training.py"
SPACE = Space([Numeric("score", "uniform", 0.0, 1.0)])
STEPS = 4


class FakeLauncher:
    """Starts ``fake_training.py``; ``troubles`` by score say which trainings do what."""

    def __init__(self, pause: float = 0.01, trouble: str = "", steps: int = STEPS) -> None:
        self._pause, self._trouble, self._steps = pause, trouble, steps

    def command(self, params: Dict[str, Any], folder: Path) -> List[str]:
        words = [str(folder), str(self._steps), str(self._pause), str(params["score"])]
        return [sys.executable, "-S", "-E", str(FAKE), *words, *([self._trouble] if self._trouble else [])]

    def can_resume(self, folder: Path) -> bool:
        return (folder / "saved").exists()

    def environment(self, device: Optional[str]) -> Dict[str, str]:
        return {**os.environ, "DEVICE": str(device)}

    def metrics(self, folder: Path) -> Path:
        return folder / "metrics.jsonl"

    def total_steps(self, params: Dict[str, Any]) -> Optional[int]:
        return self._steps


def rules(**changes: Any) -> Rules:
    return Rules("eval/score", 1.0, 3, 30.0, 2, 0.0)._replace(**changes)


def make_sweep(
    folder: Path,
    limits: Rules,
    launcher: Optional[FakeLauncher] = None,
    devices: Sequence[Optional[str]] = (None,),
    search: Any = None,
) -> "tuple[Sweep, Journal]":
    folder.mkdir(exist_ok=True)
    journal = Journal(folder, {"metric": limits.metric})
    found = search or RandomSearch(SPACE, seed=len(journal.runs))
    return Sweep(journal, found, folder, launcher or FakeLauncher(), limits, devices), journal


def lines(folder: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text(encoding="utf-8").splitlines()]


def begin(folder: Path, num_runs: int) -> int:
    """A sweep in a new process; returns its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        lock = FolderLock(folder, "another sweep is there")
        sweep, _ = make_sweep(folder, rules(num_runs=num_runs, retries=1000), FakeLauncher(pause=0.2), devices=("a", "b"))
        code = 0 if sweep.run() else 1
        lock.release()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def kill_until_over(folder: Path, num_kills: int, seed: int) -> Dict[str, Any]:
    """Kill the sweep or, every other time, one of its trainings; then let it end."""
    runs.PAUSE_SECONDS = 0.02
    draw = random.Random(seed)
    folder.mkdir(exist_ok=True)
    kills, status = {"sweep": 0, "worker": 0}, 0
    process = begin(folder, num_runs=6)
    while sum(kills.values()) < num_kills:
        time.sleep(draw.uniform(0.05, 0.25))
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            break
        workers = [line["process"] for line in lines(folder) if line["event"] == "started"] if (folder / JOURNAL).exists() else []
        alive = [worker for worker in workers if is_running(worker)]
        if kills["worker"] < kills["sweep"]:
            if not alive:
                continue
            os.kill(alive[0]["id"], signal.SIGKILL)
            kills["worker"] += 1
        else:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            kills["sweep"] += 1
            process = begin(folder, num_runs=6)
    else:
        _, status = os.waitpid(process, 0)
    left = [line["process"] for line in lines(folder) if line["event"] == "started"]
    return {**kills, "status": status, "orphans": sum(map(is_running, left))}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(kill_until_over(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))

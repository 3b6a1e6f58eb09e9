"""SIGKILL at random moments: what is resumed ends as what was left alone, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

pytest.importorskip("mujoco", reason="training needs the MuJoCo backend")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed processes are forked")

TESTS = Path(__file__).resolve().parent


def kill(times: int, seed: int) -> Dict[str, Any]:
    """The outcome of ``tests/killing.py``."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "killing.py"), str(times), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["kills"] == times
    return outcome


def test_three_kills_lose_nothing() -> None:
    outcome = kill(3, seed=1)
    assert outcome["equal"] and outcome["same_log"], outcome


@pytest.mark.slow
def test_fifty_kills_lose_nothing() -> None:
    outcome = kill(50, seed=2)
    assert outcome["equal"] and outcome["same_log"], outcome
    assert outcome["in_training"] >= 20

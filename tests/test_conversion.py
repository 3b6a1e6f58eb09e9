"""Jobs shared out to processes: everything in order, and Ctrl-C a single word."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from puffer_phc.command_line import INTERRUPTED
from puffer_phc.motion.conversion import Converted, Dropped, share_out

PATIENCE = 60.0
"""s: a process that imports torch waits for its turn on a busy machine."""

SLOW = """
import sys, time
from pathlib import Path

folder = Path(sys.argv[1])
if __name__ != "__main__":
    (folder / "importing").touch()
    time.sleep(1.0)

from puffer_phc.command_line import run_main
from puffer_phc.motion.conversion import share_out


def work(job):
    (folder / "working").touch()
    time.sleep(600.0)


if __name__ == "__main__":
    sys.exit(run_main(lambda: len(list(share_out([[1], [2], [3], [4]], work, 2)))))
"""


def named(job):
    return Converted([], [Dropped(str(name), "filtered", "") for name in job])


@pytest.mark.parametrize("processes", [1, 2])
def test_what_becomes_of_jobs_comes_in_their_order(processes):
    parts = list(share_out([[1, 2], [3], [4, 5, 6]], named, processes))
    assert [count for count, _ in parts] == [2, 1, 3]
    assert [entry.name for _, part in parts for entry in part.dropped] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
@pytest.mark.parametrize("moment", ["importing", "working"])
def test_ctrl_c_ends_all_processes_with_one_word(tmp_path, moment):
    """A terminal sends it to all of them; each would answer with its traceback."""
    (tmp_path / "slow.py").write_text(SLOW)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, str(tmp_path / "slow.py"), str(tmp_path)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        end = time.monotonic() + PATIENCE
        while not (tmp_path / moment).exists() and time.monotonic() < end:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, said) == (INTERRUPTED, "interrupted\n")

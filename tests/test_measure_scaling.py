"""What several processes bring: the script says what it does, and what it has timed is not lost with what comes after."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mujoco", reason="training needs the MuJoCo backend")

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT = str(REPOSITORY / "scripts" / "measure_scaling.py")
TINY = [
    "--env.num-envs",
    "4",
    "--env.backend",
    "mujoco_cpu",
    "--train.batch-size",
    "32",
    "--train.minibatch-size",
    "32",
    "--iterations",
    "2",
]
TINY += ["--policy.layer-sizes", "16", "--policy.hidden-size", "8", "--json", "rows.json"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def measured(folder, *launcher):
    done = subprocess.run([sys.executable, *launcher, SCRIPT, *TINY], capture_output=True, text=True, cwd=folder, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done


def test_one_process_and_two_beside_each_other(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    alone = measured(tmp_path)
    measured(tmp_path, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port)
    said = [line for line in alone.stderr.splitlines() if "iteration" in line]
    assert said[1].startswith("iteration 1 of 6 to start up") and said[-1] == "profiling 5 iterations"
    rows = [json.loads(line) for line in (tmp_path / "rows.json").read_text().splitlines()]
    assert [row["processes"] for row in rows] == [1, 2, 2]
    assert rows[1] == {name: value for name, value in rows[2].items() if name != "communication_share"}
    assert 0.0 < rows[2]["communication_share"] < 1.0
    for row in rows:
        assert row["steps_per_second"] == pytest.approx(32 * row["processes"] / row["seconds_per_iteration"])
    table = subprocess.run([sys.executable, SCRIPT, "--table", "rows.json"], capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT)
    assert table.stdout.count("CPU") == 2 and f"{100 * rows[2]['communication_share']:.1f} %" in table.stdout


def test_what_was_timed_is_written_before_the_profiler_begins(tmp_path):
    with subprocess.Popen([sys.executable, SCRIPT, *TINY], stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=ENVIRONMENT) as process:
        for line in process.stderr:
            if line.startswith("profiling"):
                process.send_signal(signal.SIGKILL)
    (row,) = [json.loads(line) for line in (tmp_path / "rows.json").read_text().splitlines()]
    assert row["processes"] == 1 and row["steps_per_second"] > 0


def test_a_file_that_cannot_be_written_is_said_before_the_measurement(tmp_path):
    words = [SCRIPT, *TINY[:-1], str(tmp_path / "nowhere" / "rows.json")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "nowhere" in done.stderr

"""The benchmark's command line, its figures, and a system that does not tell how much memory a process has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from puffer_phc.humanoid.mjcf import PhysicsOptions

pytest.importorskip("mujoco", reason="the benchmark times the MuJoCo backend")

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def test_figures_of_every_stage(tmp_path):
    sizes = ["--num-envs", "4", "--train.batch-size", "32", "--train.minibatch-size", "16", "--policy.layer-sizes", "16"]
    words = ["--backend", "mujoco_cpu", "--seconds", "0.02", "--policy.hidden-size", "8", *sizes, "--json", str(tmp_path / "a.json")]
    done = subprocess.run([sys.executable, str(SCRIPTS / "benchmark.py"), *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "a.json").read_text())
    assert set(written) == {"machine", "settings", "rows"}
    rows = {row["stage"]: row for row in written["rows"]}
    assert list(rows) == ["physics", "environment", "policy", "update", "train"]
    for row in rows.values():
        assert row["num_envs"] == 4
        assert row["steps_per_second"] > 0
        assert row["ms_per_call"] > 0
    assert 0.0 < rows["environment"]["share_of_bare"] < rows["physics"]["share_of_bare"] * 1.5
    assert rows["update"]["batch_size"] == rows["train"]["batch_size"] == 32
    assert rows["train"]["steps_per_second"] == pytest.approx(32000 / rows["train"]["ms_per_call"])
    assert "drift mm" in done.stdout
    assert not any(tmp_path.glob("model*"))


def test_variants_are_timed_beside_each_other(tmp_path):
    sizes = ["--num-envs", "4", "--train.batch-size", "32", "--train.minibatch-size", "16", "--policy.layer-sizes", "16"]
    words = ["--backend", "mujoco_cpu", "--seconds", "0.02", "--policy.hidden-size", "8", *sizes, "--json", str(tmp_path / "a.json")]
    words += ["--stages", "physics", "update", "--variants", "PHCPolicy", "LSTMActorPolicy", "AMP", "ADD"]
    done = subprocess.run([sys.executable, str(SCRIPTS / "benchmark.py"), *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    timed = [(row["stage"], row["variant"]) for row in rows]
    assert timed == [("physics", "PHCPolicy"), *(("update", name) for name in ("PHCPolicy", "LSTMActorPolicy", "AMP", "ADD"))]
    for row in rows[2:]:
        assert row["share_of_first"] == pytest.approx(row["steps_per_second"] / rows[1]["steps_per_second"])
    assert "of first" in done.stdout


@pytest.mark.parametrize("words", [["--env.motion-file", "nothing.npz"], ["--json", "nowhere/a.json"], ["--seconds", "-1"]])
def test_a_bad_option_is_one_line_before_anything_is_measured(tmp_path, words):
    sizes = ["--backend", "mujoco_cpu", "--num-envs", "2", "--stages", "physics"]
    done = subprocess.run([sys.executable, str(SCRIPTS / "benchmark.py"), *sizes, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert words[1].split("/")[0] in done.stderr
    assert done.stdout == "" and not any(tmp_path.iterdir())


@pytest.mark.parametrize("base", [{}, {"iterations": 10}, {"integrator": "implicitfast", "rate": 120.0, "substeps": 4}])
def test_physics_is_compared_with_each_other_setting_once(monkeypatch, base):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarking.physics import describe, physics_candidates

    chosen = PhysicsOptions(**base)
    names, candidates = zip(*physics_candidates(chosen))
    assert len(set(names)) == len(names) == len(set(candidates)) > 10
    assert chosen not in candidates and describe(chosen) not in names


def test_windows_has_no_resource_module(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from benchmarking.machine import memory_gb

    assert 0.05 < memory_gb(torch.device("cpu")) < 100
    monkeypatch.setitem(sys.modules, "resource", None)
    assert memory_gb(torch.device("cpu")) is None

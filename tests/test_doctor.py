"""The doctor says what is there and what is missing, and never fails."""

import subprocess
import sys
from pathlib import Path

import pytest

from puffer_phc import doctor
from puffer_phc.doctor import Drawing, Machine, examine, report

NOT_DRAWN = Drawing(False, "egl: no driver")
REPOSITORY = Path(__file__).resolve().parent.parent


class Bare(Machine):
    """A machine with an interpreter and nothing else."""

    def __init__(self, version=(3, 12), drawn=NOT_DRAWN, **installed):
        self.installed, self.interpreter, self.drawn = installed, version, drawn

    def version(self, distribution):
        return self.installed.get(distribution.replace("-", "_"))

    def has_module(self, name):
        return name in self.installed

    def program(self, name):
        return None

    def drawing(self):
        return self.drawn

    def python(self):
        return self.interpreter


def by_name(machine):
    return {finding.name: finding for finding in examine(machine)}


def test_it_runs_says_what_is_there_and_loads_no_engine():
    code = (
        "import runpy, sys; sys.argv = ['doctor']\n"
        "try: runpy.run_module('puffer_phc.doctor', run_name='__main__')\n"
        "except SystemExit as end: sys.stderr.write(f'{end.code} ' + ' '.join(sorted(set(sys.modules) & {'mujoco', 'warp', 'isaacgym'})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stderr.strip() == "0"
    for word in ("python", "torch", "cuda", "mujoco_cpu", "mujoco_warp", "isaac_gym", "gymtorch", "OpenGL", "wandb", "sample motions"):
        assert f" {word}: " in done.stdout


def test_everything_missing_has_a_use_and_a_command():
    missing = [finding for finding in examine(Bare()) if finding.found is None]
    assert {"torch", "cuda", "mujoco_cpu", "mujoco_warp", "isaac_gym", "gymtorch", "OpenGL", "wandb", "onnx", "dev"} <= {
        finding.name for finding in missing
    }
    assert all(finding.gives and finding.command for finding in missing)
    text = report(missing)
    assert "pip install --no-build-isolation ./gymtorch" in text
    assert "developer.nvidia.com/isaac-gym" in text


def test_what_is_there_is_named_with_its_version():
    found = by_name(Bare(mujoco="3.17.0", mujoco_warp="3.17.1", warp_lang="1.19.0", wandb="0.20"))
    assert found["mujoco_cpu"].found == "MuJoCo 3.17.0"
    assert found["mujoco_warp"].found == "MuJoCo Warp 3.17.1, Warp 1.19.0"
    assert found["wandb"].found == "0.20"


def test_an_old_python_is_named_where_mujoco_would_be_offered():
    found = by_name(Bare(version=(3, 8), mujoco="3.2.3"))
    assert found["mujoco_cpu"].found is None and "Python 3.10" in found["mujoco_cpu"].command
    assert "Python 3.10" in found["mujoco_warp"].command


def test_opengl_that_draws_is_named_with_the_setting_that_chose_it(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    found = by_name(Bare(mujoco="3.17.0", drawn=Drawing(True, "osmesa on llvmpipe")))["OpenGL"]
    assert found.found == "osmesa on llvmpipe (MUJOCO_GL is osmesa)"


def test_opengl_that_does_not_draw_comes_with_the_reason_and_what_to_install(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    missing = by_name(Bare(mujoco="3.17.0"))["OpenGL"]
    assert missing.found is None and "MUJOCO_GL is not set" in missing.gives and "egl: no driver" in missing.gives
    assert missing.command.startswith("apt-get install libegl1")
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    missing = by_name(Bare(mujoco="3.17.0"))["OpenGL"]
    assert "MUJOCO_GL is glfw" in missing.gives and missing.command.startswith("unset MUJOCO_GL")


def test_a_picture_is_really_tried(monkeypatch):
    pytest.importorskip("mujoco")
    from puffer_phc.errors import BackendError
    from puffer_phc.view import offscreen

    tried = Machine().drawing()
    try:
        assert tried == (True, offscreen.drawing())
    except BackendError:
        assert not tried.is_possible and "no OpenGL to draw with" in tried.words
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    refused = Machine().drawing()
    assert not refused.is_possible and "invalid value for environment variable MUJOCO_GL: nonsense" in refused.words


def test_a_driver_that_ends_its_process_or_hangs_is_no_failure(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], -11, "", ""))
    assert Machine().drawing() == (False, "the driver ended the process with -11")

    def hang(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert Machine().drawing() == (False, "no picture within 60 s")


def test_a_check_that_fails_is_reported_and_the_others_go_on(monkeypatch):
    def broken(machine):
        raise OSError("libcudart.so: cannot open shared object file")

    monkeypatch.setitem(doctor.CHECKS, "devices", broken)
    found = examine(Machine())
    assert {finding.group for finding in found} == set(doctor.CHECKS)
    assert any("libcudart" in finding.gives for finding in found)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_no_failure():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "puffer_phc.doctor"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_the_report_fits_any_terminal(encoding, monkeypatch):
    import io

    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert doctor.main() == 0

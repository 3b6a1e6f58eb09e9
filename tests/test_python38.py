"""Isaac Gym's Python: there the package imports, and all but the MuJoCo backends works; Isaac Gym's runs on the stand-in.

The interpreter has to have the dependencies. This prepares one where these tests look first:

    python3.8 -m venv .venv38 && .venv38/bin/pip install -U pip && .venv38/bin/pip install torch==2.4.1 . pytest hypothesis && \
        .venv38/bin/pip install mujoco==3.2.3 && .venv38/bin/pip uninstall -y puffer-phc
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}

PURE = ("rotations", "kinematics", "observations", "rewards", "terminations", "metrics", "ppo")
MOTION = ("motion_file", "motion_library", "motion_sampler", "motion_velocities", "motion_legacy")
LEARNING = ("policy", "rollout", "checkpoint", "training_without_engine", "evaluation")
EDGES = ("config", "options", "imports", "doctor")
ISAAC_GYM = ("isaac_gym", "simulator_contract")
"""The stand-in moves by MuJoCo, of which 3.2.3 is the last for Python 3.8; without it these skip themselves."""


def run(interpreter, *arguments):
    return subprocess.run([str(interpreter), *arguments], capture_output=True, text=True, env=ENVIRONMENT, cwd=REPOSITORY, check=False)


def candidates():
    """Interpreters of Python 3.8 on this machine, prepared ones first."""
    yield REPOSITORY / ".venv38" / "bin" / "python"
    on_path = shutil.which("python3.8")
    if on_path:
        yield Path(on_path)
    yield from sorted((Path.home() / ".pyenv" / "versions").glob("3.8*/bin/python"))


@pytest.fixture(scope="module")
def python38():
    for interpreter in candidates():
        if (
            interpreter.exists()
            and run(interpreter, "-c", "import sys, torch, tyro, pufferlib, pytest; assert sys.version_info[:2] == (3, 8)").returncode == 0
        ):
            return interpreter
    return pytest.skip("no Python 3.8 with the dependencies; the head of tests/test_python38.py says how to prepare one")


def test_all_files_are_written_in_python_3_8(python38):
    code = "import ast, pathlib, sys; [ast.parse(pathlib.Path(name).read_text(encoding='utf-8'), name) for name in sys.argv[1:]]"
    files = [str(path) for folder in ("puffer_phc", "scripts", "tests") for path in (REPOSITORY / folder).rglob("*.py")]
    done = run(python38, "-c", code, *files)
    assert done.returncode == 0, done.stderr


def test_everything_but_the_mujoco_backends_imports(python38):
    modules = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in sorted((REPOSITORY / "puffer_phc").rglob("*.py"))
        if path.name not in ("__init__.py", "mujoco_cpu.py", "mujoco_warp.py", "warp_kernels.py", "isaac_scene.py")
    ]
    done = run(python38, "-c", f"import importlib; [importlib.import_module(name) for name in {modules!r}]")
    assert done.returncode == 0, done.stderr


def test_pure_functions_motion_pipeline_and_trainer_work(python38):
    names = [f"tests/test_{name}.py" for name in (*PURE, *MOTION, *LEARNING, *EDGES)]
    done = run(python38, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_isaac_gym_backend_works_on_the_stand_in(python38):
    names = [f"tests/test_{name}.py" for name in ISAAC_GYM]
    done = run(python38, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_backends_say_which_python_they_need(python38, tmp_path):
    done = run(python38, "scripts/train.py", "--train.data_dir", str(tmp_path / "runs"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Python 3.10" in done.stderr
    assert not list(tmp_path.iterdir())

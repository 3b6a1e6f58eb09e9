"""How tests get the stand-in for Isaac Gym (tests/isaacgym_stand_in) into a process, and into another one."""

import importlib
import os
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent / "isaacgym_stand_in"


def use_stand_in():
    """The stand-in's ``gymapi``. It refuses to come after torch, as the real one does, so torch hides while it is imported."""
    pytest.importorskip("mujoco", reason="the stand-in for Isaac Gym moves by MuJoCo")
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    if "isaacgym.gymapi" not in sys.modules:
        torch = sys.modules.pop("torch", None)
        try:
            importlib.import_module("isaacgym.gymapi")
        finally:
            if torch is not None:
                sys.modules["torch"] = torch
    return sys.modules["isaacgym.gymapi"]


def forget_stand_in():
    """Take it, and what was imported with it, out of this process: where no Isaac Gym is, the backend has to be missing."""
    if str(FOLDER) in sys.path:
        sys.path.remove(str(FOLDER))
    for name in list(sys.modules):
        if name.split(".")[0] == "isaacgym" or name.startswith("puffer_phc.sim.isaac_"):
            del sys.modules[name]


def environment(*folders):
    """The environment of a process that finds the package, the stand-in, and ``folders`` before them."""
    path = [*map(str, folders), str(FOLDER), str(FOLDER.parent.parent)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}

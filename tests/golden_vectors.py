"""The original's inputs and outputs, as the project's own types."""

from pathlib import Path

import numpy as np
import torch

from puffer_phc.rotations import wxyz_from_xyzw
from puffer_phc.state import BodyState

FOLDER = Path(__file__).parent / "golden"


def load(name):
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


def body_and_reference(golden):
    return tuple(
        BodyState(golden[f"{who}_pos"], wxyz_from_xyzw(golden[f"{who}_quat_xyzw"]), golden[f"{who}_lin_vel"], golden[f"{who}_ang_vel"])
        for who in ("body", "ref")
    )

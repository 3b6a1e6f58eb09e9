"""The motion file: clips of root positions and local rotations in one pickle-free ``.npz``."""

from typing import NamedTuple

import numpy as np


class Clip(NamedTuple):
    """One motion of the humanoid, checked: finite, unit quaternions, at least two frames."""

    name: str
    root_pos: np.ndarray
    """(F, 3) float32 m, world frame, z up."""
    local_quats: np.ndarray
    """(F, B, 4) float32 wxyz child-to-parent rotations, upright body frames, MJCF order; the root's own is its world rotation."""
    fps: float
    source: str
    """Where the motion comes from."""
    licence: str
    """The text under which it may be used."""

    @property
    def num_frames(self) -> int:
        """F."""
        return len(self.root_pos)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last frame."""
        return (self.num_frames - 1) / self.fps

"""What a measurement is given, and what it gives."""

from dataclasses import dataclass
from typing import Any, Dict

import torch

from puffer_phc.config import Config, chosen
from puffer_phc.motion.library import MotionLibrary

Row = Dict[str, Any]
"""The figures of one measurement by name."""


@dataclass(frozen=True)
class Setting:
    """Where and on what to measure."""

    config: Config
    """Resolved, for the number of environments to measure with."""
    motions: MotionLibrary
    device: torch.device
    seconds: float
    """Time to spend on each measurement."""

    @property
    def num_envs(self) -> int:
        """Environments side by side."""
        return chosen(self.config.env.num_envs)

    @property
    def batch_size(self) -> int:
        """Environment steps of an iteration."""
        return chosen(self.config.train.batch_size)

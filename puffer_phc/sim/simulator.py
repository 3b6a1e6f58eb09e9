"""The simulator card: what every physics backend offers, and the settings they share."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from puffer_phc.state import BodyState, DofState, Pose

MAX_DISTANCE = 1000.0
"""m: a root farther than this from the origin has diverged, on every backend."""

MAX_SPEED = 1000.0
"""m/s and rad/s: a root or a joint faster than this has diverged, on every backend."""


class PdGains(NamedTuple):
    """Joint drive τ = stiffness·(θ* − θ) − damping·ω, integrated implicitly by the physics engine."""

    stiffness: Tensor
    """(D,) N·m/rad."""
    damping: Tensor
    """(D,) N·m·s/rad."""


class Counters(NamedTuple):
    """What went wrong since the last read, summed over environments."""

    diverged: int
    """Rows whose state stopped being finite or sane and were frozen until their next ``set_state``."""
    contact_overflows: int
    """Control steps of single rows in which contacts did not fit."""
    constraint_overflows: int
    """Control steps of single rows in which constraint rows did not fit."""


class Simulator(Protocol):
    """N humanoids in one physics engine.

    ``body`` and ``dof`` are allocated once and written in place; after ``step`` and after ``set_state`` all of their fields describe
    the same instant. Rows are chosen by masks, so that nothing waits for the device. Frames and units: ``puffer_phc.state``.
    """

    num_envs: int
    device: torch.device
    control_dt: float
    """Seconds of one ``step``."""
    gains: PdGains
    body: BodyState
    dof: DofState
    diverged: Tensor
    """(N,) bool: rows that are frozen, with finite placeholder states, until their next ``set_state``."""

    def step(self, target: Tensor) -> None:
        """Hold the PD targets (N, D), rotation vectors in rad, for one control period.

        Targets are held as they are; ``pd.clamp_target`` makes ones that the engines can follow.
        """
        ...

    def set_state(self, mask: Tensor, pose: Pose) -> None:
        """Place the humanoids where ``mask`` (N,) bool is true; their warm starts, targets, torques and power are cleared."""
        ...

    def push(self, mask: Tensor, velocity: Tensor) -> None:
        """Add ``velocity`` (N, 3) m/s, world frame, to the root where ``mask`` (N,) bool is true."""
        ...

    def read_counters(self) -> Counters:
        """The counters since the last read, which starts them anew. Waits for the device."""
        ...

    def snapshot(self) -> "dict[str, Any]":
        """The full integration state, warm starts included: ``restore`` of it and the same targets give the same motion."""
        ...

    def restore(self, snapshot: "dict[str, Any]") -> None:
        """Go back to a ``snapshot`` of a simulator with the same number of environments."""
        ...

    def close(self) -> None:
        """Free what the engine holds. Safe to call twice."""
        ...

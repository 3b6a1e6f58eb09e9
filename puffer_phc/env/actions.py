"""From the policy's action to the joint drives' targets."""

import math
from typing import List

import torch
from torch import Tensor

from puffer_phc.config import EnvConfig
from puffer_phc.humanoid.skeleton import HAND_BODIES, NUM_DOFS, TOE_BODIES, dof_ids
from puffer_phc.sim.pd import clamp_target
from puffer_phc.sim.simulator import PdGains
from puffer_phc.state import DofState, Reference

RESIDUAL_SCALE = 0.5
"""rad per unit of action around the reference."""
ABSOLUTE_SCALE = math.pi
"""rad per unit of action around zero, as in the original."""
ABSOLUTE_KNEE_SCALE = 5.0
"""rad per unit of action of the knees' y axis, as in the original: beyond the bend's range, for a stronger pull."""

_KNEE_Y_DOFS = dof_ids(("L_Knee", "R_Knee"))[1::3]


def _frozen_dofs(config: EnvConfig) -> List[int]:
    bodies = (HAND_BODIES if config.freeze_hand else ()) + (TOE_BODIES if config.freeze_toe else ())
    return dof_ids(bodies)


def _scale(config: EnvConfig) -> Tensor:
    """(D,) rad of target per unit of action; zero for frozen joints."""
    default = RESIDUAL_SCALE if config.action_mode == "residual" else ABSOLUTE_SCALE
    scale = torch.full((NUM_DOFS,), default if config.action_scale is None else config.action_scale)
    if config.action_mode == "absolute" and config.action_scale is None:
        scale[_KNEE_Y_DOFS] = ABSOLUTE_KNEE_SCALE
    scale[_frozen_dofs(config)] = 0.0
    return scale


class ActionMap:
    """The map from actions (N, A) in [−1, 1] to drive targets (N, D): rotation vectors in rad.

    Frozen joints take no action dimension; they hold the reference in residual mode and zero in absolute mode. A is ``action_size``.
    """

    def __init__(self, config: EnvConfig, gains: PdGains) -> None:
        frozen = _frozen_dofs(config)
        free = [dof for dof in range(NUM_DOFS) if dof not in frozen]
        columns = [free.index(dof) if dof in free else 0 for dof in range(NUM_DOFS)]
        device = gains.stiffness.device
        self.action_size = len(free)
        self._is_residual = config.action_mode == "residual"
        self._torque_limit = config.torque_limit
        self._gains = gains
        self._columns = torch.tensor(columns, device=device)
        self._scale = _scale(config).to(device)
        self._lead = config.velocity_lead * gains.damping / gains.stiffness

    def offset(self, action: Tensor) -> Tensor:
        """(N, D) rad that ``action`` (N, A), clipped to [−1, 1], adds to the reference, or to zero in absolute mode."""
        return self._scale * action.clamp(-1.0, 1.0)[:, self._columns]

    def target(self, action: Tensor, ahead: Reference, dof: DofState) -> Tensor:
        """Targets (N, D) that the drives can follow within the torque limit from the joint state ``dof``.

        ``action`` (N, A) is clipped to [−1, 1]; ``ahead`` is the reference at the end of the control step. The lead (kd/kp)·ω cancels
        the lag of a damped drive behind a moving target.
        """
        offset = self.offset(action)
        if self._is_residual:
            offset = offset + ahead.dof_pos + self._lead * ahead.joint_velocity
        return clamp_target(offset, dof.pos, dof.vel, self._gains, self._torque_limit)

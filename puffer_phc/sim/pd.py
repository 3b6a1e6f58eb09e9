"""The joint drive as pure functions: gains, the clamp of targets, and the torque that is really applied."""

import math

import torch
from torch import Tensor

from puffer_phc.humanoid.mjcf import PhysicsOptions
from puffer_phc.humanoid.skeleton import dof_damping, dof_stiffness
from puffer_phc.sim.simulator import PdGains

MAX_TARGET_ANGLE = 2.8
"""rad: rotation vectors jump at π, so a joint that is told to go there, or overshoots it, would be pulled the other way round."""

MAX_ERROR = 3.0
"""rad: MuJoCo takes each component of target − position modulo 2π, which turns the torque of a larger error round."""


def pd_gains(options: PhysicsOptions, device: torch.device) -> PdGains:
    """The gains of the 69 joint drives, float32."""
    stiffness = torch.as_tensor(dof_stiffness() * options.stiffness_scale, dtype=torch.float32, device=device)
    damping = torch.as_tensor(dof_damping() * options.damping_scale, dtype=torch.float32, device=device)
    return PdGains(stiffness, damping)


def clamp_target(target: Tensor, dof_pos: Tensor, dof_vel: Tensor, gains: PdGains, torque_limit: float) -> Tensor:
    """The PD targets (..., D) in rad nearest to ``target`` (..., D) that ask for no more than ``torque_limit`` N·m.

    ``dof_pos`` (..., D) rad and ``dof_vel`` (..., D) rad/s are those at the start of the control step. In this order:

    1. each joint's rotation vector is shortened to ``MAX_TARGET_ANGLE``;
    2. each component is clamped to θ + (kd/kp)·ω ± limit/kp, where kp·(θ* − θ) − kd·ω stays within ± limit;
    3. each component is clamped to θ ± ``MAX_ERROR``, so that the engine never takes the error modulo 2π.

    This takes the place of a force range on the actuators, which would cut off the implicit damping just when it is needed. At rest
    the sign of every torque is that of (1) − θ, and none exceeds the limit. Not-a-number stays what it is.
    """
    vectors = target.unflatten(-1, (-1, 3))
    length = vectors.norm(dim=-1, keepdim=True)
    bounded = (vectors * (MAX_TARGET_ANGLE / length.clamp_min(MAX_TARGET_ANGLE))).flatten(-2)
    center = dof_pos + gains.damping / gains.stiffness * dof_vel
    reach = torque_limit / gains.stiffness
    reachable = torch.minimum(torch.maximum(bounded, center - reach), center + reach)
    return torch.minimum(torch.maximum(reachable, dof_pos - MAX_ERROR), dof_pos + MAX_ERROR)


def drive_torque(target: Tensor, dof_pos: Tensor, dof_vel: Tensor, gains: PdGains) -> Tensor:
    """The torque kp·(θ* − θ) − kd·ω (..., D) in N·m, with the error modulo 2π as MuJoCo takes it.

    The engine integrates the drive implicitly: what a physics step applied is this expression at the state *after* the step. The
    engine's own ``actuator_force`` has the state before it, and is several times too large in fast motion.
    """
    error = target - dof_pos
    error = error - 2.0 * math.pi * torch.round(error / (2.0 * math.pi))
    return gains.stiffness * error - gains.damping * dof_vel

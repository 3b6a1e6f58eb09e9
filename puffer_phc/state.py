"""The physical quantities that simulators, motions and the environment exchange.

Shape letters: N environments, B bodies (24), D degrees of freedom (69). World frame, z up, metres, radians, seconds, float32,
quaternions ``(w, x, y, z)``. Joint coordinates are rotation vectors of the child-to-parent rotation; joint velocities are the
angular velocity of the child relative to its parent, in the child's frame. Bodies are in MJCF order.
"""

from typing import NamedTuple

from torch import Tensor


class BodyState(NamedTuple):
    """Where each body's origin is and how it moves, world frame."""

    pos: Tensor
    """(N, B, 3) m."""
    quat: Tensor
    """(N, B, 4) body-to-world rotation."""
    lin_vel: Tensor
    """(N, B, 3) m/s, of the body origin."""
    ang_vel: Tensor
    """(N, B, 3) rad/s."""


class DofState(NamedTuple):
    """Joint coordinates, velocities and effort."""

    pos: Tensor
    """(N, D) rotation vectors, rad."""
    vel: Tensor
    """(N, D) rad/s, child frame."""
    torque: Tensor
    """(N, D) N·m, the implicit PD torque kp(θ* − θ) − kd·ω at the end of the control step."""
    power: Tensor
    """(N, D) W, |torque · vel| averaged over the substeps of the last control step."""


class Pose(NamedTuple):
    """Everything that places a humanoid: root motion in the world frame and all joint coordinates."""

    root_pos: Tensor
    """(N, 3) m."""
    root_quat: Tensor
    """(N, 4)."""
    root_lin_vel: Tensor
    """(N, 3) m/s, world frame."""
    root_ang_vel: Tensor
    """(N, 3) rad/s, world frame."""
    dof_pos: Tensor
    """(N, D) rotation vectors, rad."""
    dof_vel: Tensor
    """(N, D) rad/s, child frame."""


class Reference(NamedTuple):
    """The motion to imitate at one instant of each environment's clip."""

    body: BodyState
    dof_pos: Tensor
    """(N, D) rotation vectors, rad."""
    dof_vel: Tensor
    """(N, D) rad/s, child frame."""
    root_velocity: Tensor
    """(N, 6) m/s and rad/s, world frame: the root's linear and angular velocity as ``body`` has it, but not smoothed in time."""
    joint_velocity: Tensor
    """(N, D) rad/s, child frame: ``dof_vel`` not smoothed in time."""

    def pose(self) -> Pose:
        """The pose that puts a simulated humanoid on this reference.

        With velocities that are not smoothed: a jump's take-off is over in a tenth of a second, and a smoothed one would fall short.
        """
        body, (linear, angular) = self.body, self.root_velocity.split(3, dim=-1)
        return Pose(body.pos[:, 0], body.quat[:, 0], linear, angular, self.dof_pos, self.joint_velocity)

"""The state of every body from the coordinates of a pose, in torch."""

from typing import List

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.kinematics import forward_kinematics, local_quats_from_dofs
from puffer_phc.humanoid.skeleton import NUM_BODIES, PARENTS
from puffer_phc.state import BodyState, Pose


def body_state(pose: Pose) -> BodyState:
    """Where the bodies (..., B) of a ``pose`` are and how they move, world frame.

    Velocities go from parent to child: ω = ω_parent + R·ω_joint with the joint's velocity in the child's frame, v = v_parent + ω_parent ×
    (p − p_parent).
    """
    pos, quat = forward_kinematics(pose.root_pos, local_quats_from_dofs(rotations.normalize(pose.root_quat), pose.dof_pos))
    spins = rotations.rotate(quat[..., 1:, :], pose.dof_vel.unflatten(-1, (NUM_BODIES - 1, 3)))
    linear: List[Tensor] = [pose.root_lin_vel]
    angular: List[Tensor] = [pose.root_ang_vel]
    for body in range(1, NUM_BODIES):
        parent = PARENTS[body]
        arm = pos[..., body, :] - pos[..., parent, :]
        linear.append(linear[parent] + rotations.cross(angular[parent], arm))
        angular.append(angular[parent] + spins[..., body - 1, :])
    return BodyState(pos, quat, torch.stack(linear, dim=-2), torch.stack(angular, dim=-2))

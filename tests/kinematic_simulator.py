"""A simulator without physics, for tests: it goes where it is told at once.

Until ``oracle`` has been called, ``step`` moves the joints to the targets and leaves the root where it is. ``oracle`` is a policy: it
remembers the observation it is shown, and the next ``step`` moves every body by the differences to the reference that the observation
contains. It knows nothing else of the reference, so a perfect score also proves that the observation says all there is to say.
"""

import torch

from puffer_phc import rotations
from puffer_phc.env.observations import SELF_SIZE
from puffer_phc.humanoid.kinematics import forward_kinematics, local_quats_from_dofs, local_rotations
from puffer_phc.humanoid.skeleton import NUM_BODIES, NUM_DOFS, PARENTS
from puffer_phc.sim.simulator import Counters, PdGains
from puffer_phc.state import BodyState, DofState


class KinematicSimulator:
    """The simulator card, without physics.

    ``num_set_states`` counts calls. What is written to ``disturbance`` (N, 3) is added to all body positions at the end of the next
    step.
    """

    def __init__(self, num_envs, control_dt=1.0 / 30.0):
        self.num_envs, self.device, self.control_dt = num_envs, torch.device("cpu"), control_dt
        self.gains = PdGains(torch.full((NUM_DOFS,), 500.0), torch.full((NUM_DOFS,), 50.0))
        self.body = BodyState(*(torch.zeros(num_envs, NUM_BODIES, width) for width in (3, 4, 3, 3)))
        self.body.quat[..., 0] = 1.0
        self.dof = DofState(*(torch.zeros(num_envs, NUM_DOFS) for _ in range(4)))
        self.diverged = torch.zeros(num_envs, dtype=torch.bool)
        self.target = torch.zeros(num_envs, NUM_DOFS)
        self.disturbance = torch.zeros(num_envs, 3)
        self.num_set_states = 0
        self._seen = None

    def oracle(self, observation, action_size=57):
        self._seen = observation.clone()
        return torch.zeros(self.num_envs, action_size)

    def step(self, target):
        self.target.copy_(target)
        if self._seen is None:
            self.dof.pos.copy_(target)
            self._write(self.body.pos[:, 0], local_quats_from_dofs(self.body.quat[:, 0], target), torch.zeros(self.num_envs, NUM_BODIES, 3))
        else:
            self._follow(self._seen[:, SELF_SIZE : SELF_SIZE + 15 * NUM_BODIES])
        self.body.pos.add_(self.disturbance.unsqueeze(1))
        self.disturbance.zero_()

    def _follow(self, differences):
        """Add the differences (position, rotation, velocities) of the first observed frame, from the heading frame to the world."""
        heading = rotations.heading(self.body.quat[:, :1])
        pos, sixd, lin_vel, ang_vel = differences.split([3 * NUM_BODIES, 6 * NUM_BODIES, 3 * NUM_BODIES, 3 * NUM_BODIES], dim=-1)
        x, z = sixd.unflatten(-1, (NUM_BODIES, 6)).split(3, dim=-1)
        turn = _quat_from_axes(rotations.rotate(heading, x), rotations.rotate(heading, z), heading)
        self.body.quat.copy_(rotations.normalize(rotations.multiply(turn, self.body.quat)))
        for state, difference in ((self.body.pos, pos), (self.body.lin_vel, lin_vel), (self.body.ang_vel, ang_vel)):
            state += rotations.rotate(heading, difference.unflatten(-1, (NUM_BODIES, 3)))
        self.dof.pos.copy_(rotations.to_rotation_vector(local_rotations(self.body.quat)[:, 1:]).flatten(1))
        self.dof.vel.copy_(_joint_velocity(self.body))

    def set_state(self, mask, pose):
        self.num_set_states += 1
        quats = local_quats_from_dofs(pose.root_quat, pose.dof_pos)
        joint_vel = pose.dof_vel.unflatten(-1, (NUM_BODIES - 1, 3))
        kept = BodyState(*(part.clone() for part in self.body))
        self._write(pose.root_pos, quats, torch.cat((torch.zeros(self.num_envs, 1, 3), joint_vel), dim=1), pose)
        for state, old in zip(self.body, kept):
            state.copy_(torch.where(mask[:, None, None], state, old))
        for state, wanted in zip(self.dof, (pose.dof_pos, pose.dof_vel, torch.zeros(()), torch.zeros(()))):
            state.copy_(torch.where(mask[:, None], wanted, state))
        self.diverged &= ~mask

    def _write(self, root_pos, local_quats, joint_vel, pose=None):
        """Body states from joint states: velocities are passed down the tree."""
        pos, quats = forward_kinematics(root_pos, local_quats)
        lin_vel = [torch.zeros(self.num_envs, 3) if pose is None else pose.root_lin_vel]
        ang_vel = [torch.zeros(self.num_envs, 3) if pose is None else pose.root_ang_vel]
        for body in range(1, NUM_BODIES):
            parent = PARENTS[body]
            lin_vel.append(lin_vel[parent] + rotations.cross(ang_vel[parent], pos[:, body] - pos[:, parent]))
            ang_vel.append(ang_vel[parent] + rotations.rotate(quats[:, body], joint_vel[:, body]))
        for state, new in zip(self.body, (pos, quats, torch.stack(lin_vel, 1), torch.stack(ang_vel, 1))):
            state.copy_(new)

    def push(self, mask, velocity):
        self.body.lin_vel[mask] += velocity[mask].unsqueeze(1)

    def read_counters(self):
        return Counters(int(self.diverged.sum()), 0, 0)

    def snapshot(self):
        return {"body": [part.clone() for part in self.body], "dof": [part.clone() for part in self.dof], "diverged": self.diverged.clone()}

    def restore(self, snapshot):
        for state, old in zip((*self.body, *self.dof), (*snapshot["body"], *snapshot["dof"])):
            state.copy_(old)
        self.diverged.copy_(snapshot["diverged"])

    def close(self):
        pass


def _joint_velocity(body):
    parents = torch.tensor(PARENTS[1:])
    relative = body.ang_vel[:, 1:] - body.ang_vel[:, parents]
    return rotations.rotate(rotations.conjugate(body.quat[:, 1:]), relative).flatten(1)


def _quat_from_axes(x, z, heading):
    """Rotations (N, B, 4) M, given columns 0 and 2 of M·R(heading), world frame."""
    matrix = torch.stack((x, rotations.cross(z, x), z), dim=-1) @ rotations.to_matrix(rotations.conjugate(heading))
    return _quat_from_matrix(matrix)


def _quat_from_matrix(m):
    """The leading eigenvector of Shepperd's symmetric 4×4 matrix: exact at every angle."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in m.double().unbind(-2))
    rows = (
        (xx + yy + zz, zy - yz, xz - zx, yx - xy),
        (zy - yz, xx - yy - zz, yx + xy, xz + zx),
        (xz - zx, yx + xy, yy - xx - zz, zy + yz),
        (yx - xy, xz + zx, zy + yz, zz - xx - yy),
    )
    symmetric = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    return torch.linalg.eigh(symmetric).eigenvectors[..., -1].float()

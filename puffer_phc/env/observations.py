"""What the policy sees: the body in its own heading frame, and the next reference frames relative to the body.

The heading frame has its origin at the simulated root and its x axis along the root's heading, z up. Layouts follow PHC
(arXiv 2305.06456, section 3.1, "imitation v6"). Nothing depends on where on the ground the humanoid is, nor on its heading, except
relative to the reference. All functions are pure; N environments, K future frames, B bodies.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.skeleton import HAND_BODIES, KEY_BODIES, NUM_BODIES, NUM_DOFS, TOE_BODIES, body_ids
from puffer_phc.state import BodyState, Pose

SELF_SIZE = 1 + 3 * (NUM_BODIES - 1) + (6 + 3 + 3) * NUM_BODIES
"""Numbers in the self observation: 358."""
FRAME_SIZE = (3 + 6 + 3 + 3 + 3 + 6) * NUM_BODIES
"""Numbers per future reference frame: 576."""

_AMP_OMITTED_JOINTS = sorted(body - 1 for body in body_ids(HAND_BODIES + TOE_BODIES))
AMP_SIZE = 13 + 9 * (NUM_BODIES - 1 - len(_AMP_OMITTED_JOINTS)) + 3 * len(KEY_BODIES)
"""Numbers per step of the AMP observation: 196."""


class _HeadingView(NamedTuple):
    """The simulated root's heading, as the numbers that turn things into its frame."""

    half: Tensor
    """(N, 1, 2) cosine and sine of half the heading."""
    full: Tensor
    """(N, 1, 2) cosine and sine of the heading."""


def _heading_view(root_quat: Tensor) -> _HeadingView:
    angle = rotations.heading_angle(root_quat).unsqueeze(-1)
    half = torch.stack((torch.cos(0.5 * angle), torch.sin(0.5 * angle)), dim=-1)
    return _HeadingView(half, torch.stack((angle.cos(), angle.sin()), dim=-1))


def _turn_vectors(view: _HeadingView, vectors: Tensor) -> Tensor:
    """World vectors (N, M, 3) in the heading frame."""
    cosine, sine = view.full.unbind(-1)
    x, y, z = vectors.unbind(-1)
    return torch.stack((cosine * x + sine * y, cosine * y - sine * x, z), dim=-1)


def _turn_quats(view: _HeadingView, quats: Tensor) -> Tensor:
    """World rotations (N, M, 4) in the heading frame: the product with the inverse heading, written out."""
    cosine, sine = view.half.unbind(-1)
    w, x, y, z = quats.unbind(-1)
    return torch.stack((cosine * w + sine * z, cosine * x + sine * y, cosine * y - sine * x, cosine * z - sine * w), dim=-1)


def _self_blocks(view: _HeadingView, body: BodyState, local_quat: Tensor) -> Tensor:
    root = body.pos[:, :1]
    vectors = _turn_vectors(view, torch.cat((body.pos[:, 1:] - root, body.lin_vel, body.ang_vel), dim=1)).flatten(1)
    split = 3 * (NUM_BODIES - 1)
    sixd = rotations.tangent_normal(local_quat).flatten(1)
    return torch.cat((root[:, 0, 2:], vectors[:, :split], sixd, vectors[:, split:]), dim=-1)


def _frame_blocks(view: _HeadingView, body: BodyState, local_quat: Tensor, future: BodyState) -> Tensor:
    num_envs, num_frames = future.pos.shape[:2]
    differences = (
        future.pos - body.pos.unsqueeze(1),
        future.lin_vel - body.lin_vel.unsqueeze(1),
        future.ang_vel - body.ang_vel.unsqueeze(1),
        future.pos - body.pos[:, None, :1],
    )
    vectors = _turn_vectors(view, torch.cat(differences, dim=2).flatten(1, 2)).reshape(num_envs, num_frames, -1)
    ref_quat = _turn_quats(view, future.quat.flatten(1, 2)).unflatten(1, (num_frames, NUM_BODIES))
    turned = rotations.multiply(ref_quat, rotations.conjugate(local_quat).unsqueeze(1))
    sixd = rotations.tangent_normal(torch.cat((turned, ref_quat), dim=2)).flatten(2)
    pos, vel, relative = vectors.split((3 * NUM_BODIES, 6 * NUM_BODIES, 3 * NUM_BODIES), dim=-1)
    rot_difference, rot = sixd.split(6 * NUM_BODIES, dim=-1)
    return torch.cat((pos, rot_difference, vel, relative, rot), dim=-1).flatten(1)


def self_observation(body: BodyState) -> Tensor:
    """The body in its heading frame (N, 358).

    Columns: root height above the world's zero (1), positions of bodies 1…23 relative to the root (69), all rotations in 6D (144), linear
    velocities (72), angular velocities (72); body-major inside each block.
    """
    view = _heading_view(body.quat[:, 0])
    return _self_blocks(view, body, _turn_quats(view, body.quat))


def imitation_observation(body: BodyState, future: BodyState) -> Tensor:
    """Future reference frames relative to the simulated body (N, 576 · K), frame after frame.

    ``body`` has shapes (N, B, …) and ``future`` (N, K, B, …). Columns of a frame, all in the simulated heading frame: reference less
    simulated positions (72), rotations from simulated to reference in 6D (144), differences of linear (72) and of angular velocities (72),
    reference positions relative to the simulated root (72), reference rotations in 6D (144); body-major inside each block.
    """
    view = _heading_view(body.quat[:, 0])
    return _frame_blocks(view, body, _turn_quats(view, body.quat), future)


def observation(body: BodyState, future: BodyState) -> Tensor:
    """Self observation, then imitation observation (N, 358 + 576 · K), sharing what they have in common."""
    view = _heading_view(body.quat[:, 0])
    local_quat = _turn_quats(view, body.quat)
    return torch.cat((_self_blocks(view, body, local_quat), _frame_blocks(view, body, local_quat, future)), dim=-1)


def observation_size(num_future_frames: int) -> int:
    """Columns of ``observation``."""
    return SELF_SIZE + FRAME_SIZE * num_future_frames


def _amp_joints(dofs: Tensor) -> Tensor:
    """The joints (N, 19, 3) of all but hands and toes from (N, D), by slices: an index list would travel to the device at each call."""
    joints = dofs.unflatten(-1, (NUM_DOFS // 3, 3))
    starts = [0, *(joint + 1 for joint in _AMP_OMITTED_JOINTS)]
    stops = [*_AMP_OMITTED_JOINTS, NUM_DOFS // 3]
    return torch.cat([joints[:, start:stop] for start, stop in zip(starts, stops)], dim=1)


def amp_observation(pose: Pose, key_pos: Tensor) -> Tensor:
    """One step of what a motion discriminator sees (N, 196), in the heading frame.

    ``key_pos`` (N, 4, 3) m are the world positions of ``skeleton.KEY_BODIES``. Columns: root height (1), root rotation in 6D (6), root
    linear and angular velocity (6), joint rotations in 6D (114) and joint velocities (57) of all joints but hands and toes, key body
    positions relative to the root (12). Adversarial motion priors, arXiv 2104.02180.
    """
    view = _heading_view(pose.root_quat)
    root_sixd = rotations.tangent_normal(_turn_quats(view, pose.root_quat.unsqueeze(1))).flatten(1)
    world = (pose.root_lin_vel.unsqueeze(1), pose.root_ang_vel.unsqueeze(1), key_pos - pose.root_pos.unsqueeze(1))
    vectors = _turn_vectors(view, torch.cat(world, dim=1)).flatten(1)
    joint_sixd = rotations.tangent_normal(rotations.from_rotation_vector(_amp_joints(pose.dof_pos))).flatten(1)
    joint_vel = _amp_joints(pose.dof_vel).flatten(1)
    return torch.cat((pose.root_pos[:, 2:], root_sixd, vectors[:, :6], joint_sixd, joint_vel, vectors[:, 6:]), dim=-1)

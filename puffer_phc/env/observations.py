"""What the policy sees: the body in its own heading frame, and the next reference frames relative to the body.

The heading frame has its origin at the simulated root and its x axis along the root's heading, z up. Layouts follow PHC
(arXiv 2305.06456, section 3.1, "imitation v6"). Nothing depends on where on the ground the humanoid is, nor on its heading, except
relative to the reference. All functions are pure; N environments, K future frames, B bodies.
"""

from typing import NamedTuple, Tuple

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
DIFFERENCE_SIZE = (3 + 3 + 3 + 3) * NUM_BODIES
"""Numbers of the difference between a body and its reference: 288."""


_Components = Tuple[Tensor, ...]
"""The x, y, z or w, x, y, z of many vectors or rotations as separate tensors (N, M).

Inside this file arithmetic is done on components, each contiguous: on a CPU that is twice as fast as on tensors with x, y, z last.
"""


class _Heading(NamedTuple):
    """The heading of the simulated root, as the numbers (N, 1) that turn things into its frame."""

    cos: Tensor
    sin: Tensor
    half_cos: Tensor
    half_sin: Tensor


def _root_heading(root_quat: Tensor) -> _Heading:
    angle = rotations.heading_angle(root_quat).unsqueeze(-1)
    half = 0.5 * angle
    return _Heading(angle.cos(), angle.sin(), half.cos(), half.sin())


def _components(tensor: Tensor) -> _Components:
    return tensor.movedim(-1, 0).contiguous().unbind(0)


def _turn_vectors(heading: _Heading, vectors: Tensor) -> Tensor:
    """World vectors (N, M, 3) in the heading frame."""
    x, y, z = _components(vectors)
    cos, sin = heading.cos, heading.sin
    turned = torch.stack((torch.addcmul(cos * x, sin, y), torch.addcmul(cos * y, sin, x, value=-1), z))
    return turned.movedim(0, -1)


def _turn_quats(heading: _Heading, quats: Tensor) -> Tensor:
    """World rotations (N, M, 4) in the heading frame, components first (4, N, M): the product with the inverse heading, written out."""
    w, x, y, z = _components(quats)
    cos, sin = heading.half_cos, heading.half_sin
    return torch.stack(
        (
            torch.addcmul(cos * w, sin, z),
            torch.addcmul(cos * x, sin, y),
            torch.addcmul(cos * y, sin, x, value=-1),
            torch.addcmul(cos * z, sin, w, value=-1),
        )
    )


def _multiply_by_inverse(a: Tensor, b: Tensor) -> Tensor:
    """The rotations a ⊗ b⁻¹, components first (4, ...); other axes broadcast."""
    aw, ax, ay, az = a.unbind(0)
    bw, bx, by, bz = b.unbind(0)
    w = torch.addcmul(torch.addcmul(torch.addcmul(aw * bw, ax, bx), ay, by), az, bz)
    x = torch.addcmul(torch.addcmul(torch.addcmul(ax * bw, aw, bx, value=-1), az, by), ay, bz, value=-1)
    y = torch.addcmul(torch.addcmul(torch.addcmul(ay * bw, aw, by, value=-1), ax, bz), az, bx, value=-1)
    z = torch.addcmul(torch.addcmul(torch.addcmul(az * bw, aw, bz, value=-1), ay, bx), ax, by, value=-1)
    return torch.stack((w, x, y, z))


def _tangent_normal(quats: Tensor) -> Tensor:
    """The 6D form (..., 6) of rotations (4, ...); see ``rotations.tangent_normal``."""
    w, x, y, z = quats.unbind(0)
    x2, y2, z2 = (quats[1:] * 2.0).unbind(0)
    rest = torch.addcmul(torch.ones_like(y), y, y2, value=-1)
    columns = (
        torch.addcmul(rest, z, z2, value=-1),
        torch.addcmul(x * y2, w, z2),
        torch.addcmul(x * z2, w, y2, value=-1),
        torch.addcmul(x * z2, w, y2),
        torch.addcmul(y * z2, w, x2, value=-1),
        torch.addcmul(rest, x, x2, value=-1),
    )
    return torch.stack(columns).movedim(0, -1)


def _self_blocks(heading: _Heading, body: BodyState, local_quats: Tensor) -> Tensor:
    """(N, 358); ``local_quats`` (4, N, B) are the body's rotations in the heading frame."""
    root = body.pos[:, :1]
    vectors = _turn_vectors(heading, torch.cat((body.pos[:, 1:] - root, body.lin_vel, body.ang_vel), dim=1)).flatten(1)
    split = 3 * (NUM_BODIES - 1)
    return torch.cat((root[:, 0, 2:], vectors[:, :split], _tangent_normal(local_quats).flatten(1), vectors[:, split:]), dim=-1)


def _frame_blocks(heading: _Heading, body: BodyState, local_quats: Tensor, future: BodyState) -> Tensor:
    """(N, 576 · K); ``local_quats`` (4, N, B) are the body's rotations in the heading frame."""
    num_envs, num_frames = future.pos.shape[:2]
    differences = (
        future.pos - body.pos.unsqueeze(1),
        future.lin_vel - body.lin_vel.unsqueeze(1),
        future.ang_vel - body.ang_vel.unsqueeze(1),
        future.pos - body.pos[:, None, :1],
    )
    vectors = _turn_vectors(heading, torch.cat(differences, dim=2).flatten(1, 2)).reshape(num_envs, num_frames, 12 * NUM_BODIES)
    ref_quats = _turn_quats(heading, future.quat.flatten(1, 2)).unflatten(2, (num_frames, NUM_BODIES))
    turns = _multiply_by_inverse(ref_quats, local_quats.unsqueeze(2))
    sixd = _tangent_normal(torch.cat((turns, ref_quats), dim=2)).reshape(num_envs, 2, num_frames, 6 * NUM_BODIES)
    pos, vel, relative = vectors.split((3 * NUM_BODIES, 6 * NUM_BODIES, 3 * NUM_BODIES), dim=-1)
    return torch.cat((pos, sixd[:, 0], vel, relative, sixd[:, 1]), dim=-1).flatten(1)


def self_observation(body: BodyState) -> Tensor:
    """The body in its heading frame (N, 358).

    Columns: root height above the world's zero (1), positions of bodies 1…23 relative to the root (69), all rotations in 6D (144), linear
    velocities (72), angular velocities (72); body-major inside each block.
    """
    heading = _root_heading(body.quat[:, 0])
    return _self_blocks(heading, body, _turn_quats(heading, body.quat))


def imitation_observation(body: BodyState, future: BodyState) -> Tensor:
    """Future reference frames relative to the simulated body (N, 576 · K), frame after frame.

    ``body`` has shapes (N, B, …) and ``future`` (N, K, B, …). Columns of a frame, all in the simulated heading frame: reference less
    simulated positions (72), rotations from simulated to reference in 6D (144), differences of linear (72) and of angular velocities (72),
    reference positions relative to the simulated root (72), reference rotations in 6D (144); body-major inside each block.
    """
    heading = _root_heading(body.quat[:, 0])
    return _frame_blocks(heading, body, _turn_quats(heading, body.quat), future)


def observation(body: BodyState, future: BodyState) -> Tensor:
    """Self observation, then imitation observation (N, 358 + 576 · K), sharing what they have in common."""
    heading = _root_heading(body.quat[:, 0])
    local_quats = _turn_quats(heading, body.quat)
    return torch.cat((_self_blocks(heading, body, local_quats), _frame_blocks(heading, body, local_quats, future)), dim=-1)


def observation_size(num_future_frames: int) -> int:
    """Columns of ``observation``."""
    return SELF_SIZE + FRAME_SIZE * num_future_frames


def tracking_difference(body: BodyState, reference: BodyState) -> Tensor:
    """What separates the body from its reference at the same instant (N, 288), in the body's heading frame; zeros where it is on it.

    Columns, reference less simulated: positions (72) m, rotations from simulated to reference as rotation vectors (72) rad, linear (72)
    m/s and angular velocities (72) rad/s; body-major inside each block.
    """
    turns = rotations.to_rotation_vector(rotations.multiply(reference.quat, rotations.conjugate(body.quat)))
    blocks = (reference.pos - body.pos, turns, reference.lin_vel - body.lin_vel, reference.ang_vel - body.ang_vel)
    return _turn_vectors(_root_heading(body.quat[:, 0]), torch.cat(blocks, dim=1)).flatten(1)


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
    heading = _root_heading(pose.root_quat)
    root_sixd = _tangent_normal(_turn_quats(heading, pose.root_quat.unsqueeze(1))).flatten(1)
    world = (pose.root_lin_vel.unsqueeze(1), pose.root_ang_vel.unsqueeze(1), key_pos - pose.root_pos.unsqueeze(1))
    vectors = _turn_vectors(heading, torch.cat(world, dim=1)).flatten(1)
    joint_sixd = rotations.tangent_normal(rotations.from_rotation_vector(_amp_joints(pose.dof_pos))).flatten(1)
    joint_vel = _amp_joints(pose.dof_vel).flatten(1)
    return torch.cat((pose.root_pos[:, 2:], root_sixd, vectors[:, :6], joint_sixd, joint_vel, vectors[:, 6:]), dim=-1)

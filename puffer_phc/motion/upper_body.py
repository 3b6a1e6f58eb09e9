"""Spine, shoulders and arms: a fit to joint positions with the captured rotations as prior, all frames at once.

Each joint turns away from its prior by a small rotation δ. The fit minimises Σ w·|p(δ) − target|² + Σ |δ|²/σ² by Gauss–Newton in its
dual form: there are fewer target coordinates than joint angles, so the linear system solved per frame is the smaller one. Nothing couples
the frames; smooth targets and a smooth prior give a smooth fit.
"""

from typing import Dict, List, Tuple

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.kinematics import Components, product
from puffer_phc.humanoid.skeleton import BODY_NAMES, OFFSETS, PARENTS, body_ids
from puffer_phc.motion.hierarchy import Place, moved
from puffer_phc.motion.legs import unit

ITERATIONS = 4

FRAMES_AT_ONCE = 1024
"""Frames whose linear systems stay in a processor's cache."""

DEVIATIONS: Dict[str, float] = {
    "Torso": 0.25,
    "Spine": 0.22,
    "Chest": 0.25,
    "Neck": 0.4,
    "L_Thorax": 0.5,
    "R_Thorax": 0.5,
    "L_Shoulder": 0.5,
    "R_Shoulder": 0.5,
    "L_Elbow": 0.5,
    "R_Elbow": 0.5,
}
"""rad: by how much each joint may turn away from its captured rotation at the cost of one tolerance of position."""

TOLERANCES: Dict[str, float] = {
    "Chest": 0.018,
    "Head": 0.015,
    "L_Shoulder": 0.015,
    "R_Shoulder": 0.015,
    "L_Elbow": 0.012,
    "R_Elbow": 0.012,
    "L_Wrist": 0.012,
    "R_Wrist": 0.012,
}
"""m: by how much each joint may miss its target at the same cost.

A spine with more freedom, or a chest with less tolerance, folds into a Z: the humanoid's trunk is five centimetres longer than the scaled
performer's, and curling up is how a fit makes it shorter.
"""

ARM_BONES: Tuple[Tuple[str, str], ...] = (
    ("L_Shoulder", "L_Elbow"),
    ("L_Elbow", "L_Wrist"),
    ("R_Shoulder", "R_Elbow"),
    ("R_Elbow", "R_Wrist"),
)
"""Bones whose captured direction counts, not their rotation from the rest pose, and the joint at their end."""

_FREE: List[int] = body_ids(tuple(DEVIATIONS))
_AIMED: List[int] = body_ids(tuple(TOLERANCES))
_UPPER: List[int] = [body for body in range(len(BODY_NAMES)) if BODY_NAMES[body].split("_")[-1] not in ("Hip", "Knee", "Ankle", "Toe")]


def _is_ancestor(body: int, joint: int) -> bool:
    """Whether turning ``body`` moves the origin of ``joint``."""
    while joint > 0:
        joint = PARENTS[joint]
        if joint == body:
            return True
    return False


_VARIANCE = torch.tensor(list(DEVIATIONS.values())).repeat_interleave(3).square()

_NOISE = torch.diag(torch.tensor(list(TOLERANCES.values())).repeat_interleave(3).square())

_MOVES = torch.tensor([[_is_ancestor(body, joint) for body in _FREE] for joint in _AIMED], dtype=torch.float32)


def shortest_turn(start: Tensor, end: Tensor) -> Tensor:
    """The smallest rotation (..., 4) that takes direction ``start`` to ``end`` (..., 3 each)."""
    start, end = unit(start), unit(end)
    quat = torch.cat((1.0 + (start * end).sum(-1, keepdim=True), rotations.cross(start, end)), dim=-1)
    return rotations.normalize(quat)


def prior_rotations(quats: Tensor, rest: Tensor) -> Tensor:
    """World rotations (F, B, 4) as captured, with the arms' bones in their captured directions although the rest poses differ."""
    prior = quats.clone()
    for body, end in ARM_BONES:
        index, tip = BODY_NAMES.index(body), BODY_NAMES.index(end)
        own = torch.as_tensor(OFFSETS[tip], dtype=quats.dtype)
        turn = shortest_turn(own, rest[tip] - rest[index])
        prior[:, index] = rotations.multiply(quats[:, index], turn.expand(len(quats), 4))
    return prior


def _local(quats: Tensor) -> Tensor:
    """Child-to-parent rotations (F, B, 4) from world rotations."""
    parents = torch.tensor(PARENTS[1:])
    return torch.cat((quats[:, :1], rotations.multiply(rotations.conjugate(quats[:, parents]), quats[:, 1:])), dim=1)


def _forward(root: Tensor, local: Tensor) -> Tuple[Tensor, Tensor]:
    """World positions (F, B, 3) and rotations (F, B, 4) of the upper body; other bodies stay at zero."""
    places = {0: Place(root.unbind(-1), local[:, 0].unbind(-1))}
    for body in _UPPER[1:]:
        parent = places[PARENTS[body]]
        places[body] = Place(moved(parent, OFFSETS[body].tolist()), product(parent.quat, local[:, body].unbind(-1)))
    positions = root.new_zeros(len(root), len(BODY_NAMES), 3)
    quats = root.new_zeros(len(root), len(BODY_NAMES), 4)
    positions[:, _UPPER] = _stacked([places[body].position for body in _UPPER])
    quats[:, _UPPER] = _stacked([places[body].quat for body in _UPPER])
    return positions, quats


def _stacked(bodies: List[Components]) -> Tensor:
    """(F, B, K) from K components of each of B bodies."""
    return torch.stack([torch.stack(components, dim=-1) for components in bodies], dim=1)


def _jacobian(positions: Tensor) -> Tensor:
    """(F, 3·targets, 3·joints): how targets move when a joint turns about the world's axes, m/rad."""
    arms = (positions[:, _AIMED, None] - positions[:, None, _FREE]) * _MOVES[..., None]
    jacobian = arms.new_zeros(len(arms), len(_AIMED), 3, len(_FREE), 3)
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        jacobian[:, :, second, :, axis] = arms[..., first]
        jacobian[:, :, first, :, axis] = -arms[..., second]
    return jacobian.flatten(3).flatten(1, 2)


def _improved(root: Tensor, prior: Tensor, local: Tensor, aims: Tensor) -> Tensor:
    """Rotations (F, joints, 4) of the free joints after one step; ``aims`` (F, targets, 3) m, others as in ``fit_upper_body``.

    Turns are counted about the world's axes: each joint is as free about one axis as about another.
    """
    positions, quats = _forward(root, local)
    jacobian, free = _jacobian(positions), quats[:, _FREE]
    turns = rotations.to_rotation_vector(rotations.multiply(rotations.conjugate(prior), local[:, _FREE]))
    turns = rotations.rotate(free, turns).flatten(1)[..., None]
    miss = (aims - positions[:, _AIMED]).flatten(1)[..., None] + jacobian @ turns
    weighted = jacobian * _VARIANCE
    system = weighted @ jacobian.transpose(1, 2) + _NOISE
    solution = torch.cholesky_solve(miss, torch.linalg.cholesky(system))
    turns = (weighted.transpose(1, 2) @ solution).squeeze(-1).unflatten(1, (len(_FREE), 3))
    return rotations.multiply(prior, rotations.from_rotation_vector(rotations.rotate(rotations.conjugate(free), turns)))


def fit_upper_body(root: Tensor, captured: Tensor, targets: Tensor, rest: Tensor) -> Tensor:
    """World rotations (F, B, 4) whose upper body comes near ``targets`` (F, B, 3) m; ``root`` is (F, 3) m and ``captured`` (F, B, 4).

    Head and hands keep their captured world rotations; rotations of the legs are returned as captured.
    """
    parts = zip(*(values.split(FRAMES_AT_ONCE) for values in (root, captured, targets)))
    return torch.cat([_fit(part_root, part_captured, part_targets, rest) for part_root, part_captured, part_targets in parts])


def _fit(root: Tensor, captured: Tensor, targets: Tensor, rest: Tensor) -> Tensor:
    """The fit for some of the frames."""
    local = _local(prior_rotations(captured, rest))
    prior, aims = local[:, _FREE].clone(), targets[:, _AIMED]
    for _ in range(ITERATIONS):
        local[:, _FREE] = _improved(root, prior, local, aims)
    _, quats = _forward(root, local)
    result = captured.clone()
    result[:, _FREE] = quats[:, _FREE]
    return result

"""From DeepMimic's skeleton to our humanoid.

The skeleton, of which pybullet's ``humanoid.urdf`` is the description at four times the size, stands with hanging arms in its zero pose.
"""

import math
from typing import Dict, List, NamedTuple, Tuple

import torch
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.kinematics import forward_kinematics, local_rotations, lowest_point
from puffer_phc.humanoid.skeleton import BODIES, BODY_NAMES, OFFSETS, Box, body_ids

JOINTS = ("root", "chest", "neck", *(side + joint for side in "RL" for joint in ("_hip", "_knee", "_ankle", "_shoulder", "_elbow")))
"""In the order of the files."""

_HIP = 0.339548 / 4
"""m from the root to a hip, sideways."""
_THIGH, _SHIN = 1.686184 / 4, 1.639480 / 4
_SOLE = 0.2 / 4
"""m from the ankle down to the sole."""
_CHEST, _SHOULDER = 0.944604 / 4, (-0.0962 / 4, 0.73244 / 4, 0.974 / 4)
_UPPER_ARM, _FOREARM = 1.099152 / 4, 1.035788 / 4
"""m, forearm to the centre of the ball that serves as a hand."""

_ALMOST_STRAIGHT = 0.9995
"""Cosine of the least bend from the longest reach: at the longest reach itself the angle changes infinitely fast with distance."""

_MAX_TOE_BEND = math.radians(70.0)


class _Source(NamedTuple):
    """World rotations (F, 4) by joint name and positions (F, 3) m of the source skeleton."""

    quats: Dict[str, Tensor]
    root: Tensor
    soles: Dict[str, Tensor]
    """Under the ankles, by side."""
    hands: Dict[str, Tensor]
    """By side."""


def _source(root_pos: Tensor, local: Tensor) -> _Source:
    """Forward kinematics of DeepMimic's skeleton."""
    quats = dict(zip(JOINTS, local.unbind(1)))
    quats["chest"] = rotations.multiply(quats["root"], quats["chest"])
    quats["neck"] = rotations.multiply(quats["chest"], quats["neck"])
    soles, hands = {}, {}
    for side, sign in (("L", 1.0), ("R", -1.0)):
        for joint, parent in (("hip", "root"), ("shoulder", "chest")):
            quats[f"{side}_{joint}"] = rotations.multiply(quats[parent], quats[f"{side}_{joint}"])
        for joint, parent in (("knee", "hip"), ("ankle", "knee"), ("elbow", "shoulder")):
            quats[f"{side}_{joint}"] = rotations.multiply(quats[f"{side}_{parent}"], quats[f"{side}_{joint}"])
        thorax = root_pos + _along(quats["root"], 0.0, 0.0, _CHEST)
        x, y, z = _SHOULDER
        hands[side] = (
            thorax
            + _along(quats["chest"], x, sign * y, z)
            + _along(quats[f"{side}_shoulder"], 0.0, 0.0, -_UPPER_ARM)
            + _along(quats[f"{side}_elbow"], 0.0, 0.0, -_FOREARM)
        )
        soles[side] = (
            root_pos
            + _along(quats["root"], 0.0, sign * _HIP, 0.0)
            + _along(quats[f"{side}_hip"], 0.0, 0.0, -_THIGH)
            + _along(quats[f"{side}_knee"], 0.0, 0.0, -_SHIN)
            + _along(quats[f"{side}_ankle"], 0.0, 0.0, -_SOLE)
        )
    return _Source(quats, root_pos, soles, hands)


def _along(quat: Tensor, x: float, y: float, z: float) -> Tensor:
    return rotations.rotate(quat, quat.new_tensor([x, y, z]).expand((*quat.shape[:-1], 3)))


def _offset(name: str) -> Tensor:
    """(3,) m from the parent's origin."""
    return torch.from_numpy(OFFSETS[BODY_NAMES.index(name)])


def _box(name: str) -> Box:
    """The collision shape of a part of the foot."""
    shape = BODIES[BODY_NAMES.index(name)].shape
    if not isinstance(shape, Box):
        raise TypeError(f"{name} is expected to be a box")
    return shape


def _sole_depth(side: str) -> float:
    """How far under the ankle the sole of a flat foot is, m."""
    box = _box(side + "_Ankle")
    return box.half_extents[2] - box.center[2]


def size_ratio() -> float:
    """Our size over that of the source skeleton, by the height of a hip over the sole of a straight leg."""
    heights = [float(_offset(f"{s}_Knee").norm() + _offset(f"{s}_Ankle").norm()) + _sole_depth(s) for s in "LR"]
    return min(heights) / (_THIGH + _SHIN + _SOLE)


def _turn(start: Tensor, end: Tensor) -> Tensor:
    """The smallest rotation (..., 4) that takes the direction of ``start`` (..., 3) to that of ``end`` (..., 3); not for opposite ones."""
    a, b = torch.nn.functional.normalize(start, dim=-1), torch.nn.functional.normalize(end, dim=-1)
    return rotations.normalize(torch.cat((1.0 + (a * b).sum(-1, keepdim=True), rotations.cross(a, b)), dim=-1))


def _two_bones(upper: Tensor, lower: Tensor, hinge: Tensor, target: Tensor, guess: Tensor) -> Tuple[Tensor, Tensor]:
    """World rotation (F, 4) of the upper bone and hinge angle (F,) that bring the end of a limb to ``target``.

    ``upper`` and ``lower`` (3,) are the bones in the rest pose, ``hinge`` (3,) is the axis about which positive angles bend, ``target``
    (F, 3) is relative to the limb's root in the world, and of all solutions the one nearest to the rotation ``guess`` (F, 4) is taken.
    Targets out of reach are approached.
    """
    parallel = (lower * hinge).sum() * hinge
    side = rotations.cross(hinge, lower)
    along, across = (upper * (lower - parallel)).sum(), (upper * side).sum()
    wanted = 0.5 * (target.square().sum(-1) - upper.square().sum() - lower.square().sum()) - (upper * parallel).sum()
    angle = torch.atan2(across, along) + (wanted / torch.hypot(along, across)).clamp(-_ALMOST_STRAIGHT, _ALMOST_STRAIGHT).acos()
    reach = upper + parallel + angle.cos()[:, None] * (lower - parallel) + angle.sin()[:, None] * side
    return rotations.multiply(_turn(rotations.rotate(guess, reach), target), guess), angle


def on_humanoid(root_pos: Tensor, local: Tensor) -> Tuple[Tensor, Tensor]:
    """Root positions (F, 3) and local rotations (F, B, 4) of our humanoid for a motion of the source skeleton.

    Limbs take the directions of the source. Then the body is lifted where our longer trunk and arms would sink into the floor, and
    the legs are bent so that the soles are where the source's are, at our size.
    """
    source, size = _source(root_pos, local), size_ratio()
    world = _directions(source)
    hips = 0.5 * (_offset("L_Hip") + _offset("R_Hip"))
    pelvis = size * root_pos - rotations.rotate(source.quats["root"], hips.expand_as(root_pos))
    legs = ("Hip", "Knee", "Ankle", "Toe")
    lift = _lift(pelvis, world, [body for body, name in enumerate(BODY_NAMES) if not name.endswith(legs)])
    pelvis = pelvis + lift
    for side in "LR":
        sole = size * source.soles[side]
        sole = sole + lift * ((sole[:, 2:] - 0.1) / 0.3).clamp(0.0, 1.0)
        _plant_foot(world, pelvis, side, sole)
        _plant_foot(world, pelvis, side, sole + _lift(pelvis, world, body_ids((side + "_Ankle", side + "_Toe"))))
    local_quats = local_rotations(world)
    positions, quats = forward_kinematics(pelvis, local_quats)
    floor = lowest_point(positions, quats).amin(-1).median()
    return pelvis - floor * pelvis.new_tensor([0.0, 0.0, 1.0]), local_quats


def _directions(source: _Source) -> Tensor:
    """World rotations (F, B, 4) that point our limbs where the source's point; the bends of trunk and neck are shared out."""
    quats = source.quats
    world = {"Pelvis": quats["root"], "Chest": quats["chest"], "Head": quats["neck"]}
    third = quats["root"].new_tensor([1.0 / 3.0])
    world["Torso"] = rotations.slerp(quats["root"], quats["chest"], third)
    world["Spine"] = rotations.slerp(quats["root"], quats["chest"], 2.0 * third)
    world["Neck"] = rotations.slerp(quats["chest"], quats["neck"], 1.5 * third)
    down = quats["root"].new_tensor([0.0, 0.0, -1.0])
    for side, sign in (("L", 1.0), ("R", -1.0)):
        hang = rotations.from_rotation_vector(quats["root"].new_tensor([-0.5 * sign * math.pi, 0.0, 0.0]))
        sideways = quats["root"].new_tensor([0.0, sign, 0.0])
        upper_arm = rotations.multiply(hang, _turn(_offset(side + "_Elbow"), sideways))
        forearm = rotations.multiply(hang, _turn(_offset(side + "_Wrist"), sideways))
        world[side + "_Thorax"] = quats["chest"]
        world[side + "_Shoulder"] = rotations.multiply(quats[side + "_shoulder"], upper_arm)
        world[side + "_Elbow"] = rotations.multiply(quats[side + "_elbow"], forearm)
        world[side + "_Wrist"] = world[side + "_Hand"] = world[side + "_Elbow"]
        world[side + "_Hip"] = rotations.multiply(quats[side + "_hip"], _turn(_offset(side + "_Knee"), down))
        world[side + "_Knee"] = rotations.multiply(quats[side + "_knee"], _turn(_offset(side + "_Ankle"), down))
        world[side + "_Ankle"] = world[side + "_Toe"] = quats[side + "_ankle"]
    return torch.stack([world[name] for name in BODY_NAMES], dim=1)


def _lift(pelvis: Tensor, world: Tensor, bodies: List[int]) -> Tensor:
    """(F, 3) m upwards, smooth in time, by which ``bodies`` come out of the floor."""
    positions, quats = forward_kinematics(pelvis, local_rotations(world))
    depth = (-lowest_point(positions, quats)[:, bodies].amin(-1)).clamp_min(0.0).numpy()
    envelope = gaussian_filter1d(maximum_filter1d(depth, 5, mode="nearest"), 1.5, mode="nearest")
    return torch.from_numpy(envelope)[:, None] * pelvis.new_tensor([0.0, 0.0, 1.0])


def _plant_foot(world: Tensor, pelvis: Tensor, side: str, sole: Tensor) -> None:
    """Turn hip, knee and toe of ``world`` (F, B, 4) in place so that the sole comes to ``sole`` (F, 3)."""
    hip, knee, ankle, toe = body_ids((side + "_Hip", side + "_Knee", side + "_Ankle", side + "_Toe"))
    target = sole + _along(world[:, ankle], 0.0, 0.0, _sole_depth(side))
    root = pelvis + rotations.rotate(world[:, 0], _offset(side + "_Hip").expand_as(pelvis))
    hinge = pelvis.new_tensor([0.0, 1.0, 0.0])
    thigh, angle = _two_bones(_offset(side + "_Knee"), _offset(side + "_Ankle"), hinge, target - root, world[:, hip])
    world[:, hip] = thigh
    world[:, knee] = rotations.multiply(thigh, rotations.from_rotation_vector(angle[:, None] * hinge))
    bend = _toe_bend(target, world[:, ankle], side)
    world[:, toe] = rotations.multiply(world[:, ankle], rotations.from_rotation_vector(-bend[:, None] * hinge))


def _toe_bend(ankle_pos: Tensor, foot: Tensor, side: str) -> Tensor:
    """(F,) rad, upwards: the least bend by which the tip of the toes stays above the floor; the source's foot is one stiff box."""
    box = _box(side + "_Toe")
    front, bottom = box.center[0] + box.half_extents[0], box.center[2] - box.half_extents[2]
    x, y, z = rotations.to_matrix(foot)[:, 2].unbind(-1)
    joint = (ankle_pos + rotations.rotate(foot, _offset(side + "_Toe").expand_as(ankle_pos)))[:, 2] - box.half_extents[1] * y.abs()
    along, across = front * x + bottom * z, front * z - bottom * x
    rise = (-joint / torch.hypot(along, across)).clamp(-1.0, 1.0).acos()
    bend = (torch.atan2(across, along) - rise).clamp(0.0, _MAX_TOE_BEND)
    return torch.from_numpy(gaussian_filter1d(bend.numpy(), 1.0, mode="nearest"))

"""Import of DeepMimic motions (https://arxiv.org/abs/1804.02717), the text files that the PyPI package pybullet ships.

A file is JSON: ``Loop`` (wrap or none) and ``Frames``, key frames of 44 numbers: seconds to the next key frame, root position (3, y up,
x forward, z right), then rotations of child to parent, wxyz, or angles of hinges about z (knees and elbows): root, chest, neck, and for
the right and then the left side hip, knee (negative bends), ankle, shoulder, elbow (positive bends). The skeleton, of which
pybullet's ``humanoid.urdf`` is the description at four times the size, stands with hanging arms in its zero pose.
"""

import json
import math
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d, maximum_filter1d
from scipy.spatial.transform import Rotation, RotationSpline
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics, local_rotations, lowest_point
from puffer_phc.humanoid.skeleton import BODIES, BODY_NAMES, OFFSETS, Box, body_ids
from puffer_phc.motion.file import Clip, check_clips

FPS = 30.0

LOCOMOTION = ("walk", "run", "crawl")
"""Cycles that go on from where they end; the other motions marked as wrapping are performed once."""

MIN_UNROLLED_SECONDS = 5.0

SOURCE = "DeepMimic (https://xbpeng.github.io/projects/DeepMimic), as shipped by the PyPI package pybullet: pybullet_data/data/motions/"
LICENCE = """\
Bullet Continuous Collision Detection and Physics Library, http://bulletphysics.org, zlib licence. Altered: converted to another skeleton.
This software is provided 'as-is', without any express or implied warranty. In no event will the authors be held liable for any damages \
arising from the use of this software. Permission is granted to anyone to use this software for any purpose, including commercial \
applications, and to alter it and redistribute it freely, subject to the following restrictions: 1. The origin of this software must not \
be misrepresented; you must not claim that you wrote the original software. If you use this software in a product, an acknowledgment in \
the product documentation would be appreciated but is not required. 2. Altered source versions must be plainly marked as such, and must \
not be misrepresented as being the original software. 3. This notice may not be removed or altered from any source distribution."""

_COLUMNS = (1, 3, 4, 4, 4, 4, 1, 4, 4, 1, 4, 1, 4, 4, 1)
"""Numbers of each part of a key frame: duration, root position, then the joints of ``_JOINTS``."""
_JOINTS = ("root", "chest", "neck", *(side + joint for side in "RL" for joint in ("_hip", "_knee", "_ankle", "_shoulder", "_elbow")))

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

_STRAY = 0.5
"""Greatest deviation of a quaternion from unit length; some of these motions were edited and stray by 0.42."""

_SHORTEST, _LONGEST = 1e-4, 3600.0
"""s, of a key frame and of a motion."""

_JUMP = math.radians(8.0)
_SPARSE = 0.04
"""s. Where key frames are farther apart, fast motion looks like a jump."""
_HEALING_SECONDS = 0.25


class KeyFrames(NamedTuple):
    """A motion on DeepMimic's skeleton in our axes: x forward, y left, z up."""

    times: np.ndarray
    """(K,) s."""
    root_pos: np.ndarray
    """(K, 3) m."""
    quats: np.ndarray
    """(K, 13, 4) child-to-parent rotations of ``_JOINTS``."""


def import_deepmimic(path: Path) -> Clip:
    """The motion in a DeepMimic text file on our humanoid, at 30 frames per second, its floor at z = 0.

    Cycles of locomotion are repeated until they last five seconds. Raises MotionFileError when the file does not hold such a motion.
    """
    path = Path(path)
    name = path.stem.replace("humanoid3d_", "")
    label = f"motion file '{path}'"
    keys, wraps = _read(path, label)
    keys = heal(keys)
    if wraps and name in LOCOMOTION:
        keys = unroll(keys, MIN_UNROLLED_SECONDS)
    root_pos, quats = _sample(keys)
    root_pos, local_quats = _retarget(root_pos, quats)
    clip = Clip(name, root_pos.numpy(), local_quats.numpy(), FPS, SOURCE + path.name, LICENCE)
    return check_clips([clip], label)[0]


def _read(path: Path, label: str) -> Tuple[KeyFrames, bool]:
    """The key frames of a file and whether it is marked as wrapping."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        frames = np.array(content["Frames"], dtype=np.float64)
    except OSError as error:
        raise MotionFileError(f"{label} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise MotionFileError(f"{label} is not a DeepMimic motion ({error})") from error
    if frames.ndim != 2 or frames.shape[1] != sum(_COLUMNS) or len(frames) < 2:
        raise MotionFileError(f"{label}: key frames have shape {frames.shape}, expected (2 or more, {sum(_COLUMNS)})")
    if not np.isfinite(frames).all() or (frames[:-1, 0] < _SHORTEST).any() or frames[:-1, 0].sum() > _LONGEST:
        raise MotionFileError(f"{label} has a key frame that is not finite or lasts no time, or is longer than {_LONGEST:g} s")
    keys = _key_frames(frames)
    if np.abs(np.linalg.norm(keys.quats, axis=-1) - 1.0).max() > _STRAY:
        raise MotionFileError(f"{label} has a quaternion that is no rotation")
    return keys._replace(quats=keys.quats / np.linalg.norm(keys.quats, axis=-1, keepdims=True)), content.get("Loop") == "wrap"


def _key_frames(frames: np.ndarray) -> KeyFrames:
    """Rows of the file (K, 44) in our axes: (x, y, z) of y up is (x, −z, y) of z up."""
    parts = np.split(frames, np.cumsum(_COLUMNS)[:-1], axis=1)
    times = np.concatenate(([0.0], np.cumsum(frames[:-1, 0])))
    quats = np.stack([_quats(part) for part in parts[2:]], axis=1)
    return KeyFrames(times, parts[1][:, [0, 2, 1]] * (1.0, -1.0, 1.0), quats)


def _quats(part: np.ndarray) -> np.ndarray:
    """Rotations (K, 4) in our axes from quaternions (K, 4), or from angles (K, 1) about their z, our −y."""
    if part.shape[1] == 4:
        return part[:, [0, 1, 3, 2]] * (1.0, 1.0, -1.0, 1.0)
    half, zero = 0.5 * part[:, 0], np.zeros(len(part))
    return np.stack((np.cos(half), zero, -np.sin(half), zero), axis=1)


def heal(keys: KeyFrames) -> KeyFrames:
    """The motion with single jumps of a joint between two key frames spread over the time around them.

    The walk is half a recording and its mirror image, and at that seam a shoulder jumps by 29 degrees. A jump is a step that differs
    from the mean of its neighbours by more than 8 degrees and by more than four times the larger of them.
    """
    quats = torch.from_numpy(keys.quats)
    steps = rotations.to_rotation_vector(rotations.multiply(rotations.conjugate(quats[:-1]), quats[1:]))
    excess = steps[1:-1] - 0.5 * (steps[:-2] + steps[2:])
    usual = torch.maximum(steps[:-2].norm(dim=-1), steps[2:].norm(dim=-1))
    is_jump = (excess.norm(dim=-1) > _JUMP) & (excess.norm(dim=-1) > 4.0 * usual)
    is_jump &= torch.from_numpy(np.diff(keys.times) < _SPARSE)[1:-1, None]
    for step, joint in is_jump.nonzero().tolist():
        since = keys.times - 0.5 * (keys.times[step + 1] + keys.times[step + 2])
        share = 0.25 * (1.0 + np.cos(np.pi * np.clip(since / _HEALING_SECONDS, -1.0, 1.0))) * -np.sign(since)
        turn = rotations.from_rotation_vector(torch.from_numpy(share)[:, None] * excess[step, joint])
        quats = quats.clone()
        quats[:, joint] = rotations.multiply(quats[:, joint], turn)
    return keys._replace(quats=quats.numpy())


def unroll(keys: KeyFrames, min_seconds: float) -> KeyFrames:
    """The cycle ``keys`` repeated, each time on from where the root was, until it lasts ``min_seconds``.

    The last key frame is the first of the next cycle, but differs from it somewhat in recorded motion. That difference, a change of
    heading included, is spread over the cycle, half of it before and half of it after the seam.
    """
    duration = keys.times[-1]
    share = 0.5 - keys.times / duration
    travel = (keys.root_pos[-1] - keys.root_pos[0]) * (1.0, 1.0, 0.0)
    sinking = keys.root_pos[-1] - keys.root_pos[0] - travel
    root_pos = keys.root_pos + share[:, None] * sinking
    quats = torch.from_numpy(keys.quats)
    error = rotations.to_rotation_vector(rotations.multiply(rotations.conjugate(quats[0]), quats[-1]))
    closed = rotations.multiply(quats, rotations.from_rotation_vector(torch.from_numpy(share)[:, None, None] * error)).numpy()
    cycles = math.ceil(min_seconds / duration)
    steps = np.arange(cycles)
    times = (keys.times[:-1] + duration * steps[:, None]).reshape(-1)
    positions = (root_pos[:-1] + travel * steps[:, None, None]).reshape(-1, 3)
    return KeyFrames(
        np.append(times, duration * cycles),
        np.append(positions, root_pos[-1:] + travel * steps[-1], axis=0),
        np.append(np.tile(closed[:-1], (cycles, 1, 1)), closed[-1:], axis=0),
    )


def _sample(keys: KeyFrames) -> Tuple[Tensor, Tensor]:
    """Root positions (F, 3) and local rotations (F, 13, 4) at 30 Hz, on smooth curves through the key frames.

    Straight interpolation would fly in a polygon: some motions have 16 key frames a second.
    """
    times = np.arange(int(keys.times[-1] * FPS + 1e-6) + 1) / FPS
    root_pos = CubicSpline(keys.times, keys.root_pos)(times)
    quats = [RotationSpline(keys.times, Rotation.from_quat(joint[:, [1, 2, 3, 0]]))(times).as_quat() for joint in keys.quats.swapaxes(0, 1)]
    return torch.from_numpy(root_pos), rotations.wxyz_from_xyzw(torch.from_numpy(np.stack(quats, axis=1)))


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
    quats = dict(zip(_JOINTS, local.unbind(1)))
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


def _retarget(root_pos: Tensor, local: Tensor) -> Tuple[Tensor, Tensor]:
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

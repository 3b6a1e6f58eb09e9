"""Import of DeepMimic motions (https://arxiv.org/abs/1804.02717), the text files that the PyPI package pybullet ships.

A file is JSON: ``Loop`` (wrap or none) and ``Frames``, key frames of 44 numbers: seconds to the next key frame, root position (3, y up,
x forward, z right), then rotations of child to parent, wxyz, or angles of hinges about z (knees and elbows): root, chest, neck, and for
the right and then the left side hip, knee (negative bends), ankle, shoulder, elbow (positive bends). ``deepmimic_body`` has the skeleton.
"""

import json
import math
from pathlib import Path
from typing import NamedTuple, Tuple

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.motion.clip_names import plain_text
from puffer_phc.motion.deepmimic_body import on_humanoid
from puffer_phc.motion.file import MAX_COORDINATE, Clip, check_clips

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
"""Numbers of each part of a key frame: duration, root position, then the joints of ``JOINTS``."""

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
    """(K, 13, 4) child-to-parent rotations of ``JOINTS``."""


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
    root_pos, local_quats = on_humanoid(root_pos, quats)
    clip = Clip(name, root_pos.numpy(), local_quats.numpy(), FPS, SOURCE + plain_text(path.name), LICENCE)
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
    if np.abs(frames[:, 1:]).max() > MAX_COORDINATE:
        raise MotionFileError(f"{label} has a key frame with {np.abs(frames[:, 1:]).max():.3g}; metres, quaternions and radians expected")
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

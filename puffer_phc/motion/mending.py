"""Jumps of joints that are mended where that is safe: spikes of one frame, and flips that are undone at once."""

import math
from typing import List, Tuple

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.skeleton import BODY_NAMES

LARGEST_JUMP = math.radians(60.0)
"""rad that a joint may turn from one frame to the next at 30 frames per second."""

SPIKE = math.radians(25.0)
"""rad away from both neighbours, which agree with each other, that makes a frame a spike."""

MOST_BRIDGED = 0.1
"""Share of a clip's frames of one joint that may be made up."""

BRIDGE_SECONDS = 0.5
"""s: a flip that is undone within this time is bridged."""


def steps(local_quats: Tensor) -> Tensor:
    """(F − 1, B) rad that each joint turns from one frame to the next, from child-to-parent rotations (F, B, 4)."""
    return rotations.angle(rotations.multiply(rotations.conjugate(local_quats[:-1]), local_quats[1:]))


def _bridge(quats: Tensor, begin: int, end: int) -> None:
    """Replaces the frames strictly between ``begin`` and ``end`` of one joint (F, 4), in place, by the way from one to the other."""
    fraction = torch.linspace(0.0, 1.0, end - begin + 1)[1:-1, None]
    count = end - begin - 1
    quats[begin + 1 : end] = rotations.slerp(quats[begin].expand(count, 4), quats[end].expand(count, 4), fraction)


def mend_joint(quats: Tensor, fps: float) -> Tuple[Tensor, int]:
    """One joint's rotations (F, 4) with spikes of one frame and short flips bridged, and how many frames were replaced."""
    limit = LARGEST_JUMP * 30.0 / fps
    step = steps(quats[:, None])[:, 0]
    replaced = 0
    quats = quats.clone()
    jumps = (step > limit).nonzero().flatten().tolist()
    while jumps:
        begin = jumps[0]
        within = [jump for jump in jumps if jump - begin <= BRIDGE_SECONDS * fps]
        first, last = max(0, begin - 1), min(len(quats) - 1, within[-1] + 2)
        _bridge(quats, first, last)
        replaced += last - first - 1
        jumps = [jump for jump in jumps if jump > within[-1]]
    around = torch.zeros(len(quats), dtype=torch.bool)
    if len(quats) > 2:
        skip = rotations.angle(rotations.multiply(rotations.conjugate(quats[:-2]), quats[2:]))
        step = steps(quats[:, None])[:, 0]
        around[1:-1] = (torch.minimum(step[:-1], step[1:]) > SPIKE * 30.0 / fps) & (skip < 0.4 * SPIKE)
    for frame in around.nonzero().flatten().tolist():
        _bridge(quats, frame - 1, frame + 1)
        replaced += 1
    return quats, replaced


def _suspects(local_quats: Tensor, fps: float) -> List[int]:
    """The joints that anywhere turn fast enough for a spike or a flip."""
    return (steps(local_quats).amax(0) > SPIKE * 30.0 / fps).nonzero().flatten().tolist()


def mend_joints(local: Tensor, fps: float) -> Tuple[Tensor, List[str]]:
    """Child-to-parent rotations (F, B, 4) with spikes and short flips bridged, and what was done.

    Raises ``MotionFileError`` where more would have to be made up than mended.
    """
    done = []
    local = local.clone()
    for joint in _suspects(local, fps):
        local[:, joint], replaced = mend_joint(local[:, joint], fps)
        if replaced > MOST_BRIDGED * len(local) + 3:
            raise MotionFileError(f"{BODY_NAMES[joint]} jumps too often: {replaced} of {len(local)} frames would have to be made up")
        if replaced:
            done.append(f"{BODY_NAMES[joint]}: {replaced} frames of a flip or spike bridged")
    return rotations.normalize(local) if done else local, done

"""A performance as captured, whatever file it came from: joint positions and rotations under our body names.

Importers (``asf_amc``, ``bvh``) end here and the retargeting starts here, so that neither knows of the other.
"""

from typing import List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.skeleton import NUM_BODIES
from puffer_phc.motion.file import FPS_RANGE
from puffer_phc.motion.timeline import Timeline


class Recording(NamedTuple):
    """One captured clip on the performer's own skeleton, in our axes (x forward, y left, z up) and metres.

    Every body of the humanoid has a joint here; an importer names the nearest one where the performer's skeleton has no equal.
    """

    name: str
    positions: Tensor
    """(F, B, 3) m, where each body's joint is in the world."""
    quats: Tensor
    """(F, B, 4) world rotation of each bone relative to its own rest pose, a T-pose."""
    rest: Tensor
    """(B, 3) m, joint positions in the rest pose."""
    fps: float
    skeleton: str
    """Clips with the same text share one performer, hence one scale."""
    source: str
    """Where the clip comes from."""
    licence: str = ""
    """What may be done with it; empty where nobody said."""
    lengths: Tuple[int, ...] = ()
    """Frames of each take, where several of one performer lie one after the other; empty for a single take."""

    @property
    def timeline(self) -> Timeline:
        """Takes and frame rate."""
        return Timeline(self.lengths or (len(self.positions),), self.fps)


def joined(takes: Sequence[Recording]) -> Recording:
    """All takes of one performer, of one frame rate and rest pose, as one recording, so that they are worked on at once."""
    return takes[0]._replace(
        positions=torch.cat([take.positions for take in takes]),
        quats=torch.cat([take.quats for take in takes]),
        lengths=tuple(len(take.positions) for take in takes),
    )


def joinable(takes: Sequence[Recording], most_frames: int) -> List[List[Recording]]:
    """The takes in groups that may be joined, in order, each of at most ``most_frames`` frames unless it is a single take."""
    groups: List[List[Recording]] = []
    frames = 0
    for take in takes:
        last = groups[-1][-1] if groups else take
        fits = (take.skeleton, take.fps) == (last.skeleton, last.fps) and torch.equal(take.rest, last.rest)
        frames += len(take.positions)
        if not groups or not fits or frames > most_frames:
            groups.append([])
            frames = len(take.positions)
        groups[-1].append(take)
    return groups


def to_upright(vectors: Tensor) -> Tensor:
    """Vectors (..., 3) of x-left, y-up, z-forward axes (ASF, BVH, SMPL) in ours: x forward, y left, z up."""
    return vectors[..., [2, 0, 1]]


def quats_to_upright(quats: Tensor) -> Tensor:
    """Rotations (..., 4) relative to a rest pose in x-left, y-up, z-forward axes, as rotations in ours."""
    return quats[..., [0, 3, 1, 2]]


def checked(recording: Recording, minimum_frames: int = 2) -> Recording:
    """The recording itself, if it is long enough, finite and of human size; raises ``MotionFileError`` otherwise."""
    frames = len(recording.positions)
    if frames < minimum_frames:
        raise MotionFileError(f"clip '{recording.name}': {frames} frame(s), at least {minimum_frames} are needed")
    if not (torch.isfinite(recording.positions).all() and torch.isfinite(recording.quats).all()):
        raise MotionFileError(f"clip '{recording.name}': holds values that are not finite")
    if recording.positions.shape[1:] != (NUM_BODIES, 3):
        raise MotionFileError(f"clip '{recording.name}': {recording.positions.shape[1]} joints, {NUM_BODIES} are needed")
    height = float(recording.rest[:, 2].max() - recording.rest[:, 2].min())
    if not 0.5 < height < 3.0:
        raise MotionFileError(f"clip '{recording.name}': the performer is {height:.3g} m tall in the rest pose; is the length unit wrong?")
    low, high = FPS_RANGE
    if not low <= recording.fps <= high:
        raise MotionFileError(f"clip '{recording.name}': has {recording.fps:g} frames per second, expected {low:g} … {high:g}")
    return recording

"""How near converted clips are to their originals, per clip and over all.

Position error: distance between the humanoid's joints and the performer's, whose joints are scaled about the origin by one factor per
performer (hip-to-ankle ratio) and moved up or down by one height per clip; mean over frames and joints. Over ASF/AMC clips only: the Daz
conversion puts every performer on one skeleton.
Knee flexion: 180 degrees less the angle hip-knee-ankle, in frames in which a walker's ankle rests under the pelvis and the other one is in
the air. The clips that count as walks are those an index.csv calls so, or without one all in which somebody walks.
"""

import math
from collections import defaultdict
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics, lowest_point
from puffer_phc.humanoid.skeleton import body_ids
from puffer_phc.motion.cleaning import trim_ends
from puffer_phc.motion.convert import Options, Source, load_recording
from puffer_phc.motion.file import Clip
from puffer_phc.motion.legs import LEGS, unit
from puffer_phc.motion.performer import is_mid_stance, measure_performer
from puffer_phc.motion.recording import Recording
from puffer_phc.motion.resample import resample
from puffer_phc.motion.timeline import Timeline

JOINTS = (
    *("L_Hip", "R_Hip", "L_Knee", "R_Knee", "L_Ankle", "R_Ankle", "L_Toe", "R_Toe", "Head"),
    *("L_Shoulder", "R_Shoulder", "L_Elbow", "R_Elbow", "L_Wrist", "R_Wrist", "Chest"),
)
"""The joints compared; the last is where CMU's thorax bone begins, another place of the spine than the humanoid's."""


class Measured(NamedTuple):
    """The figures of one clip."""

    name: str
    category: str
    is_amc: bool
    error_cm: np.ndarray
    """(J,) mean over frames of each joint of ``JOINTS``."""
    sunk_share: float
    largest_jump_deg: float
    knee_deg: float
    """Median geometric knee flexion in mid-stance; NaN where nobody walks."""
    knee_joint_deg: float
    """The same as the knee's own coordinate about its axis, which is 0 in the zero pose."""


def _knees(positions: Tensor, local: Tensor, fps: float) -> Tuple[float, float]:
    """Median flexion in degrees in mid-stance, geometric and as the joint's coordinate."""
    geometric: List[Tensor] = []
    coordinates: List[Tensor] = []
    for leg, other in (LEGS, LEGS[::-1]):
        mask = is_mid_stance(positions, leg, other, Timeline((len(positions),), fps))
        thigh, shin = unit(positions[:, leg.knee] - positions[:, leg.hip]), unit(positions[:, leg.ankle] - positions[:, leg.knee])
        geometric.append(torch.acos((thigh * shin).sum(-1).clamp(-1.0, 1.0))[mask])
        coordinates.append(rotations.to_rotation_vector(local[:, leg.knee])[:, 1][mask])
    angles, turns = torch.cat(geometric), torch.cat(coordinates)
    if len(angles) == 0:
        return math.nan, math.nan
    return math.degrees(float(angles.median())), math.degrees(float(turns.median()))


def aligned_original(positions: Tensor, clip: Clip, recording: Recording, scale: float) -> Tensor:
    """(F, B, 3) m: the performer's joints at the humanoid's size, frame by frame with a clip, whose joints are at ``positions`` (F, B, 3).

    One height for the whole clip makes up for the floor, which captures do not know.
    """
    original = resample(trim_ends(recording), clip.fps).positions * scale
    if len(original) != len(positions):
        raise MotionFileError(
            f"clip '{clip.name}': {len(positions)} frames, its original has {len(original)} at {clip.fps:g} frames per second"
        )
    higher = (positions - original)[:, body_ids(JOINTS), 2].mean()
    return original + torch.stack((torch.zeros(()), torch.zeros(()), higher))


def measure_clip(clip: Clip, recording: Recording, scale: float, category: str) -> Measured:
    """The figures of a clip and the recording it was made from."""
    root, local = torch.from_numpy(clip.root_pos), torch.from_numpy(clip.local_quats)
    positions, quats = forward_kinematics(root, local)
    joints = body_ids(JOINTS)
    away = (positions - aligned_original(positions, clip, recording, scale))[:, joints]
    step = rotations.angle(rotations.multiply(rotations.conjugate(local[:-1]), local[1:]))
    return Measured(
        clip.name,
        category,
        recording.source.startswith("ASF"),
        away.norm(dim=-1).mean(0).numpy() * 100.0,
        float((lowest_point(positions, quats).amin(-1) < -0.02).float().mean()),
        math.degrees(float(step.max())) * clip.fps / 30.0,
        *_knees(positions, local, clip.fps),
    )


def measure_job(sources: Sequence[Source], clips: Dict[str, Clip]) -> List[Measured]:
    """The figures of all clips made of the files of one job; performers are measured on the same files as in the conversion."""
    performers: Dict[str, List[Recording]] = defaultdict(list)
    for source in sources:
        if source.needs_scene or source.path.suffix.lower() == ".txt":
            continue
        try:
            recording = load_recording(source, Options())
        except MotionFileError:
            continue
        performers[recording.skeleton].append(recording)
    categories = {source.name: source.category for source in sources}
    measured = []
    for group in performers.values():
        scale = measure_performer(group).scale
        found = [recording for recording in group if recording.name in clips]
        measured += [measure_clip(clips[one.name], one, scale, categories[one.name]) for one in found]
    return measured


class Spread(NamedTuple):
    """One figure over all clips that have it."""

    label: str
    clips: int
    median: float
    p90: float
    maximum: float
    digits: int
    """Decimals worth showing."""

    def row(self) -> List[str]:
        """The figure as texts."""
        return [self.label, str(self.clips), *(f"{value:.{self.digits}f}" for value in (self.median, self.p90, self.maximum))]


def spreads(measured: Sequence[Measured], subjects: Sequence[str]) -> List[Spread]:
    """The figures of docs/motion.md, knees of the performers ``subjects``; those that no clip has are left out."""
    amc = [clip for clip in measured if clip.is_amc]
    columns = [
        (f"mean distance of {len(JOINTS)} joints, ASF/AMC (cm)", [clip.error_cm.mean() for clip in amc], 2),
        (f"the same of {len(JOINTS) - 1}, thorax left out (cm)", [clip.error_cm[:-1].mean() for clip in amc], 2),
        ("frames more than 2 cm inside the floor (%)", [100.0 * clip.sunk_share for clip in measured], 2),
        ("largest turn of a joint in 1/30 s (degrees)", [clip.largest_jump_deg for clip in measured], 1),
    ]
    for subject in subjects:
        own = [clip for clip in measured if clip.name.split("_")[0] == subject and not math.isnan(clip.knee_deg)]
        walks = [clip for clip in own if clip.category in ("", "walk")]
        columns.append((f"knee in mid-stance, {subject}, geometric (degrees)", [clip.knee_deg for clip in walks], 1))
        columns.append((f"knee in mid-stance, {subject}, joint (degrees)", [clip.knee_joint_deg for clip in walks], 1))
    return [
        Spread(label, len(values), float(np.median(values)), float(np.quantile(values, 0.9)), float(max(values)), digits)
        for label, values, digits in columns
        if values
    ]

"""A recording on the performer's skeleton as a clip of the humanoid.

The pelvis keeps its captured rotation and puts the middle of the hips where the scaled performer's is. The legs are solved in closed form to
the scaled ankles (``legs``), lifted or lowered so that soles neither sink nor float. Spine, shoulders and arms are fitted to the scaled joints
with the captured rotations as prior (``upper_body``): the humanoid's trunk is longer and its forearms are shorter than a performer's.
"""

from typing import NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.kinematics import forward_kinematics, local_rotations, lowest_point
from puffer_phc.humanoid.skeleton import BODY_NAMES, OFFSETS
from puffer_phc.motion.file import Clip
from puffer_phc.motion.legs import LEG_LENGTH, LEGS, knee_hinge, solve_foot, solve_leg
from puffer_phc.motion.recording import Recording
from puffer_phc.motion.resample import resample, smooth, smooth_rotations
from puffer_phc.motion.upper_body import fit_upper_body

CUTOFF = 0.016
"""s, standard deviation of the Gaussian before the rate is lowered."""

STRAIGHT_SHARE = 0.985
"""A performer's leg at its longest is this share of the humanoid's straight leg: nobody locks a knee quite."""

CONTACT_HEIGHT = 0.06
"""m: a sole higher over the floor than this carries nothing."""

CONTACT_SPEED = 0.5
"""m/s: a sole that is faster than this carries nothing."""


class Floor(NamedTuple):
    """Where the floor is for a clip and by how much each foot must move for it."""

    height: float
    lifts: Tensor
    """(F, 2) m, left and right ankle, upwards."""


def leg_reach(recording: Recording) -> Tensor:
    """(2F,) m, hip-to-ankle distances of both legs in every frame."""
    return torch.cat([(recording.positions[:, leg.ankle] - recording.positions[:, leg.hip]).norm(dim=-1) for leg in LEGS])


def subject_scale(recordings: Sequence[Recording]) -> float:
    """The humanoid's size over the performer's: straight leg over longest captured hip-to-ankle distance, all clips of one performer.

    Distances instead of bone lengths, because motion capture leaves knees bent that were straight. A performer who never stretches a leg is
    taken to have one that is at least 94 % of the bones' length.
    """
    reach = torch.cat([leg_reach(recording) for recording in recordings])
    rest = recordings[0].rest
    bones = sum(float((rest[a] - rest[b]).norm()) for leg in LEGS for a, b in ((leg.knee, leg.hip), (leg.ankle, leg.knee))) / 2.0
    longest = min(max(float(torch.quantile(reach[:: max(1, len(reach) // 100_000)], 0.95)), 0.94 * bones), bones)
    return STRAIGHT_SHARE * LEG_LENGTH / longest


def _pelvis_position(targets: Tensor, pelvis: Tensor) -> Tensor:
    """(F, 3) m: the pelvis that puts the middle of the humanoid's hips on the middle of the target hips."""
    hips = [leg.hip for leg in LEGS]
    middle = torch.as_tensor(OFFSETS[hips].mean(0), dtype=targets.dtype)
    return targets[:, hips].mean(1) - rotations.rotate(pelvis, middle.expand(len(targets), 3))


def _solve_legs(quats: Tensor, root: Tensor, targets: Tensor, recording: Recording, floor: Floor) -> Tensor:
    """World rotations (F, B, 4) with those of both legs replaced."""
    quats = quats.clone()
    for side, leg in enumerate(LEGS):
        lift = torch.zeros(len(root), 3)
        lift[:, 2] = floor.lifts[:, side]
        hip = root + rotations.rotate(quats[:, 0], torch.as_tensor(OFFSETS[leg.hip], dtype=root.dtype).expand_as(root))
        hinge = knee_hinge(recording.quats, recording.rest, leg)
        toe_direction = targets[:, leg.toe] - targets[:, leg.ankle]
        toe_height = targets[:, leg.toe, 2] + floor.lifts[:, side] - floor.height
        quats[:, leg.ankle], quats[:, leg.toe] = solve_foot(toe_direction, hinge, toe_height, recording.rest, leg)
        quats[:, leg.hip], quats[:, leg.knee] = solve_leg(hip, targets[:, leg.ankle] + lift, hinge, leg)
    return quats


def _soles(root: Tensor, quats: Tensor) -> Tensor:
    """(F, 2) m, height of the lowest point of each foot."""
    positions, world = forward_kinematics(root, local_rotations(quats))
    heights = lowest_point(positions, world)
    return torch.stack([torch.minimum(heights[:, leg.ankle], heights[:, leg.toe]) for leg in LEGS], dim=1)


def _floor_height(soles: Tensor, speeds: Tensor) -> float:
    """m: the level of soles (F, 2) at rest, from the frames in which the lower foot hardly moves."""
    lowest, foot = soles.min(dim=1)
    speed = speeds.gather(1, foot[:, None])[:, 0]
    still = lowest[speed < CONTACT_SPEED]
    candidates = still if len(still) > 0.1 * len(lowest) else lowest
    near = candidates[candidates < torch.quantile(candidates, 0.25) + CONTACT_HEIGHT]
    return float(near.median())


def _lifts(soles: Tensor, speeds: Tensor, height: float, fps: float) -> Tensor:
    """(F, 2) m to add to the ankles: resting soles come to the floor, sunk ones out of it, smoothly in time."""
    above = soles - height
    resting = (above < CONTACT_HEIGHT) & (speeds < CONTACT_SPEED)
    wanted = torch.where(resting | (above < 0), -above, torch.zeros_like(above))
    softened = smooth(wanted, 0.04 * fps)
    return torch.maximum(softened, smooth((-above).clamp_min(0.0), 0.02 * fps))


def _speeds(targets: Tensor, fps: float) -> Tensor:
    """(F, 2) m/s: the slower of ankle and toe of each foot, central differences."""
    speeds = []
    for leg in LEGS:
        velocity = torch.gradient(targets[:, [leg.ankle, leg.toe]], spacing=1.0 / fps, dim=0)[0]
        speeds.append(velocity.norm(dim=-1).amin(-1))
    return torch.stack(speeds, dim=1)


def retarget(recording: Recording, scale: float, licence: str = "") -> Clip:
    """The recording as a clip of the humanoid at 30 frames per second, the performer scaled by ``scale``, soles on the floor at z = 0."""
    recording = resample(recording, cutoff=CUTOFF)
    targets = recording.positions * scale
    speeds = _speeds(targets, recording.fps)
    root = _pelvis_position(targets, recording.quats[:, 0])
    quats = fit_upper_body(root, recording.quats, targets, recording.rest)
    floor = Floor(float(targets[:, :, 2].min()), torch.zeros(len(root), 2))
    for _ in range(2):
        soles = _soles(root, _solve_legs(quats, root, targets, recording, floor)) - floor.lifts
        height = _floor_height(soles, speeds)
        floor = Floor(height, _lifts(soles, speeds, height, recording.fps))
    quats = _solve_legs(quats, root, targets, recording, floor)
    root = root - root.new_tensor([0.0, 0.0, floor.height])
    return Clip(
        name=recording.name,
        root_pos=root.numpy().astype(np.float32),
        local_quats=rotations.canonical(local_rotations(quats)).numpy().astype(np.float32),
        fps=recording.fps,
        source=recording.source,
        licence=licence,
    )

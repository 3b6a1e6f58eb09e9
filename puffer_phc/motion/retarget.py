"""A recording on the performer's skeleton as a clip of the humanoid.

The pelvis keeps its captured rotation and puts the middle of the hips where the scaled performer's is. The legs are solved in closed form
to the scaled ankles (``legs``), lifted or lowered so that soles neither sink nor float. Spine, shoulders and arms are fitted to the scaled
joints with the captured rotations as prior (``upper_body``): the humanoid's trunk is longer than a performer's.
"""

from typing import List, NamedTuple, Sequence

import numpy as np
import torch
from scipy.ndimage import maximum_filter1d
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import local_rotations, lowest_point
from puffer_phc.humanoid.skeleton import OFFSETS
from puffer_phc.motion.cleaning import clean, trim_ends
from puffer_phc.motion.file import Clip
from puffer_phc.motion.legs import LEG_LENGTH, LEGS, NEAR_FLOOR, Leg, knee_hinge, possible_toe_direction, smoothstep, solve_foot, solve_leg
from puffer_phc.motion.performer import RESTING_SPEEDS, STANCE_FRAMES, Performer, is_mid_stance
from puffer_phc.motion.recording import Recording, joined
from puffer_phc.motion.resample import resample, thinned
from puffer_phc.motion.timeline import Timeline
from puffer_phc.motion.upper_body import fit_upper_body

CUTOFF = 0.016
"""s, standard deviation of the Gaussian before the rate is lowered."""

REACH = 1.0
"""Share of the straight leg to which a standing leg may be stretched before the pelvis comes down instead; an ankle misses its target by
less than a millimetre for it, and knees stay straighter between heel strike and toe-off, where legs are longest."""

CONTACT_HEIGHT = 0.06
"""m: a sole higher over the floor than this carries nothing."""

WALKING_REACH = 0.999
"""Share of the straight leg in a walker's mid-stance."""

LARGEST_RISE = 0.03
"""m by which the pelvis of a clip goes up at most to reach it."""

LARGEST_DROP = 0.06
"""m by which the pelvis comes down at most."""

DROP_SECONDS = 0.04
"""s, standard deviation of the Gaussian that spreads such a fall in time."""

CONTACT_SPEED = 0.5
"""m/s: a sole that is faster than this carries nothing."""


class Floor(NamedTuple):
    """Where the floor is and by how much each foot must move for it."""

    height: Tensor
    """(F,) m, the same for all frames of a take."""
    lifts: Tensor
    """(F, 2) m, left and right ankle, upwards."""


class Steps(NamedTuple):
    """What the capture says of a leg, whatever the height of the floor."""

    hinge: Tensor
    """(F, 3) the knee's axis."""
    toe_direction: Tensor
    """(F, 3) from ankle to toe."""
    resting: Tensor
    """(F,) 1 where the foot rests, 0 where it moves."""


class Aims(NamedTuple):
    """What the humanoid is to follow."""

    joints: Tensor
    """(F, B, 3) m, the performer's joints at the humanoid's size."""
    steps: List[Steps]
    """Of the left and the right leg."""
    rest: Tensor
    """(B, 3) m, the performer's rest pose."""
    flat_pitch: float


def _pelvis_position(targets: Tensor, pelvis: Tensor) -> Tensor:
    """(F, 3) m: the pelvis that puts the middle of the humanoid's hips on the middle of the target hips."""
    hips = [leg.hip for leg in LEGS]
    middle = torch.as_tensor(OFFSETS[hips].mean(0), dtype=targets.dtype)
    return targets[:, hips].mean(1) - rotations.rotate(pelvis, middle.expand(len(targets), 3))


def _steps(recording: Recording, targets: Tensor) -> List[Steps]:
    """What the capture says of each leg."""
    timeline = recording.timeline
    steps = []
    for leg in LEGS:
        hinge = knee_hinge(recording.quats, recording.rest, leg)
        toe, shin = (targets[:, end] - targets[:, leg.ankle] for end in (leg.toe, leg.knee))
        fastest = timeline.velocity(targets[:, [leg.ankle, leg.toe]]).norm(dim=-1).amax(-1)
        resting = timeline.smooth(1.0 - smoothstep(fastest, *RESTING_SPEEDS), 1.0)
        steps.append(Steps(hinge, possible_toe_direction(toe, shin, hinge, timeline), resting))
    return steps


def _solve_legs(quats: Tensor, root: Tensor, aims: Aims, floor: Floor) -> Tensor:
    """World rotations (F, B, 4) with those of both legs replaced."""
    quats = quats.clone()
    up = root.new_tensor([0.0, 0.0, 1.0])
    for side, (leg, step) in enumerate(zip(LEGS, aims.steps)):
        ankle = aims.joints[:, leg.ankle] + floor.lifts[:, side, None] * up
        lifted = smoothstep(aims.joints[:, leg.toe, 2] + floor.lifts[:, side] - floor.height, *NEAR_FLOOR)
        quats[:, leg.ankle], quats[:, leg.toe] = solve_foot(
            step.toe_direction, step.hinge, lifted, step.resting, aims.flat_pitch, aims.rest, leg
        )
        quats[:, leg.hip], quats[:, leg.knee] = solve_leg(_hips(root, quats[:, 0], leg), ankle, step.hinge, leg)
    return quats


def _soles(root: Tensor, quats: Tensor) -> Tensor:
    """(F, 2) m, height of the lowest point of each foot, from world rotations (F, B, 4)."""
    soles = []
    for leg in LEGS:
        places = [_hips(root, quats[:, 0], leg)]
        for body, child in ((leg.hip, leg.knee), (leg.knee, leg.ankle), (leg.ankle, leg.toe)):
            places.append(places[-1] + rotations.rotate(quats[:, body], torch.as_tensor(OFFSETS[child], dtype=root.dtype).expand_as(root)))
        feet = [leg.ankle, leg.toe]
        soles.append(lowest_point(torch.stack(places[2:], dim=1), quats[:, feet], feet).amin(-1))
    return torch.stack(soles, dim=1)


def _floor_height(soles: Tensor, speeds: Tensor) -> float:
    """m: the level of soles (F, 2) of one take at rest, from the frames in which the lower foot hardly moves."""
    lowest, foot = soles.min(dim=1)
    speed = speeds.gather(1, foot[:, None])[:, 0]
    still = lowest[speed < CONTACT_SPEED]
    candidates = still if len(still) > 0.1 * len(lowest) else lowest
    near = candidates[candidates < torch.quantile(candidates, 0.25) + CONTACT_HEIGHT]
    return float(near.median())


def _floor_heights(soles: Tensor, speeds: Tensor, timeline: Timeline) -> Tensor:
    """(F,) m, the floor of each take."""
    heights = [_floor_height(soles[span], speeds[span]) for span in timeline.spans()]
    return soles.new_tensor(heights).repeat_interleave(torch.tensor(timeline.lengths))


def _lifts(soles: Tensor, speeds: Tensor, height: Tensor, timeline: Timeline) -> Tensor:
    """(F, 2) m to add to the ankles: resting soles come to the floor, sunk ones out of it, smoothly in time."""
    above = soles - height[:, None]
    resting = (above < CONTACT_HEIGHT) & (speeds < CONTACT_SPEED)
    wanted = torch.where(resting | (above < 0), -above, torch.zeros_like(above))
    softened = timeline.smooth(wanted, 0.04 * timeline.fps)
    return torch.maximum(softened, timeline.smooth(-above, 0.02 * timeline.fps))


def _speeds(targets: Tensor, timeline: Timeline) -> Tensor:
    """(F, 2) m/s: the slower of ankle and toe of each foot, central differences."""
    return torch.stack([timeline.velocity(targets[:, [leg.ankle, leg.toe]]).norm(dim=-1).amin(-1) for leg in LEGS], dim=1)


def _hips(root: Tensor, pelvis: Tensor, leg: Leg) -> Tensor:
    """(F, 3) m, where a leg begins."""
    return root + rotations.rotate(pelvis, torch.as_tensor(OFFSETS[leg.hip], dtype=root.dtype).expand_as(root))


def _height_over(ankle_to_hip: Tensor, share: float) -> Tensor:
    """(F,) m, the height of a hip over its ankle when the leg is stretched to ``share`` over the same spot; from vectors (F, 3)."""
    return ((share * LEG_LENGTH) ** 2 - ankle_to_hip[:, :2].square().sum(-1)).clamp_min(0.0).sqrt()


def _rise(root: Tensor, pelvis: Tensor, targets: Tensor, floor: Floor, timeline: Timeline) -> Tensor:
    """(F,) m by which the pelvis of a whole take goes up, so that a walker's legs are nearly straight in mid-stance."""
    missing, stances = [], []
    for side, (leg, other) in enumerate((LEGS, LEGS[::-1])):
        up = _hips(root, pelvis, leg) - targets[:, leg.ankle]
        missing.append(_height_over(up, WALKING_REACH) - (up[:, 2] - floor.lifts[:, side]))
        stances.append(is_mid_stance(targets, leg, other, timeline))
    rise = torch.zeros(len(root))
    for span in timeline.spans():
        frames = torch.cat([lack[span][stance[span]] for lack, stance in zip(missing, stances)])
        if len(frames) >= STANCE_FRAMES:
            rise[span] = min(max(float(torch.quantile(frames, 0.7)), 0.0), LARGEST_RISE)
    return rise


def _drop(root: Tensor, pelvis: Tensor, targets: Tensor, floor: Floor, resting: Tensor, timeline: Timeline) -> Tensor:
    """(F,) m by which the pelvis must come down so that legs whose feet rest (F, 2) can reach them; smooth in time."""
    drops = torch.zeros(len(root), 2)
    for side, leg in enumerate(LEGS):
        up = _hips(root, pelvis, leg) - targets[:, leg.ankle]
        over = up[:, 2] - floor.lifts[:, side] - _height_over(up, REACH)
        drops[:, side] = torch.where(resting[:, side], over.clamp(0.0, LARGEST_DROP), drops[:, side])
    largest = drops.amax(1)
    held = torch.cat([torch.from_numpy(maximum_filter1d(largest[span].numpy(), 3)) for span in timeline.spans()])
    return timeline.smooth(held, DROP_SECONDS * timeline.fps)


def _posed(recording: Recording, performer: Performer) -> "tuple[Tensor, Tensor]":
    """Root positions (F, 3) m over a floor at z = 0 and world rotations (F, B, 4) of the humanoid."""
    timeline = recording.timeline
    targets = recording.positions * performer.scale
    speeds = _speeds(targets, timeline)
    aims = Aims(targets, _steps(recording, targets), recording.rest, performer.flat_pitch)
    root = _pelvis_position(targets, recording.quats[:, 0])
    lowest = torch.cat([targets[span, :, 2].min().expand(span.stop - span.start) for span in timeline.spans()])
    floor = Floor(lowest, torch.zeros(len(root), 2))
    quats = recording.quats
    for attempt in range(2):
        soles = _soles(root, _solve_legs(quats, root, aims, floor))
        unlifted = soles - floor.lifts
        height = _floor_heights(unlifted, speeds, timeline)
        floor = Floor(height, _lifts(unlifted, speeds, height, timeline))
        resting = (soles - height[:, None] < CONTACT_HEIGHT) & (speeds < CONTACT_SPEED)
        if attempt == 0:
            root[:, 2] += _rise(root, quats[:, 0], targets, floor, timeline)
        root[:, 2] -= _drop(root, quats[:, 0], targets, floor, resting, timeline)
    quats = fit_upper_body(root, quats, targets, recording.rest)
    quats = _solve_legs(quats, root, aims, floor)
    root[:, 2] -= floor.height
    return root, quats


def retarget(recording: Recording, performer: Performer) -> Clip:
    """The take as a clip of the humanoid at 30 frames per second, soles on the floor at z = 0."""
    return retarget_all([recording], performer)[0]


def retarget_all(recordings: Sequence[Recording], performer: Performer) -> List[Clip]:
    """Takes of one performer, of one frame rate and rest pose, as clips; raises ``MotionFileError`` if one of them is too short."""
    takes = [thinned(trim_ends(recording)) for recording in recordings]
    for take in takes:
        if len(take.positions) < 3:
            raise MotionFileError(f"clip '{take.name}': only {len(take.positions)} frames of {1.0 / take.fps:.3g} s")
    recording = resample(clean(joined(takes)), cutoff=CUTOFF)
    root, world = _posed(recording, performer)
    local = rotations.canonical(local_rotations(world))
    return [
        Clip(
            name=take.name,
            root_pos=root[span].numpy().astype(np.float32),
            local_quats=local[span].numpy().astype(np.float32),
            fps=recording.fps,
            source=take.source,
            licence=take.licence,
        )
        for take, span in zip(takes, recording.timeline.spans())
    ]

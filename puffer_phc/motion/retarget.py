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
from puffer_phc.motion.legs import (
    LEG_LENGTH,
    LEGS,
    NEAR_FLOOR,
    Leg,
    captured_foot,
    foot_pitch,
    knee_hinge,
    possible_toe_direction,
    smoothstep,
    solve_foot,
    solve_leg,
)
from puffer_phc.motion.recording import Recording, joinable, joined
from puffer_phc.motion.resample import resample, thinned
from puffer_phc.motion.timeline import Timeline
from puffer_phc.motion.upper_body import fit_upper_body

CUTOFF = 0.016
"""s, standard deviation of the Gaussian before the rate is lowered."""

STANCE_REACH = 0.994
"""Share of the straight leg between hip and ankle when the leg carries a walking body and is upright: 12 degrees of knee flexion."""

STANCE_SHARE = 0.975
"""The same distance as a share of the performer's longest, for performers who are never seen to walk: the median of CMU's walkers."""

WALKING_SPEEDS = (0.5, 1.8)
"""m/s of the pelvis between which people walk."""

STANCE_FRAMES = 12
"""Fewer frames of upright stance than this tell nothing about a performer."""

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

RESTING_SPEEDS = (0.15, 0.5)
"""m/s of the faster of ankle and toe: a foot slower than the first rests, one faster than the second does not."""

LARGEST_FLAT_PITCH = 0.2
"""rad: a resting foot that is farther off level stands on its heel or ball."""

SURVEY_FPS = 15.0
"""Frames per second at which performers are measured."""

CONTACT_SPEED = 0.5
"""m/s: a sole that is faster than this carries nothing."""

MOST_FRAMES = 1 << 16
"""Captured frames that are worked on at once: enough for the work to outweigh the calls, few enough for memory."""


class Performer(NamedTuple):
    """What all clips of one performer share."""

    scale: float
    """The humanoid's size over the performer's."""
    flat_pitch: float
    """rad by which a foot that is flat seems to point down."""


class Floor(NamedTuple):
    """Where the floor is and by how much each foot must move for it."""

    height: Tensor
    """(F,) m, the same for all frames of a take."""
    lifts: Tensor
    """(F, 2) m, left and right ankle, upwards."""


def leg_reach(recording: Recording) -> Tensor:
    """(2F,) m, hip-to-ankle distances of both legs in every frame."""
    return torch.cat([(recording.positions[:, leg.ankle] - recording.positions[:, leg.hip]).norm(dim=-1) for leg in LEGS])


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


def is_mid_stance(positions: Tensor, leg: Leg, other: Leg, timeline: Timeline) -> Tensor:
    """(F,) whether ``leg`` carries a walking body: its ankle rests under the moving pelvis and the ``other`` one is in the air.

    ``positions`` (F, B, 3) m are those of the joints of a performer or of the humanoid.
    """
    pelvis, ankle = positions[:, 0], positions[:, leg.ankle]
    velocity = timeline.velocity(pelvis)[:, :2]
    speed = velocity.norm(dim=-1)
    ankle_speed = timeline.velocity(ankle).norm(dim=-1)
    ahead = ((ankle - pelvis)[:, :2] * velocity).sum(-1) / speed.clamp_min(0.1)
    is_walking = (speed > WALKING_SPEEDS[0]) & (speed < WALKING_SPEEDS[1])
    is_under = (ankle_speed < 0.3) & (ahead.abs() < 0.1)
    return is_walking & is_under & (positions[:, other.ankle, 2] > ankle[:, 2] + 0.04)


def _stance_reach(recording: Recording) -> Tensor:
    """(n,) m, hip-to-ankle distances in mid-stance of walking."""
    positions = recording.positions
    reaches = [
        (positions[:, leg.ankle] - positions[:, leg.hip]).norm(dim=-1)[is_mid_stance(positions, leg, other, recording.timeline)]
        for leg, other in (LEGS, LEGS[::-1])
    ]
    return torch.cat(reaches)


def _scale(recordings: Sequence[Recording]) -> float:
    """The humanoid's size over the performer's, from hip-to-ankle distances in upright stance.

    Distances instead of bone lengths, because motion capture leaves knees bent by 20 to 30 degrees that were straight: the performer's
    distance in mid-stance becomes the humanoid's with its knee nearly straight.
    """
    reach = torch.cat([leg_reach(recording) for recording in recordings])
    rest = recordings[0].rest
    bones = sum(float((rest[a] - rest[b]).norm()) for leg in LEGS for a, b in ((leg.knee, leg.hip), (leg.ankle, leg.knee))) / 2.0
    longest = min(max(float(torch.quantile(reach, 0.95)), 0.94 * bones), bones)
    stances = torch.cat([_stance_reach(recording) for recording in recordings])
    stance = float(stances.median()) if len(stances) >= STANCE_FRAMES else STANCE_SHARE * longest
    return STANCE_REACH * LEG_LENGTH / min(max(stance, 0.96 * longest), longest)


def _flat_pitches(recording: Recording) -> Tensor:
    """(n,) rad by which resting feet seem to point down."""
    pitches = []
    for leg in LEGS:
        positions = recording.positions
        velocity = recording.timeline.velocity(positions[:, [leg.ankle, leg.toe]])
        hinge = knee_hinge(recording.quats, recording.rest, leg)
        level = torch.zeros(len(positions), 1)
        pitch = foot_pitch(captured_foot(positions[:, leg.toe] - positions[:, leg.ankle], hinge, level, recording.rest, leg))
        pitches.append(pitch[(velocity.norm(dim=-1).amax(-1) < RESTING_SPEEDS[0]) & (pitch.abs() < LARGEST_FLAT_PITCH)])
    return torch.cat(pitches)


def measure_performer(recordings: Sequence[Recording]) -> Performer:
    """Scale and foot of the performer of ``recordings``; their rates are lowered first, so that a set of hours is measured in seconds."""
    sparse = [resample(joined(group), SURVEY_FPS) for group in joinable(recordings, MOST_FRAMES)]
    pitches = torch.cat([_flat_pitches(recording) for recording in sparse])
    return Performer(_scale(sparse), float(pitches.median()) if len(pitches) >= STANCE_FRAMES else 0.0)


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


def retarget(recording: Recording, performer: Performer, licence: str = "") -> Clip:
    """The take as a clip of the humanoid at 30 frames per second, soles on the floor at z = 0."""
    return retarget_all([recording], performer, licence)[0]


def retarget_all(recordings: Sequence[Recording], performer: Performer, licence: str = "") -> List[Clip]:
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
            licence=licence,
        )
        for take, span in zip(takes, recording.timeline.spans())
    ]

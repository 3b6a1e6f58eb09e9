"""What is measured of a performer on all takes together: size and feet."""

from typing import NamedTuple, Sequence

import torch
from torch import Tensor

from puffer_phc.motion.legs import LEG_LENGTH, LEGS, Leg, captured_foot, foot_pitch, knee_hinge
from puffer_phc.motion.recording import Recording, joinable, joined
from puffer_phc.motion.resample import resample
from puffer_phc.motion.timeline import Timeline

STANCE_REACH = 0.994
"""Share of the straight leg between hip and ankle when the leg carries a walking body and is upright: 12 degrees of knee flexion."""

STANCE_SHARE = 0.975
"""The same distance as a share of the performer's longest, for performers who are never seen to walk: the median of CMU's walkers."""

WALKING_SPEEDS = (0.5, 1.8)
"""m/s of the pelvis between which people walk."""

STANCE_FRAMES = 12
"""Fewer frames of upright stance than this tell nothing about a performer."""

RESTING_SPEEDS = (0.15, 0.5)
"""m/s of the faster of ankle and toe: a foot slower than the first rests, one faster than the second does not."""

LARGEST_FLAT_PITCH = 0.2
"""rad: a resting foot that is farther off level stands on its heel or ball."""

SURVEY_FPS = 15.0
"""Frames per second at which performers are measured."""

MOST_FRAMES = 1 << 16
"""Captured frames that are worked on at once: enough for the work to outweigh the calls, few enough for memory."""


class Performer(NamedTuple):
    """What all clips of one performer share."""

    scale: float
    """The humanoid's size over the performer's."""
    flat_pitch: float
    """rad by which a foot that is flat seems to point down."""


def leg_reach(recording: Recording) -> Tensor:
    """(2F,) m, hip-to-ankle distances of both legs in every frame."""
    return torch.cat([(recording.positions[:, leg.ankle] - recording.positions[:, leg.hip]).norm(dim=-1) for leg in LEGS])


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

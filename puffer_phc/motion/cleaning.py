"""Mends what motion capture gets wrong before anything is resampled: false starts, flipped hands, limbs whose twist is not known.

The twist of a thigh or an upper arm about its own length is seen only while knee or elbow is bent. With the limb straight the solver behind
the capture guesses, and thighs of CMU turn by 180 degrees from one frame to the next. The twist is therefore taken from the bent frames and
carried over the straight ones.
"""

import math
from typing import List, NamedTuple, Tuple

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.motion.legs import smoothstep, unit
from puffer_phc.motion.recording import Recording
from puffer_phc.motion.resample import continuous
from puffer_phc.motion.timeline import Timeline

START_SECONDS = 0.25
"""s: converters put T-poses before a clip, and filters blend them into it; at most this much is cut at either end."""

START_SPEED = math.radians(1500.0)
"""rad/s: a joint that turns faster than this within ``START_SECONDS`` of an end comes from such a pose."""

START_HEIGHT = 0.3
"""m: a pelvis that falls by more than this from one frame to the next comes from one too."""

BENT = (math.radians(12.0), math.radians(35.0))
"""rad of flexion below which the twist of a limb is unknown and above which it is known."""

TWIST_SECONDS = 0.12
"""s, standard deviation over which a known twist is carried to frames without one."""

LARGEST_TWIST = math.radians(100.0)
"""rad between the knee's axis and where the pelvis would have it; a larger one is the same axis with the wrong sign."""

FLIP_COST = 30.0
"""rad/s: price of turning a leg with a knee bent by 90 degrees against what was captured, set against the turns themselves."""

SETTLING_SECONDS = 0.04
"""s, standard deviation of the Gaussian on the twist itself."""

HAND_BEND = math.radians(75.0)
"""rad by which a hand can be turned against its forearm."""

HAND_SPEED = (math.radians(600.0), math.radians(1500.0))
"""rad/s that a hand turns believably against its forearm, and that it does not."""

HAND_SECONDS = 0.1
"""s, standard deviation of the Gaussian that carries believable hands over others."""


class Limb(NamedTuple):
    """A limb whose twist is to be steadied, as body indices."""

    parent: int
    upper: int
    lower: int
    end: int
    is_leg: bool


def _limb(parent: str, upper: str, lower: str, end: str, is_leg: bool) -> Limb:
    """A limb by body names."""
    indices = [BODY_NAMES.index(name) for name in (parent, upper, lower, end)]
    return Limb(indices[0], indices[1], indices[2], indices[3], is_leg)


LIMBS: Tuple[Limb, ...] = (
    _limb("Pelvis", "L_Hip", "L_Knee", "L_Ankle", True),
    _limb("Pelvis", "R_Hip", "R_Knee", "R_Ankle", True),
    _limb("Chest", "L_Shoulder", "L_Elbow", "L_Wrist", False),
    _limb("Chest", "R_Shoulder", "R_Elbow", "R_Wrist", False),
)


def joint_speeds(quats: Tensor, fps: float) -> Tensor:
    """(F − 1, B) rad/s, how fast each bone turns in the world from one frame to the next."""
    return rotations.angle(rotations.multiply(rotations.conjugate(quats[:-1]), quats[1:])) * fps


def _jumps(recording: Recording, frames: slice) -> List[int]:
    """The steps, counted from the first of ``frames``, in which a joint or the pelvis moves as nobody does."""
    is_jump = (joint_speeds(recording.quats[frames], recording.fps) > START_SPEED).any(-1)
    is_jump |= recording.positions[frames, 0, 2].diff().abs() > START_HEIGHT
    return is_jump.nonzero().flatten().tolist()


def trim_ends(recording: Recording) -> Recording:
    """The take without the frames at either end that jump into or out of it."""
    frames = len(recording.positions)
    reach = min(max(1, int(START_SECONDS * recording.fps)), (frames - 1) // 4)
    first, last = _jumps(recording, slice(0, reach + 1)), _jumps(recording, slice(frames - 1 - reach, frames))
    begin = first[-1] + 1 if first else 0
    end = frames - reach + last[0] if last else frames
    return recording._replace(positions=recording.positions[begin:end], quats=recording.quats[begin:end])


def _flexion(positions: Tensor, limb: Limb) -> Tensor:
    """(F,) rad between the two bones of a limb."""
    upper = unit(positions[:, limb.lower] - positions[:, limb.upper])
    lower = unit(positions[:, limb.end] - positions[:, limb.lower])
    return torch.atan2(rotations.cross(upper, lower).norm(dim=-1), (upper * lower).sum(-1))


def _twist(recording: Recording, limb: Limb) -> Tensor:
    """(F,) rad by which the upper bone is turned about its length, against the straightest way from its rest pose to where it points."""
    parent, upper = recording.quats[:, limb.parent], recording.quats[:, limb.upper]
    bone = unit(recording.rest[limb.lower] - recording.rest[limb.upper]).expand(len(upper), 3)
    relative = rotations.multiply(rotations.conjugate(parent), upper)
    along = (relative[:, 1:] * bone).sum(-1)
    return 2.0 * torch.atan2(along, relative[:, 0])


def _wrap(angles: Tensor) -> Tensor:
    """Angles in [−π, π)."""
    return torch.remainder(angles + math.pi, 2.0 * math.pi) - math.pi


def _unwrap(angles: Tensor, timeline: Timeline) -> Tensor:
    """The same angles (F,) without jumps of 2π within a take."""
    takes = [angles[span] for span in timeline.spans()]
    return torch.cat([torch.cat((take[:1], take[:1] + _wrap(take.diff()).cumsum(0))) for take in takes])


def _flip_costs(twist: Tensor, flexion: Tensor) -> Tensor:
    """(F, 2) cost per frame of taking a twist as captured, or turned by 180 degrees."""
    choices = torch.stack((_wrap(twist), _wrap(twist + math.pi)), dim=1)
    costs = (choices.abs() - LARGEST_TWIST).clamp_min(0.0)
    costs[:, 1] += flexion.sin().square()
    return costs


def _unflip(twist: Tensor, flexion: Tensor, fps: float) -> Tensor:
    """Twists (F,) of a leg with short or impossible turns of 180 degrees undone: the cheapest path through both readings of every frame.

    A turn that is only seen while the knee is straight costs nothing to undo; one that lasts with the knee bent is believed.
    """
    step = _wrap(twist.diff()).abs()
    if float(_wrap(twist).abs().max()) < LARGEST_TWIST and float(step.max()) < 0.5 * math.pi:
        return twist
    same = step.tolist()
    other = (math.pi - step).tolist()
    kept, turned = (row.tolist() for row in (_flip_costs(twist, flexion) * (FLIP_COST / fps)).unbind(1))
    best = [kept[0], turned[0]]
    origins = []
    for frame in range(1, len(kept)):
        stay, switch = same[frame - 1], other[frame - 1]
        from_kept = (best[0] + stay, best[1] + switch)
        from_turned = (best[1] + stay, best[0] + switch)
        origins.append((int(from_kept[1] < from_kept[0]), 1 - int(from_turned[1] < from_turned[0])))
        best = [min(from_kept) + kept[frame], min(from_turned) + turned[frame]]
    state = int(best[1] < best[0])
    states = [state]
    for origin in reversed(origins):
        state = origin[state]
        states.append(state)
    return twist + math.pi * twist.new_tensor(states[::-1])


def steady_twist(recording: Recording, limb: Limb) -> Recording:
    """The recording with the upper bone of a limb turned about its length to the twist that its bent frames show."""
    timeline = recording.timeline
    flexion = _flexion(recording.positions, limb)
    raw = _twist(recording, limb)
    twist = torch.cat([_unflip(raw[span], flexion[span], recording.fps) for span in timeline.spans()]) if limb.is_leg else raw
    known = smoothstep(flexion, *BENT)
    weight = (known + 1e-3)[:, None]
    sums = timeline.smooth(weight * torch.stack((twist.sin(), twist.cos()), dim=1), TWIST_SECONDS * recording.fps)
    carried = torch.atan2(sums[:, 0], sums[:, 1])
    steady = carried + known * _wrap(twist - carried)
    steady = timeline.smooth(_unwrap(steady, timeline), SETTLING_SECONDS * recording.fps)
    correction = _wrap(steady - raw)
    bone = unit(recording.rest[limb.lower] - recording.rest[limb.upper])
    turn = rotations.from_rotation_vector(correction[:, None] * bone)
    quats = recording.quats.clone()
    quats[:, limb.upper] = rotations.multiply(quats[:, limb.upper], turn)
    return recording._replace(quats=quats)


def _mended_bends(bends: Tensor, timeline: Timeline) -> Tensor:
    """Hand rotation vectors (F, 3) with those that are too large or change too fast replaced by the ones around them."""
    size = bends.norm(dim=-1)
    speed = torch.zeros_like(size)
    step = timeline.steps(bends).norm(dim=-1) * timeline.fps
    speed[1:], speed[:-1] = step, torch.maximum(speed[:-1], step)
    trust = ((1.0 - smoothstep(size, HAND_BEND, 1.5 * HAND_BEND)) * (1.0 - smoothstep(speed, *HAND_SPEED)))[:, None]
    limited = bends * (HAND_BEND / size.clamp_min(HAND_BEND))[:, None]
    weight = trust + 1e-3
    sums = timeline.smooth(torch.cat((weight * limited, weight), dim=1), HAND_SECONDS * timeline.fps)
    around = sums[:, :3] / sums[:, 3:]
    return timeline.smooth(torch.lerp(around, limited, trust), 0.02 * timeline.fps)


def mend_hands(recording: Recording) -> Recording:
    """The recording with hands that point back along their forearm turned round, and none bent farther or faster than a wrist can."""
    quats = recording.quats.clone()
    for side in ("L", "R"):
        elbow, wrist, hand = (BODY_NAMES.index(f"{side}_{name}") for name in ("Elbow", "Wrist", "Hand"))
        arm = unit(recording.rest[wrist] - recording.rest[elbow]).expand(len(quats), 3)
        local = rotations.multiply(rotations.conjugate(quats[:, elbow]), quats[:, wrist])
        is_back = (rotations.rotate(local, arm) * arm).sum(-1, keepdim=True) < 0
        half_turn = local.new_tensor([0.0, 0.0, 0.0, 1.0]).expand_as(local)
        bends = rotations.to_rotation_vector(torch.where(is_back, rotations.multiply(local, half_turn), local))
        mended = rotations.from_rotation_vector(_mended_bends(bends, recording.timeline))
        quats[:, wrist] = quats[:, hand] = rotations.multiply(quats[:, elbow], mended)
    return recording._replace(quats=quats)


def clean(recording: Recording) -> Recording:
    """The recording with everything mended that can be told from the motion alone."""
    for limb in LIMBS:
        recording = steady_twist(recording, limb)
    recording = mend_hands(recording)
    return recording._replace(quats=continuous(recording.quats))

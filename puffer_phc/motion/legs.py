"""Legs by closed form: the ankle where it should be, the knee a hinge, the foot built from ankle, toe and hinge.

A copied foot rotation cannot be trusted (CMU's flips by 180 degrees) and copied knees leave the humanoid crouched, so both are rebuilt
from positions. Everything works on all frames at once.
"""

import math
from typing import NamedTuple, Tuple

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.skeleton import BODY_NAMES, OFFSETS
from puffer_phc.motion.timeline import Timeline

FULL_REACH = 0.9995
"""Share of the straight leg that is ever used: beyond it the knee's angle answers infinitely fast to a change of distance."""

REACH_SOFTNESS = 0.005
"""m over which a leg that comes to its full reach is slowed down, so that knees do not snap straight."""

NEAR_FLOOR = (0.03, 0.12)
"""m. A toe joint lower than the first lies flat and its foot does not roll; higher than the second it does as captured."""

MAX_TOE_BEND = math.radians(60.0)

SETTLED_PITCH = (math.radians(8.0), math.radians(25.0))
"""rad: a resting foot off level by less than the first is level; one that points down by more than the second stands on its ball."""

LEVEL_SINE = (0.3, 0.7)
"""Sine between the foot and the vertical: steeper than the first it has no level side, flatter than the second it has."""

RAISED_PITCH = (math.radians(25.0), math.radians(45.0))
"""rad: the same for toes that point up; nobody stands on a heel for long."""

ANKLE_RANGE = (math.radians(60.0), math.radians(165.0))
"""rad between the shin seen upwards and the ankle-to-toe direction: from fully bent up to fully stretched."""

ANKLE_STEP = (math.radians(25.0), math.radians(50.0))
"""rad per frame at 30 Hz that an ankle turns believably, and that it does not."""

ANKLE_FRAMES = 3.0
"""Standard deviation in frames of the Gaussian that carries believable ankle angles over others."""

MAX_ANKLE_TURN = math.radians(50.0)
"""rad by which the ankle-to-toe direction leaves the plane of the leg."""


class Leg(NamedTuple):
    """Indices of one leg's bodies."""

    hip: int
    knee: int
    ankle: int
    toe: int


LEGS: Tuple[Leg, Leg] = (
    Leg(*(BODY_NAMES.index(f"L_{name}") for name in ("Hip", "Knee", "Ankle", "Toe"))),
    Leg(*(BODY_NAMES.index(f"R_{name}") for name in ("Hip", "Knee", "Ankle", "Toe"))),
)

LEG_LENGTH = float(sum(sum(OFFSETS[body] ** 2) ** 0.5 for leg in LEGS for body in (leg.knee, leg.ankle))) / 2.0
"""m, thigh and shin of the humanoid, mean of both sides."""


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., 3) of length 1."""
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-9)


def frame(primary: Tensor, secondary: Tensor) -> Tensor:
    """The rotation (..., 4) that takes x to ``primary`` and y as near as can be to ``secondary`` (..., 3 each)."""
    x = unit(primary)
    y = unit(secondary - (secondary * x).sum(-1, keepdim=True) * x)
    return from_axes(x, y, rotations.cross(x, y))


def from_axes(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """The rotation (..., 4) whose matrix has the orthonormal columns ``x``, ``y``, ``z`` (..., 3 each)."""
    xx, yy, zz = x[..., 0], y[..., 1], z[..., 2]
    candidates = torch.stack(
        (
            torch.stack((1 + xx + yy + zz, y[..., 2] - z[..., 1], z[..., 0] - x[..., 2], x[..., 1] - y[..., 0]), -1),
            torch.stack((y[..., 2] - z[..., 1], 1 + xx - yy - zz, x[..., 1] + y[..., 0], z[..., 0] + x[..., 2]), -1),
            torch.stack((z[..., 0] - x[..., 2], x[..., 1] + y[..., 0], 1 - xx + yy - zz, y[..., 2] + z[..., 1]), -1),
            torch.stack((x[..., 1] - y[..., 0], z[..., 0] + x[..., 2], y[..., 2] + z[..., 1], 1 - xx - yy + zz), -1),
        ),
        dim=-2,
    )
    largest = torch.diagonal(candidates, dim1=-2, dim2=-1).argmax(-1)
    chosen = torch.gather(candidates, -2, largest[..., None, None].expand(*largest.shape, 1, 4)).squeeze(-2)
    return rotations.normalize(chosen)


def smoothstep(values: Tensor, low: float, high: float) -> Tensor:
    """0 below ``low``, 1 above ``high``, smooth between."""
    x = ((values - low) / (high - low)).clamp(0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def rest_hinge(rest: Tensor, leg: Leg) -> Tensor:
    """(3,) the knee's axis in the rest pose ``rest`` (B, 3): sideways to the left and square to the thigh."""
    thigh = unit(rest[leg.knee] - rest[leg.hip])
    left = rest.new_tensor([0.0, 1.0, 0.0])
    return unit(left - (left * thigh).sum() * thigh)


def knee_hinge(quats: Tensor, rest: Tensor, leg: Leg) -> Tensor:
    """(F, 3) the knee's axis in the world, pointing left of the leg."""
    return rotations.rotate(quats[:, leg.hip], rest_hinge(rest, leg).expand(len(quats), 3))


def soft_reach(distance: Tensor, limit: float) -> Tensor:
    """``distance`` (...,) unchanged when short, bent smoothly below ``limit`` when it nears it."""
    start = limit - REACH_SOFTNESS
    over = (distance - start).clamp_min(0.0) / REACH_SOFTNESS
    return torch.where(over > 0, start + REACH_SOFTNESS * torch.tanh(over), distance)


def solve_leg(hip: Tensor, ankle: Tensor, hinge: Tensor, leg: Leg) -> Tuple[Tensor, Tensor]:
    """World rotations (F, 4) of thigh and shin with the ankle of a leg from ``hip`` at ``ankle`` and the knee about ``hinge`` (F, 3 each).

    The knee turns about the y axis of the thigh only. Where the ankle is out of reach the leg points at it.
    """
    thigh = torch.as_tensor(OFFSETS[leg.knee], dtype=hip.dtype)
    shin = torch.as_tensor(OFFSETS[leg.ankle], dtype=hip.dtype)
    reach = ankle - hip
    cosine_part = thigh[0] * shin[0] + thigh[2] * shin[2]
    sine_part = thigh[0] * shin[2] - thigh[2] * shin[0]
    amplitude = torch.hypot(cosine_part, sine_part)
    constant = (thigh * thigh).sum() + (shin * shin).sum() + 2.0 * thigh[1] * shin[1]
    longest = float((constant + 2.0 * amplitude).sqrt())
    distance = soft_reach(reach.norm(dim=-1), FULL_REACH * longest)
    cosine = ((distance * distance - constant) / (2.0 * amplitude)).clamp(-1.0, 1.0)
    flexion = torch.atan2(sine_part, cosine_part) + torch.acos(cosine)
    bend = torch.zeros(len(hip), 4, dtype=hip.dtype)
    bend[:, 0], bend[:, 2] = (0.5 * flexion).cos(), (0.5 * flexion).sin()
    straight = thigh + rotations.rotate(bend, shin.expand_as(reach))
    side = thigh.new_tensor([0.0, 1.0, 0.0]).expand_as(reach)
    thigh_quat = rotations.multiply(frame(reach, hinge), rotations.conjugate(frame(straight, side)))
    return thigh_quat, rotations.multiply(thigh_quat, bend)


def _rest_foot(rest: Tensor, leg: Leg) -> Tensor:
    """(3,) from ankle to toe in a foot frame whose z is up and whose x–z plane holds the leg: how the capture sees a flat foot."""
    lateral = rest_hinge(rest, leg)
    up = -unit(rest[leg.knee] - rest[leg.hip])
    forward = rotations.cross(lateral, up)
    toe = rest[leg.toe] - rest[leg.ankle]
    return torch.stack(((toe * forward).sum(), (toe * lateral).sum(), (toe * up).sum()))


def _own_foot(leg: Leg, dtype: torch.dtype) -> Tensor:
    """(3,) from ankle to toe of the humanoid's own flat foot."""
    return torch.as_tensor(OFFSETS[leg.toe], dtype=dtype)


def captured_foot(toe_direction: Tensor, hinge: Tensor, lifted: Tensor, rest: Tensor, leg: Leg) -> Tensor:
    """World rotation (F, 4) of the foot from ankle-to-toe direction and knee axis (F, 3 each); no roll where ``lifted`` (F, 1) is 0."""
    up = toe_direction.new_tensor([0.0, 0.0, 1.0]).expand_as(toe_direction)
    level = rotations.cross(up, unit(toe_direction))
    agreement = (unit(level) * hinge).sum(-1, keepdim=True)
    levelled = (1.0 - lifted) * smoothstep(level.norm(dim=-1, keepdim=True), *LEVEL_SINE) * smoothstep(agreement, 0.0, 0.5)
    lateral = torch.lerp(hinge, unit(level), levelled)
    flat, own = _rest_foot(rest, leg), _own_foot(leg, rest.dtype)
    captured = rotations.multiply(frame(toe_direction, lateral), rotations.conjugate(frame(flat, flat.new_tensor([0.0, 1.0, 0.0]))))
    outward = torch.atan2(flat[1], flat[0]) - torch.atan2(own[1], own[0])
    return rotations.multiply(captured, rotations.yaw(outward).expand_as(captured))


def foot_pitch(foot: Tensor) -> Tensor:
    """(F,) rad by which feet (F, 4) point down."""
    forward = rotations.rotate(foot, foot.new_tensor([1.0, 0.0, 0.0]).expand(len(foot), 3))
    return torch.asin((-forward[:, 2]).clamp(-1.0, 1.0))


def _pitched(foot: Tensor, angles: Tensor) -> Tensor:
    """Feet (F, 4) turned down about their own y axis by ``angles`` (F,)."""
    turn = torch.zeros_like(foot)
    turn[:, 0], turn[:, 2] = (0.5 * angles).cos(), (0.5 * angles).sin()
    return rotations.multiply(foot, turn)


def solve_foot(
    toe_direction: Tensor, hinge: Tensor, lifted: Tensor, resting: Tensor, flat_pitch: float, rest: Tensor, leg: Leg
) -> Tuple[Tensor, Tensor]:
    """World rotations (F, 4) of foot and toes from the captured ankle-to-toe direction and knee axis (F, 3 each).

    ``flat_pitch`` is how far down the performer's foot seems to point when it is flat. A foot that rests (``resting`` (F,) of 1) and is
    nearly level is set level; one at the floor (``lifted`` (F,) of 0) does not roll, and its toes lie flat where the heel is raised.
    """
    foot = _pitched(captured_foot(toe_direction, hinge, lifted[:, None], rest, leg), torch.full_like(lifted, -flat_pitch))
    pitch = foot_pitch(foot)
    is_off_level = torch.where(pitch > 0, smoothstep(pitch, *SETTLED_PITCH), smoothstep(-pitch, *RAISED_PITCH))
    foot = _pitched(foot, -pitch * resting * (1.0 - is_off_level))
    bend = (1.0 - lifted) * MAX_TOE_BEND * torch.tanh(foot_pitch(foot).clamp_min(0.0) / MAX_TOE_BEND)
    return foot, _pitched(foot, -bend)


def _ankle_angles(toe_direction: Tensor, axes: Tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(F, 2) rad: how far the foot is stretched from the shin, and to which side it points."""
    up, left, forward = axes
    toe = unit(toe_direction)
    stretch = torch.atan2((toe * forward).sum(-1), (toe * up).sum(-1))
    stretch = torch.where(stretch < -0.5 * math.pi, stretch + 2.0 * math.pi, stretch)
    return torch.stack((stretch, torch.asin((toe * left).sum(-1).clamp(-1.0, 1.0))), dim=1)


def _trust(angles: Tensor, timeline: Timeline) -> Tensor:
    """(F, 1) from 0 to 1, how far ankle angles (F, 2) are within an ankle's range and speed."""
    stretch, side = angles.unbind(1)
    outside = torch.maximum(ANKLE_RANGE[0] - stretch, stretch - ANKLE_RANGE[1]).clamp_min(side.abs() - MAX_ANKLE_TURN)
    steps = torch.zeros_like(side)
    step = timeline.steps(angles).norm(dim=1)
    steps[1:] = step
    steps[:-1] = torch.maximum(steps[:-1], step)
    return ((1.0 - smoothstep(outside, 0.0, 0.3)) * (1.0 - smoothstep(steps, *ANKLE_STEP)))[:, None]


def possible_toe_direction(toe_direction: Tensor, shin: Tensor, hinge: Tensor, timeline: Timeline) -> Tensor:
    """Ankle-to-toe directions (F, 3) that an ankle can have; ``shin`` points from ankle to knee and ``hinge`` to the left (F, 3 each).

    Captured feet jump and turn round when markers are lost; such frames take their angles from the frames around them.
    """
    up = unit(shin)
    left = unit(hinge - (hinge * up).sum(-1, keepdim=True) * up)
    forward = rotations.cross(left, up)
    captured = _ankle_angles(toe_direction, (up, left, forward))
    trust = _trust(captured, timeline)
    weight = trust + 1e-3
    limited = torch.stack((captured[:, 0].clamp(*ANKLE_RANGE), captured[:, 1].clamp(-MAX_ANKLE_TURN, MAX_ANKLE_TURN)), dim=1)
    sums = timeline.smooth(torch.cat((weight * limited, weight), dim=1), ANKLE_FRAMES)
    around = sums[:, :2] / sums[:, 2:]
    stretch, side = timeline.smooth(torch.lerp(around, limited, trust), 0.6)[..., None].unbind(1)
    return side.cos() * (stretch.cos() * up + stretch.sin() * forward) + side.sin() * left

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

FULL_REACH = 0.999
"""Share of the straight leg's length that is ever used: beyond it the knee's angle answers infinitely fast to a change of distance."""

REACH_SOFTNESS = 0.025
"""m over which a leg that comes to its full reach is slowed down, so that knees do not snap straight."""

NEAR_FLOOR = (0.03, 0.12)
"""m. A toe joint lower than the first lies flat and its foot does not roll; higher than the second it does as captured."""

MAX_TOE_BEND = math.radians(60.0)


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
    """World rotations (F, 4) of thigh and shin that bring the ankle from ``hip`` to ``ankle`` with the knee turning about ``hinge`` (F, 3 each).

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


def solve_foot(toe_direction: Tensor, hinge: Tensor, toe_height: Tensor, rest: Tensor, leg: Leg) -> Tuple[Tensor, Tensor]:
    """World rotations (F, 4) of foot and toes from the captured ankle-to-toe direction and knee axis (F, 3 each).

    A foot whose ``toe_height`` (F,) m over the floor is small does not roll, and its toes lie flat where the heel is raised.
    """
    lifted = smoothstep(toe_height, *NEAR_FLOOR)[:, None]
    up = toe_direction.new_tensor([0.0, 0.0, 1.0]).expand_as(toe_direction)
    level = rotations.cross(up, toe_direction)
    level = torch.where((level * hinge).sum(-1, keepdim=True) < 0, hinge, level)
    lateral = torch.lerp(level / level.norm(dim=-1, keepdim=True).clamp_min(0.3), hinge, lifted)
    flat, own = _rest_foot(rest, leg), _own_foot(leg, rest.dtype)
    captured = rotations.multiply(frame(toe_direction, lateral), rotations.conjugate(frame(flat, flat.new_tensor([0.0, 1.0, 0.0]))))
    outward = torch.atan2(flat[1], flat[0]) - torch.atan2(own[1], own[0])
    foot = rotations.multiply(captured, rotations.yaw(outward).expand_as(captured))
    return foot, _solve_toes(foot, lifted)


def _solve_toes(foot: Tensor, lifted: Tensor) -> Tensor:
    """World rotation (F, 4) of the toes: bent up to the floor's plane where the heel is raised and the toe is near the floor."""
    forward = rotations.rotate(foot, foot.new_tensor([1.0, 0.0, 0.0]).expand(len(foot), 3))
    down = torch.asin((-forward[:, 2]).clamp(-1.0, 1.0)).clamp_min(0.0)
    bend = (1.0 - lifted[:, 0]) * MAX_TOE_BEND * torch.tanh(down / MAX_TOE_BEND)
    turn = torch.zeros_like(foot)
    turn[:, 0], turn[:, 2] = (0.5 * bend).cos(), -(0.5 * bend).sin()
    return rotations.multiply(foot, turn)

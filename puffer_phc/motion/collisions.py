"""How deep the humanoid's bodies are inside each other, with every shape taken as a capsule."""

from typing import List, Tuple

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.skeleton import BODIES, BODY_NAMES, EXCLUDED_CONTACTS, NUM_BODIES, OFFSETS, PARENTS, Box, Capsule, Shape

REST_OVERLAP = 0.0
"""m: pairs that overlap by more than this in the zero pose say nothing about a motion."""

Vector = Tuple[float, float, float]


def _capsule(shape: Shape) -> Tuple[Vector, Vector, float]:
    """Start, end and radius of a capsule inside the shape and about as large; a box becomes one along its longest edge."""
    if isinstance(shape, Capsule):
        return shape.start, shape.end, shape.radius
    if isinstance(shape, Box):
        (x, y, z), half = shape.center, shape.half_extents
        radius = min(half)
        reach = [max(0.0, extent - radius) if extent == max(half) else 0.0 for extent in half]
        return (x - reach[0], y - reach[1], z - reach[2]), (x + reach[0], y + reach[1], z + reach[2]), radius
    return shape.center, shape.center, shape.radius


_STARTS = torch.tensor([_capsule(body.shape)[0] for body in BODIES])
_ENDS = torch.tensor([_capsule(body.shape)[1] for body in BODIES])
_RADII = torch.tensor([_capsule(body.shape)[2] for body in BODIES])


def _segment_distance(start_a: Tensor, end_a: Tensor, start_b: Tensor, end_b: Tensor) -> Tensor:
    """(...,) m between segments given by their ends (..., 3), after Ericson, Real-Time Collision Detection, 5.1.9."""
    a, b, between = end_a - start_a, end_b - start_b, start_a - start_b
    aa, bb, ab = (a * a).sum(-1), (b * b).sum(-1), (a * b).sum(-1)
    c, f = (a * between).sum(-1), (b * between).sum(-1)
    safe_aa, safe_bb = aa.clamp_min(1e-9), bb.clamp_min(1e-9)
    denominator = aa * bb - ab * ab
    s = torch.where(denominator > 1e-9, (ab * f - c * bb) / denominator.clamp_min(1e-9), torch.zeros_like(c)).clamp(0.0, 1.0)
    t = (ab * s + f) / safe_bb
    s = torch.where((t < 0) | (t > 1), ((ab * t.clamp(0.0, 1.0) - c) / safe_aa).clamp(0.0, 1.0), s)
    t = t.clamp(0.0, 1.0)
    return (between + s[..., None] * a - t[..., None] * b).norm(dim=-1)


def _rest_positions() -> Tensor:
    """(1, B, 3) m in the zero pose."""
    positions: List[Tensor] = [torch.zeros(3)]
    for body in range(1, NUM_BODIES):
        positions.append(positions[PARENTS[body]] + torch.as_tensor(OFFSETS[body], dtype=torch.float32))
    return torch.stack(positions)[None]


def _depths(body_pos: Tensor, body_quat: Tensor, pairs: Tensor) -> Tensor:
    """(F, P) m by which the bodies of each pair (P, 2) are inside each other; negative where they are apart."""
    starts = body_pos + rotations.rotate(body_quat, _STARTS)
    ends = body_pos + rotations.rotate(body_quat, _ENDS)
    first, second = pairs.unbind(1)
    distance = _segment_distance(starts[:, first], ends[:, first], starts[:, second], ends[:, second])
    return _RADII[first] + _RADII[second] - distance


def _related(first: int, second: int) -> bool:
    """Whether two bodies share a joint or a parent, or are excluded from contact."""
    names = (BODY_NAMES[first], BODY_NAMES[second])
    joined = PARENTS[second] == first or PARENTS[first] == second or PARENTS[first] == PARENTS[second] or PARENTS[PARENTS[second]] == first
    return joined or names in EXCLUDED_CONTACTS or names[::-1] in EXCLUDED_CONTACTS


def _colliding_pairs() -> Tensor:
    """(P, 2) body indices whose overlap is a fault of the motion."""
    pairs = [(a, b) for a in range(NUM_BODIES) for b in range(a + 1, NUM_BODIES) if not _related(a, b)]
    rest = _rest_positions()
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, NUM_BODIES, 4)
    table = torch.tensor(pairs)
    return table[_depths(rest, identity, table)[0] < REST_OVERLAP]


PAIRS = _colliding_pairs()


def self_penetration(body_pos: Tensor, body_quat: Tensor) -> Tuple[Tensor, Tensor]:
    """The deepest overlap of any two bodies (F,) m, at least 0, and its row in ``PAIRS`` (F,), from world poses (F, B, 3) and (F, B, 4)."""
    deepest = _depths(body_pos, body_quat, PAIRS).max(dim=1)
    return deepest.values.clamp_min(0.0), deepest.indices

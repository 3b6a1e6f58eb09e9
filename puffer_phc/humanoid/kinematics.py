"""Forward kinematics of the humanoid and the height of its lowest point, in torch."""

import math
from typing import Any, List, Sequence, Tuple

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.skeleton import BODIES, NUM_BODIES, OFFSETS, PARENTS, Box, Capsule, Shape, Sphere

_OFFSETS: List[List[float]] = OFFSETS.tolist()

Components = Tuple[Any, ...]
"""The components of a vector (x, y, z) or quaternion (w, x, y, z): tensors or arrays (...,), or plain numbers where nothing changes.

Products of them are long and contiguous, and many times faster than of (..., 4).
"""


def forward_kinematics(root_pos: Tensor, local_quats: Tensor) -> "tuple[Tensor, Tensor]":
    """World positions (..., B, 3) and rotations (..., B, 4) of all bodies.

    ``root_pos`` is (..., 3) m; ``local_quats`` is (..., B, 4), child-to-parent, the root's own being its world rotation.
    """
    local = [quat.unbind(-1) for quat in local_quats.unbind(-2)]
    positions: List[Components] = [root_pos.unbind(-1)]
    quats: List[Components] = [local[0]]
    for body in range(1, NUM_BODIES):
        parent = PARENTS[body]
        positions.append(carried(positions[parent], quats[parent], _OFFSETS[body]))
        quats.append(product(quats[parent], local[body]))
    return _stacked(positions), _stacked(quats)


def product(a: Components, b: Components) -> Components:
    """The Hamilton product a ⊗ b."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def carried(pos: Components, quat: Components, offset: Sequence[float]) -> Components:
    """``pos`` + ``offset`` (3,) turned by ``quat``: v + w t + u × t with t = 2 u × v."""
    w, x, y, z = quat
    a, b, c = offset
    tx, ty, tz = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return (
        pos[0] + (a + w * tx + (y * tz - z * ty)),
        pos[1] + (b + w * ty + (z * tx - x * tz)),
        pos[2] + (c + w * tz + (x * ty - y * tx)),
    )


def _stacked(bodies: List[Components]) -> Tensor:
    """(..., B, K) from K components of each of B bodies."""
    return torch.stack([torch.stack(components, dim=-1) for components in bodies], dim=-2)


def local_rotations(quats: Tensor) -> Tensor:
    """Child-to-parent rotations (..., B, 4) from world rotations ``quats`` (..., B, 4); the root keeps its world rotation."""
    parents = torch.stack([quats[..., parent, :] for parent in PARENTS[1:]], dim=-2)  # an index would travel to the device at each call
    local = rotations.multiply(rotations.conjugate(parents), quats[..., 1:, :])
    return torch.cat((quats[..., :1, :], local), dim=-2)


def local_quats_from_dofs(root_quat: Tensor, dof_pos: Tensor) -> Tensor:
    """Child-to-parent rotations (..., B, 4) from the root rotation (..., 4) and rotation vectors (..., D)."""
    joints = rotations.from_rotation_vector(dof_pos.unflatten(-1, (NUM_BODIES - 1, 3)))
    return torch.cat((root_quat.unsqueeze(-2), joints), dim=-2)


def _zonotope(shape: Shape) -> "tuple[tuple[tuple[float, ...], ...], float]":
    """Centre and three half edges (4, 3) of the box or segment that, grown by a radius, is the shape; and the radius."""
    none = (0.0, 0.0, 0.0)
    if isinstance(shape, Box):
        a, b, c = shape.half_extents
        return (shape.center, (a, 0.0, 0.0), (0.0, b, 0.0), (0.0, 0.0, c)), 0.0
    if isinstance(shape, Capsule):
        ends = tuple(zip(shape.start, shape.end))
        return (tuple((a + b) / 2 for a, b in ends), tuple((b - a) / 2 for a, b in ends), none, none), shape.radius
    return (shape.center, none, none, none), shape.radius


_ZONOTOPES = [_zonotope(body.shape)[0] for body in BODIES]
"""(B, 4, 3) m."""

_RADII = [_zonotope(body.shape)[1] for body in BODIES]
"""(B,) m."""


def _volume(shape: Shape) -> float:
    """m³."""
    if isinstance(shape, Box):
        a, b, c = shape.half_extents
        return 8.0 * a * b * c
    ball = 4.0 / 3.0 * math.pi * shape.radius**3
    return ball if isinstance(shape, Sphere) else ball + math.pi * shape.radius**2 * math.dist(shape.start, shape.end)


_MASSES = [body.density * _volume(body.shape) for body in BODIES]
"""(B,) kg."""


def mass_centre(body_pos: Tensor, body_quat: Tensor) -> Tensor:
    """The humanoid's centre of mass (..., 3) in m, from world poses (..., B, 3) m and (..., B, 4)."""
    like = {"dtype": body_pos.dtype, "device": body_pos.device}
    centres = body_pos + rotations.rotate(body_quat, torch.tensor([edges[0] for edges in _ZONOTOPES], **like).expand_as(body_pos))
    masses = torch.tensor(_MASSES, **like)
    return (centres * masses.unsqueeze(-1)).sum(-2) / masses.sum()


def lowest_point(body_pos: Tensor, body_quat: Tensor, bodies: Sequence[int] = range(NUM_BODIES)) -> Tensor:
    """Height (..., B) in m of the lowest point of each body's collision shape; ``.amin(-1)`` is the humanoid's.

    ``body_pos`` is (..., B, 3) m and ``body_quat`` (..., B, 4), world frame, of ``bodies``. Exact: a shape reaches as far down from its
    centre as its half edges do, each whichever way it points, and its radius.
    """
    w, x, y, z = body_quat.unbind(-1)
    up = (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y))
    edges = torch.as_tensor([_ZONOTOPES[body] for body in bodies], dtype=body_pos.dtype, device=body_pos.device)
    heights = [up[0] * edges[:, edge, 0] + up[1] * edges[:, edge, 1] + up[2] * edges[:, edge, 2] for edge in range(4)]
    radii = torch.as_tensor([_RADII[body] for body in bodies], dtype=body_pos.dtype, device=body_pos.device)
    reach = heights[1].abs() + heights[2].abs() + heights[3].abs() + radii
    return body_pos[..., 2] + heights[0] - reach

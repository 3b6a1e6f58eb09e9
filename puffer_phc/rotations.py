"""Rotations as tensors: quaternions ``(w, x, y, z)``, rotation vectors, headings and the 6D form that policies observe.

Every function is pure, broadcasts over leading axes, keeps device and dtype, and compiles with ``torch.compile(fullgraph=True)``.
Quaternions are taken to have unit length unless a docstring says otherwise; q and −q are the same rotation.
"""

import torch
from torch import Tensor

_SMALL_NORM = 1e-6
"""Below this length of the vector part, float32 series are more exact than the closed forms."""


def normalize(q: Tensor) -> Tensor:
    """The unit quaternion (..., 4) nearest to ``q`` (..., 4)."""
    return q / q.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def conjugate(q: Tensor) -> Tensor:
    """The inverse rotation (..., 4) of a unit quaternion ``q`` (..., 4)."""
    return torch.cat((q[..., :1], -q[..., 1:]), dim=-1)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """The Hamilton product ``a ⊗ b`` (..., 4): first rotate by ``b``, then by ``a``."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        (
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ),
        dim=-1,
    )


def cross(a: Tensor, b: Tensor) -> Tensor:
    """The cross product (..., 3) of ``a`` and ``b`` (..., 3), with broadcasting of all axes."""
    ax, ay, az = a.unbind(-1)
    bx, by, bz = b.unbind(-1)
    return torch.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), dim=-1)


def rotate(q: Tensor, v: Tensor) -> Tensor:
    """The vector ``v`` (..., 3) rotated by ``q`` (..., 4)."""
    w, xyz = q[..., :1], q[..., 1:]
    t = 2.0 * cross(xyz, v)
    return v + w * t + cross(xyz, t)


def canonical(q: Tensor) -> Tensor:
    """The representative (..., 4) of the rotation ``q`` with ``w >= 0``."""
    return torch.where(q[..., :1] < 0, -q, q)


def from_rotation_vector(v: Tensor) -> Tensor:
    """The unit quaternion (..., 4) of a rotation vector ``v`` (..., 3) in radians (exponential map)."""
    angle = v.norm(dim=-1, keepdim=True)
    half = 0.5 * angle
    small = angle < _SMALL_NORM
    scale = torch.where(small, 0.5 - angle * angle / 48.0, half.sin() / torch.where(small, torch.ones_like(angle), angle))
    return torch.cat((half.cos(), v * scale), dim=-1)


def to_rotation_vector(q: Tensor) -> Tensor:
    """The rotation vector (..., 3) in radians, of length at most π, of a quaternion ``q`` (..., 4) (logarithmic map).

    Exact for small angles too, where the arc cosine of w would lose half of the digits in float32.
    """
    q = canonical(q)
    w, xyz = q[..., :1], q[..., 1:]
    sine = xyz.norm(dim=-1, keepdim=True)
    small = sine < _SMALL_NORM
    scale = torch.where(small, 2.0 / w.clamp_min(0.5), 2.0 * torch.atan2(sine, w) / torch.where(small, torch.ones_like(sine), sine))
    return xyz * scale


def angle(q: Tensor) -> Tensor:
    """The rotation angle (...,) in [0, π] of ``q`` (..., 4)."""
    return 2.0 * torch.atan2(q[..., 1:].norm(dim=-1), q[..., 0].abs())


def slerp(a: Tensor, b: Tensor, fraction: Tensor) -> Tensor:
    """Spherical interpolation (..., 4) from ``a`` (fraction 0) to ``b`` (fraction 1) along the shorter arc.

    ``fraction`` is a tensor that broadcasts against ``a[..., :1]``. Nearly equal rotations fall back to the normalised linear blend,
    which is exact there.
    """
    cosine = (a * b).sum(-1, keepdim=True)
    b = torch.where(cosine < 0, -b, b)
    half = torch.atan2((a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True)) * 2.0
    sine = half.sin()
    near = sine < 1e-3
    safe = torch.where(near, torch.ones_like(sine), sine)
    weight_a = torch.where(near, 1.0 - fraction, ((1.0 - fraction) * half).sin() / safe)
    weight_b = torch.where(near, fraction, (fraction * half).sin() / safe)
    return normalize(weight_a * a + weight_b * b)


def heading_angle(q: Tensor) -> Tensor:
    """The yaw (...,) in (−π, π] of the x axis that ``q`` (..., 4) carries along, projected on the ground."""
    w, x, y, z = q.unbind(-1)
    side, ahead = torch.stack((2.0 * (x * y + w * z), 1.0 - 2.0 * (y * y + z * z)), dim=-1).unbind(-1)
    return torch.atan2(side, ahead)  # of numbers side by side torch's CPU code rounds the last few of a batch otherwise than the rest


def yaw(heading: Tensor) -> Tensor:
    """The rotation (..., 4) about the vertical by ``heading`` (...,) radians."""
    half = 0.5 * heading
    zero = torch.zeros_like(half)
    return torch.stack((half.cos(), zero, zero, half.sin()), dim=-1)


def heading(q: Tensor) -> Tensor:
    """The heading of ``q`` (..., 4) as a rotation about the vertical (..., 4)."""
    return yaw(heading_angle(q))


def heading_inverse(q: Tensor) -> Tensor:
    """The rotation (..., 4) about the vertical that turns the heading of ``q`` (..., 4) to the x axis."""
    return yaw(-heading_angle(q))


def to_matrix(q: Tensor) -> Tensor:
    """The rotation matrix (..., 3, 3) of ``q`` (..., 4); its columns are the rotated axes."""
    w, x, y, z = q.unbind(-1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), dim=-1),
        torch.stack((2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)), dim=-1),
        torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), dim=-1),
    )
    return torch.stack(rows, dim=-2)


def tangent_normal(q: Tensor) -> Tensor:
    """The 6D form (..., 6) of ``q`` (..., 4): the rotated x axis, then the rotated z axis (columns 0 and 2 of the matrix)."""
    w, x, y, z = q.unbind(-1)
    return torch.stack(
        (
            1 - 2 * (y * y + z * z),
            2 * (x * y + w * z),
            2 * (x * z - w * y),
            2 * (x * z + w * y),
            2 * (y * z - w * x),
            1 - 2 * (x * x + y * y),
        ),
        dim=-1,
    )


def wxyz_from_xyzw(quat_xyzw: Tensor) -> Tensor:
    """Quaternions (..., 4) reordered from (x, y, z, w), the order of SciPy and Isaac Gym, to ours."""
    return torch.cat((quat_xyzw[..., 3:], quat_xyzw[..., :3]), dim=-1)


def xyzw_from_wxyz(q: Tensor) -> Tensor:
    """Quaternions (..., 4) reordered from ours to (x, y, z, w)."""
    return torch.cat((q[..., 1:], q[..., :1]), dim=-1)

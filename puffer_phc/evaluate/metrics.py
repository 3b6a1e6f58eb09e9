"""Tracking errors of a simulated humanoid against its reference, in millimetres, as PHC and SMPLSim define them.

Every function is pure and broadcasts over leading axes. Positions are (..., B, 3) in metres, simulated first, reference second; body 0
is the root. Each result is a mean over the B bodies of one frame, so that sums over frames give frame-weighted figures.
"""

import torch
from torch import Tensor

from puffer_phc import rotations

_MM_PER_M = 1000.0

_ROUNDS = 8
_SQUARINGS = 4
"""Squarings in ``_leading_eigenvector``: 2^(8·4) is the power that tells eigenvalues apart which differ by 2e-8 of the largest.

The trace is brought back to one after every fourth; the largest eigenvalue, at least 1/4 of it, shrinks to no less than 2e-10 between.
"""


def body_distances(pos: Tensor, ref_pos: Tensor) -> Tensor:
    """Distance (..., B) in m of each body's origin from its reference."""
    return (pos - ref_pos).norm(dim=-1)


def mpjpe_g_mm(pos: Tensor, ref_pos: Tensor) -> Tensor:
    """Mean per-joint position error (...,) in mm in the world frame."""
    return body_distances(pos, ref_pos).mean(-1) * _MM_PER_M


def mpjpe_l_mm(pos: Tensor, ref_pos: Tensor) -> Tensor:
    """Mean per-joint position error (...,) in mm after both roots are moved to the origin; the heading is not aligned."""
    return mpjpe_g_mm(pos - pos[..., :1, :], ref_pos - ref_pos[..., :1, :])


def mpjpe_pa_mm(pos: Tensor, ref_pos: Tensor) -> Tensor:
    """Mean per-joint position error (...,) in mm after the best similarity transform of each frame (Procrustes)."""
    return mpjpe_g_mm(procrustes(pos, ref_pos), ref_pos)


def velocity_error_mm(error: Tensor, previous_error: Tensor) -> Tensor:
    """Mean over bodies (...,) of ‖(P_t − P_{t−1}) − (G_t − G_{t−1})‖ in mm per frame.

    Takes the offsets P − G (..., B, 3) m of this frame and the previous one.
    """
    return (error - previous_error).norm(dim=-1).mean(-1) * _MM_PER_M


def acceleration_error_mm(error: Tensor, previous_error: Tensor, error_before: Tensor) -> Tensor:
    """Mean over bodies (...,) of the difference of second differences in mm per frame².

    Takes the offsets P − G (..., B, 3) m of this frame, the previous one and the one before that. Not divided by dt², as PHC reports it.
    """
    return (error - 2.0 * previous_error + error_before).norm(dim=-1).mean(-1) * _MM_PER_M


def procrustes(points: Tensor, target: Tensor) -> Tensor:
    """``points`` (..., B, 3) moved by the rotation, uniform scale and translation that bring them nearest to ``target`` in least squares.

    No reflection. Follows Horn (1987), "Closed-form solution of absolute orientation using unit quaternions", rather than an SVD, which
    waits for the device on CUDA and cannot be captured in a graph. Works in float64 inside; the result has the dtype of ``points``.
    Points that coincide stay at the centroid of the target.
    """
    points_64, target_64 = points.double(), target.double()
    source = points_64 - points_64.mean(-2, keepdim=True)
    goal_center = target_64.mean(-2, keepdim=True)
    goal = target_64 - goal_center
    rotation = _horn_rotation(source.transpose(-1, -2) @ goal)
    rotated = source @ rotation.transpose(-1, -2)
    square_size = (source * source).sum((-1, -2), keepdim=True)
    scale = (rotated * goal).sum((-1, -2), keepdim=True) / square_size.clamp_min(torch.finfo(torch.float64).tiny)
    return (scale * rotated + goal_center).to(points.dtype)


def _horn_rotation(covariance: Tensor) -> Tensor:
    """The rotation matrix R (..., 3, 3) that maximises Σ gᵢ · R pᵢ, from the covariance Σ pᵢ gᵢᵀ (..., 3, 3)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in covariance.unbind(-2))
    rows = (
        (xx + yy + zz, yz - zy, zx - xz, xy - yx),
        (yz - zy, xx - yy - zz, xy + yx, zx + xz),
        (zx - xz, xy + yx, yy - xx - zz, yz + zy),
        (xy - yx, zx + xz, yz + zy, zz - xx - yy),
    )
    return rotations.to_matrix(_leading_eigenvector(torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)))


def _leading_eigenvector(symmetric: Tensor) -> Tensor:
    """A unit eigenvector (..., 4) of the largest eigenvalue of a symmetric matrix (..., 4, 4), by repeated squaring.

    The shift makes all eigenvalues non-negative; each squaring squares their ratios, until the matrix is the projector on the leading
    eigenspace. Any of its columns is then such a vector; the one with the largest diagonal entry is the most exact, also where
    eigenvalues coincide. A zero matrix gives the first unit vector.
    """
    identity = torch.eye(4, dtype=symmetric.dtype, device=symmetric.device)
    size = symmetric.norm(dim=(-2, -1), keepdim=True)
    power = symmetric / size.clamp_min(torch.finfo(symmetric.dtype).tiny) + identity
    for _ in range(_ROUNDS):
        for _ in range(_SQUARINGS):
            power = power @ power
        power = power / power.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    best = power.diagonal(dim1=-2, dim2=-1).argmax(-1)
    column = torch.take_along_dim(power, best[..., None, None], dim=-1).squeeze(-1)
    return rotations.normalize(column)

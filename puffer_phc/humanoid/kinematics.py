"""Forward kinematics of the humanoid and the height of its lowest point, in torch."""

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.skeleton import BODIES, NUM_BODIES, OFFSETS, PARENTS, Box, Capsule, Shape


def forward_kinematics(root_pos: Tensor, local_quats: Tensor) -> "tuple[Tensor, Tensor]":
    """World positions (..., B, 3) and rotations (..., B, 4) of all bodies.

    ``root_pos`` is (..., 3) m; ``local_quats`` is (..., B, 4), child-to-parent, the root's own being its world rotation.
    """
    offsets = torch.as_tensor(OFFSETS, dtype=root_pos.dtype, device=root_pos.device)
    positions, quats = [root_pos], [local_quats[..., 0, :]]
    for body in range(1, NUM_BODIES):
        parent = PARENTS[body]
        positions.append(positions[parent] + rotations.rotate(quats[parent], offsets[body].expand_as(root_pos)))
        quats.append(rotations.multiply(quats[parent], local_quats[..., body, :]))
    return torch.stack(positions, dim=-2), torch.stack(quats, dim=-2)


def local_rotations(quats: Tensor) -> Tensor:
    """Child-to-parent rotations (..., B, 4) from world rotations ``quats`` (..., B, 4); the root keeps its world rotation."""
    parents = torch.as_tensor(PARENTS[1:], device=quats.device)
    local = rotations.multiply(rotations.conjugate(quats[..., parents, :]), quats[..., 1:, :])
    return torch.cat((quats[..., :1, :], local), dim=-2)


def local_quats_from_dofs(root_quat: Tensor, dof_pos: Tensor) -> Tensor:
    """Child-to-parent rotations (..., B, 4) from the root rotation (..., 4) and rotation vectors (..., D)."""
    joints = rotations.from_rotation_vector(dof_pos.unflatten(-1, (NUM_BODIES - 1, 3)))
    return torch.cat((root_quat.unsqueeze(-2), joints), dim=-2)


def _support_points(shape: Shape) -> "tuple[list[tuple[float, ...]], float]":
    """Points in the body frame and a radius: the shape's lowest point is the lowest of the points less the radius."""
    if isinstance(shape, Box):
        (x, y, z), (a, b, c) = shape.center, shape.half_extents
        corners = [(x + i * a, y + j * b, z + k * c) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]
        return corners, 0.0
    if isinstance(shape, Capsule):
        return [shape.start, shape.end], shape.radius
    return [shape.center], shape.radius


def lowest_point(body_pos: Tensor, body_quat: Tensor) -> Tensor:
    """Height (..., B) in m of the lowest point of each body's collision shape; ``.amin(-1)`` is the humanoid's.

    ``body_pos`` is (..., B, 3) m and ``body_quat`` (..., B, 4), world frame.
    """
    heights = []
    for index, body in enumerate(BODIES):
        points, radius = _support_points(body.shape)
        local = torch.as_tensor(points, dtype=body_pos.dtype, device=body_pos.device)
        world = rotations.rotate(body_quat[..., index, None, :], local)
        heights.append(body_pos[..., index, 2] + world[..., 2].amin(-1) - radius)
    return torch.stack(heights, dim=-1)

"""Triangles of three shapes that fill the cube [−1, 1]³, to be scaled by half extents."""

from typing import Dict, Tuple

import numpy as np

Mesh = Tuple[np.ndarray, np.ndarray]
"""Vertices (V, 3) float32 and triangles (F, 3) uint32, counter-clockwise seen from outside."""

_AROUND, _ALONG = 16, 8


def unit_meshes() -> Dict[str, Mesh]:
    """A sphere, a cylinder along z without lids (capsules' caps are spheres), and a box."""
    return {"sphere": sphere(), "cylinder": cylinder(), "box": box()}


def sphere() -> Mesh:
    """Rings of vertices from pole to pole."""
    polar = np.linspace(0.0, np.pi, _ALONG + 1)
    return _rings(np.sin(polar), np.cos(polar))


def cylinder() -> Mesh:
    """Two rings."""
    return _rings(np.ones(2), np.array([1.0, -1.0]))


def _rings(radii: np.ndarray, heights: np.ndarray) -> Mesh:
    """The surface between rings around z, from the top down."""
    angles = 2.0 * np.pi * np.arange(_AROUND) / _AROUND
    x, y = radii[:, None] * np.cos(angles), radii[:, None] * np.sin(angles)
    vertices = np.stack((x, y, np.broadcast_to(heights[:, None], x.shape)), axis=-1).reshape(-1, 3)
    ring, step = np.meshgrid(np.arange(len(radii) - 1), np.arange(_AROUND), indexing="ij")
    upper, next_upper = ring * _AROUND + step, ring * _AROUND + (step + 1) % _AROUND
    lower, next_lower = upper + _AROUND, next_upper + _AROUND
    faces = np.stack((np.stack((upper, lower, next_lower), -1), np.stack((upper, next_lower, next_upper), -1)), axis=-2)
    return vertices.astype(np.float32), faces.reshape(-1, 3).astype(np.uint32)


def box() -> Mesh:
    """Six sides with corners of their own, so that edges stay sharp."""
    vertices, faces = [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            start = len(vertices)
            for along, across in ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)):
                corner = np.zeros(3)
                corner[axis], corner[(axis + 1) % 3], corner[(axis + 2) % 3] = sign, along, across
                vertices.append(corner)
            quad = (0, 1, 2, 3) if sign > 0 else (3, 2, 1, 0)
            faces += [[start + quad[0], start + quad[1], start + quad[2]], [start + quad[0], start + quad[2], start + quad[3]]]
    return np.array(vertices, dtype=np.float32), np.array(faces, dtype=np.uint32)

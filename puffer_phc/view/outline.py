"""The humanoid's shapes as points, for pages that draw it without a 3D engine."""

import base64
from typing import List, Tuple

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.view.scene import Shapes, humanoid_shapes, place, slim

_CORNERS = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_MM_PER_M = 1000.0
_LARGEST = 32767.0


class Outline:
    """K points on the P shapes of a humanoid: a ball has its centre, a capsule its ends, a box its corners."""

    def __init__(self, is_slim: bool = False) -> None:
        self._shapes: Shapes = slim(humanoid_shapes()) if is_slim else humanoid_shapes()
        offsets = [_offsets(kind, size) for kind, size in zip(self._shapes.kinds, self._shapes.size)]
        self._offsets = torch.cat(offsets)
        self._owners = torch.cat([torch.full((len(part),), index) for index, part in enumerate(offsets)])
        self._counts = [len(part) for part in offsets]

    def describe(self) -> List[Tuple[str, float, int, int, float]]:
        """(kind, radius m, first point, number of points, shade) of every shape."""
        shapes, first, rows = self._shapes, 0, []
        for kind, size, count, shade in zip(shapes.kinds, shapes.size.tolist(), self._counts, shapes.shades.tolist()):
            rows.append((kind, round(size[0], 4), first, count, round(shade, 3)))
            first += count
        return rows

    def points(self, body_pos: Tensor, body_quat: Tensor) -> Tensor:
        """(T, K, 3) m on bodies at (T, B, 3), (T, B, 4)."""
        pos, quat = place(self._shapes, body_pos, body_quat)
        turned = rotations.rotate(quat[:, self._owners], self._offsets.expand(len(pos), -1, -1))
        return pos[:, self._owners] + turned


def _offsets(kind: str, size: Tensor) -> Tensor:
    """(k, 3) points of a shape of half extents ``size`` (3,) in its own frame."""
    if kind == "capsule":
        return size[2] * torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    return _CORNERS * size if kind == "box" else torch.zeros(1, 3)


def packed(points: Tensor) -> str:
    """``points`` in m as little-endian int16 millimetres in base64; what is farther than 32 m stays at that distance."""
    whole = (points * _MM_PER_M).round().nan_to_num(0.0).clamp(-_LARGEST, _LARGEST).to(torch.int16)
    return base64.b64encode(whole.numpy().astype("<i2").tobytes()).decode("ascii")

"""Humanoids on a page as batches of instances."""

from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from puffer_phc.view.meshes import unit_meshes
from puffer_phc.view.scene import Shapes, place


class Figures:
    """N figures on the page as three batches of instances: spheres, cylinders and boxes."""

    def __init__(self, scene: Any, name: str, shapes: Shapes, rgb: Tensor, opacity: Optional[float]) -> None:
        self.batches = []
        num_figures = len(rgb)
        for kind, (vertices, faces) in unit_meshes().items():
            chosen = [index for index, own in enumerate(shapes.kinds) if own == kind]
            part = shapes.select(kind)
            count = num_figures * len(chosen)
            handle = scene.add_batched_meshes_simple(
                f"{name}/{kind}",
                vertices,
                faces,
                batched_wxyzs=np.tile([1.0, 0.0, 0.0, 0.0], (count, 1)),
                batched_positions=np.zeros((count, 3)),
                batched_scales=part.size.repeat(num_figures, 1).numpy(),
                batched_colors=_bytes(rgb[:, chosen]),
                opacity=opacity,
                lod="off",
                cast_shadow=opacity is None,
                receive_shadow=False,
            )
            self.batches.append((handle, part, chosen))

    def move(self, body_pos: Tensor, body_quat: Tensor) -> None:
        """Put the figures on bodies at (N, B, 3), (N, B, 4)."""
        for handle, part, _ in self.batches:
            pos, quat = place(part, body_pos, body_quat)
            handle.batched_positions = pos.flatten(0, 1).numpy()
            handle.batched_wxyzs = quat.flatten(0, 1).numpy()

    def paint(self, rgb: Tensor) -> None:
        """Give the shapes the colours (N, P, 3)."""
        for handle, _, chosen in self.batches:
            handle.batched_colors = _bytes(rgb[:, chosen])

    def show(self, visible: bool) -> None:
        """Show or hide all of them."""
        for handle, _, _ in self.batches:
            handle.visible = visible


def _bytes(rgb: Tensor) -> np.ndarray:
    return (255.0 * rgb.flatten(0, -2)).round().to(torch.uint8).numpy()

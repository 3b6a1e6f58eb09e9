"""A clip at another frame rate: frame k is the motion at k / fps seconds, whatever the two rates are.

Between its frames a captured motion is a smooth curve. The cubic through the four frames around an instant follows it to within a
millimetre at 24 frames per second, where a straight line cuts its bends by several.
"""

import numpy as np
import torch

from puffer_phc import rotations
from puffer_phc.motion.file import Clip

FPS = 30.0
"""Frames per second of every stored motion; the policy acts at the same rate, so that its times fall on frames."""

_NODES = 4
"""Frames that a cubic goes through."""


def resample(clip: Clip, fps: float) -> Clip:
    """The clip at ``fps`` frames per second, its duration within half a frame of what it was.

    The last frame may lie up to half a frame beyond the last captured one; it continues the curve through frames one new frame apart.
    """
    if abs(clip.fps - fps) < 1e-6 * fps:
        return clip
    nodes = min(_NODES, clip.num_frames)
    stride = max(1, round(clip.fps / fps))
    reach = clip.duration * fps
    goes_on = clip.num_frames > (nodes - 1) * stride
    num_frames = max(int(np.floor(reach + (0.5 if goes_on else 1e-6))) + 1, 2)
    position = np.arange(num_frames) * (clip.fps / fps)
    beyond = position > clip.num_frames - 1 + 1e-6
    if not goes_on:
        position = np.minimum(position, clip.num_frames - 1)
    spacing = np.where(beyond & goes_on, stride, 1)
    first = np.clip(np.floor(position + 1e-6).astype(np.int64) - nodes // 2 + 1, 0, clip.num_frames - 1 - (nodes - 1) * spacing)
    weights = _lagrange_weights((position - first) / spacing, nodes)
    rows = first[:, None] + spacing[:, None] * np.arange(nodes)
    quats = _blend(_continuous(clip.local_quats.astype(np.float64)), rows, weights)
    root_pos = _blend(clip.root_pos.astype(np.float64), rows, weights)
    unit = rotations.normalize(torch.from_numpy(quats)).numpy()
    return clip._replace(root_pos=root_pos.astype(np.float32), local_quats=unit.astype(np.float32), fps=fps)


def _lagrange_weights(x: np.ndarray, nodes: int) -> np.ndarray:
    """(N, nodes) weights of values at 0, 1, … in the value at ``x`` (N,) of the polynomial through them."""
    columns = [
        np.prod([(x - other) / (node - other) for other in range(nodes) if other != node] or [np.ones_like(x)], axis=0)
        for node in range(nodes)
    ]
    return np.stack(columns, axis=1)


def _blend(values: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, ...) sums of ``values`` (F, ...) at ``rows`` (N, nodes), weighted."""
    shape = (len(rows),) + (1,) * (values.ndim - 1)
    blended = np.zeros((len(rows), *values.shape[1:]))
    for node in range(rows.shape[1]):
        blended += weights[:, node].reshape(shape) * values[rows[:, node]]
    return blended


def _continuous(quats: np.ndarray) -> np.ndarray:
    """The same rotations (F, B, 4) with signs such that neighbours in time lie in the same hemisphere."""
    turned = np.einsum("fbi,fbi->fb", quats[1:], quats[:-1]) < 0
    quats = quats.copy()
    quats[1:][np.cumsum(turned, axis=0) % 2 == 1] *= -1.0
    return quats

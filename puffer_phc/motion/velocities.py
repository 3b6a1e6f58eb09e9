"""Velocities of sampled motions: exact differences, then the Gaussian filter of PHC.

All clips lie one after the other on the leading axis; ``first`` and ``last`` (F,) int64 are, for every frame, the indices of the
first and last frame of its clip, so that neither differences nor the filter reach into a neighbour. Functions are pure.
"""

import math

import torch
from torch import Tensor

from puffer_phc import rotations

FILTER_SIGMA = 2.0
"""Frames. PHC smooths the velocities of 30 Hz motion with this Gaussian."""

FILTER_RADIUS = 8
"""Frames at which the Gaussian is cut off: four sigma."""


def _central(forward: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Mean of the differences before and after each frame, one-sided at the ends of clips.

    ``forward`` (F, ...) is the difference from each frame to the next; its value at the last frame of a clip is not used.
    """
    frames = torch.arange(len(first), device=first.device)
    before = forward[torch.maximum(frames - 1, first)]
    after = forward[torch.minimum(frames, last - 1)]
    return 0.5 * (before + after)


def _next(values: Tensor) -> Tensor:
    return torch.cat((values[1:], values[-1:]), dim=0)


def linear_velocity(pos: Tensor, first: Tensor, last: Tensor, fps: float) -> Tensor:
    """(F, ..., 3) m/s by central differences of positions ``pos`` (F, ..., 3) m, one-sided at the ends, as numpy.gradient."""
    return _central(_next(pos) - pos, first, last) * fps


def angular_velocity(quats: Tensor, first: Tensor, last: Tensor, fps: float) -> Tensor:
    """(F, ..., 3) rad/s in the parent frame of ``quats`` (F, ..., 4): the world frame for world rotations.

    Exact for a constant angular velocity of less than half a turn per frame; one-sided at the ends.
    """
    step = rotations.multiply(_next(quats), rotations.conjugate(quats))
    return _central(rotations.to_rotation_vector(step), first, last) * fps


def joint_velocity(local_quats: Tensor, first: Tensor, last: Tensor, fps: float) -> Tensor:
    """(F, ..., 3) rad/s in the child's frame, of the child relative to its parent, from child-to-parent ``local_quats`` (F, ..., 4)."""
    step = rotations.multiply(rotations.conjugate(local_quats), _next(local_quats))
    return _central(rotations.to_rotation_vector(step), first, last) * fps


def smooth(values: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """``values`` (F, ...) filtered along time by a Gaussian of two frames; beyond the ends of a clip its end values go on.

    Equal to ``scipy.ndimage.gaussian_filter1d(sigma=2, mode="nearest", truncate=4)`` on each clip.
    """
    frames = torch.arange(len(first), device=first.device)
    clip = (frames == first).cumsum(0) - 1
    width = 2 * FILTER_RADIUS
    padded = torch.arange(len(first) + width * (int(clip[-1]) + 1), device=first.device)
    clip_of_padded = torch.searchsorted(last + width * (clip + 1), padded)
    source = padded - width * clip[clip_of_padded] - FILTER_RADIUS
    source = torch.minimum(torch.maximum(source, first[clip_of_padded]), last[clip_of_padded])
    extended = values[source]
    length = len(padded) - width
    weights = [math.exp(-0.5 * (shift / FILTER_SIGMA) ** 2) for shift in range(-FILTER_RADIUS, FILTER_RADIUS + 1)]
    result = torch.zeros_like(extended[:length])
    for shift, weight in enumerate(weights):
        result.add_(extended[shift : shift + length], alpha=weight / sum(weights))
    return result[frames + width * clip]

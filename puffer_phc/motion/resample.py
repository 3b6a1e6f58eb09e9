"""Recordings at another frame rate, in exact time, without the noise that a lower rate would fold into the motion."""

import math

import numpy as np
import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.motion.recording import Recording
from puffer_phc.motion.timeline import Timeline

TARGET_FPS = 30.0


def continuous(quats: Tensor) -> Tensor:
    """The same rotations (F, ..., 4) with signs such that neighbours in time lie in the same hemisphere."""
    dots = (quats[1:] * quats[:-1]).sum(-1, keepdim=True)
    signs = torch.where(dots < 0, -torch.ones_like(dots), torch.ones_like(dots)).cumprod(0)
    return torch.cat((quats[:1], quats[1:] * signs), dim=0)


def smooth_rotations(quats: Tensor, sigma: float, timeline: Timeline) -> Tensor:
    """Unit quaternions (F, ..., 4) with a Gaussian of ``sigma`` frames along time; motion goes on beyond the ends of takes."""
    return rotations.normalize(timeline.smooth_moving(continuous(quats), sigma))


def _grid(frames: int, fps: float, target_fps: float) -> "tuple[Tensor, Tensor]":
    """For each frame of the new clock the frame before it and the fraction (…) of the way to the next."""
    count = math.floor((frames - 1) / fps * target_fps + 1e-6) + 1
    position = np.arange(count) * (fps / target_fps)
    before = np.minimum(np.floor(position + 1e-6).astype(np.int64), frames - 1)
    return torch.from_numpy(before), torch.from_numpy(np.clip(position - before, 0.0, 1.0)).float()


def thinned(recording: Recording, fps: float = 60.0) -> Recording:
    """Every n-th frame of a take, with the largest n that leaves it at least ``fps``."""
    stride = max(1, int(recording.fps / fps + 1e-6))
    return recording._replace(positions=recording.positions[::stride], quats=recording.quats[::stride], fps=recording.fps / stride)


def resample(recording: Recording, fps: float = TARGET_FPS, cutoff: float = 0.0) -> Recording:
    """The recording at ``fps``: positions blended linearly and rotations spherically between the frames around each instant.

    ``cutoff`` is the standard deviation in seconds of the Gaussian that takes away what the lower rate could not show.
    """
    timeline = recording.timeline
    sigma = cutoff * recording.fps
    positions = timeline.smooth_moving(recording.positions, sigma)
    quats = smooth_rotations(recording.quats, sigma, timeline) if sigma > 0 else recording.quats
    grids = [_grid(length, recording.fps, fps) for length in timeline.lengths]
    before = torch.cat([span.start + frames for span, (frames, _) in zip(timeline.spans(), grids)])
    after = torch.cat([(span.start + frames + 1).clamp_max(span.stop - 1) for span, (frames, _) in zip(timeline.spans(), grids)])
    weight = torch.cat([fraction for _, fraction in grids])[:, None, None]
    return recording._replace(
        positions=torch.lerp(positions[before], positions[after], weight),
        quats=rotations.slerp(quats[before], quats[after], weight),
        fps=fps,
        lengths=tuple(len(frames) for frames, _ in grids),
    )

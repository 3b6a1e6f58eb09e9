"""Recordings at another frame rate, in exact time, without the noise that a lower rate would fold into the motion."""

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.motion.recording import Recording

TARGET_FPS = 30.0


def continuous(quats: Tensor) -> Tensor:
    """The same rotations (F, ..., 4) with signs such that neighbours in time lie in the same hemisphere."""
    dots = (quats[1:] * quats[:-1]).sum(-1, keepdim=True)
    signs = torch.where(dots < 0, -torch.ones_like(dots), torch.ones_like(dots)).cumprod(0)
    return torch.cat((quats[:1], quats[1:] * signs), dim=0)


def smooth(values: Tensor, sigma: float) -> Tensor:
    """``values`` (F, ...) with a Gaussian of ``sigma`` frames along time; the ends are held."""
    if sigma <= 0:
        return values
    return torch.from_numpy(gaussian_filter1d(values.numpy(), sigma, axis=0, mode="nearest"))


def smooth_moving(values: Tensor, sigma: float) -> Tensor:
    """``values`` (F, ...) with a Gaussian of ``sigma`` frames along time; motion goes on beyond the ends.

    The values are continued by their point reflections about the first and the last. Were the ends held, a filtered runner would set out
    and arrive more slowly than he runs: held ends pull what moves at constant speed inwards by 0.4 ``sigma`` frames.
    """
    reach = min(math.ceil(4.0 * sigma), len(values) - 1)
    if sigma <= 0 or reach < 1:
        return values
    before = 2.0 * values[:1] - values[1 : reach + 1].flip(0)
    after = 2.0 * values[-1:] - values[-reach - 1 : -1].flip(0)
    return smooth(torch.cat((before, values, after)), sigma)[reach:-reach]


def smooth_rotations(quats: Tensor, sigma: float) -> Tensor:
    """Unit quaternions (F, ..., 4) with a Gaussian of ``sigma`` frames along time; motion goes on beyond the ends."""
    return rotations.normalize(smooth_moving(continuous(quats), sigma))


def _grid(frames: int, fps: float, target_fps: float) -> "tuple[Tensor, Tensor]":
    """For each frame of the new clock the frame before it and the fraction (…) of the way to the next."""
    count = math.floor((frames - 1) / fps * target_fps + 1e-6) + 1
    position = np.arange(count) * (fps / target_fps)
    before = np.minimum(np.floor(position + 1e-6).astype(np.int64), frames - 1)
    return torch.from_numpy(before), torch.from_numpy(np.clip(position - before, 0.0, 1.0)).float()


def thinned(recording: Recording, fps: float = 60.0) -> Recording:
    """Every n-th frame of the recording, with the largest n that leaves it at least ``fps``."""
    stride = max(1, int(recording.fps / fps + 1e-6))
    return recording._replace(positions=recording.positions[::stride], quats=recording.quats[::stride], fps=recording.fps / stride)


def resample(recording: Recording, fps: float = TARGET_FPS, cutoff: float = 0.0) -> Recording:
    """The recording at ``fps``: positions blended linearly and rotations spherically between the frames around each instant.

    ``cutoff`` is the standard deviation in seconds of the Gaussian that takes away what the lower rate could not show.
    """
    sigma = cutoff * recording.fps
    positions = smooth_moving(recording.positions, sigma)
    quats = smooth_rotations(recording.quats, sigma) if sigma > 0 else recording.quats
    before, fraction = _grid(len(positions), recording.fps, fps)
    after = (before + 1).clamp_max(len(positions) - 1)
    weight = fraction[:, None, None]
    return recording._replace(
        positions=torch.lerp(positions[before], positions[after], weight),
        quats=rotations.slerp(quats[before], quats[after], weight),
        fps=fps,
    )

"""Velocities against numpy, scipy and motions whose velocities are known."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from puffer_phc import rotations
from puffer_phc.motion import velocities

LENGTHS = [2, 3, 9, 40]
FPS = 30.0


@pytest.fixture
def bounds():
    lengths = torch.tensor(LENGTHS)
    ends = lengths.cumsum(0)
    return torch.repeat_interleave(ends - lengths, lengths), torch.repeat_interleave(ends - 1, lengths)


def parts(values):
    return [part.numpy() for part in torch.split(values, LENGTHS)]


def random(*shape):
    return torch.randn(sum(LENGTHS), *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_linear_velocity_is_numpys_gradient_of_each_clip(bounds):
    pos = random(4, 3)
    for found, clip in zip(parts(velocities.linear_velocity(pos, *bounds, FPS)), parts(pos)):
        np.testing.assert_allclose(found, np.gradient(clip, axis=0) * FPS, atol=1e-10)


def test_smooth_is_scipys_filter_of_each_clip(bounds):
    values = random(4, 3)
    for found, clip in zip(parts(velocities.smooth(values, *bounds)), parts(values)):
        np.testing.assert_allclose(found, gaussian_filter1d(clip, 2.0, axis=0, mode="nearest", truncate=4.0), atol=1e-12)


@pytest.mark.parametrize("speed", [0.0, 1e-4, 1.0, 20.0, 90.0])
def test_constant_rotation_is_exact_up_to_the_last_frame(bounds, speed):
    axis = torch.nn.functional.normalize(random(3)[0], dim=0)
    start = rotations.normalize(random(4)[0])
    turn = rotations.from_rotation_vector(torch.arange(sum(LENGTHS), dtype=torch.float64)[:, None] / FPS * speed * axis)
    world = rotations.multiply(turn, start.expand(len(turn), 4))
    flips = torch.where(random(1) > 0, 1.0, -1.0)
    found = velocities.smooth(velocities.angular_velocity(world * flips, *bounds, FPS), *bounds)
    torch.testing.assert_close(found, (speed * axis).expand_as(found), atol=1e-8, rtol=0)
    local = rotations.multiply(start.expand(len(turn), 4), turn)
    found = velocities.smooth(velocities.joint_velocity(local * flips, *bounds, FPS), *bounds)
    torch.testing.assert_close(found, (speed * axis).expand_as(found), atol=1e-8, rtol=0)


def test_constant_acceleration_is_exact_inside(bounds):
    time = torch.arange(sum(LENGTHS), dtype=torch.float64) / FPS
    pos = (0.5 * -9.81 * time**2)[:, None] * torch.tensor([0.0, 0.0, 1.0])
    raw = velocities.linear_velocity(pos, *bounds, FPS)
    smoothed = velocities.smooth(raw, *bounds)
    long = slice(sum(LENGTHS[:3]), None)
    torch.testing.assert_close(raw[long][1:-1, 2], -9.81 * time[long][1:-1])
    torch.testing.assert_close(smoothed[long][10:-10, 2], -9.81 * time[long][10:-10])


def test_joint_velocity_is_the_difference_of_body_velocities_in_the_child_frame():
    frames = 200
    time = torch.arange(frames, dtype=torch.float64)[:, None] / FPS
    parent = rotations.from_rotation_vector(torch.cat((time.sin(), (0.7 * time).cos(), 0.3 * time), dim=-1))
    local = rotations.from_rotation_vector(torch.cat((0.5 * (1.3 * time).cos(), 0.4 * time.sin(), 0.2 * time), dim=-1))
    child = rotations.multiply(parent, local)
    first, last = torch.zeros(frames, dtype=torch.int64), torch.full((frames,), frames - 1)
    difference = velocities.angular_velocity(child, first, last, FPS) - velocities.angular_velocity(parent, first, last, FPS)
    joint = velocities.joint_velocity(local, first, last, FPS)
    torch.testing.assert_close(joint[1:-1], rotations.rotate(rotations.conjugate(child), difference)[1:-1], atol=2e-3, rtol=0)


def test_slow_joints_are_not_quantised_in_float32(bounds):
    angle = torch.arange(sum(LENGTHS))[:, None] * 1e-4 * torch.tensor([1.0, 2.0, -1.0])
    found = velocities.joint_velocity(rotations.from_rotation_vector(angle), *bounds, FPS)
    torch.testing.assert_close(found, (torch.tensor([1.0, 2.0, -1.0]) * 1e-4 * FPS).expand_as(found), atol=3e-5, rtol=0)

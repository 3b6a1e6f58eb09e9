"""The clamp of PD targets and the drive law, as pure functions."""

import math

import pytest
import torch

from puffer_phc.humanoid.mjcf import PhysicsOptions
from puffer_phc.sim.pd import MAX_ERROR, MAX_TARGET_ANGLE, clamp_target, drive_torque, pd_gains
from puffer_phc.sim.simulator import PdGains

N = 500
GAINS = pd_gains(PhysicsOptions(), torch.device("cpu"))


def joints(seed, angle, num_rows=N):
    """(N, 69) rotation vectors of up to ``angle`` rad in every direction."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.nn.functional.normalize(torch.randn(num_rows, 23, 3, generator=generator), dim=-1)
    return (axes * angle * torch.rand(num_rows, 23, 1, generator=generator)).flatten(1)


def velocities(scale):
    return scale * torch.randn(N, 69, generator=torch.Generator().manual_seed(5))


def explicit_torque(target, pos, vel):
    return GAINS.stiffness * (target - pos) - GAINS.damping * vel


def lengths(vectors):
    return vectors.unflatten(-1, (23, 3)).norm(dim=-1)


def test_gains_follow_table_and_scales():
    scaled = pd_gains(PhysicsOptions(stiffness_scale=2.0, damping_scale=0.5), torch.device("cpu"))
    torch.testing.assert_close(scaled.stiffness, 2.0 * GAINS.stiffness)
    torch.testing.assert_close(scaled.damping, 0.5 * GAINS.damping)
    torch.testing.assert_close(GAINS.damping / GAINS.stiffness, torch.full((69,), 0.1))


def test_targets_within_reach_are_left_alone():
    pos, vel = joints(0, 2.0), velocities(1.0)
    target = pos + 0.1 * vel + 0.1
    target = torch.where(lengths(target).repeat_interleave(3, -1) <= MAX_TARGET_ANGLE, target, pos)
    torch.testing.assert_close(clamp_target(target, pos, vel, GAINS, 500.0), target, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("limit", [50.0, 500.0])
@pytest.mark.parametrize("speed", [0.0, 5.0])
def test_no_torque_exceeds_the_limit(limit, speed):
    pos, vel = joints(0, 3.1), velocities(speed)
    torque = explicit_torque(clamp_target(joints(1, 5.0), pos, vel, GAINS, limit), pos, vel)
    assert torque.abs().max() <= limit * 1.001
    assert torque.abs().max() >= limit * 0.999


def test_every_sign_of_torque_is_right_over_the_whole_action_range():
    """From any pose and for any target of the original's scales, π and 5, no joint is driven the other way round."""
    pos, rest = joints(0, math.pi), torch.zeros(N, 69)
    for scale in (0.5, math.pi, 5.0):
        target = scale * (2.0 * torch.rand(N, 69, generator=torch.Generator().manual_seed(7)) - 1.0)
        wanted = clamp_target(target, rest, rest, GAINS, math.inf)
        torque = drive_torque(clamp_target(target, pos, rest, GAINS, 500.0), pos, rest, GAINS)
        clear = (wanted - pos).abs() > 1e-3
        assert torch.equal(torque[clear].sign(), (wanted - pos)[clear].sign())


def test_without_the_clamp_far_targets_pull_the_wrong_way():
    pos, target = torch.full((1, 69), -2.0), torch.full((1, 69), 2.0)
    assert (drive_torque(target, pos, torch.zeros(1, 69), GAINS) < 0).all()
    assert (drive_torque(clamp_target(target, pos, torch.zeros(1, 69), GAINS, 500.0), pos, torch.zeros(1, 69), GAINS) > 0).all()


def test_no_target_turns_farther_than_a_joint_can_hold():
    """Within reach of a joint that is itself in range, the rotation vector is at most 2.8 rad long, and its direction is kept."""
    target = torch.zeros(1, 69)
    target[0, 3:6] = torch.tensor([3.0, -4.0, 0.0])
    found = clamp_target(target, torch.zeros(1, 69), torch.zeros(1, 69), GAINS, math.inf)
    torch.testing.assert_close(found[0, 3:6], torch.tensor([1.68, -2.24, 0.0]))
    assert lengths(clamp_target(joints(2, 9.0), torch.zeros(N, 69), torch.zeros(N, 69), GAINS, math.inf)).max() <= MAX_TARGET_ANGLE + 1e-5


def test_the_engine_never_sees_an_error_beyond_half_a_turn():
    pos, vel = joints(0, math.pi), velocities(100.0)
    error = clamp_target(joints(1, 5.0), pos, vel, GAINS, 500.0) - pos
    assert error.abs().max() <= MAX_ERROR + 1e-5
    assert math.pi > MAX_ERROR


def test_not_a_number_stays_visible():
    target = torch.zeros(2, 69)
    target[1, 4] = math.nan
    found = clamp_target(target, torch.zeros(2, 69), torch.zeros(2, 69), GAINS, 500.0)
    assert torch.isfinite(found[0]).all() and found[1].isnan().any()


def test_a_component_counts_its_own_gain():
    gains = PdGains(torch.tensor([100.0, 200.0, 400.0]), torch.tensor([10.0, 20.0, 80.0]))
    found = clamp_target(torch.tensor([2.0, 0.5, 1.0]), torch.zeros(3), torch.tensor([0.0, 1.0, 1.0]), gains, 20.0)
    torch.testing.assert_close(found, torch.tensor([0.2, 0.2, 0.25]))


def test_the_clamp_compiles_without_breaks():
    compiled = torch.compile(clamp_target, fullgraph=True, backend="eager")
    arguments = joints(1, 5.0), joints(0, 3.0), velocities(2.0), GAINS, 500.0
    assert torch.equal(compiled(*arguments), clamp_target(*arguments))

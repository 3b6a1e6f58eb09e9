import math
from dataclasses import replace

import golden_vectors
import pytest
import torch
from synthetic_motion import flipped, random_body, turned

from puffer_phc import rotations
from puffer_phc.config import EnvConfig
from puffer_phc.env.rewards import POWER_FREE_STEPS, REWARD_TERMS, imitation_errors, imitation_reward

CONFIG = EnvConfig()


def reward_of(body, reference, config=CONFIG, watts=0.0, step=10):
    rows = len(body.pos)
    return imitation_reward(body, reference, torch.full((rows, 69), watts / 69.0), torch.full((rows,), step), config)


def close_pair(seed=0):
    body = random_body(seed, 4)
    turn = rotations.from_rotation_vector(0.1 * random_body(seed + 1, 4).pos)
    noise = random_body(seed + 2, 4)
    reference = body._replace(
        pos=body.pos + 0.05 * noise.pos,
        quat=rotations.multiply(turn, body.quat),
        lin_vel=body.lin_vel + noise.lin_vel,
        ang_vel=body.ang_vel + noise.ang_vel,
    )
    return body, reference


@pytest.mark.parametrize("suffix, config", [("", CONFIG), ("_k1", replace(CONFIG, reward_pos_scale=1.0, reward_rot_scale=1.0))])
def test_equals_the_original(suffix, config):
    golden = golden_vectors.load("observation_reward")
    reward = reward_of(*golden_vectors.body_and_reference(golden), config=config)
    torch.testing.assert_close(reward.total, golden["reward" + suffix], atol=1e-4, rtol=0)
    torch.testing.assert_close(reward.terms[:, :4], golden["reward_terms" + suffix], atol=1e-4, rtol=0)


def test_perfect_imitation_is_one():
    body = random_body(0, 3)
    reward = reward_of(body, body)
    torch.testing.assert_close(reward.total, torch.ones(3))
    torch.testing.assert_close(reward.terms, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]).expand(3, 5))


def test_errors_by_hand():
    """All bodies 0.3 m, 1e-3 rad, 2 m/s and 3 rad/s off: vectors are averaged over three components, a rotation has one angle."""
    body = random_body(1, 2)
    turn = rotations.from_rotation_vector(torch.tensor([0.0, 1e-3, 0.0])).expand_as(body.quat)
    reference = body._replace(
        pos=body.pos + torch.tensor([0.3, 0.0, 0.0]),
        quat=rotations.multiply(turn, body.quat),
        lin_vel=body.lin_vel + torch.tensor([0.0, 2.0, 0.0]),
        ang_vel=body.ang_vel + torch.tensor([0.0, 0.0, 3.0]),
    )
    for error, expected in zip(imitation_errors(body, reference), (0.09 / 3, 1e-6, 4.0 / 3, 9.0 / 3)):
        torch.testing.assert_close(error, torch.full((2,), expected), rtol=1e-3, atol=0)


@pytest.mark.parametrize("angle", [0.01, 1.0, 3.1])
def test_rotation_error_is_the_angle_both_ways_round(angle):
    body = random_body(2, 1)
    turn = rotations.from_rotation_vector(torch.tensor([angle, 0.0, 0.0])).expand_as(body.quat)
    reference = body._replace(quat=-rotations.multiply(turn, body.quat))
    assert imitation_errors(body, reference)[1].item() == pytest.approx(angle**2, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_does_not_depend_on_place_heading_and_sign(seed):
    body, reference = close_pair(seed)
    moved = [flipped(turned(state, 2.0 + seed, (3.0, -1.0, 0.5)), seed + i) for i, state in enumerate((body, reference))]
    torch.testing.assert_close(reward_of(*moved).terms, reward_of(body, reference).terms, atol=1e-4, rtol=0)


@pytest.mark.parametrize("term, name", [(0, "pos"), (1, "rot"), (2, "vel"), (3, "ang_vel")])
def test_weights_and_scales_reach_their_own_term(term, name):
    body, reference = close_pair()
    before = reward_of(body, reference)
    heavier = reward_of(body, reference, replace(CONFIG, **{f"reward_{name}_weight": 2.0}))
    gain = 2.0 - getattr(CONFIG, f"reward_{name}_weight")
    torch.testing.assert_close(heavier.total, before.total + gain * before.terms[:, term])
    torch.testing.assert_close(heavier.terms, before.terms)
    softer = reward_of(body, reference, replace(CONFIG, **{f"reward_{name}_scale": 0.5 * getattr(CONFIG, f"reward_{name}_scale")}))
    torch.testing.assert_close(softer.terms[:, term], before.terms[:, term].sqrt())
    others = [column for column in range(5) if column != term]
    torch.testing.assert_close(softer.terms[:, others], before.terms[:, others])


def test_power_costs_by_the_watt_after_the_first_steps():
    body = random_body(4, 2)
    for step, cost in ((1, 0.0), (POWER_FREE_STEPS, 0.0), (POWER_FREE_STEPS + 1, 0.1)):
        reward = reward_of(body, body, watts=1000.0, step=step)
        torch.testing.assert_close(reward.total, torch.full((2,), 1.0 - cost))
        torch.testing.assert_close(reward.terms[:, REWARD_TERMS.index("rew_power")], torch.full((2,), -cost))
    original = reward_of(body, body, replace(CONFIG, rew_power_coef=5e-4), watts=1000.0)
    torch.testing.assert_close(original.total, torch.full((2,), 0.5))


def test_far_away_is_zero_and_finite():
    body = random_body(5, 2)
    reward = reward_of(body, body._replace(pos=body.pos + 1e4, lin_vel=body.lin_vel * 1e4))
    assert reward.total.isfinite().all()
    assert (reward.terms[:, [0, 2]] == 0).all()
    assert math.isclose(reward.total[0].item(), CONFIG.reward_rot_weight + CONFIG.reward_ang_vel_weight, rel_tol=1e-5)


def test_compiles_into_one_graph():
    body, reference = close_pair()
    power, steps = torch.ones(4, 69), torch.arange(4) * 2
    compiled = torch.compile(imitation_reward, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(body, reference, power, steps, CONFIG), imitation_reward(body, reference, power, steps, CONFIG))

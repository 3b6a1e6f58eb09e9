"""Draws belong to environments: they do not depend on how processes divide the work."""

import pytest
import torch

from puffer_phc.randomness import EnvRandom

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_eight_processes_see_what_one_sees(kind):
    whole = getattr(EnvRandom(7, 24, CPU), kind)
    parts = [getattr(EnvRandom(7, 3, CPU, first_env=3 * rank, total_envs=24), kind) for rank in range(8)]
    for shape in ((), (5,), (2, 3)):
        assert torch.equal(torch.cat([part(*shape) for part in parts]), whole(*shape))


def test_draws_follow_their_laws():
    random = EnvRandom(1, 20_000, CPU)
    uniform, normal = random.uniform(), random.normal()
    assert uniform.min() >= 0.0 and uniform.max() < 1.0
    assert abs(uniform.mean() - 0.5) < 0.02
    assert abs(normal.mean()) < 0.05 and abs(normal.std() - 1.0) < 0.05


def test_seeds_differ_and_the_state_can_be_saved():
    random = EnvRandom(1, 8, CPU)
    state = random.generator.get_state()
    first = random.normal(3)
    assert not torch.equal(first, random.normal(3))
    assert not torch.equal(first, EnvRandom(2, 8, CPU).normal(3))
    random.generator.set_state(state)
    assert torch.equal(first, random.normal(3))

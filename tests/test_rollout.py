"""Segments and the optimiser's flat gradient."""

import torch

from puffer_phc.learn.distributed import World
from puffer_phc.learn.optimizer import FlatAdam, LearningRate
from puffer_phc.learn.rollout import segments


def test_segments_are_runs_of_one_environment() -> None:
    num_steps, num_envs, length = 6, 4, 3
    order = torch.randperm(num_steps * num_envs // length)
    rows = segments(num_steps, num_envs, length, order)
    steps, envs = rows // num_envs, rows % num_envs
    assert (envs == envs[:, :1]).all()
    assert (steps[:, 1:] - steps[:, :-1] == 1).all()
    assert (steps[:, 0] % length == 0).all()
    assert rows.flatten().sort().values.tolist() == list(range(num_steps * num_envs))


def quadratic(module: torch.nn.Module) -> torch.Tensor:
    return sum((p - 3.0).square().sum() for p in module.parameters())  # type: ignore[return-value]


def test_flat_adam_steps_like_torch_adam_with_clipping() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    flat = FlatAdam(ours, eps=1e-5, max_grad_norm=1.0, world=World())
    flat.rate.fill_(0.01)
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01, eps=1e-5)
    for _ in range(5):
        flat.backward(quadratic(ours))
        norm = flat.step()
        adam.zero_grad()
        quadratic(theirs).backward()
        expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        adam.step()
        torch.testing.assert_close(norm, expected)
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_flat_adam_goes_on_exactly_from_its_state() -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)
    first = FlatAdam(module, eps=1e-5, max_grad_norm=10.0, world=World())
    first.rate.fill_(0.05)
    for _ in range(3):
        first.backward(quadratic(module))
        first.step()
    twin = torch.nn.Linear(3, 2)
    twin.load_state_dict(module.state_dict())
    second = FlatAdam(twin, eps=1e-5, max_grad_norm=10.0, world=World())
    second.load_state_dict(first.state_dict())
    for optimizer, net in ((first, module), (second, twin)):
        optimizer.backward(quadratic(net))
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), twin.parameters()))
    assert second.rate.item() == first.rate.item()


def test_learning_rate_decays_to_its_floor() -> None:
    schedule = LearningRate(base=1e-4, decay=1.5e-4, floor=0.2)
    assert schedule.at(0) == 1e-4
    assert abs(schedule.at(3815) / 1e-4 - 0.56428) < 1e-4
    assert schedule.at(20_000) == 0.2e-4

"""Checkpoints whose weights are stored in eight bits."""

from pathlib import Path
from typing import Any, Dict, Type

import pytest
import torch

from puffer_phc.errors import CheckpointError
from puffer_phc.learn.checkpoint import Checkpoint, compact, load_checkpoint, load_policy, save_checkpoint
from puffer_phc.learn.policy import LSTMActorPolicy, LSTMCriticPolicy, PHCPolicy
from puffer_phc.learn.quantization import dequantize, quantize


def make_policy(kind: Type[PHCPolicy]) -> PHCPolicy:
    torch.manual_seed(0)
    policy = kind(300, 7, layer_sizes=(256,), hidden_size=128, recurrent_size=128)
    with torch.no_grad():
        policy.mean_head.weight.mul_(100.0)
    return policy


def mean_action(policy: PHCPolicy, observations: torch.Tensor) -> torch.Tensor:
    return policy.mean_action(observations, policy.no_memory(len(observations)))[0]


def test_a_weight_is_off_by_half_a_step_of_its_row_at_most() -> None:
    weights = {"a": torch.randn(40, 30) * torch.logspace(-6, 3, 40)[:, None], "bias": torch.randn(30)}
    stored = quantize(weights)
    assert stored.weights["a"].dtype is torch.int8 and stored.weights["a"].abs().amax(1).eq(127).all()
    restored = dequantize(stored)
    step = weights["a"].abs().amax(1, keepdim=True) / 127.0
    error = (restored["a"] - weights["a"]).abs() / step
    assert error.max() <= 0.5 + 1e-4 and error.mean() > 0.1
    assert torch.equal(restored["bias"], weights["bias"])


def test_what_has_no_spread_and_what_is_no_weight_stays_as_it_is() -> None:
    weights = {
        "zeros": torch.zeros(3, 4),
        "obs_norm.square": torch.rand(3, 3),
        "ids": torch.arange(4).reshape(2, 2),
        "empty": torch.zeros(0, 3),
    }
    restored = dequantize(quantize(weights))
    assert set(restored) == set(weights)
    for name, value in weights.items():
        assert torch.equal(restored[name], value), name


@pytest.mark.parametrize("kind", [PHCPolicy, LSTMActorPolicy, LSTMCriticPolicy])
def test_a_policy_acts_nearly_the_same_from_half_the_bytes(tmp_path: Path, kind: Type[PHCPolicy]) -> None:
    policy, other = make_policy(kind), make_policy(kind)
    checkpoint = compact(Checkpoint({}, policy.state_dict(), 300, 7, None), with_critic=False)
    for name, eight_bits in (("half.pt", False), ("byte.pt", True)):
        save_checkpoint(tmp_path / name, checkpoint, eight_bits)
    assert (tmp_path / "byte.pt").stat().st_size < 0.6 * (tmp_path / "half.pt").stat().st_size
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    load_policy(other, load_checkpoint(tmp_path / "byte.pt"), "byte.pt")
    observations = torch.randn(200, 300)
    expected, found = mean_action(policy, observations), mean_action(other, observations)
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert 1e-4 < error < 0.03


def hostile_scales() -> Dict[str, Any]:
    return {
        "none": None,
        "a list": [],
        "a number": {"a": 3.0},
        "of nothing": {"b": torch.ones(2, 1)},
        "of other rows": {"a": torch.ones(3, 1)},
        "of another shape": {"a": torch.ones(2)},
        "of a vector": {"c": torch.ones(2, 1)},
    }


@pytest.mark.parametrize("case", sorted(hostile_scales()))
def test_scales_that_fit_no_codes_are_refused(tmp_path: Path, case: str) -> None:
    policy = {"a": torch.ones(2, 2, dtype=torch.int8), "c": torch.ones(2, dtype=torch.int8)}
    content = {"format": 3, "version": "0", **Checkpoint({}, policy, 20, 7, None, {})._asdict(), "scales": hostile_scales()[case]}
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("kind", [PHCPolicy, LSTMActorPolicy, LSTMCriticPolicy])
def test_codes_that_lack_scales_are_no_weights(tmp_path: Path, kind: Type[PHCPolicy]) -> None:
    """Torch would copy the integers into the policy."""
    stored = quantize(make_policy(kind).state_dict())
    del stored.scales["mean_head.weight"]
    with pytest.raises(ValueError, match=r"the codes of 'mean_head\.weight' have no scales"):
        dequantize(stored)
    content = {"format": 3, "version": "0", **Checkpoint({}, stored.weights, 300, 7, None, {})._asdict(), "scales": stored.scales}
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "model.pt")

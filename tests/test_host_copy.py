"""Copies on the host: the same values, untouched by what comes after, in two memories in turn."""

from typing import Any, Dict

import pytest
import torch

from puffer_phc.learn.host_copy import HostCopier

DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")])]


def make_state(device: str, seed: int, size: int = 5) -> Dict[str, Any]:
    """Numbers of several widths, without numbers, without dimensions, with gaps between them, and on the host."""
    draw = torch.Generator().manual_seed(seed)
    weights = torch.randn(size, 7, generator=draw)
    tensors = {
        "flag": torch.tensor([True, False, True]),
        "weights": weights,
        "transposed": weights.t(),
        "count": torch.tensor(seed, dtype=torch.int64),
        "half": weights[:, 0].half(),
        "nothing": torch.zeros(0, 3),
        "double": weights.double().sum(),
    }
    state: Dict[str, Any] = {name: tensor.to(device) for name, tensor in tensors.items()}
    return {"tensors": state, "more": [state["weights"][1], {"seed": seed, "name": "run"}], "generator": draw.get_state()}


def assert_equal(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_equal(found[name], value)
    elif isinstance(expected, list):
        for pair in zip(found, expected):
            assert_equal(*pair)
    elif isinstance(expected, torch.Tensor):
        assert found.device.type == "cpu" and found.dtype == expected.dtype
        assert torch.equal(found, expected.cpu())
    else:
        assert found == expected


@pytest.mark.parametrize("device", DEVICES)
def test_a_copy_is_equal_and_stays_so(device: str) -> None:
    copier, state = HostCopier(torch.device(device)), make_state(device, 1)
    found = copier.copy(state)
    for tensor in (*state["tensors"].values(), state["generator"]):
        tensor.zero_()
    if device == "cuda":
        torch.cuda.synchronize()
    assert bool(found.has_arrived)
    assert_equal(found.state, make_state(device, 1))


@pytest.mark.parametrize("device", DEVICES)
def test_the_last_two_copies_are_there_whatever_their_sizes(device: str) -> None:
    copier, last = HostCopier(torch.device(device)), None
    for seed, size in enumerate((3, 3, 9, 2, 9, 9, 4)):
        found = copier.copy(make_state(device, seed, size))
        if device == "cuda":
            torch.cuda.synchronize()
        assert bool(found.has_arrived)
        for copied, expected in ((found, (seed, size)), *([] if last is None else [last])):
            assert_equal(copied.state, make_state(device, *expected))
        last = found, (seed, size)


def test_memory_is_asked_for_once() -> None:
    copier = HostCopier(torch.device("cpu"))
    rooms = {copier.copy(make_state("cpu", seed)).state["tensors"]["weights"].untyped_storage().data_ptr() for seed in range(6)}
    assert len(rooms) == 2


def test_a_state_without_tensors_has_arrived() -> None:
    found = HostCopier(torch.device("cpu")).copy({"iteration": 3})
    assert found.state == {"iteration": 3} and bool(found.has_arrived)

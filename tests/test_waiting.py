"""Neither a rollout nor an update waits for the device: on a CPU that takes the way of a GPU, nothing asks what a tensor holds."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, Dict, Iterator

import pytest
import torch
from variants import VARIANTS, make_trainer, small_config
from waiting import NothingWaits, WaitedError, looking_costs

from puffer_phc.env import imitation
from puffer_phc.learn import rollout
from puffer_phc.learn.trainer import Trainer

ROWS = torch.arange(6.0)
MASK = ROWS > 3

WAITING: Dict[str, Callable[[], object]] = {
    "item": lambda: ROWS.sum().item(),
    "bool": lambda: bool(MASK.any()),
    "float": lambda: float(ROWS[0]),
    "if": lambda: 1 if ROWS[0] > 0 else 2,
    "range": lambda: range(torch.ones((), dtype=torch.int64)),  # type: ignore[call-overload]
    "nonzero": lambda: MASK.nonzero(),
    "where with one argument": lambda: torch.where(MASK),
    "mask": lambda: ROWS[MASK],
    "assigning by mask": lambda: ROWS.clone().__setitem__(MASK, ROWS[:2]),
    "masked_select": lambda: ROWS.masked_select(MASK),
    "unique": lambda: ROWS.unique(),
    "bincount": lambda: ROWS.long().bincount(),
    "equal": lambda: torch.equal(ROWS, ROWS),
    "repeat_interleave": lambda: torch.repeat_interleave(ROWS, ROWS.long()),
    "tolist": lambda: ROWS.tolist(),
    "numpy": lambda: ROWS.numpy(),
    "cpu": lambda: ROWS.cpu(),
    "tensor of a list": lambda: torch.tensor([1.0, 2.0]),
    "new_tensor": lambda: ROWS.new_tensor([1.0]),
    "index that is a list": lambda: ROWS[[0, 2]],
}

FREE: Dict[str, Callable[[], object]] = {
    "where": lambda: torch.where(MASK, ROWS, 0.0),
    "masked_fill": lambda: ROWS.masked_fill(MASK, 1.0),
    "index": lambda: ROWS[MASK.long()],
    "repeat_interleave": lambda: torch.repeat_interleave(ROWS, ROWS.long(), output_size=15),
    "slices": lambda: ROWS[2:4].clone().unbind(0),
    "draws": lambda: torch.rand(3) + torch.zeros(()).fill_(2.0),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_noticed(name: str) -> None:
    with NothingWaits(), pytest.raises(WaitedError):
        WAITING[name]()
    WAITING[name]()


@pytest.mark.parametrize("name", FREE)
def test_what_does_not_wait_is_let_through(name: str) -> None:
    with NothingWaits():
        FREE[name]()


def test_backward_passes_are_watched() -> None:
    class Asks(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * gradient.sum().item()

    x = torch.ones(3, requires_grad=True)
    with NothingWaits(), pytest.raises(WaitedError):
        Asks.apply(x).sum().backward()


@pytest.fixture
def gpu_way() -> Iterator[None]:
    with looking_costs():
        yield


def free_engine(trainer: Trainer, nothing_waits: NothingWaits) -> None:
    """Let the engine of ``trainer``, on the CPU, do as it likes."""
    simulator = trainer.env.env.simulator
    for name in ("step", "set_state"):
        setattr(simulator, name, nothing_waits.allowing(getattr(simulator, name)))


def iterate(trainer: Trainer) -> None:
    trainer.collect()
    trainer.update(trainer.advantages())
    trainer.take_in()


@pytest.mark.usefixtures("gpu_way")
@pytest.mark.parametrize("motions", [{}, {"max_resident_frames": 61}, {"physics_rate": 100.0}], ids=["whole", "limited", "between frames"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_neither_rollout_nor_update_waits_for_the_device(tmp_path: Path, variant: str, motions: Dict[str, Any]) -> None:
    pytest.importorskip("mujoco", reason="training needs the MuJoCo backend")
    config = small_config(tmp_path, variant, 9)
    trainer = make_trainer(tmp_path, replace(config, env=replace(config.env, **motions)))
    nothing_waits = NothingWaits()
    free_engine(trainer, nothing_waits)
    iterate(trainer)
    num_done = 0
    for _ in range(2):
        with nothing_waits:
            iterate(trainer)
        num_done += int(trainer.rollout.dones.sum())
    assert num_done > 0, "episodes ended on the way"
    trainer.env.close()


@pytest.mark.usefixtures("gpu_way")
@pytest.mark.parametrize("module", [imitation, rollout])
def test_the_way_of_a_cpu_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    pytest.importorskip("mujoco", reason="training needs the MuJoCo backend")
    trainer = make_trainer(tmp_path, small_config(tmp_path, "PHCPolicy", 9))
    nothing_waits = NothingWaits()
    free_engine(trainer, nothing_waits)
    cpu_way = SimpleNamespace(finds_none=lambda mask: not bool(mask.any()), rows_where=lambda mask: mask.nonzero().squeeze(1))
    monkeypatch.setattr(module, "looking", cpu_way)
    with nothing_waits, pytest.raises(WaitedError):
        trainer.collect()
    trainer.env.close()

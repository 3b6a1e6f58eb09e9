"""The device of a session, and what a checkpoint says of it."""

from dataclasses import replace
from typing import Any, List

import pytest
import torch

from puffer_phc.commands import session
from puffer_phc.config import Config, TrainConfig
from puffer_phc.errors import ConfigError
from puffer_phc.learn.checkpoint import Checkpoint
from puffer_phc.learn.distributed import World


class SecondOfTwo(World):
    """A process's place in a group that is not there."""

    def __init__(self) -> None:
        super().__init__(rank=1, size=2, local_rank=1, device_type="cuda")

    def gather(self, value: Any) -> List[Any]:
        return [value, value - 1]

    def close(self) -> None:
        """Nothing to leave."""


@pytest.fixture
def chosen_devices(monkeypatch: pytest.MonkeyPatch) -> List[torch.device]:
    """Those that were made current, on a machine that seems to have GPUs."""
    made: List[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    monkeypatch.setattr(session, "choose_device", lambda config: torch.device(config.train.device))
    monkeypatch.setattr(session, "resolve", lambda config, device: replace(config, train=replace(config.train, device=str(device))))
    return made


def options(device: str) -> Config:
    config = Config(train=TrainConfig(device=device, precision="float32"))
    return replace(config, env=replace(config.env, max_resident_frames=100))


def test_a_gpu_by_its_number_is_the_current_one(chosen_devices: List[torch.device]) -> None:
    with session.settled(options("cuda:1")) as opened:
        assert chosen_devices == [torch.device("cuda", 1)] == [opened.device]
        assert opened.config.train.device == "cuda:1"


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_one_process_of_several_keeps_the_number_of_its_gpu_to_itself(
    chosen_devices: List[torch.device], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on from its checkpoint, alone perhaps, may have no such GPU."""
    monkeypatch.setattr(session.World, "from_environment", lambda _: SecondOfTwo())
    with session.settled(options(device)) as opened:
        assert opened.device == torch.device("cuda", 1) and chosen_devices == []
        assert opened.config.train.device == "cuda" and opened.config.env.max_resident_frames == 99


class BesideAnother(World):
    """One of two processes, the other of which has its own value to share."""

    def __init__(self, other: Any) -> None:
        super().__init__(rank=0, size=2)
        self.other = other

    def gather(self, value: Any) -> List[Any]:
        return [value, self.other]


def checkpoint(weight: float, steps: int) -> Checkpoint:
    policy = {"layer": torch.full((3, 2), weight), "count": torch.tensor(7), "half": torch.ones(2).half()}
    return Checkpoint({}, policy, 1, 1, {"global_step": steps})


def test_processes_that_read_different_checkpoints_say_so() -> None:
    """Of a folder in which a run began, or saved, between one's look and the other's."""
    mine = checkpoint(0.5, 100)
    session.check_same(mine, BesideAnother(session._fingerprint(checkpoint(0.5, 100))))
    session.check_same(None, BesideAnother(None))
    session.check_same(mine, World())
    for other in (checkpoint(0.25, 100), checkpoint(0.5, 200)):
        with pytest.raises(ConfigError, match="the processes have read different checkpoints"):
            session.check_same(mine, BesideAnother(session._fingerprint(other)))

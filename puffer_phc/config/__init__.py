"""Every option of the project, as frozen dataclasses, one per section of config.ini.

The docstring under a field is its ``--help`` text. Values of ``None`` mean auto: ``resolve`` replaces them by what suits the device.
"""

from dataclasses import dataclass, field
from typing import Optional, TypeVar

from typing_extensions import Literal

from puffer_phc.config.environment import EnvConfig
from puffer_phc.config.learning import DiscriminatorConfig, PolicyConfig, RnnConfig, TrainConfig
from puffer_phc.config.ranges import check
from puffer_phc.config.searching import SweepConfig
from puffer_phc.config.showing import EvalConfig, PlayConfig, VideoConfig
from puffer_phc.errors import ConfigError

__all__ = [
    "BaseConfig",
    "Config",
    "DiscriminatorConfig",
    "EnvConfig",
    "EvalConfig",
    "PlayConfig",
    "PolicyConfig",
    "RnnConfig",
    "SweepConfig",
    "TrainConfig",
    "VideoConfig",
    "chosen",
]


@dataclass(frozen=True)
class BaseConfig:
    """Section [base]."""

    env_name: str = "puffer_phc"
    """Prefix of run names."""
    policy_name: Literal["PHCPolicy", "LSTMActorPolicy", "LSTMCriticPolicy"] = "PHCPolicy"
    """Policy architecture: without memory, or with an LSTM in the actor or in the critic."""

    def __post_init__(self) -> None:
        check("base", self)
        if not self.env_name or set(self.env_name) & set("/\\") or self.env_name.startswith(".") or not self.env_name.isprintable():
            raise ConfigError(f"base.env_name is {self.env_name!r}, must be a plain folder name")


@dataclass(frozen=True)
class Config:
    """All sections."""

    base: BaseConfig = field(default_factory=BaseConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    rnn: RnnConfig = field(default_factory=RnnConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    play: PlayConfig = field(default_factory=PlayConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)


_T = TypeVar("_T")


def chosen(value: Optional[_T]) -> _T:
    """An automatic option that ``resolve`` has settled."""
    assert value is not None, "resolve the configuration first"
    return value

"""Policies and kinds of reward that can be timed beside each other."""

from dataclasses import replace
from typing import Dict, Tuple

from typing_extensions import Literal

from puffer_phc.config import Config

Variant = Literal["PHCPolicy", "LSTMActorPolicy", "LSTMCriticPolicy", "AMP", "ADD"]

_OPTIONS: Dict[str, Tuple[str, Dict[str, bool]]] = {
    "AMP": ("PHCPolicy", {"use_amp_obs": True}),
    "ADD": ("PHCPolicy", {"use_add_obs": True}),
}
"""The policy and the [env] options of those that are not a policy's name."""

SAME_FOR_ALL = ("physics",)
"""Stages in which variants don't differ."""


def varied(config: Config, variant: str) -> Config:
    """``config``, not yet resolved, with what makes it the variant."""
    policy_name, env = _OPTIONS.get(variant, (variant, {}))
    return replace(config, base=replace(config.base, policy_name=policy_name), env=replace(config.env, **env))

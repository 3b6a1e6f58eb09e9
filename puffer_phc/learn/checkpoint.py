"""Checkpoints: plain tensors and numbers in one file that is always whole and never runs code."""

import os
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Union

import torch

import puffer_phc
from puffer_phc.errors import CheckpointError
from puffer_phc.files import whole_file

FORMAT = 1
CRITIC_PREFIXES = ("critic.", "value_head.")
"""Names of the weights that only training needs."""


class Checkpoint(NamedTuple):
    """What a checkpoint holds; ``trainer`` is absent in weights-only files."""

    config: Dict[str, Dict[str, Any]]
    """Sections of options of the run, names to plain values."""
    policy: Dict[str, torch.Tensor]
    """State of the policy network, its observation normaliser included."""
    observation_size: int
    action_size: int
    trainer: Optional[Dict[str, Any]]
    """Optimiser, sampler, random generators and counters."""


def save_checkpoint(path: Union[str, Path], checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to a temporary neighbour, force it to disk, and rename it to ``path``.

    Raises ``CheckpointError`` when the folder cannot be written or the disk is full; an older file at ``path`` then stays whole.
    """
    path = Path(path)
    content = {"format": FORMAT, "version": puffer_phc.__version__, **checkpoint._asdict()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint '{path}' cannot be written: {error}") from error


def load_checkpoint(path: Union[str, Path]) -> Checkpoint:
    """Read a checkpoint onto the CPU. Raises ``CheckpointError`` naming the file and what is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint '{path}' does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"checkpoint '{path}' is damaged or not a checkpoint of this project ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"checkpoint '{path}' is not a checkpoint of format {FORMAT}")
    missing = [name for name in Checkpoint._fields if name not in content]
    if missing:
        raise CheckpointError(f"checkpoint '{path}' lacks {', '.join(missing)}")
    return Checkpoint(*(content[name] for name in Checkpoint._fields))


def compact(checkpoint: Checkpoint, with_critic: bool) -> Checkpoint:
    """A small checkpoint for carrying and publishing: weights in half precision, no trainer state, the critic only if asked for.

    The normaliser stays in full precision. Without its critic a policy acts as before; training on from it starts a new critic.
    """
    weights = {name: tensor for name, tensor in checkpoint.policy.items() if with_critic or not name.startswith(CRITIC_PREFIXES)}
    halved = {name: tensor if name.startswith("obs_norm.") else tensor.half() for name, tensor in weights.items()}
    return checkpoint._replace(policy=halved, trainer=None)


def load_policy(policy: torch.nn.Module, checkpoint: Checkpoint, path: Union[str, Path]) -> None:
    """Copy the checkpoint's weights into ``policy``, whose critic stays as it is where a compact checkpoint has none.

    Raises ``CheckpointError`` when the weights are of another architecture.
    """
    kept = {name: tensor for name, tensor in policy.state_dict().items() if name.startswith(CRITIC_PREFIXES)}
    has_critic = any(name.startswith(CRITIC_PREFIXES) for name in checkpoint.policy)
    try:
        policy.load_state_dict(checkpoint.policy if has_critic else {**kept, **checkpoint.policy})
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise CheckpointError(f"checkpoint '{path}' does not fit this policy: {first[0].strip()}") from error

"""What the modes have in common: the device, the other processes, the options settled, a checkpoint's policy and how it does."""

import contextlib
import dataclasses
from pathlib import Path
from typing import ContextManager, Iterator, NamedTuple, Optional, Tuple

import torch

from puffer_phc import build
from puffer_phc.config import Config, chosen
from puffer_phc.errors import ConfigError
from puffer_phc.evaluate.evaluation import Policy
from puffer_phc.evaluate.result import EvaluationResult
from puffer_phc.learn.checkpoint import Checkpoint, load_checkpoint
from puffer_phc.learn.determinism import be_deterministic
from puffer_phc.learn.distributed import World
from puffer_phc.learn.policy import PHCPolicy
from puffer_phc.learn.rollout import Deterministic, set_products
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.options import SHIPPED_POLICY, Parsed
from puffer_phc.resolve import choose_device, resolve


class Session(NamedTuple):
    """What every mode but a sweep begins with."""

    config: Config
    """Resolved."""
    device: torch.device
    world: World
    checkpoint: Optional[Checkpoint]


def open_session(arguments: Parsed) -> ContextManager[Session]:
    """The session that a command line asks for, with automatic values settled before anything expensive."""
    return settled(arguments.sections(), arguments.checkpoint)


@contextlib.contextmanager
def settled(options: Config, checkpoint: Optional[Checkpoint] = None) -> Iterator[Session]:
    """A session with the automatic values of ``options`` settled.

    In it, this process is one of all that there are, each on a device of its own; they part where it ends, by an error too.
    """
    device = choose_device(options)
    with World.from_environment(device.type) as world:
        check_same(checkpoint, world)
        if device.type == "cuda" and world.size > 1:
            device = torch.device("cuda", world.local_rank)
        elif device.index is not None and device.type == "cuda":
            torch.cuda.set_device(device)  # graphs are recorded on the current one
        config = resolve(options, device)
        if config.train.deterministic:
            be_deterministic()
        set_products(config.train.precision)
        yield Session(common(config, world), device, world, checkpoint)


def check_same(checkpoint: Optional[Checkpoint], world: World) -> None:
    """Raise ConfigError where the processes have read different checkpoints.

    Each has looked for the newest one of a folder before it knew of the others, and a run may have written there meanwhile.
    """
    if world.size > 1 and checkpoint is not None:
        found = world.gather(_fingerprint(checkpoint))
        if any(other != found[0] for other in found):
            raise ConfigError("the processes have read different checkpoints: a run has saved one meanwhile; start again, or name a file")


def _fingerprint(checkpoint: Checkpoint) -> Tuple[object, int]:
    """Its steps and the sum of the bytes of its weights."""
    parts = [tensor.contiguous().view(-1).view(torch.uint8).sum(dtype=torch.int64) for tensor in checkpoint.policy.values()]
    return (checkpoint.trainer or {}).get("global_step"), int(sum(parts))


def common(config: Config, world: World) -> Config:
    """``config`` as it is for all processes, so that any of them, or one alone, goes on from the checkpoint of another.

    Their devices have no numbers, and as many frames of motion as the fullest one has room for: all are to hold the same clips.
    """
    if world.size == 1:
        return config
    frames = min(world.gather(chosen(config.env.max_resident_frames)))
    env = dataclasses.replace(config.env, max_resident_frames=frames)
    train = dataclasses.replace(config.train, device=torch.device(config.train.device).type)
    return dataclasses.replace(config, env=env, train=train)


def needed_checkpoint(arguments: Parsed) -> Path:
    """The file of the policy that a mode shows. Raises ConfigError where there is none."""
    if arguments.checkpoint_path is None:
        raise ConfigError(f"--mode {arguments.mode} needs a checkpoint: -c FILE (a run's latest.pt; '{SHIPPED_POLICY}' is missing)")
    return arguments.checkpoint_path


def session_policy(session: Session, arguments: Parsed, observation_size: int, action_size: int) -> PHCPolicy:
    """A new policy, with the weights of the session's checkpoint where there is one."""
    sizes = (observation_size, action_size)
    if session.checkpoint is None or arguments.checkpoint_path is None:
        return build.make_policy(session.config, *sizes, session.device)
    return build.saved_policy(session.config, *sizes, session.device, session.checkpoint, arguments.checkpoint_path)


class Evaluated(NamedTuple):
    """An evaluation and what it was made with."""

    result: EvaluationResult
    motions: MotionLibrary
    policy: Policy


def evaluated(session: Session, arguments: Parsed) -> Evaluated:
    """What the session's checkpoint does on every clip. Raises ConfigError where it has none."""
    path = needed_checkpoint(arguments)
    checkpoint = session.checkpoint or load_checkpoint(path)
    motions = build.load_motions(session.config, session.device, session.world)
    result, policy = evaluate_saved(session.config, motions, session.world, checkpoint, path)
    return Evaluated(result, motions, policy)


def evaluate_saved(
    config: Config, motions: MotionLibrary, world: World, checkpoint: Checkpoint, path: Path
) -> Tuple[EvaluationResult, Policy]:
    """What the policy of ``checkpoint``, read from ``path``, does on every clip of ``motions``; and the policy."""
    evaluator = build.Evaluator(config, motions, world)
    policy = Deterministic(build.saved_policy(config, evaluator.observation_size, evaluator.action_size, motions.device, checkpoint, path))
    result = evaluator(policy)
    evaluator.close()
    return result, policy

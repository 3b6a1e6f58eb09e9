"""A policy for other programs: ONNX with the observation normaliser and the scale of actions inside, and the body as MJCF beside it."""

import io
import json
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor, nn

from puffer_phc import build
from puffer_phc.config import Config, TrainConfig
from puffer_phc.env.actions import ActionMap
from puffer_phc.errors import ConfigError
from puffer_phc.files import check_writable, whole_file
from puffer_phc.humanoid.mjcf import build_mjcf
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.learn.checkpoint import Checkpoint, load_checkpoint
from puffer_phc.learn.policy import PHCPolicy
from puffer_phc.options import with_policy_of
from puffer_phc.resolve import resolve
from puffer_phc.sim.pd import pd_gains

OPSET = 18
"""Of ONNX: the lowest that PyTorch's exporter writes without converting."""

_CPU = torch.device("cpu")


class Exported(NamedTuple):
    """The files that were written."""

    onnx: Path
    mjcf: Path


class Actor(nn.Module):
    """Raw observations (N, O) to actions (N, A) in [−1, 1] and what they add to the drives' targets (N, 69) in rad.

    One with an LSTM in its actor also takes what it remembers (N, W), zeros at an episode's start, and returns what it remembers next.
    """

    def __init__(self, policy: PHCPolicy, actions: ActionMap) -> None:
        super().__init__()
        self.policy, self._actions = policy, actions
        self.memory_size = 0 if policy.actor_lstm is None else policy.actor_lstm.memory_size
        """W: what a critic remembers is no part of acting."""

    def forward(self, observation: Tensor, memory: Optional[Tensor] = None) -> Tuple[Tensor, ...]:
        """(action, target_offset), and next_memory where there is a memory."""
        before = observation.new_zeros(observation.shape[0], 0) if memory is None else memory
        mean, after = self.policy.mean_action(observation, before)
        action = mean.clamp(-1.0, 1.0)
        outputs = (action, self._actions.offset(action))
        return outputs if memory is None else (*outputs, after)


def checkpoint_config(checkpoint: Checkpoint) -> Config:
    """The options that the checkpoint's policy was trained with, and the defaults for all else."""
    return resolve(with_policy_of(Config(train=TrainConfig(device="cpu")), checkpoint.config), _CPU)


def make_actor(checkpoint: Checkpoint, path: Path) -> Actor:
    """The acting half of the policy of ``checkpoint``, which was read from ``path``."""
    config = checkpoint_config(checkpoint)
    policy = build.saved_policy(config, checkpoint.observation_size, checkpoint.action_size, _CPU, checkpoint, path)
    actions = ActionMap(config.env, pd_gains(build.physics_options(config.env), _CPU))
    return Actor(policy, actions).eval()


def export(path: Path, output: Path) -> Exported:
    """Write the policy of the checkpoint ``path`` to ``output``, an .onnx, and its body to the .xml of the same name.

    Raises ConfigError where ONNX is not installed or ``output`` can't be written, CheckpointError for a checkpoint that is not usable.
    """
    if output.suffix != ".onnx":
        raise ConfigError(f"output '{output}' has to end in .onnx")
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"exporting needs {' and '.join(missing)}: pip install 'puffer-phc[onnx]'")
    check_writable(output.parent)
    checkpoint = load_checkpoint(path)
    actor, config = make_actor(checkpoint, path), checkpoint_config(checkpoint)
    content = onnx_bytes(actor, description(checkpoint, config, actor))
    files = Exported(output, output.with_suffix(".xml"))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(files.onnx) as temporary:
            temporary.write_bytes(content)
        with whole_file(files.mjcf) as temporary:
            temporary.write_text(build_mjcf(build.physics_options(config.env)), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"can't write '{output}': {error.strerror or error}") from error
    return files


def description(checkpoint: Checkpoint, config: Config, actor: Actor) -> Dict[str, str]:
    """What stands in the file's metadata: all that a program needs that has neither this package nor the checkpoint."""
    env, gains = config.env, pd_gains(build.physics_options(config.env), _CPU)
    start = "the reference's joint rotation vectors at t + dt" if env.action_mode == "residual" else "zero"
    lead = f" + {env.velocity_lead:g} · (kd/kp) · the reference's joint velocities at t + dt" if env.action_mode == "residual" else ""
    return {
        "what": "PHC motion imitation policy of puffer-phc",
        "target": f"drive targets in rad = {start}{lead} + target_offset, then clamped to what {env.torque_limit:g} N·m can reach",
        "action_mode": env.action_mode,
        "control_seconds": f"{env.substeps / env.physics_rate:.9g}",
        "future_frames": str(env.num_future_frames),
        "memory_size": str(actor.memory_size),
        "torque_limit": f"{env.torque_limit:g}",
        "velocity_lead": f"{env.velocity_lead:g}",
        "joints": json.dumps([f"{body}_{axis}" for body in BODY_NAMES[1:] for axis in "xyz"]),
        "stiffness": json.dumps(gains.stiffness.tolist()),
        "damping": json.dumps(gains.damping.tolist()),
        "origin": json.dumps(checkpoint.origin or {}),
    }


def onnx_bytes(actor: Actor, metadata: Dict[str, str]) -> bytes:
    """``actor`` as an ONNX model with a free number of rows and ``metadata`` by name."""
    import onnx

    memory = [torch.zeros(2, actor.memory_size)] if actor.memory_size > 0 else []
    inputs = ["observation"] + ["memory"] * len(memory)
    outputs = ["action", "target_offset"] + ["next_memory"] * len(memory)
    arguments = (torch.zeros(2, actor.policy.observation_size), *memory)
    model = _exported(actor, arguments, inputs, outputs)
    for name, value in metadata.items():
        model.metadata_props.add(key=name, value=value)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _exported(actor: Actor, arguments: Tuple[Tensor, ...], inputs: List[str], outputs: List[str]) -> Any:
    """The ONNX model of ``actor``, with weights inside."""
    import onnx

    rows = torch.export.Dim("rows")
    shapes = tuple({0: rows} for _ in arguments)
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the exporter's own future
            program = torch.onnx.export(
                actor,
                arguments,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
    stream = io.BytesIO()
    assert program is not None
    program.save(stream)  # pyright: ignore[reportArgumentType] (its types name paths only)
    return onnx.load_from_string(stream.getvalue())

"""Automatic values: what suits the device, and the checks that need several options together."""

import logging
import os
import shutil
from dataclasses import replace
from importlib.util import find_spec
from typing import Optional, Tuple, TypeVar

import torch

from puffer_phc.config import Config, DiscriminatorConfig, EnvConfig, PolicyConfig, TrainConfig, chosen
from puffer_phc.errors import BackendError, ConfigError
from puffer_phc.motion.frame_rows import row_bytes

_GPU_NUM_ENVS, _CPU_NUM_ENVS = 8192, 256
_GPU_BATCH_SIZE, _CPU_BATCH_SIZE = 131072, 4096
_GPU_LAYER_SIZES = {"LSTMActorPolicy": (2048, 2048, 1024)}
_GPU_CRITIC_LAYER_SIZES = {"LSTMActorPolicy": (1024, 1024, 512, 256), "LSTMCriticPolicy": (2048, 1024, 1024, 512)}
_GPU_DEFAULT_LAYER_SIZES, _CPU_LAYER_SIZES = (2048, 1536, 1024, 1024, 512), (256, 128)
_GPU_HIDDEN_SIZE, _CPU_HIDDEN_SIZE = 512, 128
_GPU_TIMESTEPS, _CPU_TIMESTEPS = 500_000_000, 5_000_000
_GPU_LEARNING_RATE, _CPU_LEARNING_RATE = 2e-4, 5e-4
_GPU_EVAL_INTERVAL, _CPU_EVAL_INTERVAL = 500, 25
_GPU_CHECKPOINT_INTERVAL, _CPU_CHECKPOINT_INTERVAL = 500, 50
_NUM_MINIBATCHES = 4
_Number = TypeVar("_Number", int, float)

WARP_INSTALLATION = "pip install 'mujoco-warp>=3.17,<4' warp-lang (x86-64 Linux or Windows, Python 3.10 or newer)"
"""What a user does who wants the GPU's engine."""
_MOTIONS_SHARE = 0.5
"""Of a GPU's free memory, for motions: simulation, networks and rollouts take the rest."""

_logger = logging.getLogger(__name__)


def choose_device(config: Config) -> torch.device:
    """The device of tensors and networks: ``train.device``, or CUDA where there is one and the backend can use it.

    Where everything is automatic and only the GPU's engine is missing, the CPU is taken, and a line says what to install. Raises
    ConfigError for a device that does not exist or that the backend cannot share, BackendError for one whose engine is missing.
    """
    name, backend = config.train.device, config.env.backend
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() and backend != "mujoco_cpu" else "cpu"
        if name == "cuda" and backend == "auto" and not has_warp():
            _logger.warning("there is a CUDA device, but not its engine: this runs on the CPU; %s", WARP_INSTALLATION)
            name = "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"train.device is {name!r}; choose auto, cpu, cuda or cuda:<number>") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"train.device is {name!r}; choose auto, cpu, cuda or cuda:<number>")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"train.device is {name!r}, but there are {torch.cuda.device_count()} CUDA devices here; choose auto or cpu")
    if backend == "auto" and device.type == "cuda" and not has_warp():
        raise BackendError(f"train.device is {name!r}, but the engine for it is not installed; {WARP_INSTALLATION}")
    if backend == "mujoco_warp" and device.type == "cpu":
        raise BackendError("backend 'mujoco_warp' needs a CUDA device; use --env.backend mujoco_cpu, or auto")
    if backend == "mujoco_cpu" and device.type == "cuda":
        raise ConfigError(f"env.backend is 'mujoco_cpu' and train.device {name!r}: both must be on the same device; use --train.device cpu")
    return device


def has_warp() -> bool:
    """Whether MuJoCo Warp can be imported. Cheap: nothing is."""
    return find_spec("mujoco_warp") is not None and find_spec("warp") is not None


def resolve(config: Config, device: torch.device) -> Config:
    """``config`` with a number for everything automatic, checked as a whole.

    What may stay None: ``env.action_scale``, where it means the original's mixed scales, ``env.hard_clips``, ``eval.compare``,
    ``policy.final_log_std``, and what the play mode settles by the display and the sweep by the machine and its ranges.
    Raises ConfigError with both numbers where sizes do not divide.
    """
    on_gpu = device.type == "cuda"
    if config.train.overlap and (config.env.use_amp_obs or config.env.use_add_obs):
        raise ConfigError(
            "train.overlap leaves no time for a discriminator to judge a batch: leave out it or env.use_amp_obs and env.use_add_obs"
        )
    env = _resolve_env(config.env, device)
    train = _resolve_train(config.train, chosen(env.num_envs), device)
    evaluation = replace(config.eval, num_envs=config.eval.num_envs or env.num_envs)
    policy = _resolve_policy(config.policy, config.base.policy_name, on_gpu)
    rnn = replace(config.rnn, hidden_size=config.rnn.hidden_size or (_GPU_HIDDEN_SIZE if on_gpu else _CPU_HIDDEN_SIZE))
    discriminator = _resolve_discriminator(config.discriminator, env.use_add_obs, chosen(train.minibatch_size), on_gpu)
    return replace(config, env=env, policy=policy, rnn=rnn, discriminator=discriminator, train=train, eval=evaluation)


def _resolve_env(env: EnvConfig, device: torch.device) -> EnvConfig:
    on_gpu = device.type == "cuda"
    backend = env.backend
    if backend == "auto":
        backend = "mujoco_warp" if on_gpu else "mujoco_cpu"
    return replace(
        env,
        backend=backend,
        num_envs=env.num_envs or (_GPU_NUM_ENVS if on_gpu else _CPU_NUM_ENVS),
        max_resident_frames=_given(env.max_resident_frames, _frames_that_fit(env.motion_precision == "float16", device)),
    )


def _frames_that_fit(is_half: bool, device: torch.device) -> int:
    """Frames of motion that a GPU has room for; 0, no limit, elsewhere."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    return int(_MOTIONS_SHARE * free / row_bytes(is_half))


def _resolve_policy(policy: PolicyConfig, name: str, on_gpu: bool) -> PolicyConfig:
    """The widths of ``policy``: the original's for the policy of this ``name`` on a GPU, unless the actor's were given."""
    layer_sizes, critic_layer_sizes = policy.layer_sizes, policy.critic_layer_sizes
    hidden_size = policy.hidden_size or (_GPU_HIDDEN_SIZE if on_gpu else _CPU_HIDDEN_SIZE)
    if layer_sizes is None:
        layer_sizes = _GPU_LAYER_SIZES.get(name, _GPU_DEFAULT_LAYER_SIZES) if on_gpu else _CPU_LAYER_SIZES
        if on_gpu and critic_layer_sizes is None:
            critic_layer_sizes = _GPU_CRITIC_LAYER_SIZES.get(name)
    if critic_layer_sizes is None:
        critic_layer_sizes = (*layer_sizes, hidden_size)
    return replace(policy, layer_sizes=layer_sizes, hidden_size=hidden_size, critic_layer_sizes=critic_layer_sizes)


def _resolve_discriminator(options: DiscriminatorConfig, is_difference: bool, minibatch_size: int, on_gpu: bool) -> DiscriminatorConfig:
    grad_penalty, task_weight, style_weight = (2.0, 0.0, 1.0) if is_difference else (5.0, 0.5, 0.5)
    return replace(
        options,
        layer_sizes=options.layer_sizes or ((1024, 512) if on_gpu else (256, 128)),
        learning_rate=options.learning_rate or (1e-4 if on_gpu else 3e-4),
        batch_size=options.batch_size or max(1, minibatch_size // 8),
        grad_penalty=_given(options.grad_penalty, grad_penalty),
        task_weight=_given(options.task_weight, task_weight),
        style_weight=_given(options.style_weight, style_weight),
    )


def _resolve_train(train: TrainConfig, num_envs: int, device: torch.device) -> TrainConfig:
    on_gpu = device.type == "cuda"
    segment = num_envs * train.bptt_horizon
    batch_size = train.batch_size or segment * max(1, round((_GPU_BATCH_SIZE if on_gpu else _CPU_BATCH_SIZE) / segment))
    if batch_size % segment:
        raise ConfigError(
            f"train.batch_size {batch_size} is not a multiple of env.num_envs × train.bptt_horizon = "
            f"{num_envs} × {train.bptt_horizon} = {segment}"
        )
    minibatch_size = train.minibatch_size or _auto_minibatch(batch_size, train.bptt_horizon)
    if batch_size % minibatch_size:
        raise ConfigError(f"train.batch_size {batch_size} is not a multiple of train.minibatch_size {minibatch_size}")
    if minibatch_size % train.bptt_horizon:
        raise ConfigError(f"train.minibatch_size {minibatch_size} is not a multiple of train.bptt_horizon {train.bptt_horizon}")
    return replace(
        train,
        device=str(device),
        total_timesteps=train.total_timesteps or (_GPU_TIMESTEPS if on_gpu else _CPU_TIMESTEPS),
        batch_size=batch_size,
        minibatch_size=minibatch_size,
        learning_rate=train.learning_rate or (_GPU_LEARNING_RATE if on_gpu else _CPU_LEARNING_RATE),
        eval_interval=_given(train.eval_interval, _GPU_EVAL_INTERVAL if on_gpu else _CPU_EVAL_INTERVAL),
        checkpoint_interval=_given(train.checkpoint_interval, _GPU_CHECKPOINT_INTERVAL if on_gpu else _CPU_CHECKPOINT_INTERVAL),
        compile=on_gpu and can_compile() if train.compile is None else train.compile,
        precision=_precision(train.precision, on_gpu),
    )


def can_compile() -> bool:
    """Whether ``torch.compile`` works for GPUs here: it needs Triton, which not every system has, and a C compiler for its launchers."""
    compilers = (os.environ.get("CC"), "cc", "gcc", "clang")
    return find_spec("triton") is not None and any(shutil.which(compiler) for compiler in compilers if compiler)


def _given(value: Optional[_Number], automatic: _Number) -> _Number:
    """``value``, zero included, or else ``automatic``."""
    return automatic if value is None else value


def _auto_minibatch(batch_size: int, bptt_horizon: int) -> int:
    """The largest share of the batch, a quarter at most, that divides it into whole segments; all of it where none does."""
    shares = (batch_size // count for count in range(_NUM_MINIBATCHES, 0, -1) if batch_size // bptt_horizon % count == 0)
    return next(shares)


def _precision(precision: str, on_gpu: bool) -> str:
    if precision == "auto":
        return "bf16" if on_gpu else "float32"
    return precision


def describe_sizes(config: Config, num_processes: int = 1) -> Tuple[str, ...]:
    """What ``resolve`` chose, a line each, for the person who starts a run of so many processes."""
    env, policy, train = config.env, config.policy, config.train
    layers = " ".join(str(size) for size in (*(policy.layer_sizes or ()), policy.hidden_size))
    if config.base.policy_name != "PHCPolicy":
        layers = f"{config.base.policy_name} {layers}, LSTM {config.rnn.hidden_size}"
    each, steps = ("", "steps") if num_processes == 1 else (f"{num_processes} processes, each with ", "steps in all")
    batches = f"batches of {train.batch_size:,}, minibatches of {train.minibatch_size:,}"
    return (
        f"{each}{env.num_envs} humanoids on {env.backend} ({train.device}), motions from {env.motion_file}",
        f"network {layers}; {train.total_timesteps:,} {steps} in {batches}",
    )

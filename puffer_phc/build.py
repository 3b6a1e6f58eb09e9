"""Objects from a resolved ``Config``: simulator, motions, environment, policy, evaluation."""

from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, Optional

import torch
from torch import Tensor

from puffer_phc.config import Config, EnvConfig, chosen
from puffer_phc.env.actions import ActionMap
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.env.observations import observation_size
from puffer_phc.env.puffer import PufferImitation
from puffer_phc.env.style import AmpObserver, DifferenceObserver, StyleObserver
from puffer_phc.errors import BackendError, CheckpointError, ConfigError
from puffer_phc.evaluate.evaluation import Policy, evaluate
from puffer_phc.evaluate.result import EvaluationResult, merge
from puffer_phc.evaluate.tables import read_hard_clips
from puffer_phc.humanoid.mjcf import PhysicsOptions
from puffer_phc.learn.checkpoint import Checkpoint, load_policy
from puffer_phc.learn.distributed import World
from puffer_phc.learn.policy import LSTMActorPolicy, LSTMCriticPolicy, PHCPolicy
from puffer_phc.learn.stopping import StoppedError
from puffer_phc.motion.file import load_motion_file
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.mirror import with_mirrored
from puffer_phc.motion.sampler import make_sampler
from puffer_phc.mujoco_loading import import_mujoco
from puffer_phc.randomness import EnvRandom
from puffer_phc.sim.simulator import Simulator

POLICIES = {"PHCPolicy": PHCPolicy, "LSTMActorPolicy": LSTMActorPolicy, "LSTMCriticPolicy": LSTMCriticPolicy}
"""Policy architectures by ``base.policy_name``."""

SINGLE_BACKENDS = ("isaac_gym",)
"""Engines of which a process can have one simulation only."""

RECORDED_BACKENDS = ("mujoco_warp",)
"""Engines whose resets can be recorded in a CUDA graph: Isaac Gym's look at which rows there are."""


def physics_options(env: EnvConfig) -> PhysicsOptions:
    """The part of [env] that the physics engine is built from."""
    return PhysicsOptions(
        rate=env.physics_rate,
        substeps=env.substeps,
        integrator=env.integrator,
        iterations=env.solver_iterations,
        has_self_collision=env.has_self_collision,
        stiffness_scale=env.kp_scale,
        damping_scale=env.kd_scale,
    )


def make_simulator(env: EnvConfig, num_envs: int, device: torch.device) -> Simulator:
    """``num_envs`` humanoids on ``env.backend``. Raises BackendError where it is not installed or not for this device.

    Engines are imported here and nowhere above, so that those that are absent do no harm.
    """
    try:
        if env.backend == "mujoco_cpu":
            from puffer_phc.sim.mujoco_cpu import MujocoCpuSimulator

            return MujocoCpuSimulator(num_envs, physics_options(env))
        if env.backend == "mujoco_warp":
            import_mujoco(f"backend '{env.backend}'")
            from puffer_phc.sim.mujoco_warp import MujocoWarpSimulator

            return MujocoWarpSimulator(num_envs, physics_options(env), device)
        if env.backend == "isaac_gym":
            from puffer_phc.sim.isaac_gym import IsaacGymSimulator

            return IsaacGymSimulator(num_envs, physics_options(env), device)
    except ImportError as error:
        raise BackendError(
            f"backend '{env.backend}' can't be loaded here: {error}; the MuJoCo backends need Python 3.10 or newer, and mujoco_warp "
            "x86-64 Linux or Windows and pip install mujoco-warp warp-lang: there is --env.backend mujoco_cpu"
        ) from error
    raise BackendError(f"there is no backend '{env.backend}'; choose mujoco_cpu, mujoco_warp or isaac_gym")


def load_motions(config: Config, device: torch.device, world: Optional[World] = None) -> MotionLibrary:
    """The clips of ``env.motion_file`` on ``device``: all of them, or this process's share with ``train.shard_clips``.

    Raises MotionFileError for a file that is not usable, ConfigError for fewer clips than processes to share them.
    """
    env, world = config.env, world or World()
    clips = load_motion_file(env.motion_file)
    if env.mirror_motions:
        clips = with_mirrored(clips)
    if config.train.shard_clips:
        if len(clips) < world.size:
            raise ConfigError(f"train.shard_clips: {len(clips)} clips cannot be shared by {world.size} processes")
        clips = clips[world.rank :: world.size]
    sets_floor, is_half = env.motion_floor == "humanoid", env.motion_precision == "float16"
    return MotionLibrary(clips, device, sets_floor, is_half, env.max_resident_frames or 0)


def make_environment(config: Config, motions: MotionLibrary, world: Optional[World] = None) -> PufferImitation:
    """The training environment of this process, with its own simulator and sampler."""
    world = world or World()
    env, num_envs, device = config.env, chosen(config.env.num_envs), motions.device
    hard = hard_clips(config, motions)
    random = EnvRandom(config.train.seed, num_envs, device, world.rank * num_envs, world.size * num_envs)
    simulator = make_simulator(env, num_envs, device)
    sampler = make_sampler(env, motions, random, hard)
    sampler.change_residents()
    imitation = ImitationEnv(simulator, motions, sampler, env, env.termination_distance, make_style(env, motions, simulator))
    adapter = PufferImitation(imitation)
    if config.train.compile:
        adapter.compile()
        if env.backend in RECORDED_BACKENDS:
            imitation.record()
    return adapter


def hard_clips(config: Config, motions: MotionLibrary) -> Optional[Tensor]:
    """(C,) bool, true for the clips of ``env.hard_clips``; None where there are none to be drawn more often.

    Raises ConfigError for a file without names and for a name that no clip has; of shared-out clips, other processes hold the others.
    """
    path = config.env.hard_clips
    if path is None:
        return None
    wanted = set(read_hard_clips(path))
    unknown = sorted(wanted - set(motions.names))
    if unknown and not config.train.shard_clips:
        raise ConfigError(f"env.hard_clips '{path}': no clip '{unknown[0]}' in '{config.env.motion_file}'")
    is_hard = torch.tensor([name in wanted for name in motions.names], device=motions.device)
    return is_hard if is_hard.any() else None


def make_style(env: EnvConfig, motions: MotionLibrary, simulator: Simulator) -> Optional[StyleObserver]:
    """What shows a discriminator the humanoids of ``simulator``, where ``env`` asks for one."""
    if env.use_amp_obs:
        return AmpObserver(motions, simulator.num_envs, simulator.control_dt, env.num_amp_obs_steps)
    return DifferenceObserver(simulator.num_envs, simulator.device) if env.use_add_obs else None


def make_policy(config: Config, observation_size: int, action_size: int, device: torch.device) -> PHCPolicy:
    """A new policy on ``device``, its weights drawn from ``train.seed`` alone."""
    options = config.policy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        policy = POLICIES[config.base.policy_name](
            observation_size,
            action_size,
            layer_sizes=chosen(options.layer_sizes),
            hidden_size=chosen(options.hidden_size),
            critic_layer_sizes=chosen(options.critic_layer_sizes),
            recurrent_size=chosen(config.rnn.hidden_size),
            init_log_std=options.init_log_std,
            learn_std=options.learn_std,
        )
    return policy.to(device)


def saved_policy(
    config: Config, observation_size: int, action_size: int, device: torch.device, checkpoint: Checkpoint, path: Path
) -> PHCPolicy:
    """The policy that ``config`` describes with the weights of ``checkpoint``.

    Raises CheckpointError where kinds or sizes differ, naming them.
    """
    kind, theirs_kind = config.base.policy_name, checkpoint.config.get("base", {}).get("policy_name", config.base.policy_name)
    if kind != theirs_kind:
        raise CheckpointError(f"checkpoint '{path}' holds a {theirs_kind}, base.policy_name asks for a {kind}")
    ours, theirs = (observation_size, action_size), (checkpoint.observation_size, checkpoint.action_size)
    if ours != theirs:
        raise CheckpointError(
            f"checkpoint '{path}' is for {theirs[0]} observations and {theirs[1]} actions, this environment has {ours[0]} and {ours[1]}"
        )
    policy = make_policy(config, *ours, device)
    load_policy(policy, checkpoint, path)
    return policy


class Evaluator:
    """Evaluates policies on every clip of ``motions``, one rollout each from its first frame, in a simulator of its own.

    Or in that of ``trained``, the training environment, where the engine exists once in a process: its episodes go on afterwards.
    """

    def __init__(
        self, config: Config, motions: MotionLibrary, world: Optional[World] = None, trained: Optional[PufferImitation] = None
    ) -> None:
        self._env, self._motions, self._world = config.env, motions, world or World()
        self._compile, self._is_sharded = bool(config.train.compile), config.train.shard_clips
        self._share = range(motions.num_clips) if self._is_sharded else range(self._world.rank, motions.num_clips, self._world.size)
        self._lender = trained.env if trained is not None and config.env.backend in SINGLE_BACKENDS else None
        num_envs = min(chosen(config.eval.num_envs), max(len(self._share), 1))
        self._simulator = self._lender.simulator if self._lender else make_simulator(config.env, num_envs, motions.device)
        self.observation_size = observation_size(config.env.num_future_frames)
        self.action_size = ActionMap(config.env, self._simulator.gains).action_size

    def __call__(self, policy: Policy) -> EvaluationResult:
        """The result of ``policy``; every process plays its share of the clips. Where one of them stops, StoppedError comes in all."""
        before = self._lender.snapshot() if self._lender else None
        try:
            own = self._own_result(policy)
        except StoppedError:
            own = None
        if self._lender and before is not None:
            self._lender.restore(before)
        results = self._world.gather(own)
        if any(result is None for result in results):
            raise StoppedError
        return merge([result for result in results if result is not None])

    def _own_result(self, policy: Policy) -> Optional[EvaluationResult]:
        own = evaluate(policy, self._simulator, self._motions, self._env, self._share, self._compile)
        return replace(own, clip_ids=own.clip_ids * self._world.size + self._world.rank) if self._is_sharded else own

    def own_clips(self, values: Tensor) -> Tensor:
        """The part of ``values`` (C,) of all clips that is of the clips of ``motions``."""
        return values[self._world.rank :: self._world.size] if self._is_sharded else values

    def close(self) -> None:
        """Free the simulator, if it is not the training environment's."""
        if self._lender is None:
            self._simulator.close()


def training_evaluation(
    evaluator: Evaluator, env: PufferImitation, keep: Optional[Callable[[Policy, EvaluationResult], None]] = None
) -> Callable[[Policy], Dict[str, float]]:
    """What the trainer calls: evaluates, tells the sampler which clips failed, and returns the summary; ``keep`` gets all of it."""

    def run(policy: Policy) -> Dict[str, float]:
        result = evaluator(policy)
        env.sampler.record_evaluation(evaluator.own_clips(~result.relaxed_success))
        if keep is not None:
            keep(policy, result)
        return result.summary()

    return run

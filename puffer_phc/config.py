"""Every option of the project, as frozen dataclasses, one per section of config.ini.

The docstring under a field is its ``--help`` text. Values of ``None`` mean auto: ``resolve`` replaces them by what suits the device.
"""

import math
import typing
from dataclasses import dataclass, field
from typing import Any, Optional, Sequence, Tuple, TypeVar

from typing_extensions import Literal

from puffer_phc.errors import ConfigError

MAX_SEED = 2**32 - 1
"""What every generator takes, with room for the numbers that are added for its purpose and process."""


def _check(
    section: str,
    options: Any,
    counts: Sequence[str] = (),
    positive: Sequence[str] = (),
    not_negative: Sequence[str] = (),
    shares: Sequence[str] = (),
) -> None:
    """Raise ConfigError for a choice that does not exist, a number that is not finite, and one outside its range. None passes."""
    for name, hint in typing.get_type_hints(type(options)).items():
        value, choices = getattr(options, name), typing.get_args(hint)
        if typing.get_origin(hint) is Literal and value not in choices:
            raise ConfigError(f"{section}.{name} is {value!r}; choose {', '.join(choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{section}.{name} is {value}, must be finite")
    ranges = ((counts, 1, math.inf, "at least 1"), (not_negative, 0, math.inf, "at least 0"), (shares, 0, 1, "between 0 and 1"))
    for names, lowest, highest, text in ranges:
        for name in names:
            value = getattr(options, name)
            if value is not None and not lowest <= value <= highest:
                raise ConfigError(f"{section}.{name} is {value}, must be {text}")
    for name in positive:
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise ConfigError(f"{section}.{name} is {value}, must be more than 0")


def _check_sizes(section: str, options: Any, names: Sequence[str]) -> None:
    """Raise ConfigError for layers without a width."""
    for name in names:
        sizes = getattr(options, name) or ()
        if any(size < 1 for size in sizes):
            raise ConfigError(f"{section}.{name} is {' '.join(map(str, sizes))}, each must be at least 1")


@dataclass(frozen=True)
class BaseConfig:
    """Section [base]."""

    env_name: str = "puffer_phc"
    """Prefix of run names."""
    policy_name: Literal["PHCPolicy", "LSTMActorPolicy", "LSTMCriticPolicy"] = "PHCPolicy"
    """Policy architecture: without memory, or with an LSTM in the actor or in the critic."""

    def __post_init__(self) -> None:
        _check("base", self)
        if not self.env_name or set(self.env_name) & set("/\\") or self.env_name.startswith(".") or not self.env_name.isprintable():
            raise ConfigError(f"base.env_name is {self.env_name!r}, must be a plain folder name")


@dataclass(frozen=True)
class EnvConfig:
    """Section [env]."""

    motion_file: str = "sample_data/deepmimic.npz"
    """Motion file (.npz, or an original-style .pkl)."""
    mirror_motions: bool = False
    """Add the mirror image of every clip, left and right exchanged."""
    motion_floor: Literal["humanoid", "file"] = "humanoid"
    """humanoid: clips are shifted so that the humanoid's own shapes rest on the floor, flights left out; file: heights stay as stored."""
    motion_precision: Literal["float32", "float16"] = "float32"
    """Storage of motions on the device; float16 halves it, positions are then within 0.5 mm and rotations within 0.05 degrees."""
    max_resident_frames: Optional[int] = None
    """Frames of motion on the device (30 a second, one more for each clip), 0: all; auto: what half of a GPU's free memory holds."""
    backend: Literal["auto", "mujoco_cpu", "mujoco_warp", "isaac_gym"] = "auto"
    """Physics engine; auto takes mujoco_warp where there is a CUDA device, else mujoco_cpu."""
    num_envs: Optional[int] = None
    """Humanoids simulated side by side in this process; auto: 8192 on a GPU, 256 on a CPU."""
    has_self_collision: bool = True
    """Whether the bodies of one humanoid collide with each other."""
    physics_rate: float = 60.0
    """Physics steps per second."""
    substeps: int = 2
    """Physics steps per control step."""
    integrator: Literal["discrete", "implicitfast", "implicit", "Euler"] = "discrete"
    """MuJoCo integrator."""
    solver_iterations: int = 5
    """Newton iterations of the contact solver at most."""
    kp_scale: float = 1.0
    """Factor on every joint stiffness."""
    kd_scale: float = 1.0
    """Factor on every joint damping."""
    torque_limit: float = 1000.0
    """N·m: PD targets are clamped so that no joint component asks for more."""
    action_mode: Literal["residual", "absolute"] = "residual"
    """residual: targets are the reference plus the action; absolute (the original's): targets are the action times π."""
    action_scale: Optional[float] = None
    """rad of target per unit of action; auto: 0.5 residual; absolute: π, and 5 for the knees' y axis, as the original."""
    velocity_lead: float = 1.0
    """Residual mode: share of (kd/kp)·reference joint velocity that is added to the target to cancel the drive's lag."""
    freeze_hand: bool = True
    """Take the hands out of the action."""
    freeze_toe: bool = True
    """Take the toes out of the action."""
    state_init: Literal["random", "start"] = "random"
    """Where episodes begin: at a random frame of the clip or at its first."""
    num_future_frames: int = 1
    """Reference frames in the observation, one control step apart."""
    termination_distance: float = 0.25
    """m: an episode ends when a body is farther than this from its reference."""
    reward_pos_weight: float = 0.5
    """Weight of the body position term."""
    reward_rot_weight: float = 0.3
    """Weight of the body rotation term."""
    reward_vel_weight: float = 0.1
    """Weight of the linear velocity term."""
    reward_ang_vel_weight: float = 0.1
    """Weight of the angular velocity term."""
    reward_pos_scale: float = 100.0
    """Sharpness of the position term: exp(−scale · mean squared error)."""
    reward_rot_scale: float = 10.0
    """Sharpness of the rotation term."""
    reward_vel_scale: float = 0.1
    """Sharpness of the linear velocity term."""
    reward_ang_vel_scale: float = 0.1
    """Sharpness of the angular velocity term."""
    rew_power_coef: float = 1e-4
    """Cost per watt of joint power (the original's: 5e-4)."""
    use_amp_obs: bool = False
    """Reward motion that a discriminator takes for the clips' (adversarial motion priors), see [discriminator]; not brought along by -c."""
    num_amp_obs_steps: int = 10
    """Control steps that the discriminator of env.use_amp_obs sees at once."""
    use_add_obs: bool = False
    """Let a discriminator judge differences from the reference (adversarial differential discriminator); not brought along by -c."""
    sampler: Literal["adaptive", "uniform", "pmcp_soft", "pmcp_hard"] = "adaptive"
    """How clips and start times are drawn: by failures with a uniform floor, uniformly over time, or the original's schemes."""
    sampler_floor: float = 0.2
    """Share of draws that stays uniform over all clips and times."""
    hard_clips: Optional[str] = None
    """File of clips to draw more often: names, one a line, or an evaluation's results_by_motion table (its strict failures); auto: none."""
    hard_share: float = 0.7
    """With env.hard_clips: share of draws that is of those clips only; the others are of all clips, so that nothing is forgotten."""

    def __post_init__(self) -> None:
        _check(
            "env",
            self,
            counts=("num_envs", "substeps", "solver_iterations", "num_future_frames", "num_amp_obs_steps"),
            positive=("physics_rate", "kp_scale", "torque_limit", "action_scale", "termination_distance"),
            not_negative=(
                "max_resident_frames",
                "kd_scale",
                "velocity_lead",
                "reward_pos_weight",
                "reward_rot_weight",
                "reward_vel_weight",
                "reward_ang_vel_weight",
                "reward_pos_scale",
                "reward_rot_scale",
                "reward_vel_scale",
                "reward_ang_vel_scale",
                "rew_power_coef",
            ),
            shares=("sampler_floor", "hard_share"),
        )
        if self.use_amp_obs and self.use_add_obs:
            raise ConfigError("env.use_amp_obs and env.use_add_obs are both on; choose one")


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Section [discriminator]: of env.use_amp_obs and env.use_add_obs."""

    layer_sizes: Optional[Tuple[int, ...]] = None
    """Hidden layers; auto: 1024 512 on a GPU, 256 128 on a CPU."""
    learning_rate: Optional[float] = None
    """Its own Adam's step size; auto: 1e-4 on a GPU, 3e-4 on a CPU."""
    batch_size: Optional[int] = None
    """Rows per gradient step of each kind: simulated now, simulated earlier, real; auto: an eighth of train.minibatch_size."""
    grad_penalty: Optional[float] = None
    """Weight of the gradient penalty; auto: 5 (PHC's) with use_amp_obs, 2 with use_add_obs."""
    logit_reg: float = 0.01
    """Weight of the penalty on the last layer's weights (PHC: 0.01)."""
    weight_decay: float = 1e-4
    """Weight of the penalty on all weights (PHC: 0.0001)."""
    replay_size: int = 16384
    """Rows of earlier rollouts that each process keeps (PHC: 200,000)."""
    replay_rate: float = 0.01
    """Share of them that makes room for new ones each iteration (PHC: about 0.005)."""
    reward_scale: float = 2.0
    """Factor on the style reward -ln(1 - D) (PHC: 2)."""
    task_weight: Optional[float] = None
    """Weight of the hand-set reward; auto: 0.5 (PHC's) with use_amp_obs, 0 with use_add_obs."""
    style_weight: Optional[float] = None
    """Weight of the style reward; auto: 0.5 (PHC's) with use_amp_obs, 1 with use_add_obs."""

    def __post_init__(self) -> None:
        not_negative = ("grad_penalty", "logit_reg", "weight_decay", "reward_scale", "task_weight", "style_weight")
        _check(
            "discriminator",
            self,
            counts=("batch_size", "replay_size"),
            positive=("learning_rate",),
            not_negative=not_negative,
            shares=("replay_rate",),
        )
        _check_sizes("discriminator", self, ("layer_sizes",))


@dataclass(frozen=True)
class PolicyConfig:
    """Section [policy]."""

    layer_sizes: Optional[Tuple[int, ...]] = None
    """Hidden layers before the last; auto: 2048 1536 1024 1024 512 on a GPU (LSTMActorPolicy: 2048 2048 1024), 256 128 on a CPU."""
    hidden_size: Optional[int] = None
    """Width of the last hidden layer; auto: 512 on a GPU, 128 on a CPU."""
    critic_layer_sizes: Optional[Tuple[int, ...]] = None
    """All layers of the critic; auto: the actor's (on a GPU LSTMActorPolicy: 1024 1024 512 256, LSTMCriticPolicy: 2048 1024 1024 512)."""
    init_log_std: float = -1.5
    """Logarithm of the exploration noise in units of action."""
    final_log_std: Optional[float] = None
    """What it comes to at the end of the run, in a straight line; auto: it stays as it is."""
    learn_std: bool = False
    """Whether the exploration noise is trained."""

    def __post_init__(self) -> None:
        _check("policy", self, counts=("hidden_size",))
        _check_sizes("policy", self, ("layer_sizes", "critic_layer_sizes"))
        if self.critic_layer_sizes == ():
            raise ConfigError("policy.critic_layer_sizes is empty, must have at least one layer")
        if self.learn_std and self.final_log_std is not None:
            raise ConfigError("policy.final_log_std is for noise on a schedule, and policy.learn_std trains it: leave one of them out")


@dataclass(frozen=True)
class RnnConfig:
    """Section [rnn]."""

    hidden_size: Optional[int] = None
    """Width of the LSTM of LSTMActorPolicy and LSTMCriticPolicy; auto: 512 on a GPU, 128 on a CPU."""

    def __post_init__(self) -> None:
        _check("rnn", self, counts=("hidden_size",))


@dataclass(frozen=True)
class TrainConfig:
    """Section [train]."""

    seed: int = 1
    """Seed of every random draw."""
    device: str = "auto"
    """auto, cpu or cuda."""
    deterministic: bool = False
    """The same bits each time on a GPU too, at a lower speed; on a CPU it is always so."""
    total_timesteps: Optional[int] = None
    """Environment steps of the run; auto: 500,000,000 on a GPU, 5,000,000 on a CPU."""
    batch_size: Optional[int] = None
    """Environment steps per iteration and process; auto: 131072 on a GPU, 4096 on a CPU."""
    minibatch_size: Optional[int] = None
    """Environment steps per gradient step and process; auto: a quarter of the batch."""
    bptt_horizon: int = 8
    """Steps per training segment."""
    update_epochs: int = 2
    """Passes over each batch."""
    overlap: bool = False
    """Collect the next batch while the update is under way, with the weights from before it; without a discriminator."""
    learning_rate: Optional[float] = None
    """Adam's step size; auto: 2e-4 for the GPU's network, 5e-4 for the CPU's small one."""
    lr_scaling: Literal["none", "sqrt", "linear"] = "none"
    """How the learning rate grows with the number of processes: not, with its square root, or with it."""
    adam_eps: float = 1e-5
    """Adam's term against division by zero; gradients are small here, so that it acts as a brake."""
    lr_decay_rate: float = 1.5e-4
    """The rate falls as exp(−this · iteration)."""
    lr_decay_floor: float = 0.2
    """Lowest share of the learning rate."""
    lr_cooldown: float = 0.0
    """Share of the run, its last, over which the learning rate falls in a straight line to nothing."""
    target_kl: float = 0.02
    """The learning rate adapts so that one iteration moves the policy by about this KL divergence; 0: it does not."""
    gamma: float = 0.98
    """Discount per step."""
    gae_lambda: float = 0.95
    """λ of the generalised advantage estimate."""
    clip_coef: float = 0.2
    """PPO's ratio clip."""
    norm_adv: bool = True
    """Whether advantages are normalised."""
    vf_coef: float = 1.2
    """Weight of the value loss."""
    clip_vloss: bool = False
    """Whether the value loss is clipped."""
    vf_clip_coef: float = 0.2
    """Clip range of values."""
    max_grad_norm: float = 10.0
    """Gradients are scaled down to this norm."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    bound_coef: float = 10.0
    """Weight of the loss on mean actions outside ±0.9."""
    l2_reg_coef: float = 0.0
    """Weight of the pull towards the initial parameters."""
    shard_clips: bool = False
    """Several processes: each holds and trains on every N-th clip only, instead of all of them."""
    motion_resample_interval: int = 100
    """Iterations between changes of the clips on the device, where env.max_resident_frames leaves some out; 0: never."""
    eval_interval: Optional[int] = None
    """Iterations between evaluations, 0: none; auto: 500 on a GPU, 25 on a CPU."""
    checkpoint_interval: Optional[int] = None
    """Iterations between checkpoints, 0: only the last; auto: 500 on a GPU, 50 on a CPU."""
    divergence: Literal["rollback", "stop"] = "rollback"
    """After bad iterations (gradients not finite, exploding humanoids): back to the last good weights with half the step, or stop."""
    divergence_patience: int = 3
    """Bad iterations in a row after which that happens."""
    keep_checkpoints: int = 3
    """Checkpoints kept in a run's folder, the newest of which is latest.pt too."""
    data_dir: str = "experiments"
    """Folder that holds one folder per run."""
    watch: bool = False
    """Serve a page about the run while it goes on: learning curves, clips, the policy moving on the clip that fails most."""
    watch_host: str = "127.0.0.1"
    """Address that this page listens on; 0.0.0.0 lets other machines watch."""
    watch_port: int = 8081
    """Its port."""
    eval_video: bool = False
    """Film the clip that came out worst after each evaluation, into the run's folder and the trackers."""
    compile: Optional[bool] = None
    """Whether torch.compile is used; auto: on a GPU, where Triton and a C compiler are there."""
    precision: Literal["auto", "float32", "tf32", "bf16"] = "auto"
    """Arithmetic of the networks' matrix products; auto: the fastest that keeps the learning curve on this device."""

    def __post_init__(self) -> None:
        _check(
            "train",
            self,
            counts=(
                "total_timesteps",
                "batch_size",
                "minibatch_size",
                "bptt_horizon",
                "update_epochs",
                "divergence_patience",
                "keep_checkpoints",
            ),
            positive=("learning_rate", "adam_eps", "clip_coef", "vf_clip_coef", "max_grad_norm"),
            not_negative=(
                "seed",
                "lr_decay_rate",
                "target_kl",
                "vf_coef",
                "ent_coef",
                "bound_coef",
                "l2_reg_coef",
                "motion_resample_interval",
                "eval_interval",
                "checkpoint_interval",
            ),
            shares=("lr_decay_floor", "lr_cooldown", "gamma", "gae_lambda"),
        )
        if not 0 < self.watch_port <= 65535:
            raise ConfigError(f"train.watch_port is {self.watch_port}, must be between 1 and 65535")
        if self.gamma >= 1.0:
            raise ConfigError(f"train.gamma is {self.gamma}, must be less than 1: rewards are scaled by 1 - gamma")
        if self.seed > MAX_SEED:
            raise ConfigError(f"train.seed is {self.seed}, must be at most {MAX_SEED}")


@dataclass(frozen=True)
class EvalConfig:
    """Section [eval]."""

    num_envs: Optional[int] = None
    """Clips evaluated at a time; auto: as env.num_envs."""
    report: bool = True
    """Write a page about the evaluation beside its tables."""
    report_clips: int = 6
    """Worst clips that the page shows in motion and in pictures."""
    compare: Optional[str] = None
    """What the page compares with: another checkpoint, which plays the same clips, or the results_by_motion table of an evaluation."""

    def __post_init__(self) -> None:
        _check("eval", self, counts=("num_envs",), not_negative=("report_clips",))


@dataclass(frozen=True)
class PlayConfig:
    """Section [play]."""

    viewer: Literal["auto", "native", "web", "video", "none"] = "auto"
    """MuJoCo's window, a web page, a video file or lines of text; auto: the window where there is a display, else the page."""
    clip: Optional[str] = None
    """Name of the clip that every humanoid imitates; auto: all clips in turn."""
    num_envs: Optional[int] = None
    """Humanoids side by side; auto: 16 on the page, 4 in the window and in a video, 1 there where a clip is named."""
    host: str = "127.0.0.1"
    """Address that the page listens on; 0.0.0.0 lets other machines watch and steer."""
    port: int = 8080
    """Port of the page."""
    deterministic: bool = True
    """Whether the policy's mean is played, without exploration noise; can be switched while watching."""
    reset_distance: float = 1.0
    """m: a humanoid starts over when a body is farther than this from its reference; 0: only when the clip is over."""
    push_speed: float = 1.0
    """m/s that a push adds to the pelvis, in a random horizontal direction."""

    def __post_init__(self) -> None:
        _check("play", self, counts=("num_envs",), not_negative=("reset_distance", "push_speed"))
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"play.port is {self.port}, must be between 0 and 65535")


@dataclass(frozen=True)
class VideoConfig:
    """Section [video]."""

    path: Optional[str] = None
    """File that play.viewer video writes, .mp4 or .gif; auto: play_<time>.mp4 in --output. Recordings go to --output, too."""
    width: int = 640
    """Pixels."""
    height: int = 480
    """Pixels."""
    seconds: float = 10.0
    """Length."""

    def __post_init__(self) -> None:
        _check("video", self, positive=("seconds",))
        for name in ("width", "height"):
            value = getattr(self, name)
            if not 16 <= value <= 4096 or value % 2:
                raise ConfigError(f"video.{name} is {value}, must be an even number between 16 and 4096")


@dataclass(frozen=True)
class SweepConfig:
    """Section [sweep]. Which options are swept stands in sections of their own, like [sweep.train.learning_rate]."""

    name: str = "sweep"
    """Folder of the sweep in train.data_dir; where a sweep of this name has begun there, it goes on."""
    method: Literal["carbs", "carbs-imbue", "random"] = "carbs"
    """carbs: search along the front of score and cost; carbs-imbue: the package of its authors, where it is installed; random: draws."""
    metric: str = "eval/survival_strict"
    """Score of a run: a figure of its evaluations; survival_strict is the mean share of a clip before the strict failure."""
    goal: Literal["maximize", "minimize"] = "maximize"
    """Which way the metric is better."""
    runs: int = 50
    """Trainings in all; with a larger number a finished sweep goes on."""
    workers: Optional[int] = None
    """Trainings at a time; auto: one a GPU, or one on a CPU."""
    time_limit: float = 3600.0
    """s that a training may take; what is predicted to take longer is not suggested."""
    evaluations: int = 1
    """Of each run, evenly spread; where train.total_timesteps is swept, each counts as the result of a run that ends there."""
    stop_share: float = 0.0
    """A run whose best evaluation is among the worst such share of what others had for the same cost is stopped; 0: none is."""
    initial_runs: Optional[int] = None
    """Runs around the centres, or over the ranges where there is none, before models say where to look; auto: one an option, at least 4."""
    search_radius: float = 0.3
    """Standard deviation of the search around good runs, in units of each option's scale (half of its range, unless it says otherwise)."""
    resample_interval: int = 5
    """Every so many runs one of the best is repeated, where results turn out to be noisy; 0: never."""
    retries: int = 2
    """Times that a run goes on after it was killed; then it counts as failed."""
    seed: int = 1
    """Seed of the search; each training has train.seed."""

    def __post_init__(self) -> None:
        _check(
            "sweep",
            self,
            counts=("runs", "workers", "evaluations", "initial_runs"),
            positive=("time_limit", "search_radius"),
            not_negative=("resample_interval", "retries", "seed"),
            shares=("stop_share",),
        )
        if not self.name or set(self.name) & set("/\\") or self.name.startswith("."):
            raise ConfigError(f"sweep.name is {self.name!r}, must be a plain folder name")


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

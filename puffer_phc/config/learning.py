"""Networks, and how they are trained."""

from dataclasses import dataclass
from typing import Optional, Tuple

from typing_extensions import Literal

from puffer_phc.config.ranges import check, check_sizes
from puffer_phc.errors import ConfigError

MAX_SEED = 2**32 - 1
"""What every generator takes, with room for the numbers that are added for its purpose and process."""


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
        check("policy", self, counts=("hidden_size",))
        check_sizes("policy", self, ("layer_sizes", "critic_layer_sizes"))
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
        check("rnn", self, counts=("hidden_size",))


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
        check(
            "discriminator",
            self,
            counts=("batch_size", "replay_size"),
            positive=("learning_rate",),
            not_negative=not_negative,
            shares=("replay_rate",),
        )
        check_sizes("discriminator", self, ("layer_sizes",))


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
    target_kl: float = 0.03
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
    """Checkpoints kept in a run's folder, each with what every process has for itself; the newest is latest.pt too."""
    data_dir: str = "experiments"
    """Folder that holds one folder per run; several machines need one that all of them see."""
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
        check(
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

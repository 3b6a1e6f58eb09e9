"""What is imitated, by which humanoid in which engine, and what it is rewarded for."""

from dataclasses import dataclass
from typing import Optional

from typing_extensions import Literal

from puffer_phc.config.ranges import check
from puffer_phc.errors import ConfigError


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
        check(
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

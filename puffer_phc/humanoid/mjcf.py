"""The humanoid of ``skeleton`` as an MJCF document with ball joints and affine PD actuators."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PhysicsOptions:
    """How the physics engine integrates the humanoid; the defaults are argued for in docs/results.md."""

    rate: float = 60.0
    """Physics steps per second."""
    substeps: int = 2
    """Physics steps per control step; rate / substeps is the control rate."""
    integrator: str = "discrete"
    """MuJoCo's name of the integrator: discrete, implicitfast, implicit or Euler."""
    iterations: int = 10
    """Newton iterations at most."""
    ls_iterations: int = 20
    """Line-search steps per iteration at most."""
    cone: str = "pyramidal"
    """Friction cone: pyramidal or elliptic."""
    has_self_collision: bool = True
    """Whether bodies collide with each other; parents, children and ``EXCLUDED_CONTACTS`` never do."""
    stiffness_scale: float = 1.0
    """Factor on every kp."""
    damping_scale: float = 1.0
    """Factor on every kd."""

    @property
    def control_dt(self) -> float:
        """Seconds of one control step."""
        return self.substeps / self.rate

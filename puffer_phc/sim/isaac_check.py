"""Asking Isaac Gym whether what the backend assumes about it is true: a few seconds of simulation, measured against our own kinematics."""

import math
from typing import List, NamedTuple

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.body_state import body_state
from puffer_phc.humanoid.skeleton import BODIES, NUM_DOFS, Body, Box, Capsule, Vector, dof_ids
from puffer_phc.sim.isaac_gym import IsaacGymSimulator
from puffer_phc.state import Pose

_HELD_STEPS = 40
"""Control steps in which a joint has long reached a target that it can reach."""


class Measure(NamedTuple):
    """One assumption and how far the simulator is from it."""

    assumption: str
    error: float
    limit: float
    unit: str
    otherwise: str
    """What an error beyond the limit means."""

    @property
    def holds(self) -> bool:
        """Whether the error is within the limit; not-a-number is not."""
        return self.error <= self.limit


def measures(simulator: IsaacGymSimulator) -> List[Measure]:
    """All measures; the simulator's state is overwritten. Nothing is compared with another engine."""
    return [*_masses(simulator), *_motion(simulator), _drives(simulator)]


def body_mass(body: Body) -> float:
    """kg, of the shape's volume and density."""
    shape = body.shape
    if isinstance(shape, Box):
        return body.density * 8.0 * math.prod(shape.half_extents)
    ball = 4.0 / 3.0 * math.pi * shape.radius**3
    rod = math.pi * shape.radius**2 * math.dist(shape.start, shape.end) if isinstance(shape, Capsule) else 0.0
    return body.density * (ball + rod)


def center_of_mass(body: Body) -> Vector:
    """m, in the body's frame: the middle of its one shape."""
    shape = body.shape
    if isinstance(shape, Capsule):
        x, y, z = ((a + b) / 2.0 for a, b in zip(shape.start, shape.end))
        return x, y, z
    return shape.center


def _masses(simulator: IsaacGymSimulator) -> List[Measure]:
    masses, centers = simulator.masses_and_centers()
    expected = torch.tensor([body_mass(body) for body in BODIES])
    middles = torch.tensor([center_of_mass(body) for body in BODIES])
    return [
        Measure(
            "masses are the table's", float((masses / expected - 1.0).abs().max()), 0.01, "", "densities or shapes were read otherwise"
        ),
        Measure(
            "centres of mass are the shapes' middles", float((centers - middles).norm(dim=-1).max()), 1e-3, "m", "shapes lie elsewhere"
        ),
    ]


def _motion(simulator: IsaacGymSimulator) -> List[Measure]:
    """Bent, tilted and moving in the air: what the simulator says of its bodies against kinematics of its own joints."""
    pose = _flying(simulator.num_envs, simulator.device)
    simulator.set_state(torch.ones_like(simulator.diverged), pose)
    simulator.step(pose.dof_pos)
    body, dof = simulator.body, simulator.dof
    own = Pose(body.pos[:, 0], body.quat[:, 0], body.lin_vel[:, 0], body.ang_vel[:, 0], dof.pos, dof.vel)
    expected = body_state(own)
    centers = torch.tensor([center_of_mass(body) for body in BODIES], device=simulator.device)
    of_centers = expected.lin_vel + rotations.cross(expected.ang_vel, rotations.rotate(expected.quat, centers))
    turn = rotations.angle(rotations.multiply(rotations.conjugate(expected.quat), body.quat))
    is_of_centers = _largest(body.lin_vel - of_centers) < _largest(body.lin_vel - expected.lin_vel)
    guess = "they are of the centres of mass" if is_of_centers else "they are of another point"
    drift = own.root_pos - pose.root_pos - simulator.control_dt * pose.root_lin_vel
    return [
        Measure("states are counted from each environment's middle", _largest(drift), 0.1, "m", "there is an offset by environment"),
        Measure("joint coordinates are rotation vectors", float(turn.max()), 5e-3, "rad", "three angles in turn, or another order"),
        Measure("bodies hang where the table says", _largest(body.pos - expected.pos), 2e-3, "m", "offsets were read otherwise"),
        Measure("joint velocities are in the child's frame", _largest(body.ang_vel - expected.ang_vel), 0.05, "rad/s", "another frame"),
        Measure("velocities are of the bodies' origins", _largest(body.lin_vel - expected.lin_vel), 0.05, "m/s", guess),
    ]


def _drives(simulator: IsaacGymSimulator) -> Measure:
    """High in the air, where nothing is in the way, joints go where they are told."""
    still = _flying(simulator.num_envs, simulator.device)
    zeros = torch.zeros_like(still.root_pos)
    height = torch.tensor([0.0, 0.0, 50.0], device=simulator.device)
    rest = Pose(zeros + height, _upright(simulator), zeros, zeros, torch.zeros_like(still.dof_pos), torch.zeros_like(still.dof_vel))
    simulator.set_state(torch.ones_like(simulator.diverged), rest)
    target = torch.zeros_like(rest.dof_pos)
    oblique = torch.tensor([0.6, -0.8, 0.5, -0.3, 0.2, 0.9], device=simulator.device)
    target[:, dof_ids(("L_Shoulder", "R_Elbow"))] = oblique
    for _ in range(_HELD_STEPS):
        simulator.step(target)
    error = _largest(simulator.dof.pos - target)
    return Measure("drives reach oblique targets", error, 0.05, "rad", "gains, drive mode or an effort limit are not what was set")


def _upright(simulator: IsaacGymSimulator) -> Tensor:
    return torch.tensor([1.0, 0.0, 0.0, 0.0], device=simulator.device).repeat(simulator.num_envs, 1)


def _flying(num_envs: int, device: torch.device) -> Pose:
    """The same arbitrary pose in every environment, three metres up."""
    generator = torch.Generator().manual_seed(0)

    def normal(size: int, scale: float) -> Tensor:
        return (scale * torch.randn(1, size, generator=generator)).repeat(num_envs, 1).to(device)

    height = torch.tensor([0.0, 0.0, 3.0], device=device)
    return Pose(
        normal(3, 0.1) + height,
        rotations.normalize(normal(4, 1.0)),
        normal(3, 0.5),
        normal(3, 1.0),
        normal(NUM_DOFS, 0.3),
        normal(NUM_DOFS, 1.0),
    )


def _largest(errors: Tensor) -> float:
    """The longest of vectors (…, 3), or the largest of anything else."""
    return float(errors.norm(dim=-1).max() if errors.shape[-1] == 3 else errors.abs().max())

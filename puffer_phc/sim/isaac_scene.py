"""The scene of the Isaac Gym backend: PhysX, a floor, and one humanoid an environment. The numbers are PHC's; ours are named so.

Importing this file imports Isaac Gym, so ``isaac_loading.require_isaac_gym`` comes before it.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import List, NamedTuple

import torch
from isaacgym import gymapi
from torch import Tensor

from puffer_phc.errors import BackendError
from puffer_phc.humanoid.hinge_mjcf import DOF_NAMES, build_hinge_mjcf, collision_filters
from puffer_phc.humanoid.mjcf import STANDING_HEIGHT, PhysicsOptions
from puffer_phc.humanoid.skeleton import ARMATURE, BODY_NAMES, GRAVITY, dof_damping, dof_stiffness
from puffer_phc.sim.isaac_loading import must

PHYSX_SUBSTEPS = 2
"""Solver steps in one ``simulate``: 120 Hz at the default rate."""

_SPACING = 5.0
"""m from an environment's middle to its borders. States are counted from the middle, so it matters to viewers only."""

_AGGREGATE_SIZE = 160
"""Bodies and shapes that a humanoid's aggregate has room for."""

_NO_EFFORT_LIMIT = 1e9
"""N·m; ours. What the importer makes of the motors is not known, and on every backend it is the targets that are clamped."""


class Scene(NamedTuple):
    """A prepared simulation of one humanoid an environment."""

    gym: gymapi.Gym
    sim: gymapi.Sim
    actor_ids: Tensor
    """(N,) int32, what indexed calls name the humanoids by."""


def make_scene(num_envs: int, options: PhysicsOptions, device: torch.device) -> Scene:
    """``num_envs`` humanoids, ready for tensors to be acquired. Raises BackendError where Isaac Gym refuses something."""
    gym = gymapi.acquire_gym()
    ordinal = (device.index or 0) if device.type == "cuda" else -1
    sim = gym.create_sim(ordinal, -1, gymapi.SIM_PHYSX, sim_params(options, device))
    if sim is None:
        raise BackendError(f"backend 'isaac_gym': Isaac Gym could not create a simulation on '{device}'; what it printed says why")
    try:
        gym.add_ground(sim, _floor())
        asset = _load_asset(gym, sim, options)
        actor_ids = [_add_humanoid(gym, sim, asset, row, num_envs, options) for row in range(num_envs)]
        must(gym.prepare_sim(sim), "prepare_sim")
        if actor_ids != list(range(num_envs)):
            raise BackendError("backend 'isaac_gym': the humanoids are not numbered in the order in which they were made")
    except BaseException:
        gym.destroy_sim(sim)
        raise
    return Scene(gym, sim, torch.tensor(actor_ids, dtype=torch.int32, device=device))


def sim_params(options: PhysicsOptions, device: torch.device) -> gymapi.SimParams:
    """Timing and PhysX. One ``simulate`` takes 1 / ``options.rate`` seconds; MuJoCo's integrator and iterations have no meaning here."""
    params = gymapi.SimParams()
    params.dt = 1.0 / options.rate
    params.substeps = PHYSX_SUBSTEPS
    params.up_axis = gymapi.UP_AXIS_Z
    params.gravity = gymapi.Vec3(0.0, 0.0, -GRAVITY)
    params.use_gpu_pipeline = device.type == "cuda"
    params.num_client_threads = 0
    physx = params.physx
    physx.use_gpu = device.type == "cuda"
    physx.num_threads = 4
    physx.num_subscenes = 0
    physx.solver_type = 1
    physx.num_position_iterations = 4
    physx.num_velocity_iterations = 0
    physx.contact_offset = 0.02
    physx.rest_offset = 0.0
    physx.bounce_threshold_velocity = 0.2
    physx.max_depenetration_velocity = 10.0
    physx.default_buffer_size_multiplier = 10.0
    physx.max_gpu_contact_pairs = 8 * 1024 * 1024
    return params


def _floor() -> gymapi.PlaneParams:
    plane = gymapi.PlaneParams()
    plane.normal = gymapi.Vec3(0.0, 0.0, 1.0)
    plane.static_friction = 1.0
    plane.dynamic_friction = 1.0
    plane.restitution = 0.0
    return plane


def _load_asset(gym: gymapi.Gym, sim: gymapi.Sim, options: PhysicsOptions) -> gymapi.Asset:
    """The humanoid, read from a file because Isaac Gym takes nothing else; its bodies and dofs are checked against the table."""
    settings = gymapi.AssetOptions()
    settings.angular_damping = 0.01
    settings.max_angular_velocity = 100.0
    settings.default_dof_drive_mode = int(gymapi.DOF_MODE_NONE)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "humanoid.xml").write_text(build_hinge_mjcf(options), encoding="utf-8")
        asset = gym.load_asset(sim, folder, "humanoid.xml", settings)
    if asset is None:
        raise BackendError("backend 'isaac_gym': Isaac Gym refuses the humanoid; what it printed says why")
    _check_names("bodies", gym.get_asset_rigid_body_names(asset), list(BODY_NAMES))
    _check_names("dofs", gym.get_asset_dof_names(asset), list(DOF_NAMES))
    return asset


def _check_names(kind: str, found: List[str], expected: List[str]) -> None:
    if list(found) != expected:
        raise BackendError(
            f"backend 'isaac_gym': the importer made the {kind} {', '.join(found)}, but the table has {', '.join(expected)}, in this order"
        )


def _add_humanoid(gym: gymapi.Gym, sim: gymapi.Sim, asset: gymapi.Asset, row: int, num_envs: int, options: PhysicsOptions) -> int:
    """One environment with one humanoid, which collides with itself and the floor only; returns its number in the simulation."""
    lower, upper = gymapi.Vec3(-_SPACING, -_SPACING, 0.0), gymapi.Vec3(_SPACING, _SPACING, _SPACING)
    env = gym.create_env(sim, lower, upper, int(math.sqrt(num_envs)))
    must(gym.begin_aggregate(env, _AGGREGATE_SIZE, _AGGREGATE_SIZE, True), "begin_aggregate")
    pose = gymapi.Transform()
    pose.p = gymapi.Vec3(0.0, 0.0, STANDING_HEIGHT)
    pose.r = gymapi.Quat(0.0, 0.0, 0.0, 1.0)
    actor = gym.create_actor(env, asset, pose, "humanoid", row, 0 if options.has_self_collision else 1, 0)
    _set_filters(gym, env, actor, options)
    _set_drives(gym, env, actor, options)
    must(gym.end_aggregate(env), "end_aggregate")
    return gym.get_actor_index(env, actor, gymapi.DOMAIN_SIM)


def _set_filters(gym: gymapi.Gym, env: gymapi.Env, actor: int, options: PhysicsOptions) -> None:
    shapes = gym.get_actor_rigid_shape_properties(env, actor)
    filters = collision_filters(options.has_self_collision)
    if len(shapes) != len(filters):
        raise BackendError(f"backend 'isaac_gym': the importer made {len(shapes)} shapes of {len(filters)} bodies")
    for shape, bits in zip(shapes, filters):
        shape.filter = bits
    must(gym.set_actor_rigid_shape_properties(env, actor, shapes), "set_actor_rigid_shape_properties")


def _set_drives(gym: gymapi.Gym, env: gymapi.Env, actor: int, options: PhysicsOptions) -> None:
    """Position drives with the table's gains; the velocity limit stays what the importer made it."""
    dofs = gym.get_actor_dof_properties(env, actor)
    dofs["driveMode"][:] = int(gymapi.DOF_MODE_POS)
    dofs["stiffness"][:] = dof_stiffness() * options.stiffness_scale
    dofs["damping"][:] = dof_damping() * options.damping_scale
    dofs["armature"][:] = ARMATURE
    dofs["friction"][:] = 0.0
    dofs["effort"][:] = _NO_EFFORT_LIMIT
    must(gym.set_actor_dof_properties(env, actor, dofs), "set_actor_dof_properties")

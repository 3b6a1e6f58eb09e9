"""``gymapi`` over MuJoCo: one humanoid an environment on the host, states in raw memory that changes at ``refresh_*`` only."""

import ctypes
import math
from pathlib import Path

import mujoco
import numpy as np

from isaacgym import gymdeps as gymdeps  # must come before anything that may import torch
from isaacgym.imported_humanoid import STEPS_PER_SIMULATE, ImportedHumanoid
from isaacgym.types_of_gymapi import (
    DOF_PROPERTIES,
    AssetOptions,
    DofDriveMode,
    IndexDomain,
    PlaneParams,
    Quat,
    RigidBodyProperties,
    RigidShapeProperties,
    SimParams,
    SimType,
    Tensor,
    TensorDataType,
    Transform,
    UpAxis,
    Vec3,
)

for _enumeration in (DofDriveMode, IndexDomain, SimType, TensorDataType, UpAxis):
    globals().update(_enumeration.__members__)

_NUMPY_TYPES = {TensorDataType.DTYPE_FLOAT32: np.float32, TensorDataType.DTYPE_UINT32: np.int32}


class OrderError(RuntimeError):
    """A call came too early, too late or too often."""


class Sim:
    """One simulation and what was said to it."""

    def __init__(self, params):
        self.params, self.plane, self.envs, self.actors = params, None, [], []
        self.is_prepared = self.is_stepped = self.is_fetched = self.is_destroyed = False
        self.spent, self.calls = set(), []


class Env:
    def __init__(self, sim, num_per_row):
        self.sim, self.num_per_row, self.aggregate, self.actors = sim, num_per_row, None, []


class Actor:
    def __init__(self, asset, pose, group, collision_filter):
        self.asset, self.pose, self.group, self.filter = asset, pose, group, collision_filter
        self.dofs = asset.dof_properties()
        self.shapes = [RigidShapeProperties() for _ in asset.bodies]
        for shape in self.shapes:
            shape.filter = collision_filter


def _memory(*shape):
    """Zeroed memory of an owner that torch knows nothing of."""
    raw = ctypes.create_string_buffer(4 * math.prod(shape) + 64)
    start = -ctypes.addressof(raw) % 64
    return np.frombuffer(raw, np.float32, math.prod(shape), start).reshape(shape)


def _describe(array):
    tensor = Tensor()
    tensor.data_address, tensor.shape = array.ctypes.data, array.shape
    return tensor


def _rotation_vectors(quats):
    """Of (..., 4) quaternions wxyz, at most π long."""
    quats = np.where(quats[..., :1] < 0.0, -quats, quats)
    sine = np.linalg.norm(quats[..., 1:], axis=-1, keepdims=True)
    return quats[..., 1:] * np.where(sine < 1e-12, 2.0, 2.0 * np.arctan2(sine, quats[..., :1]) / np.maximum(sine, 1e-12))


def _quaternions(vectors):
    """wxyz of (..., 3) rotation vectors."""
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.concatenate(
        (np.cos(angle / 2.0), vectors * np.where(angle < 1e-12, 0.5, np.sin(angle / 2.0) / np.maximum(angle, 1e-12))), axis=-1
    )


class Gym:
    """The calls that exist. ``live`` is the one simulation that a process may have."""

    live = None

    # ruff: noqa: A002, N803 -- the names of the real arguments
    def create_sim(self, compute_device=0, graphics_device=0, type=SimType.SIM_FLEX, params=None):
        if Gym.live is not None:
            raise OrderError("Foundation object exists already. Only one instance per process can be created.")
        if compute_device != -1 or type is not SimType.SIM_PHYSX or params.physx.use_gpu or params.use_gpu_pipeline:
            raise ValueError("the stand-in simulates with PhysX's interface on the host")
        if params.up_axis is not UpAxis.UP_AXIS_Z:
            raise ValueError("the stand-in has z up")
        Gym.live = Sim(params)
        return Gym.live

    def destroy_sim(self, sim, /):
        """Memory that was given out must not be read any more; whoever does, sees it."""
        self._check(sim, None)
        for array in getattr(sim, "memory", ()):
            array.fill(np.nan)
        sim.is_destroyed, Gym.live = True, None

    def add_ground(self, sim, params):
        self._check(sim, False)
        if params.normal.tuple() != (0.0, 0.0, 1.0) or sim.plane is not None:
            raise ValueError("the stand-in has one floor, below")
        sim.plane = params

    def load_asset(self, sim, rootpath, filename, options):
        self._check(sim, False)
        if not isinstance(options, AssetOptions):
            raise TypeError("options")
        return ImportedHumanoid(Path(rootpath) / filename, options)

    def get_asset_rigid_body_names(self, asset, /):
        return list(asset.body_names)

    def get_asset_dof_names(self, asset, /):
        return list(asset.dof_names)

    def create_env(self, sim, lower, upper, num_per_row, /):
        self._check(sim, False)
        if not (isinstance(lower, Vec3) and isinstance(upper, Vec3) and isinstance(num_per_row, int) and num_per_row >= 1):
            raise TypeError("create_env takes two corners and a number of environments in a row")
        sim.envs.append(Env(sim, num_per_row))
        return sim.envs[-1]

    def begin_aggregate(self, env, max_bodies, max_shapes, self_collision, /):
        self._check(env.sim, False)
        if env.aggregate is not None or self_collision is not True:
            raise OrderError("begin_aggregate")
        env.aggregate = (max_bodies, max_shapes)
        return True

    def end_aggregate(self, env, /):
        if env.aggregate is None or env.aggregate == "closed":
            raise OrderError("end_aggregate without begin_aggregate")
        if any(len(actor.asset.bodies) > min(env.aggregate) for actor in env.actors):
            raise ValueError("the aggregate is too small")
        env.aggregate = "closed"
        return True

    def create_actor(self, env, asset, pose, name=None, group=-1, filter=-1, segmentationId=0):
        self._check(env.sim, False)
        if not (isinstance(pose, Transform) and isinstance(asset, ImportedHumanoid) and group == len(env.sim.actors) and filter in (0, 1)):
            raise TypeError("create_actor")
        if env.aggregate == "closed":
            raise OrderError("create_actor after end_aggregate")
        actor = Actor(asset, pose, group, filter)
        env.sim.actors.append(actor)
        env.actors.append(actor)
        return len(env.actors) - 1

    def get_actor_index(self, env, handle, domain, /):
        if domain is not IndexDomain.DOMAIN_SIM:
            raise ValueError("domain")
        return env.sim.actors.index(env.actors[handle])

    def get_actor_rigid_shape_properties(self, env, handle, /):
        copies = []
        for shape in env.actors[handle].shapes:
            copies.append(RigidShapeProperties())
            copies[-1].__dict__.update(shape.__dict__)
        return copies

    def set_actor_rigid_shape_properties(self, env, handle, shapes, /):
        self._check(env.sim, False)
        if [type(shape) for shape in shapes] != [RigidShapeProperties] * len(env.actors[handle].shapes):
            raise TypeError("shapes")
        env.actors[handle].shapes = shapes
        return True

    def get_env(self, sim, index, /):
        self._check(sim, None)
        return sim.envs[index]

    def get_actor_rigid_body_properties(self, env, handle, /):
        self._check(env.sim, True)
        found = []
        for mass, center in zip(env.sim.model.body_mass[1:], env.sim.model.body_ipos[1:]):
            found.append(RigidBodyProperties())
            found[-1].mass, found[-1].com = float(mass), Vec3(*center.tolist())
        return found

    def get_actor_dof_properties(self, env, handle, /):
        return env.actors[handle].dofs.copy()

    def set_actor_dof_properties(self, env, handle, dofs, /):
        self._check(env.sim, False)
        if dofs.dtype != DOF_PROPERTIES or dofs.shape != env.actors[handle].dofs.shape:
            raise TypeError("dof properties")
        env.actors[handle].dofs = dofs.copy()
        return True

    def prepare_sim(self, sim, /):
        self._check(sim, False)
        if sim.plane is None or not sim.actors or any(env.aggregate != "closed" for env in sim.envs):
            raise OrderError("prepare_sim before the scene is whole")
        first = sim.actors[0]
        filters = [shape.filter for shape in first.shapes]
        for actor in sim.actors:
            if [shape.filter for shape in actor.shapes] != filters or (actor.dofs != first.dofs).any():
                raise ValueError("the stand-in's humanoids are alike")
        sim.model = first.asset.model(sim.params, sim.plane, filters, first.dofs)
        if hasattr(mujoco.mjtDisableBit, "mjDSBL_AUTORESET"):
            sim.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        sim.data = [mujoco.MjData(sim.model) for _ in sim.actors]
        sim.scratch = mujoco.MjData(sim.model)
        n, bodies, dofs = len(sim.actors), len(first.asset.bodies), len(first.dofs)
        sim.memory = [_memory(n, 13), _memory(n * dofs, 2), _memory(n * bodies, 13)]
        sim.engine_states = [np.zeros_like(array) for array in sim.memory]
        sim.is_prepared = True
        for data, actor in zip(sim.data, sim.actors):
            data.qpos[:3] = actor.pose.p.tuple()
        self._read_engine(sim)
        return True

    def acquire_actor_root_state_tensor(self, sim, /):
        self._check(sim, True)
        return _describe(sim.memory[0])

    def acquire_dof_state_tensor(self, sim, /):
        self._check(sim, True)
        return _describe(sim.memory[1])

    def acquire_rigid_body_state_tensor(self, sim, /):
        self._check(sim, True)
        return _describe(sim.memory[2])

    def refresh_actor_root_state_tensor(self, sim, /):
        return self._refresh(sim, 0)

    def refresh_dof_state_tensor(self, sim, /):
        return self._refresh(sim, 1)

    def refresh_rigid_body_state_tensor(self, sim, /):
        return self._refresh(sim, 2)

    def set_actor_root_state_tensor_indexed(self, sim, states, actors, count, /):
        states, rows = self._given(sim, "root", states, sim.memory[0].shape), self._rows(sim, actors, count)
        for row in rows:
            data = sim.data[row]
            data.qpos[:3], data.qpos[3:7] = states[row, :3], states[row, [6, 3, 4, 5]]
            data.qvel[:3] = states[row, 7:10]
            turned = np.zeros(3)
            mujoco.mju_rotVecQuat(turned, states[row, 10:13].astype(np.float64), _conjugate(data.qpos[3:7]))
            data.qvel[3:6] = turned
            data.qacc_warmstart[:] = 0.0
            sim.engine_states[0][row] = states[row]
        return True

    def set_dof_state_tensor_indexed(self, sim, states, actors, count, /):
        states, rows = self._given(sim, "dof", states, sim.memory[1].shape), self._rows(sim, actors, count)
        states = states.reshape(len(sim.actors), -1, 2)
        for row in rows:
            data = sim.data[row]
            data.qpos[7:] = _quaternions(states[row, :, 0].astype(np.float64).reshape(-1, 3)).ravel()
            data.qvel[6:] = states[row, :, 1]
            data.qacc_warmstart[:] = 0.0
            sim.engine_states[1].reshape(states.shape)[row] = states[row]
        return True

    def set_dof_position_target_tensor(self, sim, targets, /):
        targets = self._given(sim, "target", targets, (len(sim.actors), len(sim.actors[0].dofs)))
        if sim.model.nu != targets.shape[1]:
            raise OrderError("position targets for drives that are not in position mode")
        for data, target in zip(sim.data, targets):
            data.ctrl[:] = target
        return True

    def simulate(self, sim, /):
        self._check(sim, True)
        for data in sim.data:
            mujoco.mj_step(sim.model, data, STEPS_PER_SIMULATE)
        sim.spent.clear()
        sim.is_stepped, sim.is_fetched = True, False

    def fetch_results(self, sim, wait, /):
        self._check(sim, True)
        if not sim.is_stepped or wait is not True:
            raise OrderError("fetch_results without simulate")
        self._read_engine(sim)
        sim.is_fetched = True

    def _check(self, sim, prepared):
        """``prepared`` None: whatever; else the simulation must be before or after ``prepare_sim``."""
        if sim.is_destroyed or sim is not Gym.live:
            raise OrderError("a call on a simulation that was destroyed")
        if prepared is not None and sim.is_prepared is not prepared:
            raise OrderError("a call " + ("before" if prepared else "after") + " prepare_sim")

    def _refresh(self, sim, which):
        self._check(sim, True)
        if not sim.is_fetched:
            raise OrderError("refresh without fetch_results after simulate")
        sim.memory[which][:] = sim.engine_states[which]
        return True

    def _given(self, sim, setter, tensor, shape):
        """The numbers of a tensor argument, checked; each setter may be called once between two ``simulate`` calls."""
        self._check(sim, True)
        if setter in sim.spent:
            raise OrderError(f"the setter of {setter} states was called twice between two steps; only one call counts")
        sim.spent.add(setter)
        return self._array(tensor, TensorDataType.DTYPE_FLOAT32, tuple(shape))

    def _rows(self, sim, actors, count):
        rows = self._array(actors, TensorDataType.DTYPE_UINT32, (count,))
        if count < 1 or len(set(rows.tolist())) != count or rows.min() < 0 or rows.max() >= len(sim.actors):
            raise ValueError(f"actor indices {rows.tolist()}")
        return rows

    def _array(self, tensor, dtype, shape):
        if not isinstance(tensor, Tensor) or tensor.dtype is not dtype or tensor.shape != shape or tensor.device != -1:
            raise TypeError(
                f"a tensor of {tensor.dtype.name} {tensor.shape} on {tensor.device}, where {dtype.name} {shape} on -1 is needed"
            )
        kind = np.dtype(_NUMPY_TYPES[dtype])
        memory = (ctypes.c_char * (math.prod(shape) * kind.itemsize)).from_address(tensor.data_address)
        return np.frombuffer(memory, kind).reshape(shape)

    def _read_engine(self, sim):
        """Root, joint and body states of all humanoids as they are after a step."""
        root, dofs, bodies = sim.engine_states
        dofs, bodies = dofs.reshape(len(sim.actors), -1, 2), bodies.reshape(len(sim.actors), -1, 13)
        velocity = np.zeros(6)
        for row, data in enumerate(sim.data):
            scratch = sim.scratch
            scratch.qpos[:], scratch.qvel[:] = data.qpos, data.qvel
            mujoco.mj_kinematics(sim.model, scratch)
            mujoco.mj_comPos(sim.model, scratch)
            mujoco.mj_comVel(sim.model, scratch)
            dofs[row, :, 0] = _rotation_vectors(data.qpos[7:].reshape(-1, 4)).ravel()
            dofs[row, :, 1] = data.qvel[6:]
            for body in range(bodies.shape[1]):
                mujoco.mj_objectVelocity(sim.model, scratch, mujoco.mjtObj.mjOBJ_XBODY, body + 1, velocity, 0)
                bodies[row, body] = (*scratch.xpos[body + 1], *scratch.xquat[body + 1][[1, 2, 3, 0]], *velocity[3:], *velocity[:3])
            root[row] = bodies[row, 0]


def _conjugate(quat):
    return quat * np.array([1.0, -1.0, -1.0, -1.0])


_GYM = Gym()


def acquire_gym():
    return _GYM


__all__ = ["AssetOptions", "Gym", "OrderError", "PlaneParams", "Quat", "SimParams", "Tensor", "Transform", "Vec3", "acquire_gym"]

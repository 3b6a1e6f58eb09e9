"""The simulator on MuJoCo's C engine: many humanoids on all processor cores."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Dict, Iterator, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import BackendError
from puffer_phc.humanoid.mjcf import PhysicsOptions, build_mjcf
from puffer_phc.humanoid.skeleton import NUM_BODIES, NUM_DOFS
from puffer_phc.mujoco_loading import import_mujoco
from puffer_phc.sim.cpu_kinematics import Index, rotation_vectors, write_body_states
from puffer_phc.sim.pd import pd_gains
from puffer_phc.sim.simulator import MAX_DISTANCE, MAX_SPEED, Counters
from puffer_phc.state import BodyState, DofState, Pose

_NUM_JOINTS = NUM_BODIES - 1
_TURN = np.float32(2.0 * np.pi)


class MujocoCpuSimulator:
    """``num_envs`` humanoids in ``mujoco.batch.Batch``; see ``Simulator`` for what its members mean.

    The batch works on rows of float64 numbers, one row a humanoid, which hold all that the next step depends on, warm starts
    included; ``num_threads`` threads (default: every core this process may use) give bit-equal results. ``body`` and ``dof`` are
    float32 copies; ``batch`` is there, until ``close``, for those who know MuJoCo. Raises ``BackendError`` where MuJoCo is missing, too
    old, or refuses the model.
    """

    def __init__(self, num_envs: int, options: PhysicsOptions, num_threads: Optional[int] = None) -> None:
        if num_envs < 1:
            raise BackendError(f"backend 'mujoco_cpu' needs at least one environment, got {num_envs}")
        self._mujoco, batch = import_engine()
        self.num_envs = num_envs
        self.device = torch.device("cpu")
        self.control_dt = options.control_dt
        self.gains = pd_gains(options, self.device)
        self._substeps = options.substeps
        self._simulation_error = batch.SimulationError
        with self._quiet():
            self.batch = batch.Batch(self._compile(options), num_envs, min(num_threads or _usable_cores(), num_envs))
            self.batch.reset()
        self._bind_rows()
        self._allocate()
        self._refresh()

    def _compile(self, options: PhysicsOptions) -> Any:
        """The model, without MuJoCo's silent reset of diverged humanoids to the zero pose, which Warp's model has no flag for."""
        try:
            model = self._mujoco.MjModel.from_xml_string(build_mjcf(options))
        except ValueError as error:
            raise BackendError(f"backend 'mujoco_cpu': MuJoCo refuses the humanoid: {error}") from error
        model.opt.disableflags |= self._mujoco.mjtDisableBit.mjDSBL_AUTORESET
        return model

    @property
    def num_threads(self) -> int:
        """Threads that step the humanoids."""
        return int(self.batch.nthread)

    def _bind_rows(self) -> None:
        """Views of the rows, the records of all substeps, and the row of a humanoid at rest in the zero pose."""
        batch = self.batch
        self._rows: np.ndarray = batch.state
        self._qpos: np.ndarray = batch.bind("qpos")
        self._qvel: np.ndarray = batch.bind("qvel")
        self._control: np.ndarray = batch.bind("ctrl")
        self._record: Dict[str, np.ndarray] = {
            "qpos": np.empty((self.num_envs, self._substeps, self._qpos.shape[1])),
            "qvel": np.empty((self.num_envs, self._substeps, self._qvel.shape[1])),
        }
        batch.bind("qacc_warmstart")[:] = 0.0
        self._rest_row = self._rows[0].copy()

    def _allocate(self) -> None:
        n = self.num_envs
        self.body = BodyState(
            torch.zeros(n, NUM_BODIES, 3), torch.zeros(n, NUM_BODIES, 4), torch.zeros(n, NUM_BODIES, 3), torch.zeros(n, NUM_BODIES, 3)
        )
        self.dof = DofState(*(torch.zeros(n, NUM_DOFS) for _ in DofState._fields))
        self.diverged = torch.zeros(n, dtype=torch.bool)
        self._body_arrays = [tensor.numpy() for tensor in self.body]
        self._dof_arrays = [tensor.numpy() for tensor in self.dof]
        self._stiffness, self._damping = self.gains.stiffness.numpy(), self.gains.damping.numpy()
        self._warnings: np.ndarray = self.batch.warning[:, :, 1]
        self._warnings_seen = self._warnings.copy()
        self._counts = {"diverged": 0, "contact_overflows": 0, "constraint_overflows": 0}

    @np.errstate(over="ignore", invalid="ignore")
    def step(self, target: Tensor) -> None:
        """Hold the PD targets (N, D), rotation vectors in rad, for one control period; clamping them is up to the caller."""
        targets = target.detach().numpy()
        self._control[:] = targets
        bad = self._roll_out()
        bad |= self._count_warnings()
        bad |= self._insane_rows()
        self._write_joints(targets)
        self._write_bodies()
        bad |= self.diverged.numpy()
        if bad.any():
            self._freeze(bad)

    def _write_joints(self, targets: np.ndarray) -> None:
        """Fill ``dof`` from the records: ``pd.drive_torque`` at the end of every substep, in numpy for its lower cost a call."""
        positions, velocities = rotation_vectors(self._record["qpos"]), _joint_velocities(self._record["qvel"])
        errors = targets[:, None] - positions
        errors -= _TURN * np.rint(errors * np.float32(1.0 / _TURN))
        torques = self._stiffness * errors
        torques -= self._damping * velocities
        pos, vel, torque, power = self._dof_arrays
        pos[...], vel[...], torque[...] = positions[:, -1], velocities[:, -1], torques[:, -1]
        torques *= velocities
        np.abs(torques, out=torques)
        np.mean(torques, axis=1, out=power)

    def _roll_out(self) -> np.ndarray:
        """Take the physics steps; returns (N,) bool: rows in which MuJoCo raised an error, whose state and records are unusable."""
        with self._quiet():
            try:
                self.batch.rollout(self._substeps, record=("qpos", "qvel"), out=self._record)
            except self._simulation_error:
                return self.batch.status != 0
        return np.zeros(self.num_envs, dtype=bool)

    def set_state(self, mask: Tensor, pose: Pose) -> None:
        """Place the humanoids where ``mask`` (N,) bool is true; their warm starts, targets, torques and power are cleared."""
        ids = mask.nonzero().squeeze(1)
        if not len(ids):
            return
        selected = Pose(*(values[ids].double() for values in pose))
        rows = ids.numpy()
        self._rows[rows] = self._rest_row
        self._qpos[rows] = _positions(selected).numpy()
        self._qvel[rows] = _velocities(selected).numpy()
        self.diverged[ids] = False
        self.dof.torque[ids] = 0.0
        self.dof.power[ids] = 0.0
        self._refresh(rows)

    def push(self, mask: Tensor, velocity: Tensor) -> None:
        """Add ``velocity`` (N, 3) m/s, world frame, to the root where ``mask`` (N,) bool is true; frozen rows stay where they are."""
        rows = (mask & ~self.diverged).numpy()
        self._qvel[rows, :3] += velocity.double().numpy()[rows]
        self._refresh()

    def read_counters(self) -> Counters:
        """The counters since the last read, which starts them anew."""
        counters = Counters(**self._counts)
        self._counts = dict.fromkeys(self._counts, 0)
        return counters

    def snapshot(self) -> Dict[str, Tensor]:
        """The full integration state, warm starts included: ``restore`` of it and the same targets give the same motion, bit for bit."""
        return {
            "rows": torch.from_numpy(self._rows.copy()),
            "diverged": self.diverged.clone(),
            "torque": self.dof.torque.clone(),
            "power": self.dof.power.clone(),
            **{name: tensor.clone() for name, tensor in self._derived().items()},
        }

    def restore(self, snapshot: Dict[str, Any]) -> None:
        """Go back to a ``snapshot`` of this backend with the same number of environments; raises ``BackendError`` for any other."""
        rows = snapshot.get("rows")
        if rows is None or tuple(rows.shape) != self._rows.shape:
            found = "no rows" if rows is None else f"rows of shape {tuple(rows.shape)}"
            raise BackendError(f"backend 'mujoco_cpu' cannot go on from a snapshot with {found}; it needs {self._rows.shape}")
        self._rows[:] = rows.numpy()
        self.diverged.copy_(snapshot["diverged"])
        self.dof.torque.copy_(snapshot["torque"])
        self.dof.power.copy_(snapshot["power"])
        self._refresh()
        for name, tensor in self._derived().items():
            tensor.copy_(snapshot[name])

    def _derived(self) -> Dict[str, Tensor]:
        """What follows from the rows, but for rounding that depends on how many were computed together."""
        return {"dof_pos": self.dof.pos, "dof_vel": self.dof.vel, **self.body._asdict()}

    def close(self) -> None:
        """Free the engine's threads and rows; ``body`` and ``dof`` keep their last values. Safe to call twice."""
        self.__dict__.pop("batch", None)

    @np.errstate(over="ignore", invalid="ignore")
    def _refresh(self, rows: Index = slice(None)) -> None:
        """Make ``body`` and ``dof`` describe ``rows``, and freeze the rows that no humanoid can be in."""
        qpos, qvel = self._qpos[rows], self._qvel[rows]
        self._record["qpos"][rows], self._record["qvel"][rows] = qpos[:, None], qvel[:, None]
        self._dof_arrays[0][rows], self._dof_arrays[1][rows] = rotation_vectors(qpos), _joint_velocities(qvel)
        states = [np.empty((len(qpos), *array.shape[1:]), np.float32) for array in self._body_arrays]
        write_body_states(qpos, qvel, *states)
        for array, state in zip(self._body_arrays, states):
            array[rows] = state
        bad = self._insane_rows()
        if bad.any():
            self._freeze(bad)

    def _write_bodies(self) -> None:
        write_body_states(self._record["qpos"][:, -1], self._record["qvel"][:, -1], *self._body_arrays)

    def _insane_rows(self) -> np.ndarray:
        """(N,) bool: rows that are not finite, too far away or too fast. Comparisons with not-a-number are false."""
        near = (self._qpos.min() > -MAX_DISTANCE) & (self._qpos.max() < MAX_DISTANCE)
        if near and self._qvel.min() > -MAX_SPEED and self._qvel.max() < MAX_SPEED:
            return np.zeros(self.num_envs, dtype=bool)
        return ~((np.abs(self._qpos).max(axis=1) < MAX_DISTANCE) & (np.abs(self._qvel).max(axis=1) < MAX_SPEED))

    def _count_warnings(self) -> np.ndarray:
        """Count overflows; returns (N,) bool: rows in which MuJoCo met a number that is not finite or huge."""
        if self._warnings.sum() == self._warnings_seen.sum():
            return np.zeros(self.num_envs, dtype=bool)
        new = self._warnings != self._warnings_seen
        self._warnings_seen[:] = self._warnings
        kinds = self._mujoco.mjtWarning
        self._counts["contact_overflows"] += int(new[:, int(kinds.mjWARN_CONTACTFULL)].sum())
        self._counts["constraint_overflows"] += int(new[:, int(kinds.mjWARN_CNSTRFULL)].sum())
        fatal = (kinds.mjWARN_BADQPOS, kinds.mjWARN_BADQVEL, kinds.mjWARN_BADQACC, kinds.mjWARN_BADCTRL)
        return new[:, [int(kind) for kind in fatal]].any(axis=1)

    def _freeze(self, bad: np.ndarray) -> None:
        """Count the rows (N,) bool that were not frozen yet, and put all of them to rest in the zero pose."""
        self._counts["diverged"] += int((bad & ~self.diverged.numpy()).sum())
        self._rows[bad] = self._rest_row
        rows = torch.from_numpy(bad)
        self.diverged |= rows
        self.dof.torque[rows] = 0.0
        self.dof.power[rows] = 0.0
        self._refresh()

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Keep MuJoCo from writing MUJOCO_LOG.TXT where the user stands: its warnings are read from the counters."""
        before = self._mujoco.MjLogConfig.get()
        silent = self._mujoco.MjLogConfig.get()
        silent.logto_file = silent.logto_console = False
        silent.set()
        try:
            yield
        finally:
            before.set()


def import_engine() -> Tuple[Any, Any]:
    """The modules ``mujoco`` and ``mujoco.batch``; raises ``BackendError`` saying what is missing."""
    if sys.version_info < (3, 10):
        version = ".".join(map(str, sys.version_info[:3]))
        raise BackendError(f"backend 'mujoco_cpu' needs Python 3.10 or newer, this is {version}; Isaac Gym has --env.backend isaac_gym")
    mujoco = import_mujoco("backend 'mujoco_cpu'")
    try:
        from mujoco import batch
    except ImportError as error:
        installed = getattr(mujoco, "__version__", "of unknown version")
        raise BackendError(f"backend 'mujoco_cpu' needs mujoco.batch of MuJoCo 3.17 or newer; installed: {installed}") from error
    return mujoco, batch


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _joint_velocities(qvel: np.ndarray) -> np.ndarray:
    """(..., D) float32 joint velocities of (..., 75) MuJoCo velocities."""
    return qvel[..., 6:].astype(np.float32)


def _positions(pose: Pose) -> Tensor:
    """(N, 99) MuJoCo positions of a pose."""
    joints = rotations.from_rotation_vector(pose.dof_pos.unflatten(-1, (_NUM_JOINTS, 3)))
    return torch.cat((pose.root_pos, rotations.normalize(pose.root_quat), joints.flatten(-2)), dim=-1)


def _velocities(pose: Pose) -> Tensor:
    """(N, 75) MuJoCo velocities of a pose: a free joint turns in the body's frame, a ``Pose`` in the world's."""
    spin = rotations.rotate(rotations.conjugate(rotations.normalize(pose.root_quat)), pose.root_ang_vel)
    return torch.cat((pose.root_lin_vel, spin, pose.dof_vel), dim=-1)

"""The original's engine: Isaac Gym's PhysX, on a CPU or one GPU, for those who have it.

Written against NVIDIA's documented interface and tested on a stand-in (tests/isaacgym_stand_in); docs/isaac_gym.md says what has never
met the real one. What shapes this file:

- Isaac Gym gives addresses of its state tensors once. They are wrapped, not copied, and ``body`` and ``dof`` are views of them, but for
  rotations, whose order differs.
- A setter counts once between two ``simulate`` calls. New states are therefore written to the tensors at once, their rows are marked, and
  one indexed call of each setter right before ``simulate`` hands all of them over.
- Body states follow new root and joint states only at the next ``simulate``. Kinematics fill them in until then, so that the first
  observation of an episode is of its own state.
"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List

import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import BackendError
from puffer_phc.humanoid.body_state import body_state
from puffer_phc.humanoid.mjcf import STANDING_HEIGHT, PhysicsOptions
from puffer_phc.humanoid.skeleton import NUM_BODIES, NUM_DOFS
from puffer_phc.sim.isaac_loading import import_bridge, must, require_isaac_gym
from puffer_phc.sim.pd import drive_torque, pd_gains
from puffer_phc.sim.simulator import MAX_DISTANCE, MAX_SPEED, Counters
from puffer_phc.state import BodyState, DofState, Pose


class IsaacGymSimulator:
    """``num_envs`` humanoids in Isaac Gym; see ``Simulator`` for what its members mean.

    PhysX tells neither of contacts that did not fit nor of its warm starts: overflow counters stay zero, and a ``snapshot`` holds
    coordinates and velocities. Taking one hands them to the engine again, as ``restore`` does, so that both go on alike. Raises
    BackendError where Isaac Gym is missing, was loaded after torch, or already simulates: PhysX exists once in a process.
    """

    _is_taken: ClassVar[bool] = False

    def __init__(self, num_envs: int, options: PhysicsOptions, device: torch.device) -> None:
        if num_envs < 1:
            raise BackendError(f"backend 'isaac_gym' needs at least one environment, got {num_envs}")
        if IsaacGymSimulator._is_taken:
            raise BackendError("backend 'isaac_gym': PhysX exists once in a process; close the other simulator first")
        require_isaac_gym()
        from puffer_phc.sim.isaac_scene import make_scene

        device = _with_index(device)
        self.num_envs, self.device, self.control_dt = num_envs, device, options.control_dt
        self.gains = pd_gains(options, device)
        self._substeps = options.substeps
        self._bridge = import_bridge()
        self._gym, self._sim, self._actor_ids = make_scene(num_envs, options, device)
        self._is_open = IsaacGymSimulator._is_taken = True
        self._lent: List[Tensor] = []
        self._num_diverged = 0
        self._bind()
        everywhere = torch.ones(num_envs, dtype=torch.bool, device=device)
        self._place(everywhere.nonzero().squeeze(1), _rest(num_envs, device))

    def _bind(self) -> None:
        """Isaac Gym's state tensors, and ours over them."""
        n, gym, sim, wrap = self.num_envs, self._gym, self._sim, self._bridge.wrap
        self._root: Tensor = wrap(gym.acquire_actor_root_state_tensor(sim))
        self._joints: Tensor = wrap(gym.acquire_dof_state_tensor(sim))
        self._bodies: Tensor = wrap(gym.acquire_rigid_body_state_tensor(sim))
        shapes = [tuple(tensor.shape) for tensor in (self._root, self._joints, self._bodies)]
        if shapes != [(n, 13), (n * NUM_DOFS, 2), (n * NUM_BODIES, 13)]:
            raise BackendError(f"backend 'isaac_gym': the state tensors of {n} humanoids have the shapes {shapes}")
        bodies, joints = self._bodies.view(n, NUM_BODIES, 13), self._joints.view(n, NUM_DOFS, 2)
        self._quat_xyzw = bodies[..., 3:7]
        quat = torch.zeros(n, NUM_BODIES, 4, device=self.device)
        self.body = BodyState(bodies[..., 0:3], quat, bodies[..., 7:10], bodies[..., 10:13])
        torque, power = torch.zeros(2, n, NUM_DOFS, device=self.device).unbind(0)
        self.dof = DofState(joints[..., 0], joints[..., 1], torque, power)
        self.diverged, self._is_changed = torch.zeros(2, n, dtype=torch.bool, device=self.device).unbind(0)
        self._target = torch.zeros(n, NUM_DOFS, device=self.device)

    def step(self, target: Tensor) -> None:
        """Hold the PD targets (N, D), rotation vectors in rad, for one control period."""
        unusable = ~target.isfinite().all(-1)
        self._freeze(unusable | self.diverged)
        self._target.copy_(target.detach().masked_fill(self.diverged.unsqueeze(-1), 0.0))
        self._hand_over()
        self.dof.power.zero_()
        for _ in range(self._substeps):
            self._gym.simulate(self._sim)
            self._gym.fetch_results(self._sim, True)
            must(self._gym.refresh_dof_state_tensor(self._sim), "refresh_dof_state_tensor")
            self.dof.torque.copy_(drive_torque(self._target, self.dof.pos, self.dof.vel, self.gains))
            self.dof.power.add_((self.dof.torque * self.dof.vel).abs(), alpha=1.0 / self._substeps)
        self._lent.clear()
        must(self._gym.refresh_actor_root_state_tensor(self._sim), "refresh_actor_root_state_tensor")
        must(self._gym.refresh_rigid_body_state_tensor(self._sim), "refresh_rigid_body_state_tensor")
        self.body.quat.copy_(rotations.wxyz_from_xyzw(self._quat_xyzw))
        self._freeze(self._is_insane() | self.diverged)

    def _hand_over(self) -> None:
        """Give the engine the targets of all rows and the states of those that were changed: one call of each setter."""
        gym, sim = self._gym, self._sim
        rows = self._is_changed.nonzero().squeeze(1)
        if len(rows):
            root, joints, ids = self._lend(self._root), self._lend(self._joints), self._lend(self._actor_ids[rows])
            must(gym.set_actor_root_state_tensor_indexed(sim, root, ids, len(rows)), "set_actor_root_state_tensor_indexed")
            must(gym.set_dof_state_tensor_indexed(sim, joints, ids, len(rows)), "set_dof_state_tensor_indexed")
            self._is_changed.zero_()
        must(gym.set_dof_position_target_tensor(sim, self._lend(self._target)), "set_dof_position_target_tensor")

    def _lend(self, tensor: Tensor) -> Any:
        """The address of ``tensor`` for the engine, which may read it until the end of ``simulate``; kept alive until then."""
        self._lent.append(tensor)
        return self._bridge.unwrap(tensor)

    def set_state(self, mask: Tensor, pose: Pose) -> None:
        """Place the humanoids where ``mask`` (N,) bool is true; their targets, torques and power are cleared."""
        rows = mask.nonzero().squeeze(1)
        if len(rows):
            self.diverged[rows] = False
            self._place(rows, Pose(*(part[rows].float() for part in pose)))
            self._freeze(mask & self._is_insane())

    def _place(self, rows: Tensor, pose: Pose) -> None:
        """Write a pose (M, …) to ``rows`` (M,): the states that the engine will be given, and those that it would derive from them."""
        quat = rotations.normalize(pose.root_quat)
        self._root[rows] = torch.cat((pose.root_pos, rotations.xyzw_from_wxyz(quat), pose.root_lin_vel, pose.root_ang_vel), dim=-1)
        self.dof.pos[rows], self.dof.vel[rows] = pose.dof_pos, pose.dof_vel
        bodies = body_state(pose)
        for own, derived in zip(self.body, bodies):
            own[rows] = derived
        self._quat_xyzw[rows] = rotations.xyzw_from_wxyz(bodies.quat)
        self.dof.torque[rows] = 0.0
        self.dof.power[rows] = 0.0
        self._is_changed[rows] = True

    def push(self, mask: Tensor, velocity: Tensor) -> None:
        """Add ``velocity`` (N, 3) m/s, world frame, to the root where ``mask`` (N,) bool is true; frozen rows stay where they are."""
        pushed = mask & ~self.diverged
        change = velocity.masked_fill(~pushed.unsqueeze(-1), 0.0)
        self._root[:, 7:10] += change
        self.body.lin_vel.add_(change.unsqueeze(1))
        self._is_changed |= pushed

    def read_counters(self) -> Counters:
        """The counters since the last read, which starts them anew. PhysX does not tell what did not fit."""
        counters = Counters(self._num_diverged, 0, 0)
        self._num_diverged = 0
        return counters

    def masses_and_centers(self) -> tuple[Tensor, Tensor]:
        """What the importer made of the first humanoid: masses (B,) kg and centres of mass (B, 3) m in the bodies' frames, on the CPU."""
        bodies = self._gym.get_actor_rigid_body_properties(self._gym.get_env(self._sim, 0), 0)
        centers = [(body.com.x, body.com.y, body.com.z) for body in bodies]
        return torch.tensor([body.mass for body in bodies]), torch.tensor(centers)

    def snapshot(self) -> Dict[str, Tensor]:
        """All states; the engine starts from them again at the next ``step``, as it will after ``restore``."""
        self._is_changed.fill_(True)
        return {name: tensor.clone() for name, tensor in self._states().items()}

    def restore(self, snapshot: Dict[str, Any]) -> None:
        """Go back to a ``snapshot`` of this backend with the same number of environments; raises BackendError for any other."""
        for name, tensor in self._states().items():
            if name not in snapshot or snapshot[name].shape != tensor.shape:
                found = tuple(snapshot[name].shape) if name in snapshot else "none"
                raise BackendError(
                    f"backend 'isaac_gym' cannot go on from a snapshot whose {name} is {found}; it needs {tuple(tensor.shape)}"
                )
        for name, tensor in self._states().items():
            tensor.copy_(snapshot[name])
        self._is_changed.fill_(True)

    def _states(self) -> Dict[str, Tensor]:
        return {
            "root": self._root,
            "joints": self._joints,
            "bodies": self._bodies,
            "quat": self.body.quat,
            "torque": self.dof.torque,
            "power": self.dof.power,
            "diverged": self.diverged,
        }

    def close(self) -> None:
        """Free the simulation and its memory; ``body`` and ``dof`` become copies with their last values. Safe to call twice."""
        if not self._is_open:
            return
        self._is_open = IsaacGymSimulator._is_taken = False
        self.body = BodyState(*(tensor.clone() for tensor in self.body))
        self.dof = DofState(*(tensor.clone() for tensor in self.dof))
        del self._root, self._joints, self._bodies, self._quat_xyzw
        self._lent.clear()
        self._gym.destroy_sim(self._sim)

    def _is_insane(self) -> Tensor:
        """(N,) bool: rows that are not finite, too far away or too fast. Comparisons with not-a-number are false."""
        near = self._root[:, :7].abs().amax(-1) < MAX_DISTANCE
        slow = (self._root[:, 7:].abs().amax(-1) < MAX_SPEED) & (self.dof.vel.abs().amax(-1) < MAX_SPEED)
        finite = self.dof.pos.isfinite().all(-1) & self._bodies.view(self.num_envs, -1).isfinite().all(-1)
        return ~(near & slow & finite)

    def _freeze(self, bad: Tensor) -> None:
        """Put the rows (N,) bool to rest in the zero pose, and count those that were not frozen yet."""
        rows = bad.nonzero().squeeze(1)
        if len(rows):
            self._num_diverged += int((bad & ~self.diverged).sum())
            self.diverged |= bad
            self._place(rows, _rest(len(rows), self.device))


def _with_index(device: torch.device) -> torch.device:
    """``device`` as tensors on it name it."""
    return torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" and device.index is None else device


def _rest(num_rows: int, device: torch.device) -> Pose:
    """Standing in the zero pose."""
    root_pos = torch.tensor([0.0, 0.0, STANDING_HEIGHT], device=device).repeat(num_rows, 1)
    root_quat = torch.tensor([1.0, 0.0, 0.0, 0.0], device=device).repeat(num_rows, 1)
    still, joints = torch.zeros(num_rows, 3, device=device), torch.zeros(num_rows, NUM_DOFS, device=device)
    return Pose(root_pos, root_quat, still, still, joints, joints)

"""The fast backend: MuJoCo Warp on one GPU, one captured CUDA graph per control step, nothing crosses to the host."""

import logging
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List

import mujoco
import mujoco_warp
import torch
import warp
from torch import Tensor

from puffer_phc.errors import BackendError
from puffer_phc.humanoid import skeleton
from puffer_phc.humanoid.mjcf import PhysicsOptions, build_mjcf
from puffer_phc.sim import warp_kernels as kernels
from puffer_phc.sim import warp_order
from puffer_phc.sim.pd import pd_gains
from puffer_phc.sim.simulator import Counters
from puffer_phc.sim.warp_parts import StandIns, standing_in, unknown_parts
from puffer_phc.sim.warp_tree import Tree
from puffer_phc.state import BodyState, DofState, Pose

logger = logging.getLogger(__name__)

CONTACTS_PER_ENV = 64
"""Contacts that fit, on the average over all environments, which share one buffer; pairs that pass the broad phase count too."""
CONSTRAINTS_PER_ENV = 192
"""Constraint rows that fit in any one environment: four for a contact with the floor, one for a contact between bodies."""

_CONSTRAINT_TILE = 16
"""MuJoCo Warp 3.17 handles constraint rows by tiles; where they overflow a buffer that is no multiple of this it reads beyond its end."""

_LOST_CONTACTS = int(mujoco_warp.OverflowType.CCD)
_LOST_CONSTRAINTS = int(mujoco_warp.OverflowType.NEFC | mujoco_warp.OverflowType.NJMAX_NNZ)


class MujocoWarpSimulator:
    """N humanoids in MuJoCo Warp. The card is ``puffer_phc.sim.simulator.Simulator``.

    On a CUDA device ``step`` launches one graph of ``options.substeps`` physics steps, the power they took, the freezing of rows that
    diverged and the conversion to body and joint states; ``set_state`` and ``push`` launch a few kernels. All of it runs on torch's
    current stream, and nothing in it waits for the device. On the CPU device the same kernels run one by one: right, but slow, for
    tests. ``model`` is MuJoCo's model of one humanoid.

    Equations with the inertia matrix are solved by ``puffer_phc.sim.warp_tree``. Where torch is told to be deterministic when the simulator
    is made, ``puffer_phc.sim.warp_order`` puts the engine's contacts, constraint rows and sums in order: the same bits each time.

    ``contacts_per_env`` and ``constraints_per_env`` (rounded up to whole tiles) size the buffers; what does not fit is dropped, counted
    and reported by ``read_counters``.
    """

    def __init__(
        self,
        num_envs: int,
        options: PhysicsOptions,
        device: torch.device,
        contacts_per_env: int = CONTACTS_PER_ENV,
        constraints_per_env: int = CONSTRAINTS_PER_ENV,
    ) -> None:
        if num_envs < 1:
            raise BackendError(f"backend 'mujoco_warp' needs at least one environment, not {num_envs}")
        self.num_envs, self.device, self.options = num_envs, _existing_device(device), options
        self.control_dt = options.control_dt
        self.is_ordered = torch.are_deterministic_algorithms_enabled()
        self.contacts_per_env = contacts_per_env
        self.constraints_per_env = -(-constraints_per_env // _CONSTRAINT_TILE) * _CONSTRAINT_TILE
        self._streams: Dict[int, Any] = {}
        self._graph: Any = None
        self._data: Any = None
        self._allocate_states()
        warp.config.log_level = max(warp.config.log_level, warp.LOG_WARNING)
        warp.init()
        logger.info("compiling physics kernels for %s: about two minutes the first time, cached afterwards", self.device)
        started = time.perf_counter()
        with self._build_scope():
            self._build_model()
            self._bind_kernels()
            self._warm_up()
        logger.info("physics kernels ready after %.0f s", time.perf_counter() - started)

    def step(self, target: Tensor) -> None:
        """Hold the PD targets (N, D), rotation vectors in rad, for one control period."""
        self._ctrl.copy_(target.detach().masked_fill(self.diverged.unsqueeze(-1), 0.0))
        with self._stream_scope() as stream:
            if self._graph is None:
                self._control_step()
            else:
                warp.capture_launch(self._graph, stream=stream)

    def set_state(self, mask: Tensor, pose: Pose) -> None:
        """Place the humanoids where ``mask`` (N,) bool is true; their warm starts, targets, torques and power are cleared."""
        given = [warp.from_torch(part.detach().contiguous()) for part in (mask, *(part.float() for part in pose))]
        with self._stream_scope():
            self._launch(kernels.place, given + self._placed)
            self._settle()

    def push(self, mask: Tensor, velocity: Tensor) -> None:
        """Add ``velocity`` (N, 3) m/s, world frame, to the root where ``mask`` (N,) bool is true."""
        pushed = (mask & ~self.diverged).unsqueeze(-1)
        self._qvel[:, :3] += torch.where(pushed, velocity, torch.zeros_like(velocity))
        with self._stream_scope():
            self._settle()

    def read_counters(self) -> Counters:
        """The counters since the last read, which starts them anew. Waits for the device."""
        counters = Counters(*self._counters.tolist())
        self._counters.zero_()
        self._warn_of_overflows(counters)
        return counters

    def snapshot(self) -> Dict[str, Any]:
        """The full integration state, warm starts included: ``restore`` of it and the same targets give the same motion."""
        return {name: tensor.clone() for name, tensor in self.integration_state().items()}

    def restore(self, snapshot: Dict[str, Any]) -> None:
        """Go back to a ``snapshot`` of a simulator with the same number of environments."""
        num_envs = len(snapshot["qpos"])
        if num_envs != self.num_envs:
            raise BackendError(f"a snapshot of {num_envs} environments does not fit a simulator of {self.num_envs}")
        for name, tensor in self.integration_state().items():
            tensor.copy_(snapshot[name])
        with self._stream_scope():
            self._settle()

    def close(self) -> None:
        """Free what the engine holds. Safe to call twice."""
        self._wait()
        self._graph, self._data, self.warp_model = None, None, None
        self._placed, self._measured, self._inspected, self._frozen, self._published = [], [], [], [], []

    def demand(self) -> Dict[str, float]:
        """The most contacts (mean over environments) and constraint rows (of one environment) so far. Waits for the device."""
        _, contacts, constraints = self._demand.tolist()
        return {"contacts_per_env": contacts / self.num_envs, "constraints_per_env": float(constraints)}

    def _warn_of_overflows(self, counters: Counters) -> None:
        if counters.contact_overflows == 0 and counters.constraint_overflows == 0:
            return
        for name, needed in self.demand().items():
            has = getattr(self, name)
            if needed > has:
                logger.warning("physics buffers overflowed: raise %s from %d to more than %.0f (%s)", name, has, needed, counters)

    def integration_state(self) -> Dict[str, Tensor]:
        """The tensors that ``snapshot`` copies, by name: the engine's own memory, whose addresses stay."""
        return {
            "qpos": self._qpos,
            "qvel": self._qvel,
            "ctrl": self._ctrl,
            "warm_start": self._warm_start,
            "torque": self.dof.torque,
            "power": self.dof.power,
            "diverged": self.diverged,
        }

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @contextmanager
    def _build_scope(self) -> Iterator[None]:
        """A stream of its own: the default stream cannot be captured."""
        self._wait()
        device = warp.device_from_torch(self.device)
        with warp.ScopedStream(warp.Stream(device)) if device.is_cuda else warp.ScopedDevice(device):
            yield

    @contextmanager
    def _stream_scope(self) -> Iterator[Any]:
        """Warp's work goes to torch's current stream, so that neither ever waits for the other."""
        if self.device.type != "cuda":
            with warp.ScopedDevice("cpu"):
                yield None
            return
        current = torch.cuda.current_stream(self.device)
        if current.cuda_stream not in self._streams:
            self._streams[current.cuda_stream] = warp.stream_from_torch(current)
        with warp.ScopedStream(self._streams[current.cuda_stream], sync_enter=False) as stream:
            yield stream

    def _allocate_states(self) -> None:
        n, b, d, device = self.num_envs, skeleton.NUM_BODIES, skeleton.NUM_DOFS, self.device
        self.body = BodyState(*(torch.zeros(n, b, width, device=device) for width in (3, 4, 3, 3)))
        self.dof = DofState(*(torch.zeros(n, d, device=device) for _ in range(4)))
        self.diverged = torch.zeros(n, dtype=torch.bool, device=device)
        self.gains = pd_gains(self.options, device)
        self._is_insane = torch.zeros(n, dtype=torch.bool, device=device)
        self._counters = torch.zeros(3, dtype=torch.int32, device=device)
        self._demand = torch.zeros(3, dtype=torch.int32, device=device)

    def _build_model(self) -> None:
        engine: Any = mujoco
        self.model = engine.MjModel.from_xml_string(build_mjcf(self.options))
        # Boxes meet boxes only where a foot meets the other: the closed form does for them, and the general convex code, its compile
        # time and its 2 kB a contact are not needed.
        self.model.opt.disableflags |= int(engine.mjtDisableBit.mjDSBL_NATIVECCD)
        sizes = {"nworld": self.num_envs, "nconmax": self.contacts_per_env, "njmax": self.constraints_per_env}
        self.warp_model = mujoco_warp.put_model(self.model)
        self._data = mujoco_warp.put_data(self.model, engine.MjData(self.model), **sizes)
        self.warp_model.opt.warn_overflow = 0
        self._stand_ins = self._choose_stand_ins()
        if self.is_ordered:
            warp_order.ordered(self.warp_model)
        self.warp_model.opt.graph_conditional = warp.is_conditional_graph_supported()

    def _choose_stand_ins(self) -> StandIns:
        """What the engine is to do in other ways: faster, if it is one that they are known for, and where that is asked for in order."""
        stand_ins = Tree(self.model).stand_ins()
        if self.is_ordered:
            stand_ins = {**stand_ins, **warp_order.STAND_INS}
        unknown = unknown_parts(stand_ins)
        if not unknown:
            return stand_ins
        if self.is_ordered:
            raise BackendError(f"this version of MuJoCo Warp cannot be made deterministic: it has no, or another, {unknown[0]}")
        logger.warning("physics is slower with this version of MuJoCo Warp, which has no, or another, %s", unknown[0])
        return {}

    def _bind_kernels(self) -> None:
        """Views of the engine's arrays as tensors and of our tensors as its arrays: nothing is copied, and no address ever moves."""
        data, array = self._data, warp.from_torch
        self._qpos, self._qvel, self._ctrl, self._warm_start = (
            warp.to_torch(a) for a in (data.qpos, data.qvel, data.ctrl, data.qacc_warmstart)
        )
        torque, power, diverged = array(self.dof.torque), array(self.dof.power), array(self.diverged)
        is_insane, demand = array(self._is_insane), array(self._demand)
        gains = [array(gain) for gain in self.gains]
        sizes = [data.nacon, data.ncollision, data.nefc]
        placeholder = warp.array(self.model.qpos0, dtype=float)
        parents = warp.array(skeleton.PARENTS, dtype=int)
        offsets = warp.array(skeleton.OFFSETS, dtype=warp.vec3)
        vectors = (warp.vec3, warp.vec4, warp.vec3, warp.vec3)
        self._placed = [data.qpos, data.qvel, data.ctrl, data.qacc_warmstart, torque, power, diverged]
        self._measured = [data.qpos, data.qvel, data.ctrl, *gains, *sizes, torque, power, demand]
        self._inspected = [data.qpos, data.qvel, is_insane]
        self._frozen = [data.naconmax, _LOST_CONTACTS, _LOST_CONSTRAINTS, placeholder, *self._placed[:-1], data.overflow]
        self._frozen += [is_insane, diverged, demand, array(self._counters)]
        self._published = [parents, offsets, data.qpos, data.qvel, *(array(t, dtype=v) for t, v in zip(self.body, vectors))]
        self._published += [array(self.dof.pos), array(self.dof.vel)]

    def _warm_up(self) -> None:
        """Compile every kernel, capture the control step where there is a GPU, and return to the initial state."""
        self._wait()
        initial = self.snapshot()
        self._wait()
        self._control_step()
        if self.device.type == "cuda":
            with warp.ScopedCapture(stream=warp.get_stream()) as capture:
                self._control_step()
            self._graph = capture.graph
            warp.capture_launch(self._graph, stream=warp.get_stream())
        self._wait()
        self.restore(initial)
        self._counters.zero_()
        self._demand.zero_()
        self._wait()

    def _control_step(self) -> None:
        for substep in range(self.options.substeps):
            with standing_in(self._stand_ins):
                mujoco_warp.step(self.warp_model, self._data)
            self._launch(kernels.measure, [substep == 0, 1.0 / self.options.substeps, *self._measured])
        self._settle()

    def _settle(self) -> None:
        """Freeze what cannot be simulated, then make ``body`` and ``dof`` describe the coordinates."""
        self._inspected[-1].zero_()
        self._launch(kernels.inspect, self._inspected)
        self._launch(kernels.freeze, self._frozen)
        self._launch(kernels.publish, self._published)

    def _launch(self, kernel: Any, arguments: List[Any]) -> None:
        warp.launch(kernel, dim=(self.num_envs, skeleton.NUM_BODIES), inputs=arguments)


def _existing_device(device: torch.device) -> torch.device:
    """``device`` with its index, which Warp wants to know."""
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise BackendError("backend 'mujoco_warp' needs a CUDA device; use --env.backend mujoco_cpu, or auto")
    return torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)

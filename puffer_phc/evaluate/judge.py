"""Eyes on a simulator: what stands between an environment and its engine to look at each control step, and the one that measures."""

from typing import List, Sequence

import torch
from torch import Tensor

from puffer_phc.env.terminations import fails_relaxed, fails_strict
from puffer_phc.evaluate import metrics
from puffer_phc.evaluate.result import ERROR_NAMES, EvaluationResult
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.sim.simulator import Simulator


class Watched:
    """A simulator between an environment and the real ``simulator`` that looks at each control step at its end, in ``look``.

    It stands there because the environment has replaced the last state of a clip by the first of the next episode by the time its own
    ``step`` returns.
    """

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.num_envs, self.device, self.control_dt = simulator.num_envs, simulator.device, simulator.control_dt
        self.gains, self.body, self.dof, self.diverged = simulator.gains, simulator.body, simulator.dof, simulator.diverged
        self.set_state, self.push, self.read_counters = simulator.set_state, simulator.push, simulator.read_counters
        self.snapshot, self.restore, self.close = simulator.snapshot, simulator.restore, simulator.close

    def step(self, target: Tensor) -> None:
        """Step the real simulator with the PD targets (N, D), then look."""
        self._simulator.step(target)
        self.look()

    def look(self) -> None:
        """Called after every control step."""
        raise NotImplementedError


class Judge(Watched):
    """Measures each control step. All rows begin their clips together at time 0."""

    def __init__(self, simulator: Simulator, motions: MotionLibrary) -> None:
        super().__init__(simulator)
        self._names, self._reference_at = motions.names, motions.look_up_every(simulator.control_dt)

    def begin(self, clips: Tensor, frames: Tensor) -> None:
        """Start a batch: row n plays ``frames[n]`` frames of clip ``clips[n]``, both (N,); rows of 0 frames idle."""
        self._clips, self._frames = clips, frames.to(self.device)
        self._step = 0
        self._is_running = self._frames > 0
        self._is_strict = self._is_running.clone()
        self._played, self._strict = torch.zeros(2, self.num_envs, dtype=torch.int64, device=self.device).unbind(0)
        self._sums = torch.zeros(self.num_envs, len(ERROR_NAMES), dtype=torch.float64, device=self.device)
        self.offsets: List[Tensor] = []
        """Simulated less reference positions (N, B, 3) of this frame and the two before, newest first."""

    def look(self) -> None:
        """Measure the frame that has come."""
        self._step += 1
        times = torch.full((self.num_envs,), self._step * self.control_dt, device=self.device)
        self._measure(self.body.pos, self._reference_at(self._clips, times).body.pos)

    def _measure(self, pos: Tensor, ref_pos: Tensor) -> None:
        """Judge and count one frame of simulated and reference positions (N, B, 3)."""
        distances = metrics.body_distances(pos, ref_pos)
        has_diverged = self.diverged | ~distances.isfinite().all(-1)
        self._is_running &= ~(fails_relaxed(distances) | has_diverged) & (self._step <= self._frames)
        self._is_strict &= ~fails_strict(distances) & self._is_running
        self._played += self._is_running
        self._strict += self._is_strict
        errors = self._frame_errors(pos, ref_pos)
        self._sums += torch.where(self._is_running[:, None], errors.double(), 0.0)

    def _frame_errors(self, pos: Tensor, ref_pos: Tensor) -> Tensor:
        """``ERROR_NAMES`` (N, 5) of one frame; zero where frames before it are missing."""
        self.offsets = [pos - ref_pos, *self.offsets[:2]]
        nothing = torch.zeros_like(pos[:, 0, 0])
        return torch.stack(
            (
                metrics.mpjpe_g_mm(pos, ref_pos),
                metrics.mpjpe_l_mm(pos, ref_pos),
                metrics.mpjpe_pa_mm(pos, ref_pos),
                metrics.velocity_error_mm(*self.offsets[:2]) if self._step >= 2 else nothing,
                metrics.acceleration_error_mm(*self.offsets) if self._step >= 3 else nothing,
            ),
            dim=-1,
        )

    def is_anyone_running(self) -> bool:
        """Whether some clip has neither failed nor ended. Waits for the device."""
        return bool((self._is_running & (self._step < self._frames)).any())

    def verdict(self, batch: Sequence[int]) -> EvaluationResult:
        """The result of the clips of the first rows. Waits for the device."""
        rows = slice(len(batch))
        columns = (self._frames, self._played, self._strict, self._sums)
        names = tuple(self._names[clip] for clip in batch)
        return EvaluationResult(self.control_dt, torch.tensor(batch), names, *(column[rows].cpu() for column in columns))

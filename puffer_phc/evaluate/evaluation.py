"""Every clip whole, from its first frame to its last, with a deterministic policy: who gets through, and how exactly.

One rollout judges both meanings of success. *Strict*: no body is ever farther than 0.25 m from its reference. *Relaxed*: the mean over
the 24 bodies never exceeds 0.5 m. The rollout goes on after a strict failure and ends, for that clip, at the relaxed one. A diverged
simulation fails both at that frame. Frames are the control steps after the first frame, on which the humanoid is placed.
"""

import logging
import math
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from puffer_phc.config import EnvConfig
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.env.terminations import fails_relaxed, fails_strict
from puffer_phc.evaluate import metrics
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.sampler import FixedSampler
from puffer_phc.sim.simulator import Simulator

ERROR_NAMES = ("mpjpe_g_mm", "mpjpe_l_mm", "mpjpe_pa_mm", "vel_mm", "accel_mm")
"""Columns of per-clip errors: global, root-centred and Procrustes-aligned position, mm; velocity, mm/frame; acceleration, mm/frame²."""

_FIRST_FRAME = (1, 1, 1, 2, 3)
"""The first frame, counted from 1, that has a value in each column: differences need one or two frames before."""

_GLANCE_STEPS = 30
"""Control steps between looks at whether anybody is still running, each of which waits for the device."""

_logger = logging.getLogger(__name__)

Policy = Callable[[Tensor, Tensor], Tensor]
"""From observations (N, O) and which rows (N,) bool begin an episode with them to actions (N, A), without chance."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """What an evaluation found out, per clip, on the CPU; C clips in ascending order of ``clip_ids``.

    Sums and counts are kept, so that ``merge`` of the results of several processes equals the result of one.
    """

    control_dt: float
    """Seconds of one frame."""
    clip_ids: Tensor
    """(C,) int64 indices in the motion library."""
    names: Tuple[str, ...]
    """C clip names."""
    frames: Tensor
    """(C,) int64 frames to play: those of the clip after its first."""
    played_frames: Tensor
    """(C,) int64 frames before the relaxed failure, at which counting ends; all frames if there was none."""
    strict_frames: Tensor
    """(C,) int64 frames before the strict failure; all frames if there was none."""
    error_sums: Tensor
    """(C, 5) float64 sums of ``ERROR_NAMES`` over played frames."""

    @property
    def relaxed_success(self) -> Tensor:
        """(C,) bool: the mean distance never exceeded 0.5 m."""
        return self.played_frames == self.frames

    @property
    def strict_success(self) -> Tensor:
        """(C,) bool: no body was ever farther than 0.25 m."""
        return self.strict_frames == self.frames

    @property
    def strict_seconds(self) -> Tensor:
        """(C,) float64 s from the first frame to the last one before the strict failure."""
        return self.strict_frames.double() * self.control_dt

    @property
    def strict_survival(self) -> Tensor:
        """(C,) float64 share of the frames before the strict failure."""
        return self.strict_frames.double() / self.frames

    @property
    def error_counts(self) -> Tensor:
        """(C, 5) float64 number of values in each of ``error_sums``."""
        return torch.stack([(self.played_frames - first + 1).clamp_min(0) for first in _FIRST_FRAME], dim=-1).double()

    @property
    def errors(self) -> Tensor:
        """(C, 5) float64 means of ``ERROR_NAMES`` over played frames, NaN where a clip failed before it had a value."""
        return self.error_sums / self.error_counts

    def summary(self) -> Dict[str, float]:
        """Figures of all clips together, lengths in mm, under the names of the original.

        Millimetre figures are means over frames, so that long clips count more. Those of ``eval/mpjpe_all`` and ``eval/mpjpel_all``
        are over the played frames of all clips, the others over relaxed successes, and NaN if there were none. ``eval/survival_strict``
        is the mean over clips of the share before the strict failure.
        """
        everyone = self._means(torch.ones_like(self.relaxed_success))
        succeeded = self._means(self.relaxed_success)
        relaxed = self.relaxed_success.double().mean().item()
        return {
            "eval/success_rate": relaxed,
            "eval/success_rate_relaxed": relaxed,
            "eval/success_rate_strict": self.strict_success.double().mean().item(),
            "eval/survival_strict": self.strict_survival.mean().item(),
            "eval/mpjpe_all": everyone["mpjpe_g_mm"],
            "eval/mpjpe_succ": succeeded["mpjpe_g_mm"],
            "eval/accel_dist": succeeded["accel_mm"],
            "eval/vel_dist": succeeded["vel_mm"],
            "eval/mpjpel_succ": succeeded["mpjpe_l_mm"],
            "eval/mpjpe_pa": succeeded["mpjpe_pa_mm"],
            "eval/mpjpel_all": everyone["mpjpe_l_mm"],
        }

    def _means(self, chosen: Tensor) -> Dict[str, float]:
        means = self.error_sums[chosen].sum(0) / self.error_counts[chosen].sum(0)
        return dict(zip(ERROR_NAMES, means.tolist()))


def merge(results: Sequence[EvaluationResult]) -> EvaluationResult:
    """One result from those of several processes, which must have evaluated different clips of the same library."""
    clip_ids, order = torch.cat([result.clip_ids for result in results]).sort()
    if len(clip_ids.unique()) < len(clip_ids) or len({result.control_dt for result in results}) > 1:
        raise ValueError("results to merge must be of different clips at the same control rate")
    names = [name for result in results for name in result.names]
    return EvaluationResult(
        results[0].control_dt,
        clip_ids,
        tuple(names[index] for index in order.tolist()),
        *(
            torch.cat([getattr(result, column) for result in results])[order]
            for column in ("frames", "played_frames", "strict_frames", "error_sums")
        ),
    )


def evaluate(
    policy: Policy,
    simulator: Simulator,
    motions: MotionLibrary,
    config: EnvConfig,
    clip_ids: Optional[Sequence[int]] = None,
    compiled: bool = False,
) -> EvaluationResult:
    """Play the clips ``clip_ids`` (default: all) with ``policy``.

    Clips of similar length play side by side, as many at a time as ``simulator`` has environments and a limited library has room for;
    the result does not depend on those numbers beyond what the policy's own arithmetic does. The simulator's state is overwritten, and a
    limited library has the clips of before again afterwards. Memory does not grow with the length of clips, and the device is waited for
    about once a second of motion. ``compiled`` fuses the environment's pure parts.
    """
    wanted = list(range(motions.num_clips)) if clip_ids is None else list(clip_ids)
    frames = frames_to_play(motions, simulator.control_dt)
    wanted.sort(key=lambda clip: (-frames[clip], clip))
    judge = Judge(simulator, motions)
    clips = torch.zeros(simulator.num_envs, dtype=torch.int64, device=simulator.device)
    sampler = FixedSampler(clips, torch.zeros(simulator.num_envs, device=simulator.device))
    env: Optional[ImitationEnv] = None
    results = [_no_clips(simulator.control_dt)]
    num_played = 0
    with motions.lent():
        for batch in _batches(wanted, simulator.num_envs, motions):
            surplus = simulator.num_envs - len(batch)
            clips.copy_(torch.tensor(batch + batch[-1:] * surplus))
            motions.hold(batch)
            judge.begin(clips, torch.tensor([frames[clip] for clip in batch] + [0] * surplus))
            env = env or _environment(judge, motions, sampler, config, compiled)
            _play(policy, env, judge, frames[batch[0]])
            results.append(judge.verdict(batch))
            num_played += len(batch)
            if len(batch) < len(wanted):
                _logger.info("evaluated %d of %d clips", num_played, len(wanted))
    return merge(results)


def _batches(clip_ids: Sequence[int], size: int, motions: MotionLibrary) -> Iterator[List[int]]:
    """The clips in turn, at most ``size`` at a time and no more than ``motions`` has room for."""
    left = list(clip_ids)
    while left:
        batch = motions.residents.fitting(left[:size])
        yield batch
        left = left[len(batch) :]


def _environment(judge: "Judge", motions: MotionLibrary, sampler: FixedSampler, config: EnvConfig, compiled: bool) -> ImitationEnv:
    """The environment that plays the clips that ``sampler`` assigns, which have to be on the device."""
    env = ImitationEnv(judge, motions, sampler, config, termination_distance=None)
    if compiled:
        env.compile()
    return env


def frames_to_play(motions: MotionLibrary, control_dt: float) -> List[int]:
    """Control steps from the start of each clip to the instant nearest to its end, where the environment calls it over.

    At a tie the earlier one, so that rounding cannot let the environment be first.
    """
    return [max(math.ceil(duration / control_dt - 0.5 - 1e-3), 1) for duration in motions.durations.tolist()]


def _no_clips(control_dt: float) -> EvaluationResult:
    none = torch.zeros(0, dtype=torch.int64)
    return EvaluationResult(control_dt, none, (), none, none, none, torch.zeros(0, len(ERROR_NAMES), dtype=torch.float64))


@torch.no_grad()
def _play(policy: Policy, env: ImitationEnv, judge: "Judge", num_steps: int) -> None:
    """Play the batch until its longest clip ends or everybody has failed."""
    observation = env.reset()
    for step in range(1, num_steps + 1):
        observation = env.step(policy(observation, env.steps == 0)).observation
        if step % _GLANCE_STEPS == 0 and not judge.is_anyone_running():
            break


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

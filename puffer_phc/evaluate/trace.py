"""A few clips played once more with everything written down: what reports and pages draw, and evaluation itself need not keep."""

from typing import List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from puffer_phc.config import EnvConfig
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.env.terminations import fails_relaxed, fails_strict
from puffer_phc.evaluate.evaluation import Policy, frames_to_play
from puffer_phc.evaluate.judge import Watched
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.sampler import FixedSampler
from puffer_phc.sim.simulator import Simulator

AFTERMATH_SECONDS = 1.0
"""How long a trace goes on after the relaxed failure: what follows is no imitation any more."""


_STATES = ("pos", "quat", "ref_pos", "ref_quat")


class Trace(NamedTuple):
    """One clip as it was played from its first frame: T instants on the CPU, world frame, metres, quaternions wxyz."""

    clip_id: int
    """Index in the motion library."""
    name: str
    control_dt: float
    """Seconds between instants; the first is the placed humanoid at time 0."""
    num_frames: int
    """Frames of the whole clip after its first, however many of them were played."""
    pos: Tensor
    """(T, B, 3)."""
    quat: Tensor
    """(T, B, 4)."""
    ref_pos: Tensor
    """(T, B, 3)."""
    ref_quat: Tensor
    """(T, B, 4)."""

    @property
    def distances(self) -> Tensor:
        """(T, B) m from each body to its reference; infinite where the simulation diverged."""
        return (self.pos - self.ref_pos).norm(dim=-1).nan_to_num(torch.inf)

    @property
    def strict_failure(self) -> Optional[int]:
        """The first instant at which a body is too far, or None."""
        return _first(fails_strict(self.distances))

    @property
    def relaxed_failure(self) -> Optional[int]:
        """The first instant at which the mean over the bodies is too far, or None."""
        return _first(fails_relaxed(self.distances))

    def part(self, first: int) -> "Trace":
        """What comes from instant ``first`` on; its times then count from there."""
        return self._replace(**{name: getattr(self, name)[first:] for name in _STATES})


def _first(flags: Tensor) -> Optional[int]:
    where = flags.nonzero()
    return int(where[0]) if len(where) else None


class _Tape(Watched):
    """Keeps every state and its reference; row n plays clip ``clips[n]``, all begun together at time 0."""

    def __init__(self, simulator: Simulator, motions: MotionLibrary, clips: Tensor) -> None:
        super().__init__(simulator)
        self._motions, self._clips = motions, clips
        self.instants: List[List[Tensor]] = []
        """Position, rotation and their references (N, B, ·) of every instant."""
        self.steps_since_failure = torch.zeros(simulator.num_envs, dtype=torch.int64)

    def look(self) -> None:
        """Copy the instant that has come to the CPU."""
        times = torch.full((self.num_envs,), len(self.instants) * self.control_dt, device=self.device)
        reference = self._motions.at(self._clips, times).body
        pos, quat, ref_pos, ref_quat = (part.detach().cpu().clone() for part in (*self.body[:2], *reference[:2]))
        self.instants.append([pos, quat, ref_pos, ref_quat])
        distances = (pos - ref_pos).norm(dim=-1).nan_to_num(torch.inf)
        self.steps_since_failure += fails_relaxed(distances) | (self.steps_since_failure > 0)


@torch.no_grad()
def record(policy: Policy, simulator: Simulator, motions: MotionLibrary, config: EnvConfig, clip_ids: Sequence[int]) -> List[Trace]:
    """Play the clips ``clip_ids``, which have to be on the device, with ``policy``, one a row of ``simulator``.

    Each goes on to its end, or until a second after its relaxed failure.
    """
    clips = torch.tensor(list(clip_ids), device=simulator.device)
    tape = _Tape(simulator, motions, clips)
    env = ImitationEnv(tape, motions, FixedSampler(clips, torch.zeros(len(clips), device=clips.device)), config, termination_distance=None)
    every = frames_to_play(motions, simulator.control_dt)
    frames = torch.tensor([every[clip] for clip in clip_ids])
    aftermath = round(AFTERMATH_SECONDS / simulator.control_dt)
    observation = env.reset()
    tape.look()
    for step in range(int(frames.max())):
        if bool(((tape.steps_since_failure > aftermath) | (step >= frames)).all()):
            break
        observation = env.step(policy(observation, env.steps == 0)).observation
    columns = [torch.stack(parts, dim=1) for parts in zip(*tape.instants)]
    return [
        _trimmed(Trace(clip, motions.names[clip], simulator.control_dt, int(frames[row]), *(column[row] for column in columns)), aftermath)
        for row, clip in enumerate(clip_ids)
    ]


def _trimmed(trace: Trace, aftermath: int) -> Trace:
    """``trace`` without what came after its clip's end, or more than ``aftermath`` instants after its relaxed failure."""
    whole = trace._replace(**{name: getattr(trace, name)[: trace.num_frames + 1] for name in _STATES})
    failure = whole.relaxed_failure
    return whole if failure is None else whole._replace(**{name: getattr(whole, name)[: failure + aftermath + 1] for name in _STATES})

"""Every clip whole, from its first frame to its last, with a deterministic policy: who gets through, and how exactly.

One rollout judges both meanings of success. *Strict*: no body is ever farther than 0.25 m from its reference. *Relaxed*: the mean over
the 24 bodies never exceeds 0.5 m. The rollout goes on after a strict failure and ends, for that clip, at the relaxed one. A diverged
simulation fails both at that frame. Frames are the control steps after the first frame, on which the humanoid is placed.
"""

import logging
import math
from typing import Callable, Iterator, List, Optional, Sequence

import torch
from torch import Tensor

from puffer_phc.config import EnvConfig
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.evaluate.judge import Judge
from puffer_phc.evaluate.result import EvaluationResult, merge, no_clips
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.sampler import FixedSampler
from puffer_phc.sim.simulator import Simulator

_GLANCE_STEPS = 30
"""Control steps between looks at whether anybody is still running, each of which waits for the device."""

_logger = logging.getLogger(__name__)

Policy = Callable[[Tensor, Tensor], Tensor]
"""From observations (N, O) and which rows (N,) bool begin an episode with them to actions (N, A), without chance."""


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
    results = [no_clips(simulator.control_dt)]
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


def _environment(judge: Judge, motions: MotionLibrary, sampler: FixedSampler, config: EnvConfig, compiled: bool) -> ImitationEnv:
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


@torch.no_grad()
def _play(policy: Policy, env: ImitationEnv, judge: Judge, num_steps: int) -> None:
    """Play the batch until its longest clip ends or everybody has failed."""
    observation = env.reset()
    for step in range(1, num_steps + 1):
        observation = env.step(policy(observation, env.steps == 0)).observation
        if step % _GLANCE_STEPS == 0 and not judge.is_anyone_running():
            break

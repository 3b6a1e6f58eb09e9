"""Where the page of a run has its attempts played: one humanoid on a processor, moved by the policy that the run left last."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import torch

from puffer_phc import build
from puffer_phc.evaluate.trace import record
from puffer_phc.learn.checkpoint import load_checkpoint
from puffer_phc.learn.rollout import Deterministic
from puffer_phc.motion.file import load_motion_file
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.mirror import with_mirrored
from puffer_phc.options import assemble, checkpoint_values
from puffer_phc.report.attempts import motion_points, story
from puffer_phc.view.outline import Outline

_SHOWN_SECONDS = 20.0
"""Of an attempt at most: its end, where failures are."""

_CPU = torch.device("cpu")


class Stage:
    """One humanoid on this machine's processor, and the run's policy."""

    def __init__(self, policy_path: Path) -> None:
        saved = load_checkpoint(policy_path).config
        config = assemble(checkpoint_values(saved, whole=True)).sections()
        self._config = replace(config, env=replace(config.env, backend="mujoco_cpu", num_envs=1, max_resident_frames=0))
        clips = load_motion_file(config.env.motion_file)
        self._clips = {clip.name: clip for clip in (with_mirrored(clips) if config.env.mirror_motions else clips)}
        self._policy_path = policy_path
        self._simulator = build.make_simulator(self._config.env, 1, _CPU)
        self._outlines = Outline(), Outline(is_slim=True)

    @property
    def names(self) -> List[str]:
        """All clips."""
        return list(self._clips)

    def attempt(self, name: str) -> Dict[str, Any]:
        """The clip ``name`` played by the newest policy, as the page's player takes it."""
        saved = load_checkpoint(self._policy_path)
        policy = build.saved_policy(self._config, saved.observation_size, saved.action_size, _CPU, saved, self._policy_path)
        motions = MotionLibrary([self._clips[name]], _CPU, sets_floor=self._config.env.motion_floor == "humanoid")
        (trace,) = record(Deterministic(policy), self._simulator, motions, self._config.env, [0])
        first = max(len(trace.pos) - round(_SHOWN_SECONDS / trace.control_dt), 0)
        motion = motion_points(trace.part(first), *self._outlines)
        return {**motion, "start": first * trace.control_dt, "story": story(trace)}

"""The process beside a training run that serves its page: it reads what the run writes, and plays the clip that fails most.

It is started by ``watch.Watch``, takes no more of the processors than its share, and ends with the run.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

SHARE = 0.03
"""Of one processor core, for attempts: they come as often as this allows."""

TAKEN = "processor time:"
"""Begins the last line that the process says."""

_GLANCE_SECONDS = 0.5
_SHOWN_SECONDS = 20.0
"""Of an attempt at most: its end, where failures are."""


class Spec(NamedTuple):
    """What the run tells this process at its start."""

    run_dir: str
    policy: str
    """Where the run leaves its policy now and then, a checkpoint."""
    host: str
    port: int
    total_steps: int


class Table:
    """Clips as the evaluations of the run left them in clips.tsv."""

    def __init__(self, path: Path) -> None:
        from puffer_phc.evaluate.evaluation import EvaluationResult

        self._path, self._time = path, 0
        self.result: Optional[EvaluationResult] = None
        self.num_evaluations = 0
        self.failures: Counter[str] = Counter()

    def read(self) -> bool:
        """Take in a new evaluation; returns whether there was one."""
        from puffer_phc.errors import ConfigError
        from puffer_phc.evaluate.tables import read_motions

        with contextlib.suppress(OSError, ConfigError):
            written = self._path.stat().st_mtime_ns
            if written != self._time:
                self.result, self._time = read_motions(self._path, 1.0 / 30.0), written
                self.num_evaluations += 1
                self.failures.update(
                    name for name, is_strict in zip(self.result.names, self.result.strict_success.tolist()) if not is_strict
                )
                return True
        return False

    def order(self) -> List[str]:
        """Names of all clips, those first that failed oftenest, and among equals the worst of the last time."""
        from puffer_phc.evaluate.tables import worst_first

        if self.result is None:
            return []
        names = [self.result.names[row] for row in worst_first(self.result)]
        return sorted(names, key=lambda name: -self.failures[name])

    def rows(self) -> List[Dict[str, Any]]:
        """What the page's table shows, in that order."""
        from puffer_phc.evaluate.tables import outcomes

        result = self.result
        if result is None:
            return []
        columns = (result.strict_frames.tolist(), result.frames.tolist(), result.errors[:, 0].tolist(), outcomes(result))
        found = dict(zip(result.names, zip(*columns)))
        return [self._row(name, *found[name], result.control_dt) for name in self.order()]

    def _row(self, name: str, strict: int, frames: int, error: float, outcome: str, dt: float) -> Dict[str, Any]:
        return {
            "name": name,
            "outcome": outcome,
            "order": ("failed", "relaxed", "strict").index(outcome),
            "kinds": outcome if outcome == "strict" else f"{outcome} not-strict",
            "failures": self.failures[name],
            "evaluations": self.num_evaluations,
            "until": strict * dt if strict < frames else None,
            "length": frames * dt,
            "error": None if error != error else error,
        }


class Stage:
    """One humanoid on this machine's processor, and the run's policy."""

    def __init__(self, policy_path: Path) -> None:
        from puffer_phc import build
        from puffer_phc.learn.checkpoint import load_checkpoint
        from puffer_phc.motion.file import load_motion_file
        from puffer_phc.motion.mirror import with_mirrored
        from puffer_phc.options import assemble, checkpoint_values
        from puffer_phc.view.outline import Outline

        saved = load_checkpoint(policy_path).config
        config = assemble(checkpoint_values(saved, whole=True)).sections()
        self._config = replace(config, env=replace(config.env, backend="mujoco_cpu", num_envs=1, max_resident_frames=0))
        clips = load_motion_file(config.env.motion_file)
        self._clips = {clip.name: clip for clip in (with_mirrored(clips) if config.env.mirror_motions else clips)}
        self._policy_path = policy_path
        self._build, self._simulator = build, build.make_simulator(self._config.env, 1, _cpu())
        self._outlines = Outline(), Outline(is_slim=True)

    @property
    def names(self) -> List[str]:
        """All clips."""
        return list(self._clips)

    def attempt(self, name: str) -> Dict[str, Any]:
        """The clip ``name`` played by the newest policy, as the page's player takes it."""
        from puffer_phc.commands.attempts import motion_points, story
        from puffer_phc.evaluate.trace import record
        from puffer_phc.learn.checkpoint import load_checkpoint
        from puffer_phc.learn.rollout import Deterministic
        from puffer_phc.motion.library import MotionLibrary

        saved = load_checkpoint(self._policy_path)
        policy = self._build.make_policy(self._config, saved.observation_size, saved.action_size, _cpu())
        self._build.restore_policy(policy, saved, self._policy_path)
        motions = MotionLibrary([self._clips[name]], _cpu(), sets_floor=self._config.env.motion_floor == "humanoid")
        (trace,) = record(Deterministic(policy), self._simulator, motions, self._config.env, [0])
        first = max(len(trace.pos) - round(_SHOWN_SECONDS / trace.control_dt), 0)
        motion = motion_points(trace.part(first), *self._outlines)
        return {**motion, "start": first * trace.control_dt, "story": story(trace)}


def _cpu() -> Any:
    import torch

    return torch.device("cpu")


class Page:
    """What the browser is told; written by the main thread, read by the server's."""

    def __init__(self, spec: Spec) -> None:
        from puffer_phc.report.curves import Curves

        self._spec, self._run_dir = spec, Path(spec.run_dir)
        self.curves, self.table = Curves(self._run_dir / "metrics.jsonl"), Table(self._run_dir / "clips.tsv")
        self._versions = {"curves": 0, "clips": 0, "attempt": 0}
        self._panels: List[Dict[str, Any]] = self.curves.panels()
        self._rows: List[Dict[str, Any]] = []
        self.chosen: Optional[str] = None
        self.message = ""
        self._attempt: Dict[str, Any] = {}
        self.has_request = threading.Event()

    def refresh(self) -> None:
        """Take in what the run has written since."""
        if self.curves.read():
            self._panels = self.curves.panels()
            self._versions["curves"] += 1
        if self.table.read():
            self._rows = self.table.rows()
            self._versions["clips"] += 1

    def show(self, attempt: Dict[str, Any]) -> None:
        """Let the browser fetch ``attempt``."""
        self._attempt = attempt
        self._versions["attempt"] += 1

    def state(self) -> Dict[str, Any]:
        """Everything but the attempt."""
        last = self.curves.last
        return {
            "step": last.get("0verview/agent_steps"),
            "total": self._spec.total_steps,
            "speed": last.get("0verview/SPS"),
            "elapsed": last.get("performance/uptime"),
            "remaining": last.get("performance/remaining"),
            "panels": self._panels,
            "clips": self._rows,
            "message": self.message,
            "curves_version": self._versions["curves"],
            "clips_version": self._versions["clips"],
            "attempt": self._versions["attempt"],
        }

    def attempt(self) -> Dict[str, Any]:
        """What moves."""
        return self._attempt

    def choose(self, posted: Any) -> None:
        """Play the clip that somebody asked for, or the worst again. Raises ValueError for anything else."""
        clip = posted.get("clip") if isinstance(posted, dict) else posted
        if clip is not None and not isinstance(clip, str):
            raise ValueError(clip)
        self.chosen = clip
        self.has_request.set()

    def next_clip(self, names: Sequence[str], number: int) -> str:
        """The clip that somebody chose, or the one that fails most; before there is an evaluation, all in turn."""
        if self.chosen in names:
            return str(self.chosen)
        order = [name for name in self.table.order() if name in names]
        return order[0] if order else names[number % len(names)]


def serve(spec: Spec) -> None:
    """Serve the page until the run ends."""
    from puffer_phc.report.page_server import PageServer
    from puffer_phc.report.watch_page import watch_page
    from puffer_phc.view.outline import Outline

    page = Page(spec)
    content = watch_page(Path(spec.run_dir).name, Outline().describe())
    server = PageServer(spec.host, spec.port, content, {"/state": page.state, "/attempt": page.attempt}, {"/choose": page.choose})
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    yield_to_others()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    _play(spec, page, ended)
    server.close()
    sys.stdout.write(f"{TAKEN} {time.process_time():.2f} s\n")


def _play(spec: Spec, page: Page, ended: threading.Event) -> None:
    """Refresh the page and make attempts, as often as ``SHARE`` allows, or at once when somebody chooses a clip."""
    stage: Optional[Stage] = None
    number, allowed_at = 0, 0.0
    while not ended.wait(_GLANCE_SECONDS):
        page.refresh()
        is_due = time.monotonic() >= allowed_at or page.has_request.is_set()
        if not is_due or not Path(spec.policy).exists():
            continue
        page.has_request.clear()
        try:
            stage = stage or Stage(Path(spec.policy))
            spent, attempt = _timed(stage, page.next_clip(stage.names, number))
        except Exception as error:  # curves and table are worth having without a humanoid
            page.message, allowed_at = f"nothing moves here: {error}", time.monotonic() + 60.0
            continue
        page.show(attempt)
        number, allowed_at = number + 1, time.monotonic() + spent / SHARE


def _timed(stage: Stage, name: str) -> Tuple[float, Dict[str, Any]]:
    """An attempt and the processor seconds that it took."""
    start = time.process_time()
    attempt = stage.attempt(name)
    return time.process_time() - start, attempt


def yield_to_others() -> None:
    """Let the run have the processors when it wants them, once the page is there; on Windows the run has seen to it."""
    if hasattr(os, "nice"):
        os.nice(10)


if __name__ == "__main__":
    serve(Spec(**json.loads(sys.argv[1])))

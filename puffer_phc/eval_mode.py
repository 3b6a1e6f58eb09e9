"""The eval mode's page, and the second evaluation that it may be compared with."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Optional

from puffer_phc import build
from puffer_phc.config import Config
from puffer_phc.errors import PhcError
from puffer_phc.evaluate.evaluation import EvaluationResult, Policy
from puffer_phc.evaluate.tables import read_motions, worst_first, write_motions, write_output
from puffer_phc.evaluate.trace import Trace, record
from puffer_phc.learn.checkpoint import load_checkpoint
from puffer_phc.learn.distributed import World
from puffer_phc.learn.origin import origin
from puffer_phc.learn.rollout import Deterministic
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.options import with_policy_of
from puffer_phc.report.several import Several
from puffer_phc.resolve import resolve

_NO_RATE = 1.0 / 30.0
"""s of a control step of a table in which nothing was played for as much as one step."""


def second_result(config: Config, motions: MotionLibrary, world: World) -> Optional[EvaluationResult]:
    """What ``eval.compare`` names: a table of earlier, or a checkpoint, which plays the same clips; None where it names nothing."""
    if config.eval.compare is None:
        return None
    path = Path(config.eval.compare)
    if path.suffix == ".tsv":
        return read_motions(path, _NO_RATE)
    checkpoint = load_checkpoint(path)
    own = resolve(with_policy_of(config, checkpoint.config), motions.device)
    evaluator = build.Evaluator(own, motions, world)
    policy = build.make_policy(own, evaluator.observation_size, evaluator.action_size, motions.device)
    build.restore_policy(policy, checkpoint, path)
    result = evaluator(Deterministic(policy))
    evaluator.close()
    return result


def check_compare(config: Config) -> None:
    """Raise ConfigError or CheckpointError for an ``eval.compare`` that can't be read, before the expensive work."""
    if config.eval.compare is not None and Path(config.eval.compare).suffix == ".tsv":
        read_motions(config.eval.compare, _NO_RATE)
    elif config.eval.compare is not None:
        load_checkpoint(config.eval.compare)


def worst_traces(config: Config, motions: MotionLibrary, policy: Policy, result: EvaluationResult) -> List[Trace]:
    """The ``eval.report_clips`` worst clips played once more. Nothing where this process does not hold all clips."""
    worst = [int(result.clip_ids[row]) for row in worst_first(result)[: config.eval.report_clips]]
    chosen = [] if config.train.shard_clips else motions.fitting(worst)
    if not chosen:
        return []
    simulator = build.make_simulator(config.env, len(chosen), motions.device)
    with motions.lent():
        motions.hold(chosen)
        traces = record(policy, simulator, motions, config.env, chosen)
    simulator.close()
    return traces


class EvaluationKeeper:
    """What a training run keeps of each evaluation beside its summary: clips.tsv, by motion, and with ``train.eval_video`` a film.

    The film is of the worst clip, played once more: videos/<step>.gif in ``run_dir``. What can't be written or drawn is a message.
    """

    def __init__(self, config: Config, motions: MotionLibrary, run_dir: Path, reporter: Several) -> None:
        self._config, self._motions, self._run_dir, self._reporter = config, motions, run_dir, reporter

    def __call__(self, policy: Policy, result: EvaluationResult) -> None:
        """Keep ``result`` of ``policy``."""
        try:
            write_motions(result, self._run_dir / "clips.tsv")
            if self._config.train.eval_video:
                self._film(policy, result)
        except PhcError as error:
            self._reporter.message(str(error))

    def _film(self, policy: Policy, result: EvaluationResult) -> None:
        from puffer_phc.film import film  # draws, and takes a second to load

        only_one = replace(self._config, eval=replace(self._config.eval, report_clips=1))
        for trace in worst_traces(only_one, self._motions, policy, result):
            path = self._run_dir / "videos" / f"{self._reporter.step:012d}.gif"
            film(trace, path, self._config.video)
            self._reporter.on_video(self._reporter.step, path)


def write_report(
    path: Path, config: Config, checkpoint: Path, result: EvaluationResult, traces: List[Trace], other: Optional[EvaluationResult]
) -> Path:
    """Write the page about ``result``. Raises ConfigError where ``path`` can't be written."""
    from puffer_phc.evaluation_report import Compared, Subject, evaluation_report  # draws, and takes a second to load

    compared = Compared(_title(Path(str(config.eval.compare))), other) if other is not None else None
    content = evaluation_report(Subject(_title(checkpoint), _facts(config, checkpoint), result, traces, compared))
    write_output(path, lambda stream: stream.write(content))
    return path


def _title(path: Path) -> str:
    """A checkpoint's or table's name, with its folder's: most are called latest.pt."""
    return f"{path.absolute().parent.name}/{path.name}"


def _facts(config: Config, checkpoint: Path) -> Dict[str, str]:
    return {
        "checkpoint": str(checkpoint),
        "motions": config.env.motion_file,
        "compared with": str(config.eval.compare or "nothing (--eval.compare names a second checkpoint or table)"),
        "physics": f"{config.env.backend}, {config.env.physics_rate:g} Hz × {config.env.substeps}, on {config.train.device}",
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "with": ", ".join(f"{name} {version}" for name, version in origin().items()),
    }

"""What a training run keeps of its evaluations, and the clips that went worst played once more."""

from pathlib import Path
from typing import List

from puffer_phc import build
from puffer_phc.config import Config
from puffer_phc.errors import PhcError
from puffer_phc.evaluate.evaluation import Policy
from puffer_phc.evaluate.result import EvaluationResult
from puffer_phc.evaluate.tables import worst_first, write_motions
from puffer_phc.evaluate.trace import Trace, record
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.report.several import Several


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
        from puffer_phc.report.film import film  # draws, and takes a second to load

        for trace in worst_traces(self._config, self._motions, policy, result, 1):
            path = self._run_dir / "videos" / f"{self._reporter.step:012d}.gif"
            film(trace, path, self._config.video)
            self._reporter.on_video(self._reporter.step, path)


def worst_traces(config: Config, motions: MotionLibrary, policy: Policy, result: EvaluationResult, count: int) -> List[Trace]:
    """The ``count`` worst clips played once more. Nothing where this process does not hold all clips."""
    worst = [int(result.clip_ids[row]) for row in worst_first(result)[:count]]
    chosen = [] if config.train.shard_clips else motions.residents.fitting(worst)
    if not chosen:
        return []
    simulator = build.make_simulator(config.env, len(chosen), motions.device)
    with motions.lent():
        motions.hold(chosen)
        traces = record(policy, simulator, motions, config.env, chosen)
    simulator.close()
    return traces

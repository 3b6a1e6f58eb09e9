"""The eval mode: every clip once, the tables, the page about them, and the second evaluation that it may be compared with."""

import time
from pathlib import Path
from typing import Dict, List, Optional, Union

from puffer_phc.command_line import say, show
from puffer_phc.commands.evaluation_keeper import worst_traces
from puffer_phc.commands.session import evaluate_saved, evaluated, needed_checkpoint, open_session
from puffer_phc.config import Config
from puffer_phc.evaluate.result import EvaluationResult
from puffer_phc.evaluate.tables import read_motions, summary_table, write_output, write_results
from puffer_phc.evaluate.trace import Trace
from puffer_phc.files import check_writable
from puffer_phc.learn.checkpoint import Checkpoint, load_checkpoint
from puffer_phc.learn.distributed import World
from puffer_phc.learn.origin import origin
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.options import Parsed, with_policy_of
from puffer_phc.resolve import resolve

_NO_RATE = 1.0 / 30.0
"""s of a control step of a table in which nothing was played for as much as one step."""


def evaluate(arguments: Parsed) -> int:
    """Evaluate a checkpoint on every clip; writes the summary, the table by motion and a page about both to ``--output``."""
    path = needed_checkpoint(arguments)
    check_writable(arguments.output)
    with open_session(arguments) as session:
        compared = read_compared(session.config)
        result, motions, policy = evaluated(session, arguments)
        if session.world.is_main:
            files = write_results(result, arguments.output)
            show(summary_table(result))
            for file in files:
                say(f"wrote {file}")
        if session.config.eval.report:
            other = second_result(session.config, compared, motions, session.world)
            if session.world.is_main:
                traces = worst_traces(session.config, motions, policy, result, session.config.eval.report_clips)
                say(f"wrote {write_report(files.report, session.config, path, result, traces, other)}")
    return 0


Compared = Union[EvaluationResult, Checkpoint, None]
"""What ``eval.compare`` names: a table of earlier, a checkpoint, or nothing."""


def read_compared(config: Config) -> Compared:
    """The content of ``eval.compare``. Raises ConfigError or CheckpointError where it can't be read, before the expensive work."""
    if config.eval.compare is None:
        return None
    is_table = Path(config.eval.compare).suffix == ".tsv"
    return read_motions(config.eval.compare, _NO_RATE) if is_table else load_checkpoint(config.eval.compare)


def second_result(config: Config, compared: Compared, motions: MotionLibrary, world: World) -> Optional[EvaluationResult]:
    """The evaluation that ``compared`` is, or that its policy makes on the same clips; None for nothing."""
    if not isinstance(compared, Checkpoint):
        return compared
    own = resolve(with_policy_of(config, compared.config), motions.device)
    return evaluate_saved(own, motions, world, compared, Path(str(config.eval.compare)))[0]


def write_report(
    path: Path, config: Config, checkpoint: Path, result: EvaluationResult, traces: List[Trace], other: Optional[EvaluationResult]
) -> Path:
    """Write the page about ``result``. Raises ConfigError where ``path`` can't be written."""
    from puffer_phc.report import evaluation_report as page  # draws, and takes a second to load

    compared = page.Compared(_title(Path(str(config.eval.compare))), other) if other is not None else None
    content = page.evaluation_report(page.Subject(_title(checkpoint), _facts(config, checkpoint), result, traces, compared))
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

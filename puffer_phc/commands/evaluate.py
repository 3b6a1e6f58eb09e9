"""The eval mode: every clip once, the tables, the page about them, and the second evaluation that it may be compared with."""

import time
from pathlib import Path
from typing import Dict, List, Optional

from rich.console import Console

from puffer_phc import build
from puffer_phc.command_line import say
from puffer_phc.commands.evaluation_keeper import worst_traces
from puffer_phc.commands.session import evaluated, open_session
from puffer_phc.config import Config
from puffer_phc.errors import ConfigError
from puffer_phc.evaluate.evaluation import EvaluationResult
from puffer_phc.evaluate.tables import read_motions, summary_table, write_output, write_results
from puffer_phc.evaluate.trace import Trace
from puffer_phc.files import check_writable
from puffer_phc.learn.checkpoint import load_checkpoint
from puffer_phc.learn.distributed import World
from puffer_phc.learn.origin import origin
from puffer_phc.learn.rollout import Deterministic
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.options import SHIPPED_POLICY, Parsed, with_policy_of
from puffer_phc.resolve import resolve

_NO_RATE = 1.0 / 30.0
"""s of a control step of a table in which nothing was played for as much as one step."""


def evaluate(arguments: Parsed) -> int:
    """Evaluate a checkpoint on every clip; writes the summary, the table by motion and a page about both to ``--output``."""
    if arguments.checkpoint_path is None:
        raise ConfigError(f"--mode eval needs a checkpoint: -c FILE (a run's latest.pt; '{SHIPPED_POLICY}' is missing)")
    check_writable(arguments.output)
    session = open_session(arguments)
    check_compare(session.config)
    result, motions, policy = evaluated(session, arguments)
    if session.world.is_main:
        Console().print(summary_table(result))
        files = write_results(result, arguments.output)
        for path in files:
            say(f"wrote {path}")
    if session.config.eval.report:
        other = second_result(session.config, motions, session.world)
        if session.world.is_main:
            traces = worst_traces(session.config, motions, policy, result)
            say(f"wrote {write_report(files.report, session.config, arguments.checkpoint_path, result, traces, other)}")
    session.world.close()
    return 0


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


def write_report(
    path: Path, config: Config, checkpoint: Path, result: EvaluationResult, traces: List[Trace], other: Optional[EvaluationResult]
) -> Path:
    """Write the page about ``result``. Raises ConfigError where ``path`` can't be written."""
    from puffer_phc.commands.evaluation_report import Compared, Subject, evaluation_report  # draws, and takes a second to load

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

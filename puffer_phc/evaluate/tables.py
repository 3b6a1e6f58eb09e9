"""Evaluation results as files for machines (JSON, TSV) and as a table for the terminal."""

import csv
import dataclasses
import itertools
import json
import math
import os
from datetime import datetime
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, TextIO, Union

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from puffer_phc.errors import ConfigError
from puffer_phc.evaluate.figures import FIGURES
from puffer_phc.evaluate.result import ERROR_NAMES, EvaluationResult
from puffer_phc.files import make_folder, whole_file

PathLike = Union[str, "os.PathLike[str]"]

COLUMNS = ("motion_keys", "motion_length", "played_steps", "success", "success_strict", "strict_steps", "strict_seconds", *ERROR_NAMES)
"""Columns of the table by motion. The original's four are: name, frames to play, frames before the relaxed failure, relaxed success."""


class EvaluationFiles(NamedTuple):
    """Where the results of an evaluation were written."""

    summary: Path
    by_motion: Path

    @property
    def report(self) -> Path:
        """Where a page about them belongs."""
        return self.by_motion.with_name(self.by_motion.name.replace("results_by_motion", "eval_report")).with_suffix(".html")


def write_results(result: EvaluationResult, folder: PathLike, now: Optional[datetime] = None) -> EvaluationFiles:
    """Write ``eval_summary_<mmdd_HHMM>.json`` and ``results_by_motion_<mmdd_HHMM>.tsv`` into ``folder``.

    Each file appears whole or not at all. Figures that do not exist (no success, no frame) are null in the JSON and empty in the TSV.
    The time is ``now`` (default: the present); a second evaluation within the minute gets ``_2`` behind it. Raises ConfigError if
    ``folder`` cannot be written.
    """
    path = Path(folder)
    make_folder(path)
    files = _new_files(path, (now or datetime.now()).strftime("%m%d_%H%M"))
    write_output(files.summary, lambda stream: _write_summary(result, stream))
    write_output(files.by_motion, lambda stream: _write_motions(result, stream))
    return files


def write_motions(result: EvaluationResult, path: Path) -> None:
    """Write the table by motion alone to ``path``. Raises ConfigError where that can't be written."""
    write_output(path, lambda stream: _write_motions(result, stream))


def _new_files(folder: Path, stamp: str) -> EvaluationFiles:
    """Names with ``stamp`` that no earlier evaluation has."""
    stamps = itertools.chain([stamp], (f"{stamp}_{number}" for number in itertools.count(2)))
    candidates = (EvaluationFiles(folder / f"eval_summary_{name}.json", folder / f"results_by_motion_{name}.tsv") for name in stamps)
    return next(files for files in candidates if not any(path.exists() for path in files))


def read_hard_clips(path: PathLike) -> List[str]:
    """Names of clips in a text file, one a line; of a table that ``write_results`` wrote, those that failed strictly.

    Raises ConfigError for a file that cannot be read or has no such name.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"env.hard_clips '{path}' can't be read: {getattr(error, 'strerror', None) or error}") from error
    if lines and lines[0].split("\t")[0] == COLUMNS[0]:
        rows = csv.DictReader(lines, delimiter="\t")
        names = [row[COLUMNS[0]] for row in rows if row.get("success_strict") == "False"]
    else:
        names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ConfigError(f"env.hard_clips '{path}' names no clip, or no clip that failed")
    return names


def motion_rows(result: EvaluationResult) -> List[Dict[str, Union[str, bool, int, float]]]:
    """One row of ``COLUMNS`` per clip, in the order of the motion library; figures that do not exist are NaN."""
    values = zip(
        result.names,
        result.frames.tolist(),
        result.played_frames.tolist(),
        result.relaxed_success.tolist(),
        result.strict_success.tolist(),
        result.strict_frames.tolist(),
        result.strict_seconds.tolist(),
        *result.errors.unbind(-1),
    )
    return [{name: value.item() if isinstance(value, torch.Tensor) else value for name, value in zip(COLUMNS, row)} for row in values]


def read_motions(path: PathLike, control_dt: float) -> EvaluationResult:
    """An evaluation of earlier from its ``results_by_motion`` table; ``control_dt`` s where no row tells its own.

    Raises ConfigError naming what is wrong with the file.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
    except (OSError, UnicodeError, csv.Error) as error:
        raise ConfigError(f"results '{path}' can't be read: {getattr(error, 'strerror', None) or error}") from error
    missing = [name for name in COLUMNS if not rows or rows[0].get(name) is None]
    if missing:
        raise ConfigError(f"results '{path}' lack {', '.join(missing)}; a results_by_motion table of --mode eval has them")
    try:
        return _from_rows(rows, control_dt)
    except ValueError as error:
        raise ConfigError(f"results '{path}' are not usable: {error}") from error


def _from_rows(rows: List[Dict[str, str]], control_dt: float) -> EvaluationResult:
    frames, played, strict = (torch.tensor([int(row[name]) for row in rows]) for name in ("motion_length", "played_steps", "strict_steps"))
    longest = max(rows, key=lambda row: int(row["strict_steps"]))  # whose seconds have most digits
    steps = int(longest["strict_steps"])
    seconds = float(longest["strict_seconds"]) / steps if steps > 0 else control_dt
    errors = torch.tensor([[float(row[name] or "nan") for name in ERROR_NAMES] for row in rows], dtype=torch.float64)
    names = tuple(row["motion_keys"] for row in rows)
    result = EvaluationResult(seconds, torch.arange(len(rows)), names, frames, played, strict, torch.zeros_like(errors))
    return dataclasses.replace(result, error_sums=(errors * result.error_counts).nan_to_num(0.0))


def summary_table(result: EvaluationResult, num_worst: int = 10) -> Group:
    """The summary and the ``num_worst`` worst clips by name, for ``rich.print``.

    Relaxed failures come first; among equals the smallest share of frames before the strict failure, then the largest position error.
    """
    return Group(_figures_table(result), _worst_table(result, num_worst)) if len(result.names) else Group(Text("no clips evaluated"))


def write_output(path: Path, write: Callable[[TextIO], object]) -> None:
    """Let ``write`` fill the text file ``path``, which appears whole or not at all. Raises ConfigError where it can't be written."""
    try:
        with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            write(stream)
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be written: {error.strerror or error}") from error


def _write_summary(result: EvaluationResult, stream: TextIO) -> None:
    summary = {name: None if math.isnan(value) else value for name, value in result.summary().items()}
    json.dump(summary, stream, indent=2, allow_nan=False)
    stream.write("\n")


def _write_motions(result: EvaluationResult, stream: TextIO) -> None:
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in motion_rows(result):
        writer.writerow([_cell(value) for value in row.values()])


def _cell(value: Union[str, bool, int, float]) -> Union[str, bool, int]:
    """What the TSV holds for ``value``: micrometres are the last digit worth keeping."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3f}"
    return value


def _figures_table(result: EvaluationResult) -> Table:
    summary = result.summary()
    seconds = result.frames.sum().item() * result.control_dt
    table = Table(title=f"{len(result.names)} clips, {seconds:.1f} s", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for key, figure in FIGURES.items():
        table.add_row(figure.label + (f" ({figure.meaning})" if figure.meaning else ""), figure.text(summary[key]))
    return table


def _worst_table(result: EvaluationResult, num_worst: int) -> Table:
    table = Table(title="Worst clips")
    for heading in ("clip", "length", "until relaxed failure", "until strict failure", "position error"):
        table.add_column(heading, justify="left" if heading == "clip" else "right")
    for clip in worst_first(result)[:num_worst]:
        failures = (times[clip].item() for times in (result.relaxed_failure_times, result.strict_failure_times))
        table.add_row(
            Text(result.names[clip]),
            f"{result.frames[clip].item() * result.control_dt:.1f} s",
            *(f"{time:.1f} s" if math.isfinite(time) else "none" for time in failures),
            FIGURES["eval/mpjpe_all"].text(result.errors[clip, 0].item()),
        )
    return table


def worst_first(result: EvaluationResult) -> List[int]:
    """Positions of all clips in ``result``, worst first, in the order of ``summary_table``."""
    survival, succeeded = result.strict_survival.tolist(), result.relaxed_success.tolist()
    position_error = result.errors[:, 0].nan_to_num(math.inf).tolist()
    return sorted(range(len(survival)), key=lambda clip: (succeeded[clip], survival[clip], -position_error[clip], clip))


def outcomes(result: EvaluationResult) -> List[str]:
    """How each clip ended, as strict success, relaxed success only, or failed: ``strict``, ``relaxed``, ``failed``."""
    pairs = zip(result.strict_success.tolist(), result.relaxed_success.tolist())
    return ["strict" if strict else ("relaxed" if relaxed else "failed") for strict, relaxed in pairs]

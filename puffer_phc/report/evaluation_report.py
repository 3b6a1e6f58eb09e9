"""An evaluation as one page that opens from disk without a network: figures, charts, worst clips in pictures, a table of all clips."""

import math
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from puffer_phc.evaluate.figures import FIGURES, Figure
from puffer_phc.evaluate.result import EvaluationResult
from puffer_phc.evaluate.tables import outcomes, worst_first
from puffer_phc.evaluate.trace import Trace
from puffer_phc.report import charts, page
from puffer_phc.report.attempts import attempts_script, attempts_section

_CARDS = (
    *("eval/success_rate_strict", "eval/success_rate_relaxed"),
    *("eval/mpjpe_succ", "eval/mpjpe_all", "eval/mpjpe_pa", "eval/accel_dist"),
)
"""What comes first, the most telling of all figures."""

_COMPARED_KINDS = {"gained": "strict here, not there", "lost": "strict there, not here", "alone": "not in the other"}

_WORDS = (
    "<p><b>Strict success</b>: no body is ever farther than 0.25 m from its reference. <b>Relaxed success</b>: the mean over the 24 bodies "
    "never exceeds 0.5 m. Every clip is played once, whole, from its first frame, with deterministic actions.</p>"
    "<p><b>Position error</b>: distance from the reference in the world, mean over the bodies; <b>root-centred</b>: with both pelvises in "
    "one place; <b>Procrustes</b>: after the best rotation, scale and shift of every frame. Velocity and acceleration errors are "
    "differences from frame to frame. A clip counts until its relaxed failure; figures of many clips are means over frames.</p>"
)


class Compared(NamedTuple):
    """A second evaluation."""

    name: str
    result: EvaluationResult


class Subject(NamedTuple):
    """What a report is about."""

    name: str
    """Of the checkpoint."""
    facts: Dict[str, str]
    """What else should be known of the run."""
    result: EvaluationResult
    traces: Sequence[Trace]
    """The worst clips, played once more; may be none."""
    other: Optional[Compared] = None


def evaluation_report(subject: Subject) -> str:
    """The page as HTML."""
    body = [f"<h1>Evaluation of {page.text(subject.name)}</h1>", f'<p class="quiet">{page.text(_scope(subject.result))}</p>']
    body.append(f'<div class="cards">{"".join(_cards(subject))}</div>')
    body.append(page.section("All clips together", f'<div class="charts">{"".join(_charts(subject))}</div>'))
    if subject.other is not None:
        body.append(_comparison(subject, subject.other))
    if subject.traces:
        body.append(attempts_section(subject.traces))
    kinds = {**charts.KINDS, **(_COMPARED_KINDS if subject.other is not None else {})}
    body.append(page.section("Every clip", page.filters("clips", kinds), page.table("clips", _columns(subject), _rows(subject))))
    body.append(page.section("About", page.facts(subject.facts), _WORDS))
    scripts = [page.static("table.js"), page.table_script("clips")]
    if subject.traces:
        scripts += [page.static("figures.js"), attempts_script(subject.traces)]
    return page.document(f"Evaluation of {subject.name}", "\n".join(body), scripts)


def _scope(result: EvaluationResult) -> str:
    minutes = result.frames.sum().item() * result.control_dt / 60.0
    return f"{len(result.names)} clips, {minutes:.1f} minutes of motion, {1.0 / result.control_dt:.0f} control steps a second"


def _cards(subject: Subject) -> List[str]:
    summary = subject.result.summary()
    other = subject.other.result.summary() if subject.other is not None else {}
    return [
        page.card(one.number(summary[one.key]), one.unit, one.label, _change(one, summary[one.key], other[one.key]) if other else "")
        for one in (FIGURES[key] for key in _CARDS)
    ]


def _change(figure: Figure, value: float, other: float) -> str:
    """How much better or worse ``value`` is than ``other``, as HTML."""
    if not (math.isfinite(value) and math.isfinite(other)):
        return f"there {figure.number(other)}"
    improvement = figure.improvement(value - other)
    css = "better" if improvement > 0 else ("worse" if improvement < 0 else "")
    return f'there {figure.number(other)}, <span class="{css}">{figure.in_unit(value - other):+.1f}</span> here'


def _charts(subject: Subject) -> List[str]:
    result = subject.result
    kinds, errors = outcomes(result), result.errors[:, 0].numpy()
    lengths = result.frames.numpy() * result.control_dt
    curves = {"strict": _reached(result, "strict_frames"), "relaxed": _reached(result, "played_frames")}
    if subject.other is not None:
        other = subject.other.result
        curves.update({"strict, the other": _reached(other, "strict_frames"), "relaxed, the other": _reached(other, "played_frames")})
    return [
        page.chart(charts.survival(curves), "share of clips still tracked over the share of their length"),
        page.chart(charts.error_histogram(errors, kinds), "histogram of the clips' mean position errors"),
        page.chart(charts.error_by_length(lengths, errors, kinds), "mean position error of each clip over its length"),
    ]


def _reached(result: EvaluationResult, name: str) -> Tuple[np.ndarray, np.ndarray]:
    return getattr(result, name).numpy(), result.frames.numpy()


class _Pairing:
    """Rows of the second evaluation by clip name."""

    def __init__(self, other: EvaluationResult) -> None:
        self._rows = {name: row for row, name in enumerate(other.names)}
        self.errors, self.kinds = other.errors[:, 0].tolist(), outcomes(other)

    def find(self, name: str) -> Optional[int]:
        """The row of the clip ``name``, or None."""
        return self._rows.get(name)


def _comparison(subject: Subject, other: Compared) -> str:
    result, pairing = subject.result, _Pairing(other.result)
    rows = [pairing.find(name) for name in result.names]
    there = np.array([math.nan if row is None else pairing.errors[row] for row in rows])
    here, kinds = result.errors[:, 0].numpy(), outcomes(result)
    missing = len(set(other.result.names) - set(result.names))
    words = []
    if missing or None in rows:
        words.append(f'<p class="quiet">{rows.count(None)} clips are only here, {missing} only there; they are not compared.</p>')
    paired = [(name, kind, pairing.kinds[row]) for name, row, kind in zip(result.names, rows, kinds) if row is not None]
    if not paired:
        return page.section(f"Compared with {other.name}", "<p>No clip has the same name in both.</p>")
    gained = [name for name, kind, before in paired if _is_gained(kind, before)]
    lost = [name for name, kind, before in paired if _is_gained(before, kind)]
    words.insert(0, f"<p>{len(gained)} clips are strict successes here and were not there{_some(gained)}.</p>")
    words.insert(1, f"<p>{len(lost)} were there and are not here{_some(lost)}.</p>")
    parts = [page.chart(charts.two_errors(here, there, kinds, (subject.name, other.name)), "errors of both evaluations, clip by clip")]
    parts += [page.chart(charts.error_difference(here, there), "histogram of the change of errors")]
    return page.section(f"Compared with {other.name}", *words, f'<div class="charts">{"".join(parts)}</div>')


def _is_gained(kind: str, before: str) -> bool:
    return kind == "strict" and before != "strict"


def _some(names: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(page.text(name) for name in names[:limit])
    return "" if not names else f": {shown}" + ("" if len(names) <= limit else f" and {len(names) - limit} more")


def _columns(subject: Subject) -> List[page.Column]:
    columns = [
        page.Column("clip", "name in the motion file", "up"),
        page.Column("outcome", "strict success, relaxed success only, or failed", "up"),
        page.Column("length s"),
        page.Column("strict until s", "time until a body is more than 0.25 m off", "up"),
        page.Column("relaxed until s", "time until the mean is more than 0.5 m off", "up"),
        page.Column("position mm", "mean position error in the world"),
        page.Column("root-centred mm"),
        page.Column("Procrustes mm"),
        page.Column("velocity", "mm/frame"),
        page.Column("acceleration", "mm/frame²"),
    ]
    if subject.other is not None:
        columns += [
            page.Column("outcome there", subject.other.name, "up"),
            page.Column("position there mm"),
            page.Column("change mm", "", "up"),
        ]
    return columns


def _rows(subject: Subject) -> List[page.Row]:
    """All clips, the worst first."""
    result = subject.result
    pairing = _Pairing(subject.other.result) if subject.other is not None else None
    errors = result.errors.tolist()
    lengths = (result.frames.double() * result.control_dt).tolist()
    times = zip(lengths, result.strict_failure_times.tolist(), result.relaxed_failure_times.tolist())
    everything = list(zip(result.names, outcomes(result), times, errors))
    rows = []
    for name, kind, (length, strict, relaxed), figures in (everything[row] for row in worst_first(result)):
        cells = [page.Cell(page.text(name)), _outcome(kind)]
        cells += [_number(value) for value in (length, strict, relaxed, *figures)]
        kinds = [kind] + ["not-strict"] * (kind != "strict")
        if pairing is not None:
            more, extra = _compared_cells(pairing, name, kind, figures[0])
            cells, kinds = cells + more, kinds + extra
        rows.append(page.Row(cells, kinds))
    return rows


def _compared_cells(pairing: _Pairing, name: str, kind: str, error: float) -> Tuple[List[page.Cell], List[str]]:
    row = pairing.find(name)
    if row is None:
        return [page.Cell("–", None)] * 3, ["alone"]
    before, there = pairing.kinds[row], pairing.errors[row]
    change = error - there
    css = "better" if change < 0 else "worse"
    shown = page.Cell(f'<span class="{css}">{change:+.1f}</span>', f"{change:.3f}") if math.isfinite(change) else page.Cell("–", None)
    kinds = ["gained"] * _is_gained(kind, before) + ["lost"] * _is_gained(before, kind)
    return [_outcome(before), _number(there), shown], kinds


def _outcome(kind: str) -> page.Cell:
    return page.Cell(f'<span class="tag {kind}">{kind}</span>', list(charts.COLOURS)[::-1].index(kind))


def _number(value: float) -> page.Cell:
    return page.Cell(f"{value:.1f}", f"{value:.3f}") if math.isfinite(value) else page.Cell("–", None)

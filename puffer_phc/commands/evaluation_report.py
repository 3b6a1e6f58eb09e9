"""An evaluation as one page that opens from disk without a network: figures, charts, worst clips in pictures, a table of all clips."""

import logging
import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc.env.terminations import RELAXED_DISTANCE, STRICT_DISTANCE
from puffer_phc.errors import BackendError
from puffer_phc.evaluate.evaluation import EvaluationResult
from puffer_phc.evaluate.tables import worst_first
from puffer_phc.evaluate.trace import Trace
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.report import charts, page
from puffer_phc.view.outline import Outline, packed
from puffer_phc.view.session import Frame
from puffer_phc.view.stills import stills

_MM_PER_M = 1000.0
_FIGURES = (
    ("eval/success_rate_strict", "strict success", "%", 1.0),
    ("eval/success_rate_relaxed", "relaxed success", "%", 1.0),
    ("eval/mpjpe_succ", "position error, successes", "mm", -1.0),
    ("eval/mpjpe_all", "position error, all clips", "mm", -1.0),
    ("eval/mpjpe_pa", "Procrustes error, successes", "mm", -1.0),
    ("eval/accel_dist", "acceleration error, successes", "mm/frame²", -1.0),
)
"""Cards: key of the summary, label, unit, and whether more is better (1) or worse (−1)."""

_KINDS = {
    "": "all clips",
    "strict": "strict success",
    "not-strict": "no strict success",
    "relaxed": "relaxed success only",
    "failed": "failed",
}
_COMPARED_KINDS = {"gained": "strict here, not there", "lost": "strict there, not here", "alone": "not in the other"}

_WORDS = (
    "<p><b>Strict success</b>: no body is ever farther than 0.25 m from its reference. <b>Relaxed success</b>: the mean over the 24 bodies "
    "never exceeds 0.5 m. Every clip is played once, whole, from its first frame, with deterministic actions.</p>"
    "<p><b>Position error</b>: distance from the reference in the world, mean over the bodies; <b>root-centred</b>: with both pelvises in "
    "one place; <b>Procrustes</b>: after the best rotation, scale and shift of every frame. Velocity and acceleration errors are "
    "differences from frame to frame. A clip counts until its relaxed failure; figures of many clips are means over frames.</p>"
)

_KEY_SECONDS = (-1.0, -0.5, -0.2, 0.0, 0.3)
"""Moments that are drawn, from the strict failure, or from the largest error where there is none."""

_logger = logging.getLogger(__name__)


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
        body.append(_worst_clips(subject.traces))
    kinds = {**_KINDS, **(_COMPARED_KINDS if subject.other is not None else {})}
    body.append(page.section("Every clip", page.filters("clips", kinds), page.table("clips", _columns(subject), _rows(subject))))
    body.append(page.section("About", page.facts(subject.facts), _WORDS))
    scripts = [page.static("table.js"), page.table_script("clips")]
    if subject.traces:
        scripts += [page.static("figures.js"), _players(subject.traces)]
    return page.document(f"Evaluation of {subject.name}", "\n".join(body), scripts)


def outcomes(result: EvaluationResult) -> List[str]:
    """How each clip ended, as keys of ``charts.COLOURS``."""
    pairs = zip(result.strict_success.tolist(), result.relaxed_success.tolist())
    return ["strict" if strict else ("relaxed" if relaxed else "failed") for strict, relaxed in pairs]


def _scope(result: EvaluationResult) -> str:
    minutes = result.frames.sum().item() * result.control_dt / 60.0
    return f"{len(result.names)} clips, {minutes:.1f} minutes of motion, {1.0 / result.control_dt:.0f} control steps a second"


def _cards(subject: Subject) -> List[str]:
    summary = subject.result.summary()
    other = subject.other.result.summary() if subject.other is not None else {}
    return [
        page.card(_digits(summary[key], unit), unit, label, _change(summary[key], other[key], unit, sign) if other else "")
        for key, label, unit, sign in _FIGURES
    ]


def _digits(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{100.0 * value:.1f}" if unit == "%" else f"{value:.1f}"


def _change(value: float, other: float, unit: str, sign: float) -> str:
    """How much better or worse ``value`` is than ``other``, as HTML."""
    if not (math.isfinite(value) and math.isfinite(other)):
        return f"there {_digits(other, unit)}"
    change = (100.0 if unit == "%" else 1.0) * (value - other)
    css = "" if abs(change) < 0.05 else ("better" if sign * change > 0 else "worse")
    return f'there {_digits(other, unit)}, <span class="{css}">{change:+.1f}</span> here'


def _charts(subject: Subject) -> List[str]:
    result = subject.result
    kinds, errors = outcomes(result), result.errors[:, 0].numpy()
    lengths = result.frames.numpy() * result.control_dt
    curves = {"strict": _reached(result, "strict_frames"), "relaxed": _reached(result, "played_frames")}
    if subject.other is not None:
        other = subject.other.result
        curves.update({"strict, the other": _reached(other, "strict_frames"), "relaxed, the other": _reached(other, "played_frames")})
    return [
        _chart(charts.survival(curves), "share of clips still tracked over the share of their length"),
        _chart(charts.error_histogram(errors, kinds), "histogram of the clips' mean position errors"),
        _chart(charts.error_by_length(lengths, errors, kinds), "mean position error of each clip over its length"),
    ]


def _reached(result: EvaluationResult, name: str) -> Tuple[np.ndarray, np.ndarray]:
    return getattr(result, name).numpy(), result.frames.numpy()


def _chart(svg: bytes, description: str) -> str:
    return page.picture(svg, "image/svg+xml", description)


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
    parts = [_chart(charts.two_errors(here, there, kinds, (subject.name, other.name)), "errors of both evaluations, clip by clip")]
    parts += [_chart(charts.error_difference(here, there), "histogram of the change of errors")]
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
    frames = zip(result.frames.tolist(), result.strict_frames.tolist(), result.played_frames.tolist())
    everything = list(zip(result.names, outcomes(result), frames, errors))
    rows = []
    for name, kind, (length, strict, played), figures in (everything[row] for row in worst_first(result)):
        cells = [page.Cell(page.text(name)), _outcome(kind), _number(length * result.control_dt)]
        cells += [_number(reached * result.control_dt) if reached < length else page.Cell("–", None) for reached in (strict, played)]
        cells += [_number(value) for value in figures]
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
    order = list(charts.COLOURS)[::-1].index(kind)
    label = {"strict": "strict", "relaxed": "relaxed", "failed": "failed"}[kind]
    return page.Cell(f'<span class="tag {kind}">{label}</span>', order)


def _number(value: float) -> page.Cell:
    return page.Cell(f"{value:.1f}", f"{value:.3f}") if math.isfinite(value) else page.Cell("–", None)


def key_instants(trace: Trace) -> List[int]:
    """The instants of ``trace`` that are drawn: around its strict failure, or around its largest error where it has none."""
    failure = trace.strict_failure
    middle = int(trace.distances.mean(-1).nan_to_num(posinf=0.0).argmax()) if failure is None else failure
    last = len(trace.pos) - 1
    wanted = (min(max(middle + round(seconds / trace.control_dt), 0), last) for seconds in _KEY_SECONDS)
    return sorted(set(wanted))


def trace_frame(trace: Trace, instants: Sequence[int]) -> Frame:
    """The ``instants`` of ``trace`` as humanoids side by side."""
    rows = torch.tensor(list(instants))
    origin = trace.ref_pos[0, 0] * torch.tensor([1.0, 1.0, 0.0])
    times = rows * trace.control_dt
    return Frame(
        trace.pos[rows],
        trace.quat[rows],
        trace.ref_pos[rows],
        trace.ref_quat[rows],
        trace.ref_pos[rows],
        origin.expand(len(rows), 3),
        trace.distances[rows].mean(-1),
        times,
        torch.full_like(times, trace.num_frames * trace.control_dt),
        (trace.name,) * len(rows),
    )


def _worst_clips(traces: Sequence[Trace]) -> str:
    pictures, apology = _all_stills(traces)
    parts = [
        '<p class="quiet">Played once more for this page, in blue over the green reference. Drag a scene to turn it, scroll to come '
        "nearer. Triangles under a chart mark the moments of the pictures below it.</p>"
    ]
    if apology:
        parts.append(f"<p>{page.text(apology)}</p>")
    parts += [_worst_clip(index, trace, strip) for index, (trace, strip) in enumerate(zip(traces, pictures))]
    return page.section("Worst clips", *parts)


def _all_stills(traces: Sequence[Trace]) -> Tuple[List[List[bytes]], str]:
    """The key frames of every trace, or none and why."""
    try:
        return [stills(trace_frame(trace, key_instants(trace)), range(len(key_instants(trace)))) for trace in traces], ""
    except BackendError as error:
        return [[] for _ in traces], f"There are no pictures, because this machine can't draw: {error}."


def _worst_clip(index: int, trace: Trace, strip: Sequence[bytes]) -> str:
    curve = _curve(trace)
    svg = charts.error_over_time(curve, STRICT_DISTANCE * _MM_PER_M, RELAXED_DISTANCE * _MM_PER_M)
    chart = _chart(svg, f"errors of {trace.name} over time")
    captions = [_caption(trace, instant) for instant in key_instants(trace)]
    figures = "".join(
        f"<figure>{page.picture(picture, 'image/jpeg', f'{trace.name}, {caption}')}<figcaption>{page.text(caption)}</figcaption></figure>"
        for picture, caption in zip(strip, captions)
    )
    strip_below = f'<div class="strip">{figures}</div>' if figures else ""
    return (
        f'<div class="clip"><h3>{page.text(trace.name)}</h3><p class="quiet">{page.text(story(trace))}</p>'
        f'<div class="both"><div>{chart}{strip_below}</div><div id="player-{index}"></div></div></div>'
    )


def _caption(trace: Trace, instant: int) -> str:
    return f"{instant * trace.control_dt:.1f} s, {_MM_PER_M * float(trace.distances[instant].mean()):.0f} mm"


def _curve(trace: Trace) -> charts.ErrorCurve:
    distances = _MM_PER_M * trace.distances.double()
    times = np.arange(len(distances)) * trace.control_dt
    failures = ((trace.strict_failure, "strict failure"), (trace.relaxed_failure, "relaxed failure"))
    ends = [(instant * trace.control_dt, what) for instant, what in failures if instant is not None]
    moments = [instant * trace.control_dt for instant in key_instants(trace)]
    finite = torch.where(distances.isfinite(), distances, torch.nan)
    return charts.ErrorCurve(times, finite.mean(-1).numpy(), finite.amax(-1).numpy(), moments, ends)


def story(trace: Trace) -> str:
    """What happens to the clip in one sentence."""
    strict, relaxed, length = trace.strict_failure, trace.relaxed_failure, trace.num_frames * trace.control_dt
    if strict is None:
        return f"{length:.1f} s long, tracked to its end; the farthest body is {_MM_PER_M * float(trace.distances.max()):.0f} mm off."
    body = BODY_NAMES[int(trace.distances[strict].argmax())]
    first = f"{length:.1f} s long; after {strict * trace.control_dt:.1f} s {_plain(body)} is more than 250 mm off"
    return (
        f"{first}, and the mean never 500 mm." if relaxed is None else f"{first}, after {relaxed * trace.control_dt:.1f} s the mean 500 mm."
    )


def _plain(body: str) -> str:
    """A body's name in words."""
    side = {"L_": "the left ", "R_": "the right "}.get(body[:2])
    return f"the {body.lower()}" if side is None else side + body[2:].lower()


def motion_points(trace: Trace, figure: Outline, ghost: Outline) -> Dict[str, Any]:
    """``trace`` as the page's player takes it: packed points of both figures, the clip's beginning at the origin, and errors in mm."""
    origin = trace.ref_pos[0, 0] * torch.tensor([1.0, 1.0, 0.0])

    def points(outline: Outline, pos: Tensor, quat: Tensor) -> str:
        return packed(outline.points(pos - origin, quat))

    distances = (_MM_PER_M * trace.distances.mean(-1)).nan_to_num(posinf=9999.0).round().int().tolist()
    return {
        "name": trace.name,
        "dt": trace.control_dt,
        "body": points(figure, trace.pos, trace.quat),
        "reference": points(ghost, trace.ref_pos, trace.ref_quat),
        "errors": distances,
        "duration": trace.num_frames * trace.control_dt,
    }


def _players(traces: Sequence[Trace]) -> str:
    """The script that lets the worst clips move."""
    figure, ghost = Outline(), Outline(is_slim=True)
    motions = page.literal([motion_points(trace, figure, ghost) for trace in traces])
    return (
        f"const shapes = {page.literal(figure.describe())}, motions = {motions};\n"
        "motions.forEach((motion, index) => {\n"
        "  motion.words = (frame) => `${(frame * motion.dt).toFixed(1)} of ${motion.duration.toFixed(1)} s   ${motion.errors[frame]} mm`;\n"
        "  new Player(document.getElementById(`player-${index}`), shapes).show(motion);\n"
        "});"
    )

"""Attempts at clips for people to look at: pictures of the moments that matter, a curve, a sentence, and points that move."""

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc.env.terminations import RELAXED_DISTANCE, STRICT_DISTANCE
from puffer_phc.errors import BackendError
from puffer_phc.evaluate.trace import Trace
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.report import charts, page
from puffer_phc.view.outline import Outline, packed
from puffer_phc.view.session import Frame
from puffer_phc.view.stills import stills

_MM_PER_M = 1000.0

_KEY_SECONDS = (-1.0, -0.5, -0.2, 0.0, 0.3)
"""Moments that are drawn, from the strict failure, or from the largest error where there is none."""


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


def attempts_section(traces: Sequence[Trace]) -> str:
    """The worst clips as HTML, each in pictures and, by ``attempts_script``, moving."""
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
    chart = page.chart(svg, f"errors of {trace.name} over time")
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


def attempts_script(traces: Sequence[Trace]) -> str:
    """The script that lets the clips of ``attempts_section`` move."""
    figure, ghost = Outline(), Outline(is_slim=True)
    motions = page.literal([motion_points(trace, figure, ghost) for trace in traces])
    return (
        f"const shapes = {page.literal(figure.describe())}, motions = {motions};\n"
        "motions.forEach((motion, index) => {\n"
        "  motion.words = (frame) => `${(frame * motion.dt).toFixed(1)} of ${motion.duration.toFixed(1)} s   ${motion.errors[frame]} mm`;\n"
        "  new Player(document.getElementById(`player-${index}`), shapes).show(motion);\n"
        "});"
    )

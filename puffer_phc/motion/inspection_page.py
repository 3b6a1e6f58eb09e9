"""One self-contained HTML page of what was found in each clip: a verdict, stick figures, and floor and joints over time."""

import html
from collections import Counter
from typing import List, Sequence, Tuple

import numpy as np
import torch

from puffer_phc import rotations
from puffer_phc.humanoid.kinematics import forward_kinematics, lowest_point
from puffer_phc.humanoid.skeleton import PARENTS
from puffer_phc.motion.file import Clip
from puffer_phc.motion.inspect import OK, REJECTED, REPAIRED, SCENE, Inspection
from puffer_phc.motion.mending import steps

FIGURES = 6
"""Stick figures a clip."""

SCALE = 55.0
"""Pixels of one metre."""

PLOT = (230, 60)
"""Width and height of a plot in pixels."""

PLOT_POINTS = 130
"""Points of a curve at most."""

COLOURS = {OK: "#2d7d46", REPAIRED: "#2f6fae", REJECTED: "#b3362b", SCENE: "#8a6d1f"}

_STYLE = """
body { font: 14px sans-serif; margin: 2em; color: #222; background: #fff }
.clip { border-top: 1px solid #ccc; padding: 6px 0; display: grid; grid-template-columns: 22em auto }
.verdict { color: #fff; border-radius: 3px; padding: 1px 6px }
.pictures { display: flex; align-items: flex-end } .plots { display: flex; flex-direction: column; gap: 4px }
.figures { color: #555; font-size: 12px } svg { vertical-align: bottom }
label { margin-right: 1em }
"""

_SCRIPT = """
function show() {
  for (const clip of document.querySelectorAll('.clip'))
    clip.style.display = document.getElementById(clip.dataset.verdict).checked ? '' : 'none';
}
"""


def _figures(positions: np.ndarray, headings: np.ndarray) -> str:
    """Stick figures seen from the side at even times as SVG; positions (F, B, 3) m, headings (F,) rad."""
    width = int(FIGURES * 1.6 * SCALE)
    height = int(2.3 * SCALE)
    lines: List[str] = [f'<line x1="0" y1="{height - 12}" x2="{width}" y2="{height - 12}" stroke="#999"/>']
    for place, frame in enumerate(np.linspace(0, len(positions) - 1, FIGURES).round().astype(int)):
        away = positions[frame] - positions[frame, 0]
        along = np.cos(headings[frame] - 0.6) * away[:, 0] + np.sin(headings[frame] - 0.6) * away[:, 1]
        x = (place + 0.5) * 1.6 * SCALE + along * SCALE
        y = height - 12 - positions[frame, :, 2] * SCALE
        for body, parent in enumerate(PARENTS[1:], start=1):
            lines.append(f'<line x1="{x[parent]:.0f}" y1="{y[parent]:.0f}" x2="{x[body]:.0f}" y2="{y[body]:.0f}"/>')
        lines.append(f'<circle cx="{x[13]:.0f}" cy="{y[13]:.0f}" r="5"/>')
    return f'<svg width="{width}" height="{height}" stroke="#345" stroke-width="2" fill="none">{"".join(lines)}</svg>'


def _plot(values: np.ndarray, limits: Tuple[float, float], mark: float, title: str) -> str:
    """A curve of ``values`` (F,) between ``limits`` with a line at ``mark``, as SVG."""
    width, height = PLOT
    picked = np.linspace(0, len(values) - 1, min(PLOT_POINTS, len(values))).round().astype(int)
    low, high = limits

    def y(value: float) -> float:
        return height - 2 - (height - 4) * (min(max(value, low), high) - low) / (high - low)

    points = " ".join(f"{width * i / max(1, len(picked) - 1):.0f},{y(float(values[frame])):.0f}" for i, frame in enumerate(picked))
    return (
        f'<svg width="{width}" height="{height}"><rect width="{width}" height="{height}" fill="#f4f4f4"/>'
        f'<line x1="0" y1="{y(mark):.0f}" x2="{width}" y2="{y(mark):.0f}" stroke="#c88"/>'
        f'<polyline points="{points}" fill="none" stroke="#345"/>'
        f'<text x="4" y="12" font-size="10" fill="#666">{html.escape(title)}</text></svg>'
    )


def _section(clip: Clip, inspection: Inspection) -> str:
    """One clip of the page."""
    root, local = torch.from_numpy(clip.root_pos), torch.from_numpy(clip.local_quats)
    positions, quats = forward_kinematics(root, local)
    lowest = lowest_point(positions, quats).amin(-1).numpy() * 100.0
    turns = steps(local).amax(-1).numpy() * 180.0 / np.pi
    headings = rotations.heading_angle(quats[:, 0]).numpy()
    verdict = inspection.verdict.replace(" ", "-")
    pair = inspection.self_penetration_pair if inspection.self_penetration_m > 0.005 else ""
    figures = (
        f"{inspection.seconds:.1f} s · sunk {100 * inspection.sunk_share:.0f} % · slide {inspection.foot_slide_m_s:.2f} m/s · "
        f"joints {inspection.joint_speed_rad_s:.0f} rad/s · jump {inspection.largest_jump_deg:.0f}° {inspection.jump_joint} · "
        f"inside itself {100 * inspection.self_penetration_m:.0f} cm {pair}"
    )
    return (
        f'<div class="clip" data-verdict="{verdict}"><div><b>{html.escape(inspection.name)}</b> '
        f'<span class="verdict" style="background:{COLOURS[inspection.verdict]}">{inspection.verdict}</span><br>'
        f'{html.escape(inspection.reasons)}<div class="figures">{html.escape(figures)}</div></div><div class="pictures">'
        f'{_figures(positions.numpy(), headings)}<div class="plots">'
        f"{_plot(lowest, (-10.0, 40.0), 0.0, 'lowest point, cm (−10 … 40)')}"
        f"{_plot(turns, (0.0, 90.0), 60.0, 'largest joint step, degrees (0 … 90)')}</div></div></div>"
    )


def inspection_page(clips: Sequence[Clip], inspections: Sequence[Inspection], title: str) -> str:
    """The page as HTML text, the worst clips first; it loads nothing from elsewhere."""
    counts = Counter(inspection.verdict for inspection in inspections)
    boxes = "".join(
        f'<label><input type="checkbox" id="{verdict.replace(" ", "-")}" checked onchange="show()"> {verdict}: {counts[verdict]}</label>'
        for verdict in (REJECTED, SCENE, REPAIRED, OK)
    )
    order = {verdict: rank for rank, verdict in enumerate((REJECTED, SCENE, REPAIRED, OK))}
    pairs = sorted(zip(clips, inspections), key=lambda pair: (order[pair[1].verdict], pair[1].name))
    sections = "\n".join(_section(clip, inspection) for clip, inspection in pairs)
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{_STYLE}</style><script>{_SCRIPT}</script>"
    return f"<!doctype html><html><head>{head}</head><body><h1>{html.escape(title)}</h1><p>{boxes}</p>\n{sections}\n</body></html>\n"

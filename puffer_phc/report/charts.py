"""Charts of an evaluation, drawn by matplotlib into SVG."""

import io
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

COLOURS = {"strict": "#3a6ea5", "relaxed": "#c98a1b", "failed": "#b8473d"}
"""Of clips by how they ended: with every body near, with the mean near, or not at all."""
KINDS = {
    "": "all clips",
    "strict": "strict success",
    "not-strict": "no strict success",
    "relaxed": "relaxed success only",
    "failed": "failed",
}
"""What clips a person may choose to see: how they ended, and two more."""

QUIET = "#66727f"
_HIGHEST_SHOWN_MM = 800.0
"""A humanoid that has fallen is farther off, by as much as its reference walks on."""
_ROOM_ABOVE = 1.15
"""The height of a histogram over its highest bar, so that words fit above the bars."""
_STYLE: Dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "puffer-phc",
    "font.family": "sans-serif",
    "font.sans-serif": ["Liberation Sans", "Arial", "DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": "#b6c0ca",
    "axes.labelcolor": "#1f2933",
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6ebf0",
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.dpi": 100,
}


class ErrorCurve(NamedTuple):
    """How far one clip was from its reference."""

    times: np.ndarray
    """(T,) s."""
    mean_mm: np.ndarray
    """(T,) over the bodies."""
    farthest_mm: np.ndarray
    """(T,) of the farthest body."""
    moments: Sequence[float]
    """s, of the key frames."""
    ends: Sequence[Tuple[float, str]]
    """(s, what failed then)."""


def _figure(width: float, height: float) -> Tuple[Any, Any]:
    """A figure of inches, without pyplot, which would look for a display."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def styled(draw: Any, width: float, height: float) -> bytes:
    """The SVG of what ``draw`` puts into axes."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(width, height)
        draw(axes)
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def error_histogram(errors_mm: np.ndarray, outcomes: Sequence[str]) -> bytes:
    """How many clips (C,) have which mean error, coloured by ``outcomes``, keys of ``COLOURS``."""

    def draw(axes: Any) -> None:
        kinds = np.array(outcomes)
        present = [name for name in COLOURS if np.any((kinds == name) & np.isfinite(errors_mm))]
        values = [errors_mm[(kinds == name) & np.isfinite(errors_mm)] for name in present]
        if values:
            everything = np.concatenate(values)
            bins = np.linspace(0.0, max(float(everything.max()), 1.0), 31)
            axes.hist(values, bins=bins, stacked=True, color=[COLOURS[name] for name in present], label=[KINDS[name] for name in present])
            axes.axvline(float(np.median(everything)), color=QUIET, linewidth=1.0, linestyle="--")
            axes.set_ylim(top=_ROOM_ABOVE * axes.get_ylim()[1])
            axes.annotate(
                f"median {np.median(everything):.0f} mm",
                (float(np.median(everything)), 0.99),
                xycoords=("data", "axes fraction"),
                xytext=(4, 0),
                textcoords="offset points",
                va="top",
                color=QUIET,
                fontsize=8.5,
            )
            axes.yaxis.get_major_locator().set_params(integer=True)
            axes.legend(loc="center right", bbox_to_anchor=(1.0, 0.72))
        axes.set(title="Mean position error of each clip", xlabel="mm, mean over bodies and played frames", ylabel="clips")

    return styled(draw, 5.2, 3.1)


def survival(curves: Dict[str, Tuple[np.ndarray, np.ndarray]]) -> bytes:
    """For each name: the share of clips still near their reference after each share of their length, from (C,) frames reached of (C,)."""

    def draw(axes: Any) -> None:
        grid = np.linspace(0.0, 1.0, 201)
        for (name, (reached, frames)), colour in zip(curves.items(), ("#3a6ea5", "#c98a1b", "#8fb0d3", "#e3c48d")):
            share = reached / np.maximum(frames, 1)
            axes.plot(100 * grid, [100 * float(np.mean(share >= at)) for at in grid], color=colour, linewidth=1.8, label=name)
        axes.set(
            title="How far clips are tracked", xlabel="% of the clip", ylabel="% of clips not yet failed", ylim=(0, 103), xlim=(0, 100)
        )
        axes.legend(loc="lower left")

    return styled(draw, 5.2, 3.1)


def error_by_length(seconds: np.ndarray, errors_mm: np.ndarray, outcomes: Sequence[str]) -> bytes:
    """Mean error (C,) of each clip over its length (C,) s."""

    def draw(axes: Any) -> None:
        kinds = np.array(outcomes)
        for name, colour in COLOURS.items():
            chosen = kinds == name
            axes.scatter(
                seconds[chosen], errors_mm[chosen], s=12, color=colour, alpha=0.75, linewidth=0, label=KINDS[name], rasterized=True
            )
        if len(seconds) and float(np.max(seconds)) > 20 * float(np.min(seconds)):
            axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set(title="Error and length", xlabel="length of the clip, s", ylabel="mean position error, mm")

    return styled(draw, 5.2, 3.1)


def error_over_time(curve: ErrorCurve, strict_mm: float, relaxed_mm: float) -> bytes:
    """The errors of one clip over its time, with both limits and the moments of its key frames."""

    def draw(axes: Any) -> None:
        axes.plot(curve.times, curve.farthest_mm, color="#b8473d", linewidth=1.3, label="farthest body")
        axes.plot(curve.times, curve.mean_mm, color="#3a6ea5", linewidth=1.6, label="mean of the bodies")
        top = min(1.12 * max(float(np.nanmax(curve.farthest_mm)), strict_mm), _HIGHEST_SHOWN_MM)
        for limit, colour in ((strict_mm, "#b8473d"), (relaxed_mm, "#3a6ea5")):
            if limit < top:
                axes.axhline(limit, color=colour, linewidth=0.9, linestyle=":")
        for time in curve.moments:
            axes.plot([time], [0.0], marker="^", color=QUIET, markersize=5, clip_on=False)
        for time, what in curve.ends:
            axes.axvline(time, color=QUIET, linewidth=0.9, linestyle="--")
            axes.annotate(
                what,
                (time, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(-3, -2),
                textcoords="offset points",
                ha="right",
                va="top",
                rotation=90,
                color=QUIET,
                fontsize=8,
                bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8},
            )
        axes.set(xlabel="s", ylabel="mm", ylim=(0, top), xlim=(0, max(float(curve.times[-1]), 0.1)))
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)

    return styled(draw, 6.2, 2.9)


def two_errors(errors_mm: np.ndarray, other_mm: np.ndarray, outcomes: Sequence[str], names: Tuple[str, str]) -> bytes:
    """Each clip's mean error (C,) here over that of another evaluation (C,), coloured by how it ended here."""

    def draw(axes: Any) -> None:
        kinds = np.array(outcomes)
        both = np.isfinite(errors_mm) & np.isfinite(other_mm)
        top = 1.05 * max([1.0, *errors_mm[both].tolist(), *other_mm[both].tolist()])
        axes.plot([0, top], [0, top], color=QUIET, linewidth=0.9, linestyle="--")
        for name, colour in COLOURS.items():
            chosen = both & (kinds == name)
            axes.scatter(
                other_mm[chosen], errors_mm[chosen], s=12, color=colour, alpha=0.75, linewidth=0, label=KINDS[name], rasterized=True
            )
        axes.set(xlim=(0, top), ylim=(0, top), xlabel=f"{_short(names[1])}, mm", ylabel=f"{_short(names[0])}, mm")
        axes.set_title("Mean position error, clip by clip (below the line: better here)")
        axes.legend(loc="upper left")

    return styled(draw, 5.2, 3.6)


def _short(name: str, limit: int = 34) -> str:
    return name if len(name) <= limit else "…" + name[-limit + 1 :]


def error_difference(errors_mm: np.ndarray, other_mm: np.ndarray) -> bytes:
    """How many clips changed their mean error (C,) by how much; those without one in both are left out."""

    def draw(axes: Any) -> None:
        change = errors_mm - other_mm
        change = change[np.isfinite(change)]
        reach = max([1.0, *np.quantile(np.abs(change), [0.98]).tolist()] if len(change) else [1.0])
        edges: List[float] = np.linspace(-reach, reach, 41).tolist()
        counts, _ = np.histogram(np.clip(change, -reach, reach), bins=edges)
        middles = [(low + high) / 2 for low, high in zip(edges, edges[1:])]
        axes.bar(middles, counts, width=edges[1] - edges[0], color=["#2f7d4f" if middle < 0 else "#b8473d" for middle in middles])
        axes.axvline(0.0, color=QUIET, linewidth=0.9)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set(title="Change of the mean position error", xlabel="mm (left: better here)", ylabel="clips")

    return styled(draw, 5.2, 3.6)

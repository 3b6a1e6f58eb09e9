"""Figures that are published in a JSON file, by section, and a reader's own beside them."""

import json
import math
from datetime import date
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from rich.table import Table

from puffer_phc.command_line import say, show
from puffer_phc.errors import ConfigError
from puffer_phc.evaluate.figures import FIGURES
from puffer_phc.evaluate.result import EvaluationResult
from puffer_phc.files import write_whole
from puffer_phc.learn.origin import origin
from puffer_phc.motion.cmu import KNEE_SUBJECTS
from puffer_phc.motion.fidelity import Measured, Spread, spreads
from puffer_phc.motion.file import Clip
from puffer_phc.motion.manifest import HELD_OUT, TRAIN

PUBLISHED = ("eval/success_rate_strict", "eval/success_rate_relaxed", "eval/mpjpe_succ", "eval/accel_dist")
"""Figures of an evaluation that are published."""

Results = Dict[str, Any]


def read_results(path: Path) -> Results:
    """The published figures, by section; empty where there are none yet. Raises ConfigError for a file of something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"published figures '{path}' can't be read: {error}") from error
    if not (isinstance(found, dict) and all(isinstance(section, dict) for section in found.values())):
        raise ConfigError(f"'{path}' holds no published figures: they are objects by section")
    return found


def publish_figures(path: Path, **sections: Results) -> None:
    """Note what each section has as published, with date and commit."""
    stamp = {"date": date.today().isoformat(), "commit": origin().get("commit", "")}
    stamped = {name: {**stamp, **own} for name, own in sections.items()}
    write_whole(path, json.dumps({**read_results(path), **stamped}, indent=2, ensure_ascii=False) + "\n")
    say(f"noted in {path}")


def conversion_figures(clips: Sequence[Clip], measured: Sequence[Measured]) -> Results:
    """The figures of a conversion as they are published."""
    return {
        "clips": len(clips),
        "frames": sum(clip.num_frames for clip in clips),
        "hours": round(sum(clip.duration for clip in clips) / 3600.0, 3),
        "figures": {spread.label: published_spread(spread) for spread in spreads(measured, KNEE_SUBJECTS)},
    }


def published_spread(spread: Spread) -> Results:
    """The spread of a figure as it is published, under its label."""
    values = {name: round(getattr(spread, name), 4) for name in ("median", "p90", "maximum")}
    return {"clips": spread.clips, **values, "digits": spread.digits}


def show_conversion(own: Results, published: Results) -> None:
    """The reader's figures of the conversion beside the published ones."""
    table = Table("figure: median, p90, maximum", "published", "here", title="Converted clips against their originals")
    for name in ("clips", "frames", "hours"):
        table.add_row(name, str(published.get(name, "–")), str(own[name]))
    for label, figure in own["figures"].items():
        table.add_row(label, *(spread_text(one) for one in (published.get("figures", {}).get(label), figure)))
    show(table)


def spread_text(figure: Optional[Results]) -> str:
    """Median, 90th percentile and maximum as text."""
    if figure is None:
        return "–"
    return ", ".join(f"{figure[name]:.{figure['digits']}f}" for name in ("median", "p90", "maximum"))


def evaluation_figures(result: EvaluationResult) -> Results:
    """The figures of a policy on one set of clips as they are published; null where they do not exist."""
    summary = result.summary()
    values = {key: None if math.isnan(summary[key]) else round(summary[key], 4) for key in PUBLISHED}
    return {"clips": len(result.names), **values}


def show_evaluation(own: Results, published: Results) -> None:
    """The reader's figures of the policy beside the published ones."""
    title = f"{own['backend']} on {own['device']}" + (f", published: {published['backend']} on {published['device']}" if published else "")
    table = Table("clips", "figure", "published", "here", title=title)
    for role in (TRAIN, HELD_OUT):
        theirs = published.get(role, {})
        table.add_row(role, "clips", str(theirs.get("clips", "–")), str(own[role]["clips"]))
        for key in PUBLISHED:
            table.add_row("", FIGURES[key].label, *(FIGURES[key].text(one.get(key)) for one in (theirs, own[role])))
    show(table)

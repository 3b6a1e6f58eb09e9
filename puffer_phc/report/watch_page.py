"""The page of a run that trains: what stands on it before its script fills it."""

from typing import Any, Sequence

from puffer_phc.report import page
from puffer_phc.report.charts import KINDS
from puffer_phc.report.curves import PANELS

_COLUMNS = (
    page.Column("clip", "name in the motion file", "up"),
    page.Column("last time", "how the last evaluation ended", "up"),
    page.Column("failed", "evaluations without strict success, since this page watches"),
    page.Column("strict until s", "time until a body was more than 0.25 m off", "up"),
    page.Column("length s"),
    page.Column("position mm", "mean position error"),
)


def watch_page(run: str, shapes: Sequence[Any]) -> str:
    """The page of the run called ``run``; ``shapes`` describe the humanoid as ``view.outline.Outline`` does."""
    panels = "".join(f'<div id="panel-{index}"></div>' for index in range(len(PANELS)))
    moving = (
        '<div class="head"><h2>The policy now</h2>'
        '<button type="button" class="plain" id="worst" disabled>back to the worst clip</button></div>'
        '<div id="player"></div><p class="quiet small" id="attempt">the first attempt is on its way</p>'
    )
    table = page.filters("clips", KINDS) + page.table("clips", _COLUMNS, ())
    body = (
        f'<h1>{page.text(run)}</h1><div id="state" class="quiet">…</div><div class="progress"><div id="done"></div></div>'
        f'<div class="live"><section>{moving}</section><section><h2>Learning</h2><div class="panels">{panels}</div></section></div>'
        f"{page.section('Clips at the last evaluation', table)}"
    )
    scripts = [
        page.static("table.js"),
        page.static("figures.js"),
        f"const shapes = {page.literal(list(shapes))};\n{page.static('watch.js')}",
    ]
    return page.document(f"{run} trains", body, scripts).replace("<body>", '<body class="watch">')

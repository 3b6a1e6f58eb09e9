"""The figures on the terminal."""

from typing import Any, List

from rich.table import Table

from benchmarking.setting import Row
from puffer_phc.command_line import Aside
from puffer_phc.config import EnvConfig

WIDTH = 120


def rounded(value: Any) -> Any:
    """Five digits are enough for a figure."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def show(rows: List[Row], about: Row, env: EnvConfig) -> None:
    """The table on the terminal."""
    title = (
        f"{about['device']} · {env.backend} · {env.integrator} {env.physics_rate:g} Hz × {env.substeps}, {env.solver_iterations} iterations"
    )
    table = Table(title=title)
    varies = any("share_of_first" in row for row in rows)
    columns = {
        "stage": "stage",
        **({"variant": "variant", "share_of_first": "of first"} if varies else {}),
        "num_envs": "envs",
        "steps_per_second": "steps/s",
        "ms_per_call": "ms",
        "share_of_bare": "of bare",
    }
    columns.update({"drift_mm": "drift mm", "device_memory_gb": "GB", "start_up_seconds": "start s", "diverged": "diverged"})
    for title in columns.values():
        table.add_column(title, justify="left" if title == "stage" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(figure(row.get(name)) for name in columns))
    Aside(width=max(Aside().width, WIDTH)).print(table)


def figure(value: Any) -> str:
    """A table's entry."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000.0 else f"{value:.3g}"
    return "" if value is None else str(value)

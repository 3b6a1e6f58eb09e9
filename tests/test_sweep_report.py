"""What a sweep shows: the front on terminals of every width, and the page."""

import io
import re
from pathlib import Path
from typing import Any, List, Sequence

import pytest
from rich.console import Console

from puffer_phc.config import SweepConfig
from puffer_phc.report.sweep_charts import scale_ticks
from puffer_phc.report.sweep_report import sweep_report
from puffer_phc.report.sweep_scores import Scores, Words, brief_number, score_text
from puffer_phc.report.sweep_table import FrontTable
from puffer_phc.sweep.journal import FAILED, FINISHED, STOPPED, Run
from puffer_phc.sweep.scores import Point
from puffer_phc.sweep.space import Choice, Numeric, Space

SPACE = Space(
    [
        Numeric("train.learning_rate", "log_uniform_values", 1e-4, 1e-2),
        Choice("env.sampler", ("adaptive", "uniform")),
        Choice("policy.layer_sizes", ((64,), (256, 128), None)),
    ]
)
STEPS = "train.total_timesteps"
WIDE = Space(
    [
        Numeric(STEPS, "log_uniform_values", 3_000_000, 12_000_000, rounding=1),
        Numeric("train.learning_rate", "log_uniform_values", 5e-5, 2e-3),
        Numeric("train.update_epochs", "int_uniform", 1, 5, rounding=1),
        Numeric("train.target_kl", "log_uniform_values", 0.005, 0.1),
        Numeric("train.gae_lambda", "logit", 0.7, 0.99),
        Numeric("policy.init_log_std", "uniform", -2.9, -0.7),
        Numeric("env.rew_power_coef", "log_uniform_values", 1e-6, 5e-4),
    ]
)


def some_runs() -> List[Run]:
    runs = []
    for number in range(12):
        params = {
            "train.learning_rate": 1e-4 * 1.4**number,
            "env.sampler": "adaptive" if number % 2 else "uniform",
            "policy.layer_sizes": [(64,), (256, 128), None][number % 3],
        }
        runs.append(Run(number, params, [Point(100, 0.1 * number, 10.0 + number)], FINISHED))
    runs[3] = Run(3, runs[3].params, [], FAILED, "exit code 2: <b>sizes</b>")
    runs[11].outcome = None
    return runs


def runs_of_any_length(count: int = 9) -> List[Run]:
    """Runs whose length is swept, each better and dearer than the one before, with two evaluations on the way."""
    runs = []
    for number in range(count):
        steps = 3_000_000 + 1_000_001 * number
        params = {parameter.name: parameter.decode([(number + 0.5) / count]) for parameter in WIDE.parameters}
        points = [Point(round(share * steps), 0.2 * share + 0.0917 * number, share * (90.0 + number)) for share in (0.4, 0.7, 1)]
        runs.append(Run(number, {**params, STEPS: steps}, points, FINISHED))
    return runs


def printed(runs: Sequence[Run], space: Space, width: int, options: Any = None) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(FrontTable(runs, space, options or SweepConfig(name="mine")))
    return stream.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_seven_options_fit_on_every_terminal_and_no_number_is_broken(width: int) -> None:
    runs = runs_of_any_length()
    text, table = printed(runs, WIDE, width), FrontTable(runs, WIDE, SweepConfig())
    assert max(map(len, text.splitlines())) <= width
    words = text.split()
    for cell in (cell for row in table.rows for cell in row):
        assert words.count(cell) >= sum(row.count(cell) for row in table.rows), cell
    assert all(text.count(parameter.name.rpartition(".")[2]) > 0 for parameter in WIDE.parameters)


def test_results_are_rows_where_they_fit_and_columns_where_not() -> None:
    runs = [Run(run.number, run.params, run.points[-1:], FINISHED) for run in runs_of_any_length(3)]
    wide, narrow = (printed(runs, WIDE, width) for width in (200, 80))
    assert re.search(r"run +survival_strict +s of training +total_timesteps", wide)
    assert re.search(r"(?m)^run +0 +1 +2$", narrow) and re.search(r"(?m)^total_timesteps +3M +4M +5M$", narrow)


def test_the_table_is_the_front_with_the_best_run_last() -> None:
    falling = [
        Run(run.number, run.params, [Point(100, -point.value, point.seconds) for point in run.points], run.outcome) for run in some_runs()
    ]
    for runs, options in ((some_runs(), SweepConfig()), (falling, SweepConfig(metric="eval/mpjpe_all", goal="minimize"))):
        table = FrontTable(runs, SPACE, options)
        assert [number for number, *_ in table.rows] == [str(number) for number in range(11) if number != 3] + ["11*"]
        assert table.notes == ["* not over: this is what the run had scored so far"]


def test_where_lengths_are_swept_an_evaluation_on_the_way_is_a_result() -> None:
    run = Run(0, {STEPS: 12_000_000}, [Point(4_000_000, 0.5, 40.0), Point(8_000_000, 0.4, 80.0), Point(12_058_624, 0.6, 120.0)], FINISHED)
    other = Run(1, {STEPS: 6_000_000}, [Point(2_000_000, 0.2, 20.0)], None)
    space = Space(WIDE.parameters[:1])
    table = FrontTable([run, other], space, SweepConfig())
    assert [(number, steps) for number, *_, steps in table.rows] == [("1", "2M"), ("0", "4M"), ("0", "12M")]
    assert table.notes == ["an evaluation on the way counts as the result of a run that ends there"]
    fixed = [Run(run.number, {"train.learning_rate": 1e-3}, run.points, run.outcome) for run in (run, other)]
    assert Scores(fixed, SweepConfig()).costs.tolist() == [120.0, 20.0], "where it is not swept, the last one is"


def test_options_are_called_by_what_tells_them_apart() -> None:
    numbers = [Numeric(name, "uniform", 0.0, 1.0) for name in ("train.learning_rate", "discriminator.learning_rate", "train.gamma")]
    words = Words(Space([*numbers, Choice("env.motion_file", ("/a/walk.npz", "/b/run.npz"))]))
    assert [words.name(one.name) for one in numbers] == ["train.learning_rate", "discriminator.learning_rate", "gamma"]
    assert words.brief("/a/walk.npz") == "walk.npz"
    same = Words(Space([Choice("env.motion_file", ("/a/walk.npz", "/b/walk.npz"))]))
    assert same.brief("/a/walk.npz") == "/a/walk.npz"


def test_values_in_few_digits() -> None:
    words = Words(SPACE)
    values = (3.655e-05, 0.00031884, 131072, 12_058_624, (256, 128), None, True, 1.5e7)
    assert [words.brief(value) for value in values] == ["3.66e-5", "0.000319", "131072", "12.1M", "256 128", "auto", "True", "1.5e7"]
    assert words.value(12_058_624) == "12,058,624" and words.value(3.6551e-05) == "3.655e-5"
    assert [score_text(value) for value in (0.376, 23.4, 1234.0)] == ["0.3760", "23.40", "1234"]
    assert brief_number(10_000_000) == "10M"


@pytest.mark.parametrize(
    ("scale", "ends", "ticks"),
    [
        ("log", (1e-6, 5e-4), [1e-6, 1e-5, 1e-4]),
        ("log", (3e6, 12e6), [5e6, 1e7]),
        ("log", (0.005, 0.1), [0.005, 0.01, 0.02, 0.05, 0.1]),
        ("log", (2.1, 4.9), [2.1, 4.9]),
        ("log", (1e-9, 1e9), [1e-9, 1e-5, 1e-1, 1e3, 1e7]),
        ("logit", (0.7, 0.99), [0.7, 0.9, 0.98]),
    ],
)
def test_axes_have_a_few_round_numbers(scale: str, ends: Any, ticks: Sequence[float]) -> None:
    assert list(scale_ticks(scale, *ends)) == pytest.approx(ticks)


def test_the_page_opens_without_a_network_and_shows_every_run() -> None:
    page = sweep_report(some_runs(), SPACE, SweepConfig(name="mine"))
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert page.count("<tr data-kinds=") == 12 + 3, "runs, and the importance of three options"
    assert page.count("data:image/svg+xml") == 2 + 1 + 3
    assert "<b>sizes</b>" not in page and "&lt;b&gt;sizes&lt;/b&gt;" in page
    assert "1 under way, by" in page and "256 128" in page


def test_the_page_of_a_sweep_that_has_ended_calls_no_run_under_way() -> None:
    page = sweep_report(some_runs(), SPACE, SweepConfig(), is_working=False)
    assert "under way" not in page and "11 of 50 runs over, 1 interrupted, by" in page


def test_the_page_of_a_sweep_that_has_just_begun() -> None:
    assert "0 of 50 runs over" in sweep_report([], SPACE, SweepConfig())
    assert "from 8 results on" in sweep_report(some_runs()[:3], SPACE, SweepConfig())


def test_the_page_has_room_on_a_telephone_and_sorts(tmp_path: Path, browser: Any) -> None:
    runs = runs_of_any_length()
    runs[1].outcome, runs[2].outcome = None, STOPPED
    (tmp_path / "page.html").write_text(sweep_report(runs, WIDE, SweepConfig()), encoding="utf-8")
    browser.call("Page.navigate", url=(tmp_path / "page.html").as_uri())
    browser.wait_for("document.getElementById('runs-count')?.textContent === '9 of 9 runs'")
    for width in (400, 1280):
        browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        browser.wait_for("[...document.images].every(one => one.getBoundingClientRect().right <= innerWidth && one.width > 250)")
    assert browser.evaluate("(box => box.scrollWidth <= box.clientWidth)(document.getElementById('runs').parentElement)"), "all in sight"
    first = "document.getElementById('importance').rows[1].cells[0].textContent"
    browser.evaluate("document.querySelector('#importance th button').click()")
    assert browser.evaluate(first) == "gae_lambda"
    browser.evaluate("(box => { box.value = 'under-way'; box.dispatchEvent(new Event('change')) })(document.getElementById('runs-kind'))")
    assert browser.evaluate("document.getElementById('runs-count').textContent") == "1 of 9 runs"
    assert browser.errors == []

"""Evaluation results on disk and on the terminal."""

import csv
import io
import json
from datetime import datetime

import pytest
import torch
from rich.console import Console

from puffer_phc.errors import ConfigError
from puffer_phc.evaluate.figures import FIGURES, GOALS
from puffer_phc.evaluate.result import EvaluationResult
from puffer_phc.evaluate.tables import COLUMNS, read_hard_clips, summary_table, write_results

NOW = datetime(2026, 3, 7, 15, 4)


def _result(names=("walk", "spin\tkick", "flip", "[red]jump")):
    """A whole success, a relaxed success, a failure with figures, and one in the first frame."""
    return EvaluationResult(
        control_dt=1 / 30,
        clip_ids=torch.arange(4),
        names=names,
        frames=torch.tensor([30, 60, 90, 120]),
        played_frames=torch.tensor([30, 60, 45, 0]),
        strict_frames=torch.tensor([30, 12, 9, 0]),
        error_sums=torch.tensor([[300.0, 150.0, 60.0, 58.0, 28.0], [1200.0, 600.0, 300.0, 118.0, 58.0], [4500.0] * 5, [0.0] * 5]).double(),
    )


def _failures_only():
    result = _result()
    nothing = torch.zeros(4, dtype=torch.int64)
    return EvaluationResult(1 / 30, result.clip_ids, result.names, result.frames, nothing, nothing, torch.zeros(4, 5).double())


def test_summary_file_has_the_originals_keys_and_both_meanings_of_success(tmp_path):
    files = write_results(_result(), tmp_path, NOW)
    assert files.summary == tmp_path / "eval_summary_0307_1504.json"
    summary = json.loads(files.summary.read_text())
    originals = {"success_rate", "mpjpe_all", "mpjpe_succ", "accel_dist", "vel_dist", "mpjpel_succ", "mpjpe_pa", "mpjpel_all"}
    assert set(summary) == {f"eval/{key}" for key in originals | {"success_rate_strict", "success_rate_relaxed", "survival_strict"}}
    assert summary["eval/success_rate"] == summary["eval/success_rate_relaxed"] == 0.5
    assert summary["eval/success_rate_strict"] == 0.25
    assert summary["eval/survival_strict"] == pytest.approx(_result().strict_survival.mean().item())
    assert summary["eval/mpjpe_succ"] == pytest.approx(1500 / 90)
    assert summary["eval/mpjpe_all"] == pytest.approx(6000 / 135)


def test_every_entry_of_a_summary_has_a_name_or_is_another_ones():
    summary = _result().summary()
    assert set(GOALS) == set(summary)
    assert set(summary) - set(FIGURES) == {"eval/success_rate"}
    assert len({figure.label for figure in FIGURES.values()}) == len(FIGURES)


def test_figures_as_texts():
    share, error = FIGURES["eval/survival_strict"], FIGURES["eval/accel_dist"]
    assert (share.text(0.123), share.number(0.123), share.text(None)) == ("12.3 %", "12.3", "–")
    assert (error.text(0.123), error.number(0.123), error.number(float("nan"))) == ("0.1 mm/frame²", "0.1", "–")
    assert share.improvement(0.001) > 0 > share.improvement(-0.001) and share.improvement(0.0004) == 0
    assert error.improvement(0.1) < 0 < error.improvement(-0.1) and error.improvement(0.04) == 0


def test_figures_that_do_not_exist_are_null_and_never_nan(tmp_path):
    files = write_results(_failures_only(), tmp_path, NOW)
    text = files.summary.read_text()
    assert "NaN" not in text
    summary = json.loads(text)
    assert summary["eval/mpjpe_succ"] is None
    assert summary["eval/mpjpe_all"] is None
    assert summary["eval/success_rate"] == 0.0


def test_table_by_motion_keeps_the_originals_columns_first(tmp_path):
    files = write_results(_result(), tmp_path, NOW)
    assert files.by_motion == tmp_path / "results_by_motion_0307_1504.tsv"
    with files.by_motion.open(newline="") as stream:
        rows = list(csv.reader(stream, delimiter="\t"))
    assert rows[0] == list(COLUMNS)
    assert rows[0][:4] == ["motion_keys", "motion_length", "played_steps", "success"]
    assert rows[1] == ["walk", "30", "30", "True", "True", "30", "1.000", "10.000", "5.000", "2.000", "2.000", "1.000"]
    assert rows[2][:7] == ["spin\tkick", "60", "60", "True", "False", "12", "0.400"]
    assert rows[3][:8] == ["flip", "90", "45", "False", "False", "9", "0.300", "100.000"]
    assert rows[4] == ["[red]jump", "120", "0", "False", "False", "0", "0.000", "", "", "", "", ""]
    assert len(rows) == 5


def test_nothing_half_written_stays_behind(tmp_path, monkeypatch):
    old = write_results(_result(), tmp_path, NOW)
    text = old.summary.read_text()

    def full_disk(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full_disk)
    with pytest.raises(ConfigError, match=r"eval_summary_0307_1504_2\.json' cannot be written: No space left on device"):
        write_results(_failures_only(), tmp_path, NOW)
    assert old.summary.read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in old)


def test_evaluations_within_a_minute_do_not_overwrite_each_other(tmp_path):
    first, second = write_results(_result(), tmp_path, NOW), write_results(_failures_only(), tmp_path, NOW)
    assert second.summary.name == "eval_summary_0307_1504_2.json"
    assert second.by_motion.name == "results_by_motion_0307_1504_2.tsv"
    first.summary.unlink()
    third = write_results(_failures_only(), tmp_path, NOW)
    assert third.summary.name == "eval_summary_0307_1504_3.json"
    assert first.by_motion.read_text() != third.by_motion.read_text() == second.by_motion.read_text()


def _printed(result, **options):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(summary_table(result, **options))
    return console.export_text()


def test_terminal_shows_both_meanings_and_the_worst_clips_first():
    text = _printed(_result())
    assert "50.0 %" in text
    assert "25.0 %" in text
    assert "16.7 mm" in text
    assert all(figure.label in text for figure in FIGURES.values())
    places = [text.index(name) for name in ("[red]jump", "flip", "spin", "walk")]
    assert places == sorted(places)


def test_terminal_lists_no_more_clips_than_asked_for():
    text = _printed(_result(), num_worst=1)
    assert "[red]jump" in text
    assert "flip" not in text


def test_terminal_shows_a_dash_where_there_is_no_figure():
    text = _printed(_failures_only())
    assert "nan" not in text
    assert "–" in text


def test_hard_clips_are_the_strict_failures_of_a_table_or_the_lines_of_a_list(tmp_path):
    assert read_hard_clips(write_results(_result(), tmp_path, NOW).by_motion) == ["spin\tkick", "flip", "[red]jump"]
    (tmp_path / "names.txt").write_text("walk\n\n[red]jump\n", encoding="utf-8")
    assert read_hard_clips(tmp_path / "names.txt") == ["walk", "[red]jump"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x80", b"motion_keys\tsuccess_strict\nwalk\tTrue\n", None])
def test_files_without_hard_clips_are_refused(tmp_path, content):
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"names\.txt"):
        read_hard_clips(path)

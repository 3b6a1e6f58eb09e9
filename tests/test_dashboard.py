"""Reports: what a terminal, a file and the trackers get."""

import io
import json
import math
import os
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from puffer_phc.main import main
from puffer_phc.report.dashboard import Dashboard, PlainLog, Progress, duration, figure, terminal_reporter
from puffer_phc.report.metrics_log import MetricsLog
from puffer_phc.report.several import Several
from puffer_phc.report.trackers import TensorBoard, Wandb
from puffer_phc.view.video import VideoFile

METRICS = {
    "0verview/agent_steps": 4000.0,
    "losses/value_loss": 0.0123,
    "losses/approx_kl": 0.004,
    "environment/episode_length": 17.5,
    "environment/rew_body_pos": 0.625,
}
SUMMARY = {"eval/success_rate_strict": 0.25, "eval/success_rate_relaxed": 0.5, "eval/mpjpe_succ": math.nan}


class Clock:
    """Time that passes when told to."""

    now = 100.0

    def __call__(self):
        return self.now


def console(is_terminal):
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=160, height=60, color_system=None)


def shown(target):
    return target.file.getvalue()


def test_speed_and_time_left_by_hand():
    clock = Clock()
    progress = Progress(10_000, clock)
    assert progress.steps_per_second == 0.0
    assert progress.remaining == math.inf
    clock.now += 2.0
    progress.advance(1000)
    assert (progress.steps_per_second, progress.elapsed, progress.remaining) == (500.0, 2.0, 18.0)
    clock.now += 8.0
    progress.advance(3000)
    assert (progress.steps_per_second, progress.remaining) == (300.0, 7000 / 300)


def test_speed_forgets_old_iterations():
    clock = Clock()
    progress = Progress(10**9, clock)
    for step in range(1, 101):
        clock.now += 10.0 if step <= 50 else 1.0
        progress.advance(step * 100)
    assert progress.steps_per_second == pytest.approx(100.0)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00"), (59.9, "0:00:59"), (3661, "1:01:01"), (90000, "25:00:00"), (math.inf, "?")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (12345.0, "12,345"), (0.012345, "0.01235"), (1e-5, "1e-05"), (math.nan, "–")])
def test_figures(value, text):
    assert figure(value) == text


def test_the_picture_shows_progress_losses_rewards_evaluation_and_messages():
    clock, target = Clock(), console(is_terminal=True)
    progress = Progress(10_000, clock)
    dashboard = Dashboard(target, "a run", progress)
    try:
        clock.now += 4.0
        Several([dashboard], progress).on_iteration(4000, METRICS)
        dashboard.on_evaluation(4000, SUMMARY)
        dashboard.message("checkpoint written")
        screen = console(is_terminal=False)
        screen.print(dashboard.picture())
    finally:
        dashboard.close()
    for text in ("a run", "4,000 of 10,000 steps (40%)", "1,000 steps/s", "0:00:06 left", "value_loss", "0.0123", "rew_body_pos", "0.625"):
        assert text in shown(screen)
    for text in ("episode_length", "17.5", "success_rate_strict", "25.0 %", "checkpoint written"):
        assert text in shown(screen)
    assert "a run" in shown(target)


def test_success_is_shown_once_under_each_meaning():
    summary = {"eval/success_rate": 0.5, **SUMMARY}
    screen, progress = console(is_terminal=False), Progress(10_000, Clock())
    dashboard = Dashboard(console(is_terminal=True), "a run", progress)
    dashboard.on_evaluation(4000, summary)
    dashboard.close()
    screen.print(dashboard.picture())
    PlainLog(screen, "a run", progress).on_evaluation(4000, summary)
    for name in ("success_rate_strict", "success_rate_relaxed"):
        assert shown(screen).count(name) == 2
    assert shown(screen).count("success_rate") == 4


def test_headings_stand_in_the_picture_of_a_colour_terminal():
    """The bar is drawn in colours only, and must end its line there."""
    screen = Console(file=io.StringIO(), force_terminal=True, width=80, height=24, color_system="truecolor")
    progress = Progress(10_000, Clock())
    dashboard = Dashboard(console(is_terminal=True), "runs[red]/one", progress)
    Several([dashboard], progress).on_iteration(4000, METRICS)
    dashboard.on_evaluation(4000, SUMMARY)
    dashboard.close()
    screen.print(dashboard.picture())
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown(screen).splitlines()]
    assert all(len(line) == 80 for line in lines)
    assert "runs[red]/one" in lines[0]
    (bar,) = (number for number, line in enumerate(lines) if "━" in line)
    assert "Episodes and rewards" in lines[bar + 1]
    assert "Last evaluation" in lines[bar + 1]


def test_plain_lines_come_seldom_but_the_last_always():
    clock, target = Clock(), console(is_terminal=False)
    progress = Progress(10_000, clock)
    log = PlainLog(target, "a run", progress, clock)
    reporter = Several([log], progress)
    for step in range(1000, 11_000, 1000):
        clock.now += 1.0
        reporter.on_iteration(step, METRICS)
    lines = [line for line in shown(target).splitlines() if " steps (" in line]
    assert [line.split()[0] for line in lines] == ["1,000", "10,000"]
    assert "episode_length 17.5" in lines[0]


def test_a_terminal_gets_the_picture_and_a_pipe_gets_lines():
    for is_terminal, kind in ((True, Dashboard), (False, PlainLog)):
        reporter = terminal_reporter(console(is_terminal), "a run", Progress(10))
        reporter.close()
        assert isinstance(reporter, kind)


def test_the_log_is_strict_json_with_the_clock(tmp_path):
    clock, path = Clock(), tmp_path / "metrics.jsonl"
    progress = Progress(10_000, clock)
    reporter = Several([MetricsLog(path)], progress)
    clock.now += 2.0
    reporter.on_iteration(1000, METRICS)
    reporter.on_evaluation(1000, SUMMARY)
    lines = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    reporter.close()
    clocked = {"0verview/SPS": 500.0, "performance/uptime": 2.0, "performance/remaining": 18.0}
    clocked.update({"performance/total_rollout_time": 0.0, "performance/total_update_time": 0.0})
    assert lines == [{"step": 1000, **METRICS, **clocked}, {"step": 1000, **SUMMARY, "eval/mpjpe_succ": None}]


def film(folder):
    """A .gif of two pictures."""
    video = VideoFile(folder / "film.gif", 64, 48, 15.0)
    for brightness in (50, 200):
        video.add(np.full((48, 64, 3), brightness, dtype=np.uint8))
    return Path(video.close())


def test_tensorboard_writes_event_files(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path, {"env": {"num_envs": 4}}, {"gpu": "none"})
    board.on_iteration(7, METRICS)
    board.on_evaluation(7, SUMMARY)
    board.on_video(7, film(tmp_path))
    board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Scalars("environment/rew_body_pos")[0].value == 0.625
    assert events.Scalars("environment/rew_body_pos")[0].step == 7
    assert "eval/mpjpe_succ" not in events.Tags()["scalars"]
    (shown_film,) = events.Images("eval/video")
    assert shown_film.encoded_image_string == (tmp_path / "film.gif").read_bytes()
    assert (shown_film.width, shown_film.height, shown_film.step) == (64, 48, 7)
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert "| num_envs | 4 |" in texts["options/env/text_summary"] and "| gpu | none |" in texts["options/made_by/text_summary"]


def test_wandb_works_offline_without_an_account(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker = Wandb(tmp_path, "tests", {"env": {"num_envs": 4}}, {"commit": "0123abc", "gpu": "none"})
    tracker.on_iteration(7, METRICS)
    tracker.on_evaluation(9, SUMMARY)
    tracker.on_video(9, film(tmp_path))
    tracker.close()
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    wanted = (b"environment/rew_body_pos", b"eval/success_rate_strict", b"num_envs", b"0123abc", b"eval/video")
    end = time.monotonic() + 30.0  # wandb's own process writes the file, now or a moment later
    while not all(name in log.read_bytes() for name in wanted):
        assert time.monotonic() < end
        time.sleep(0.1)
    (kept,) = tmp_path.glob("wandb/offline-run-*/files/media/videos/eval/*.gif")
    assert kept.read_bytes() == (tmp_path / "film.gif").read_bytes()


@pytest.mark.parametrize(("package", "option"), [("wandb", "--track"), ("tensorboard", "--tensorboard")])
def test_a_missing_extra_is_named_with_its_command_before_anything_is_written(tmp_path, monkeypatch, capsys, package, option):
    monkeypatch.setitem(sys.modules, package, None)
    assert main([option, "--train.data_dir", str(tmp_path / "runs")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert f"{option} needs {package}: pip install 'puffer-phc[{package}]'" in line
    assert not list(tmp_path.iterdir())

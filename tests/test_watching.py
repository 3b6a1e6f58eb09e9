"""Watching a run: its page shows what it writes, moves what fails most, obeys a click, costs little, and ends with the run."""

import dataclasses
import http.client
import json
import os
import re
import socket
import time
import urllib.error
import urllib.request

import pytest
import torch
from PIL import Image

from puffer_phc import build
from puffer_phc.addresses import check_port
from puffer_phc.config import Config, EnvConfig, PolicyConfig, TrainConfig
from puffer_phc.errors import BackendError, ConfigError
from puffer_phc.evaluate.result import EvaluationResult
from puffer_phc.evaluate.tables import write_motions
from puffer_phc.main import main
from puffer_phc.motion.file import Clip, load_motion_file, save_motion_file
from puffer_phc.report.curves import MAX_POINTS, Curves
from puffer_phc.report.page_server import PageServer
from puffer_phc.resolve import resolve
from puffer_phc.resources import resource_root
from puffer_phc.view import offscreen
from puffer_phc.watch.page import Page
from puffer_phc.watch.process import TAKEN
from puffer_phc.watch.reporter import Watch
from puffer_phc.watch.spec import Spec

CPU = torch.device("cpu")
PATIENCE = 150.0
"""s: the page's process waits for its turn on a busy machine."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def can_draw():
    try:
        offscreen.open_context(16, 16).free()
    except BackendError:
        return False
    return True


def line(step, **figures):
    return json.dumps({"step": step, "0verview/agent_steps": float(step), **figures}) + "\n"


def test_curves_grow_with_the_file_skip_broken_ends_and_start_anew_when_it_shrinks(tmp_path):
    path = tmp_path / "metrics.jsonl"
    curves = Curves(path)
    assert not curves.read()
    path.write_text(line(10, **{"environment/episode_length": 5.0}) + '{"step": 20, "environ')
    assert curves.read()
    with path.open("a") as file:
        file.write('ment/episode_length": 7.0}\n' + line(30, **{"environment/episode_length": None}))
    assert curves.read() and not curves.read()

    def shown():
        return next(panel for panel in curves.panels() if panel["title"].startswith("Length"))["curves"][0]

    assert (shown()["x"], shown()["y"]) == ([10, 20], [5.0, 7.0])
    assert curves.last["0verview/agent_steps"] == 30.0
    path.write_text(line(10, **{"environment/episode_length": 4.0}))
    curves.read()
    assert (shown()["x"], shown()["y"]) == ([10], [4.0])


def test_a_long_run_is_thinned_evenly(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step, **{"0verview/SPS": float(step)}) for step in range(10 * MAX_POINTS)))
    curves = Curves(path)
    curves.read()
    x = curves.panels()[-1]["curves"][0]["x"]
    assert MAX_POINTS / 4 < len(x) < MAX_POINTS
    assert set(torch.tensor(x).diff().tolist()[5:]) <= {16, 32}
    assert x[-1] > 10 * MAX_POINTS - 64


def results(names, strict):
    """An evaluation of clips of 30 frames, of which ``strict`` were tracked strictly."""
    frames = torch.full((len(names),), 30)
    sums = torch.full((len(names), 5), 600.0, dtype=torch.float64)
    return EvaluationResult(1.0 / 30.0, torch.arange(len(names)), tuple(names), frames, frames, torch.tensor(strict), sums)


def evaluate_into(run_dir, *args):
    """Write clips.tsv as an evaluation does, at a time that nobody can take for the last one."""
    before = (run_dir / "clips.tsv").stat().st_mtime_ns if (run_dir / "clips.tsv").exists() else 0
    while not (run_dir / "clips.tsv").exists() or (run_dir / "clips.tsv").stat().st_mtime_ns == before:
        write_motions(results(*args), run_dir / "clips.tsv")


def test_the_clip_that_failed_oftenest_comes_first_and_a_choice_goes_before(tmp_path):
    page = Page(Spec(str(tmp_path), "", "127.0.0.1", 1, 100))
    names = ["a", "b", "c"]
    assert [page.next_clip(names, number) for number in range(4)] == ["a", "b", "c", "a"], "all in turn while nothing is known"
    for strict in ([30, 20, 25], [30, 20, 30], [5, 30, 30]):
        evaluate_into(tmp_path, names, strict)
        page.refresh()
    assert [(row["name"], row["failures"]) for row in page.state()["clips"]] == [("b", 2), ("a", 1), ("c", 1)]
    assert page.state()["clips"][1]["until"] == pytest.approx(6 / 30, abs=1e-3), "five frames are good, the sixth is not"
    assert page.next_clip(names, 0) == "b"
    page.choose({"clip": "c"})
    assert page.next_clip(names, 0) == "c" and page.has_request.is_set()
    page.choose({"clip": "gone"})
    assert page.next_clip(names, 0) == "b"
    with pytest.raises(ValueError, match="7"):
        page.choose({"clip": 7})


class Clock:
    """A tenth of a second goes by whenever somebody looks."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.1
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watched(tmp_path, clock):
    """A run's folder with figures and an evaluation, its motions of two clips, and the page about it."""
    run_dir = tmp_path / "a run"
    run_dir.mkdir()
    walk = next(clip for clip in load_motion_file(resource_root() / "sample_data" / "deepmimic.npz") if clip.name == "walk")
    clips = [Clip(name, walk.root_pos[:20], walk.local_quats[:20], 30.0, "test", "zlib") for name in ("easy", "hard")]
    save_motion_file(tmp_path / "two.npz", clips)
    sizes = {"total_timesteps": 1000, "batch_size": 64, "watch": True, "watch_port": free_port()}
    config = Config(
        env=EnvConfig(motion_file=str(tmp_path / "two.npz"), backend="mujoco_cpu", num_envs=4),
        policy=PolicyConfig(layer_sizes=(16,), hidden_size=16),
        train=TrainConfig(device="cpu", **sizes),
    )
    config = resolve(config, CPU)
    rewards = dict.fromkeys(("body_pos", "body_rot", "lin_vel", "ang_vel"), 0.12345)
    figures = {
        "environment/episode_length": 9.0,
        "0verview/SPS": 321.0,
        **{f"environment/rew_{name}": value for name, value in rewards.items()},
    }
    (run_dir / "metrics.jsonl").write_text(line(100, **figures) + line(200, **figures))
    evaluate_into(run_dir, ("easy", "hard"), [30, 12])
    watch = Watch(config, run_dir, build.make_policy(config, 934, 57, CPU), clock)
    yield watch, run_dir
    watch.close()


def answer(url, path, **headers):
    request = urllib.request.Request(url + path, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.loads(reply.read())


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            found = condition()
        except (urllib.error.URLError, ConnectionError):
            found = None
        if found:
            return found
        assert time.monotonic() < end
        time.sleep(0.2)


def test_the_page_shows_the_run_and_moves_the_clip_that_fails(watched, browser):
    watch, run_dir = watched
    watch.on_iteration(200, {})
    wait_for(lambda: answer(watch.url, "/state")["attempt"] > 0)
    assert answer(watch.url, "/attempt")["name"] == "hard"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        answer(watch.url, "/state", Host="elsewhere.example")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(watch.url + "/choose", data=b'{"clip": "easy"}', method="POST"), timeout=20)

    browser.call("Page.navigate", url=watch.url)
    browser.wait_for("document.getElementById('clips')?.tBodies[0].rows.length === 2 && seen.clip === 'hard'", PATIENCE)
    assert "200 of 1,000 steps" in browser.evaluate("document.getElementById('state').textContent").replace("1000", "1,000")
    assert browser.evaluate("document.querySelectorAll('.panels polyline').length") == 6
    right = "[...document.querySelectorAll('.panels .label')].map(label => label.getBBox().x + label.getBBox().width)"
    assert len(browser.evaluate(right)) == 6 and max(browser.evaluate(right)) <= 320.0, (
        "the width of a chart, beyond which words are cut off"
    )
    assert browser.evaluate("[...document.querySelectorAll('#clips tbody tr')].map(row => row.cells[1].textContent)") == [
        "relaxed",
        "strict",
    ]
    browser.evaluate("document.querySelector('tr[data-clip=easy]').click()")
    browser.wait_for("seen.clip === 'easy'", PATIENCE)
    moving = "Number(document.querySelector('.player input').value)"
    before = browser.evaluate(moving)
    browser.wait_for(f"{moving} !== {before}")
    browser.evaluate("document.getElementById('worst').click()")
    browser.wait_for("seen.clip === 'hard'", PATIENCE)
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write(line(300, **{"0verview/SPS": 111.0}))
    browser.wait_for("document.getElementById('state').textContent.startsWith('300 of')", PATIENCE)
    assert browser.errors == []


def test_the_policy_is_left_no_oftener_than_its_cost_allows_and_nothing_stays_behind(watched, clock):
    watch, _ = watched
    watch.on_iteration(1, {})
    first = watch.policy_path.stat().st_mtime_ns
    clock.now += 15.0
    watch.on_iteration(2, {})
    assert watch.policy_path.stat().st_mtime_ns == first
    clock.now += 10.0
    watch.on_iteration(3, {})
    assert watch.policy_path.stat().st_mtime_ns > first
    watch.close()
    assert watch.process.poll() is not None
    assert not watch.policy_path.parent.exists()


def test_a_run_that_is_watched_says_where_and_keeps_its_clips(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    port = free_port()
    words = ["--env.num_envs", "4", "--train.batch_size", "64", "--policy.layer_sizes", "16", "--policy.hidden_size", "16"]
    words += ["--env.backend", "mujoco_cpu", "--train.total_timesteps", "128", "--train.eval_interval", "2"]
    words += ["--train.data_dir", "runs", "--train.eval_video", "True", "--video.width", "64", "--video.height", "48"]
    assert main([*words, "--train.watch", "--train.watch_port", str(port)]) == 0
    assert f"watch at http://127.0.0.1:{port}" in capsys.readouterr().out
    (table,) = tmp_path.glob("runs/*/clips.tsv")
    assert len(table.read_text().splitlines()) == 16
    films = list(tmp_path.glob("runs/*/videos/*.gif"))
    if can_draw():
        with Image.open(films[0]) as film:
            assert film.size == (64, 48) and film.n_frames > 5
    assert len(films) == can_draw()


def test_a_page_is_served_on_an_address_of_six_and_bad_requests_are_refused():
    try:
        check_port("::1", 0)
    except ConfigError as error:
        pytest.skip(f"no IPv6 here: {error}")
    server = PageServer("::1", 0, "<p>here", {"/state": lambda: {"step": 1}}, {"/choose": lambda _: None})
    try:
        assert server.url.startswith("http://[::1]:")
        assert answer(server.url, "/state") == {"step": 1}
        for length in ("many", "-1", "9" * 30):
            connection = http.client.HTTPConnection("::1", int(server.url.rpartition(":")[2]), timeout=20)
            connection.request("POST", "/choose", headers={"Content-Type": "application/json", "Content-Length": length})
            assert connection.getresponse().status == 403, length
            connection.close()
    finally:
        server.close()


def test_the_page_says_in_the_end_what_it_took(watched):
    watch, run_dir = watched
    watch.on_iteration(1, {})
    wait_for(lambda: answer(watch.url, "/state")["attempt"] > 0)
    watch.process.stdin.close()
    watch.process.wait(PATIENCE)
    start, since = re.search(rf"{TAKEN} ([\d.]+) s to start, ([\d.]+) s since$", (run_dir / "watch.log").read_text()).groups()
    assert float(start) > 0.1 and float(since) >= 0.0, "an attempt needs torch"


@pytest.mark.skipif(not hasattr(os, "getpgid"), reason="no process groups here")
def test_ctrl_c_does_not_reach_the_page(watched):
    """A terminal sends it to all of the run's group, and the run has a last iteration to show."""
    watch, _ = watched
    assert os.getpgid(watch.process.pid) != os.getpgrp()


def test_a_page_whose_process_ends_is_missed_once_and_the_run_goes_on(watched, clock, caplog):
    watch, run_dir = watched
    watch.process.kill()
    watch.process.wait()
    for step in range(3):
        clock.now += 100.0
        watch.on_iteration(step, {})
    (record,) = caplog.records
    assert str(run_dir / "watch.log") in record.getMessage()
    assert not watch.policy_path.exists()


def test_a_port_in_use_is_named_before_anything_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--train.watch", "--train.watch_port", str(port)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(port) in error and "--train.watch_port" in error
    assert not list(tmp_path.iterdir())
    with pytest.raises(Exception, match=r"train\.watch_port is 0"):
        dataclasses.replace(TrainConfig(), watch_port=0)

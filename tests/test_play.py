"""The play mode: every command does what the table says, and what can't be done is one line."""

import os
import re
import threading
import time
from pathlib import Path

import pytest
import torch
from playing import NUM_HUMANOIDS, save_policy, small_session
from synthetic_motion import swaying_library

from puffer_phc import options
from puffer_phc.command_line import INTERRUPTED, USER_ERROR
from puffer_phc.errors import CheckpointError, ConfigError
from puffer_phc.main import main
from puffer_phc.motion.file import Clip, load_motion_file, save_motion_file
from puffer_phc.play.playlist import Episode, Playlist
from puffer_phc.play.session import PlaySession
from puffer_phc.view import display
from puffer_phc.view.commands import COMMANDS, SPEEDS
from puffer_phc.view.session import CameraPlace, Settings


@pytest.fixture
def session(tmp_path):
    opened = small_session(tmp_path)
    yield opened
    opened.close()


def do(session, name, value=None):
    session.post(name, value)
    session.obey()
    return session.settings


def last_message(session):
    return dict(session.status()).get("last", "")


def test_names_and_keys_of_commands_are_unique():
    assert len({entry.name for entry in COMMANDS}) == len(COMMANDS)
    keys = [entry.key for entry in COMMANDS if entry.key]
    assert len(set(keys)) == len(keys)


def test_the_session_knows_every_command(session):
    values = {"speed": 2.0, "clip": "sway_1", "humanoid": 1}
    for entry in (entry for entry in COMMANDS if entry.name != "recording"):
        do(session, entry.name, values.get(entry.name))
        if entry.kind in ("number", "choice"):
            assert getattr(session.settings, entry.name) == values[entry.name]
    assert session.is_over


@pytest.mark.parametrize("name", [entry.name for entry in COMMANDS if entry.kind == "toggle" and entry.name != "recording"])
def test_toggles_flip_or_take_a_value(session, name):
    before = getattr(session.settings, name)
    assert getattr(do(session, name), name) is not before
    assert getattr(do(session, name, before), name) is before
    assert getattr(do(session, name, before), name) is before


def test_time_passes_at_the_chosen_speed_and_not_while_paused(session):
    dt = session.control_dt
    assert session.advance(2.0 * dt) == 2
    session.post("speed", 0.5)
    assert session.advance(2.0 * dt) == 1
    session.post("speed", 2.0)
    assert session.advance(2.0 * dt) == 4
    times = session.frame().times
    session.post("paused")
    assert session.advance(10.0 * dt) == 0
    assert torch.equal(session.frame().times, times)


def test_a_step_is_one_control_step_and_pauses(session):
    before = session.frame().times
    assert do(session, "step").paused
    torch.testing.assert_close(session.frame().times - before, torch.full((NUM_HUMANOIDS,), session.control_dt))


def test_a_slow_machine_drops_time_instead_of_lagging_behind(session):
    taken = session.advance(60.0)
    assert 0 < taken < 60
    assert session.advance(0.0) <= 1


def test_slower_and_faster_walk_through_the_speeds(session):
    speeds = [do(session, "faster").speed for _ in SPEEDS]
    assert speeds[-1] == SPEEDS[-1]
    assert [do(session, "slower").speed for _ in SPEEDS][-1] == SPEEDS[0]


def test_clips_come_in_turn_shift_and_can_be_chosen(session):
    assert session.frame().clips == ("sway_0", "sway_1", "sway_2")
    do(session, "next_clip")
    assert session.frame().clips == ("sway_1", "sway_2", "sway_0")
    do(session, "previous_clip")
    assert session.frame().clips == ("sway_0", "sway_1", "sway_2")
    assert do(session, "clip", "sway_2").clip == "sway_2"
    assert set(session.frame().clips) == {"sway_2"}
    assert len(set(session.frame().times.tolist())) == NUM_HUMANOIDS
    assert do(session, "next_clip").clip == "sway_0"
    assert do(session, "clip", None).clip is None
    assert session.frame().clips == ("sway_0", "sway_1", "sway_2")


def test_reset_goes_back_to_the_start(session):
    session.advance(5 * session.control_dt)
    do(session, "reset")
    assert session.frame().times.tolist() == [0.0] * NUM_HUMANOIDS


def test_the_humanoid_that_is_looked_at_goes_round(session):
    assert [do(session, "next_humanoid").humanoid for _ in range(NUM_HUMANOIDS)] == [1, 2, 0]
    assert do(session, "previous_humanoid").humanoid == NUM_HUMANOIDS - 1
    assert do(session, "humanoid", 1).humanoid == 1


def test_a_push_changes_the_root_velocity_of_every_humanoid_by_its_speed(session):
    body = session.env.simulator.body
    before = body.lin_vel[:, 0].clone()
    do(session, "push")
    change = body.lin_vel[:, 0] - before
    torch.testing.assert_close(change.norm(dim=-1), torch.ones(NUM_HUMANOIDS), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(change[:, 2], torch.zeros(NUM_HUMANOIDS), atol=1e-5, rtol=0.0)


def test_mean_actions_repeat_and_sampled_ones_do_not(session):
    def played():
        do(session, "reset")
        for _ in range(3):
            session.step()
        return session.frame().body_pos

    assert torch.equal(played(), played())
    do(session, "sampled")
    assert not torch.equal(played(), played())


def test_a_newer_checkpoint_of_the_run_takes_over(session, tmp_path):
    do(session, "newer_checkpoint")
    assert "no newer" in last_message(session)
    before = {name: tensor.clone() for name, tensor in session.policy.state_dict().items()}
    newer = save_policy(tmp_path / "latest.pt", seed=5)
    os.utime(newer, (time.time() + 5, time.time() + 5))
    assert "newer one is there" in dict(session.status())["checkpoint"]
    do(session, "newer_checkpoint")
    assert dict(session.status())["checkpoint"] == "latest.pt"
    assert not torch.equal(before["mean_head.weight"], session.policy.state_dict()["mean_head.weight"])


def test_a_checkpoint_that_does_not_fit_is_a_message_and_the_old_policy_stays(session, tmp_path):
    other = save_policy(tmp_path / "other.pt", action_size=5)
    os.utime(other, (time.time() + 5, time.time() + 5))
    policy = session.policy
    do(session, "newer_checkpoint")
    assert "other.pt" in last_message(session) and "5 actions" in last_message(session)
    assert session.policy is policy


def test_progress_and_camera_are_written(session, caplog):
    caplog.set_level("INFO", "puffer_phc")
    do(session, "progress")
    assert [name for name in session.clip_names if name in caplog.text] == list(session.clip_names)
    session.camera = CameraPlace((1.0, 2.0, 3.0), (0.0, 0.0, 0.5))
    do(session, "camera")
    assert "(1.00, 2.00, 3.00) looks at (0.00, 0.00, 0.50)" in caplog.text


class ListRecorder:
    """Keeps frames, and breaks after ``good`` of them."""

    def __init__(self, good=99):
        self.frames, self.good, self.ended = [], good, ""

    def add(self, frame, settings):
        if len(self.frames) == self.good:
            raise OSError("disk full")
        self.frames.append(frame)

    def close(self):
        self.ended = "closed"
        return "somewhere.mp4"

    def cancel(self):
        self.ended = "cancelled"


class FailingRecorder(ListRecorder):
    """Can't be finished."""

    def close(self):
        raise ConfigError("'x.mp4' has no picture")


def test_a_recording_gets_every_step_until_it_is_stopped_discarded_or_breaks(session):
    for good, ending, frames, ended in (
        (99, "recording", 4, "closed"),
        (99, "cancel_recording", 4, "cancelled"),
        (2, None, 2, "cancelled"),
    ):
        recorder = ListRecorder(good)
        session.make_recorder = lambda recorder=recorder: recorder
        assert do(session, "recording").recording
        session.advance(4 * session.control_dt)
        if ending:
            do(session, ending)
        assert (len(recorder.frames), recorder.ended) == (frames, ended)
        assert not session.settings.recording
    assert "disk full" in last_message(session)


def test_a_recording_that_can_not_be_finished_is_a_message_and_the_next_one_works(session):
    """Without a step in between there is no picture, and no file."""
    session.make_recorder = FailingRecorder
    for _ in range(2):
        assert do(session, "recording", True).recording
        assert not do(session, "recording", False).recording
        assert "no picture" in last_message(session)


def test_closing_with_such_a_recording_frees_the_simulator(tmp_path, monkeypatch):
    session, closed = small_session(tmp_path), []
    monkeypatch.setattr(session.env, "close", lambda close=session.env.close: closed.append(close()))
    session.make_recorder = FailingRecorder
    do(session, "recording", True)
    session.close()
    assert closed == [None]


def test_a_speed_that_is_no_number_changes_nothing(session):
    assert do(session, "speed", float("nan")).speed == 1.0
    assert session.advance(session.control_dt) == 1


def test_closing_finishes_a_recording(tmp_path):
    session, recorder = small_session(tmp_path), ListRecorder()
    session.make_recorder = lambda: recorder
    do(session, "recording", True)
    session.close()
    assert recorder.ended == "closed"


def test_episodes_that_end_go_on_with_the_next_clip_and_are_counted():
    motions = swaying_library(40, 60, 50)
    playlist = Playlist(motions, 2, None, seed=0)
    done, failed = torch.tensor([True, False]), torch.tensor([True, False])
    playlist.record(done, failed, *playlist.draw())
    assert playlist.draw()[0].tolist() == [1, 1]
    assert playlist.counts == {"finished": 0, "lost": 1}
    assert playlist.ended == [Episode("sway_0", 0.0, True)]
    playlist.choose("sway_1")
    playlist.record(done, ~failed, *playlist.draw())
    assert playlist.draw()[0].tolist() == [1, 1]
    assert playlist.draw()[1][0] == 0.0
    assert playlist.counts == {"finished": 1, "lost": 1}
    with pytest.raises(ConfigError, match="sway_0, sway_1, sway_2"):
        playlist.choose("moonwalk")
    with pytest.raises(ConfigError, match=r"did you mean 'sway_1'\?"):
        playlist.choose("swya_1")


def test_a_lost_humanoid_starts_over_unless_the_distance_is_zero(tmp_path):
    strict, endless = small_session(tmp_path, reset_distance=0.05), small_session(tmp_path, reset_distance=0.0)
    for session in (strict, endless):
        for _ in range(20):
            session.step()
    assert dict(strict.status())["to the end / lost"].startswith("0 / ")
    assert dict(strict.status())["to the end / lost"] != "0 / 0" == dict(endless.status())["to the end / lost"]


@pytest.mark.parametrize(("viewer", "clip", "count"), [("web", None, 16), ("native", None, 4), ("video", None, 4), ("video", "sway_0", 1)])
def test_how_many_humanoids_there_are_by_default(tmp_path, viewer, clip, count):
    session = small_session(tmp_path, viewer, num_envs=None, clip=clip)
    assert session.frame().num_humanoids == count
    session.close()


def test_settings_hold_every_value_that_a_command_changes():
    for entry in COMMANDS:
        assert entry.kind == "action" or hasattr(Settings(), entry.name)
        assert entry.kind == "toggle" or any(hasattr(PlaySession, f"_{prefix}{entry.name}") for prefix in ("", "choose_"))


def test_the_viewer_is_the_window_only_where_there_is_a_display(monkeypatch):
    monkeypatch.setattr(display.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    viewer, reason = display.choose_viewer("auto")
    assert viewer == "web" and "no display" in reason
    assert display.choose_viewer("video") == ("video", "")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder to stand in, a motion file and a checkpoint that fits it."""
    path = tmp_path / "stand.npz"
    still = load_motion_file(options.resource_root() / "sample_data" / "deepmimic.npz")[0]
    save_motion_file(path, [Clip("stand", still.root_pos[:1].repeat(20, 0), still.local_quats[:1].repeat(20, 0), 30.0, "made up", "none")])
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(options, "SHIPPED_POLICY", tmp_path / "nothing.pt")
    return ["--mode", "play", "-m", str(path), "-c", str(save_policy(tmp_path / "policy.pt")), "--env.backend", "mujoco_cpu"]


def test_without_pictures_every_clip_is_played_once(files, capsys):
    assert main([*files, "--viewer", "none"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"stand: (lost after|played to the end,) 0\.\d s", line)


@pytest.mark.parametrize("viewer", ["web", "none"])
def test_ctrl_c_ends_every_viewer_alike(files, monkeypatch, capsys, viewer):
    """The window, too: ``test_ctrl_c_closes_the_window``; and a video: ``test_ctrl_c_leaves_no_video``."""

    def interrupted(*_):
        raise KeyboardInterrupt

    for name in ("advance", "step"):
        monkeypatch.setattr(PlaySession, name, interrupted)
    threads = set(threading.enumerate())
    assert main([*files, "--viewer", viewer, "--play.port", "0"]) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
    assert all(thread in threads or thread.daemon for thread in threading.enumerate()), "somebody is still serving"
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("argv", "fragments"),
    [
        (["-c", "nowhere.pt"], ["nowhere.pt", "does not exist"]),
        (["--play.clip", "moonwalk", "--viewer", "none"], ["moonwalk", "stand"]),
        (["--play.clip", "moonwalk", "--viewer", "web", "--play.port", "0"], ["moonwalk", "stand"]),
        (["--viewer", "native"], ["no display", "web"]),
        (["--viewer", "film"], ["film", "native", "web", "video"]),
        (["--viewer", "video", "--video.path", "out.avi"], ["out.avi", ".mp4", ".gif"]),
        (["--viewer", "video", "--video.width", "641"], ["video.width", "641", "even"]),
        (["--viewer", "web", "--play.port", "70000"], ["play.port", "70000"]),
        (["--viewer", "web", "--play.host", "no.such.host.invalid"], ["no.such.host.invalid"]),
        (["--play.num_envs", "0"], ["play.num_envs", "0"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(files, tmp_path, capsys, argv, fragments):
    assert main([*files, *argv]) == USER_ERROR
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("puffer-phc: ")
    for fragment in fragments:
        assert fragment in error
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize("mode", ["play", "eval"])
def test_without_any_checkpoint_it_says_that_one_is_needed(files, capsys, mode):
    position = files.index("-c")
    assert main([*files[:position], *files[position + 2 :], "--mode", mode]) == USER_ERROR
    assert "-c FILE" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["play", "eval"])
def test_the_shipped_policy_is_the_default_where_there_is_one(files, monkeypatch, mode):
    position = files.index("-c")
    monkeypatch.setattr(options, "SHIPPED_POLICY", files[position + 1])
    arguments = options.parse_options([*files[:position], *files[position + 2 :], "--mode", mode])
    assert str(arguments.checkpoint_path) == str(files[position + 1])
    assert arguments.policy.hidden_size == 16


def test_a_place_that_cannot_be_written_is_named(files, tmp_path, capsys):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    assert main([*files, "--viewer", "video", "--video.path", str(in_the_way / "out.mp4")]) == USER_ERROR
    assert str(in_the_way) in capsys.readouterr().err
    assert main([*files, "--viewer", "none", "--output", str(in_the_way / "deeper")]) == USER_ERROR
    assert str(in_the_way) in capsys.readouterr().err


def test_a_checkpoint_of_another_size_is_refused(tmp_path):
    save_policy(tmp_path / "model_000001.pt", action_size=5)
    with pytest.raises(CheckpointError, match="57"):
        small_session(tmp_path)


def test_paths_of_videos_count_from_where_the_user_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options.parse_options(["--video.path", "a.mp4"]).video.path == str(tmp_path / "a.mp4")
    assert options.parse_options([]).video.path is None

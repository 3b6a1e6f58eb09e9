"""The parser: precedence, names, paths, and one clear line for every mistake."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from puffer_phc.config import Config, EnvConfig, PolicyConfig, TrainConfig
from puffer_phc.errors import CheckpointError, ConfigError
from puffer_phc.learn.checkpoint import Checkpoint, save_checkpoint
from puffer_phc.option_words import option_types, read_command_line
from puffer_phc.options import parse_options

REPOSITORY = Path(__file__).resolve().parent.parent


def error_of(*argv):
    with pytest.raises(ConfigError) as caught:
        parse_options(argv)
    text = str(caught.value)
    assert "\n" not in text
    return text


def ini(tmp_path, text):
    path = tmp_path / "my.ini"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(tmp_path):
    path = ini(tmp_path, "[env]\nnum_envs = 10\nkp_scale = 2\n[train]\nseed = 5\n")
    arguments = parse_options(["--config", str(path), "--env.num_envs", "20"])
    assert (arguments.env.num_envs, arguments.env.kp_scale, arguments.train.seed) == (20, 2.0, 5)
    assert arguments.train.gamma == TrainConfig().gamma


@pytest.mark.parametrize("flag", ["--env.num_envs", "--env.num-envs"])
@pytest.mark.parametrize("form", [["{}", "7"], ["{}=7"]])
def test_dashes_underscores_and_equals_signs_mean_the_same(flag, form):
    assert parse_options([word.format(flag) for word in form]).env.num_envs == 7


def test_short_names():
    arguments = parse_options(["-m", "walk.npz", "--policy-name", "PHCPolicy", "--track"])
    assert Path(arguments.env.motion_file) == Path.cwd() / "walk.npz"
    assert arguments.track
    assert not parse_options([]).track


@pytest.mark.parametrize("option", ["-m", "--motion-file", "--motion_file", "--env.motion_file", "--env.motion-file"])
def test_every_spelling_of_the_motion_file(option, tmp_path):
    path = ini(tmp_path, "[env]\nmotion_file = a.npz\n")
    assert Path(parse_options(["--config", str(path), option, "/b.npz"]).env.motion_file) == Path("/b.npz")
    assert Path(parse_options(["--config", str(path)]).env.motion_file) == tmp_path / "a.npz"


def test_relative_paths_of_the_shipped_file_count_from_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = parse_options(["--train.data_dir", "runs"])
    assert Path(arguments.env.motion_file) == REPOSITORY / EnvConfig().motion_file
    assert Path(arguments.train.data_dir) == tmp_path / "runs"


@pytest.mark.parametrize(
    ("words", "value"),
    [(["True"], True), (["False"], False), (["true"], True), (["false"], False), ([], True)],
)
def test_booleans(words, value):
    assert parse_options(["--env.has_self_collision", *words]).env.has_self_collision is value


@pytest.mark.parametrize("words", [["64", "32"], ["64,32"], ["(64, 32)"], ["64 32"]])
def test_lists(words):
    assert parse_options(["--policy.layer_sizes", *words]).policy.layer_sizes == (64, 32)


def test_automatic_and_negative_values(tmp_path):
    path = ini(tmp_path, "[env]\nnum_envs = 10\n[policy]\nlayer_sizes = 3 4\n")
    arguments = parse_options(["--config", str(path), "--env.num_envs", "auto", "--policy.init_log_std", "-1.5"])
    assert arguments.env.num_envs is None
    assert arguments.policy == dataclasses.replace(PolicyConfig(), layer_sizes=(3, 4), init_log_std=-1.5)


@pytest.mark.parametrize(
    ("argv", "fragments"),
    [
        (["--env.num_evns", "4"], ["--env.num_evns", "did you mean --env.num_envs?"]),
        (["--num-envs", "4"], ["--num-envs", "did you mean --env.num_envs?"]),
        (["--trian.gamma", "0.9"], ["did you mean --train.gamma?"]),
        (["--mode", "evla"], ["--mode", "'evla'", "train, eval, play, sweep"]),
        (["--env.num_envs", "many"], ["--env.num_envs", "'many'", "INT"]),
        (["--env.num_envs", "3", "4"], ["--env.num_envs", "one value"]),
        (["--env.num_envs"], ["--env.num_envs", "needs a value"]),
        (["--env.num_envs", "0"], ["env.num_envs", "0", "at least 1"]),
        (["--track", "maybe"], ["--track", "'Maybe'", "True, False"]),
        (["sample.npz"], ["'sample.npz'"]),
        (["--config", "nowhere.ini"], ["nowhere.ini", "No such file"]),
    ],
)
def test_mistakes_on_the_command_line(argv, fragments):
    text = error_of(*argv)
    for fragment in fragments:
        assert fragment in text


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        ("[env]\nnum_evns = 4\n", ["my.ini", "'num_evns'", "[env]", "did you mean num_envs?"]),
        ("[enviroment]\nnum_envs = 4\n", ["my.ini", "[enviroment]", "env"]),
        ("[env]\nnum_envs = few\n", ["my.ini", "env.num_envs", "'few'"]),
        ("num_envs = 4\n", ["my.ini", "no section headers"]),
        ("[env]\nnum_envs = 4\nnum_envs = 5\n", ["my.ini", "num_envs", "already exists"]),
        ("[train]\ngamma = 7\n", ["train.gamma", "7", "between 0 and 1"]),
        ("[env]\nmotion_file =\n", ["env.motion_file", "needs a value"]),
    ],
)
def test_mistakes_in_the_file(tmp_path, content, fragments):
    text = error_of("--config", str(ini(tmp_path, content)))
    for fragment in fragments:
        assert fragment in text


def test_a_binary_file_is_no_config(tmp_path):
    path = tmp_path / "my.ini"
    path.write_bytes(b"\xff\xfe\x00[env]")
    assert "can't be read" in error_of("--config", str(path))


def saved_checkpoint(tmp_path):
    config = Config(
        env=EnvConfig(motion_file="/elsewhere.npz", backend="mujoco_warp", num_envs=4096, action_mode="absolute", num_future_frames=3),
        policy=PolicyConfig(layer_sizes=(32, 16), hidden_size=8, init_log_std=-2.0),
        train=TrainConfig(device="cuda", seed=9),
    )
    path = tmp_path / "model.pt"
    save_checkpoint(path, Checkpoint(dataclasses.asdict(config), {"weight": torch.zeros(1)}, 10, 5, None))
    return path


def test_a_checkpoint_brings_its_policy_and_what_the_policy_sees_but_no_machine(tmp_path):
    arguments = parse_options(["-c", str(saved_checkpoint(tmp_path))])
    assert arguments.policy == PolicyConfig(layer_sizes=(32, 16), hidden_size=8, init_log_std=-2.0)
    assert (arguments.env.action_mode, arguments.env.num_future_frames) == ("absolute", 3)
    assert (arguments.env.backend, arguments.env.num_envs, arguments.train.seed, arguments.train.device) == ("auto", None, 1, "auto")
    assert Path(arguments.env.motion_file).name == Path(EnvConfig().motion_file).name


def test_the_command_line_wins_over_the_checkpoint_and_the_checkpoint_over_the_file(tmp_path):
    path = ini(tmp_path, "[env]\nnum_future_frames = 2\naction_mode = residual\n")
    arguments = parse_options(["--config", str(path), "-c", str(saved_checkpoint(tmp_path)), "--env.action_mode", "residual"])
    assert (arguments.env.num_future_frames, arguments.env.action_mode) == (3, "residual")


def test_a_folder_stands_for_the_last_checkpoint_in_it(tmp_path):
    """A run's folder, or one of runs: the run that was at it last, whatever its name."""
    config = dataclasses.asdict(Config())
    for name, age in (("b", 100), ("a", 50), ("c", 200)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        path = tmp_path / "runs" / name / "latest.pt"
        save_checkpoint(path, Checkpoint(config, {"weight": torch.zeros(1)}, 10, 5, None))
        os.utime(path, (1e9 - age, 1e9 - age))
    for folder, run in (("runs", "a"), ("runs/c", "c")):
        assert parse_options(["-c", str(tmp_path / folder)]).checkpoint_path == tmp_path / "runs" / run / "latest.pt"
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        parse_options(["-c", str(tmp_path)])


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing\.pt"):
        parse_options(["-c", str(tmp_path / "nothing.pt")])
    with pytest.raises(CheckpointError, match="does not exist"):
        parse_options(["-c", "a" * 300])


def test_the_help_lists_every_option_with_its_effective_default(tmp_path):
    path = ini(tmp_path, "[env]\nnum_envs = 1234\n")
    command = [sys.executable, "-m", "puffer_phc.main", "--config", str(path), "--train.seed", "77", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
    for name in option_types():
        assert f"--{name} " in shown
    assert "(default: 1234)" in shown
    assert "(default: 77)" in shown


def test_values_belong_to_the_option_before_them():
    given = read_command_line(["--policy.layer_sizes", "1", "2", "--env.backend", "auto"])
    assert given["policy.layer_sizes"].words == ["1", "2"]
    assert given["env.backend"].words == ["auto"]

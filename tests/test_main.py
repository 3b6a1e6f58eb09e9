"""The modes end to end on tiny sizes, and every bad input as one line, exit code 2 and nothing half-written."""

import dataclasses
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from puffer_phc.command_line import INTERRUPTED, TERMINATED, USER_ERROR
from puffer_phc.config import Config, PolicyConfig
from puffer_phc.files import PART_SUFFIX
from puffer_phc.learn.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from puffer_phc.main import CurrentStderr, main
from puffer_phc.motion.file import Clip, load_motion_file, save_motion_file
from puffer_phc.report.metrics_log import SPENT

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = [
    "--env.num_envs",
    "4",
    "--train.batch_size",
    "64",
    "--policy.layer_sizes",
    "16",
    "--policy.hidden_size",
    "16",
    "--env.backend",
    "mujoco_cpu",
]


def clip(num_frames=20, num_bodies=24):
    """A humanoid that stands still."""
    root_pos = np.tile(np.float32([0.0, 0.0, 0.92]), (num_frames, 1))
    quats = np.tile(np.float32([1.0, 0.0, 0.0, 0.0]), (num_frames, num_bodies, 1))
    return Clip("stand", root_pos, quats, 30.0, "made for a test", "public domain")


@pytest.fixture
def motion_file(tmp_path):
    path = tmp_path / "stand.npz"
    save_motion_file(path, [clip()])
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def rewritten(path, target, **changes):
    """A copy of the motion file with some of its arrays changed, past our own checks."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, change in changes.items():
        arrays[name] = change(arrays[name])
    np.savez(target, **arrays)
    return target


def test_train_then_eval_from_the_checkpoint(here, motion_file, capsys):
    assert (
        main([*TINY, "-m", str(motion_file), "--train.total_timesteps", "192", "--train.eval_interval", "2", "--train.data_dir", "runs"])
        == 0
    )
    (run_dir,) = (here / "runs").iterdir()
    assert run_dir.name.startswith("puffer_phc-")
    assert json.loads((run_dir / "config.json").read_text())["env"]["num_envs"] == 4
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines]
    assert steps == sorted(steps)
    assert steps[-1] >= 192
    names = set().union(*lines)
    assert {"0verview/SPS", "0verview/agent_steps", "0verview/epoch", "0verview/learning_rate", "environment/rew_body_pos"} <= names
    assert {"losses/policy_loss", "losses/value_loss", "losses/approx_kl", "performance/uptime", "eval/success_rate"} <= names
    assert str(run_dir / "latest.pt") in capsys.readouterr().out

    assert main(["--mode", "eval", "-c", str(run_dir / "latest.pt"), "-m", str(motion_file), "--output", "results"]) == 0
    summary = json.loads(next((here / "results").glob("eval_summary_*.json")).read_text())
    assert 0.0 <= summary["eval/success_rate"] <= 1.0
    table = next((here / "results").glob("results_by_motion_*.tsv")).read_text().splitlines()
    assert table[0].split("\t")[:4] == ["motion_keys", "motion_length", "played_steps", "success"]
    assert table[1].split("\t")[0] == "stand"
    assert "clips" in capsys.readouterr().out


def test_a_clip_too_long_for_the_device_is_refused(here, motion_file, capsys):
    assert main([*TINY, "-m", str(motion_file), "--env.max_resident_frames", "5", "--train.data_dir", "runs"]) == 2
    line = one_error_line(capsys)
    assert "env.max_resident_frames is 5" in line
    assert "'stand'" in line
    assert not (here / "runs").exists()


def test_hard_clips_are_taken_from_an_evaluation_or_a_list(here, motion_file, capsys):
    options = ["-m", str(motion_file), "--train.total_timesteps", "96", "--train.data_dir", "runs"]
    (here / "names.txt").write_text("stand\n")
    assert main([*TINY, *options, "--env.hard_clips", "names.txt"]) == 0
    (run_dir,) = (here / "runs").iterdir()
    assert json.loads((run_dir / "config.json").read_text())["env"]["hard_clips"] == str(here / "names.txt")
    (here / "other.txt").write_text("stand\nstood\n")
    (here / "empty.txt").write_text("\n")
    capsys.readouterr()
    for name, message in (("other.txt", "no clip 'stood' in"), ("empty.txt", "names no clip"), ("nowhere.tsv", "can't be read")):
        assert main([*TINY, *options, "--env.hard_clips", name]) == 2
        assert message in one_error_line(capsys)


@pytest.fixture
def reads(monkeypatch):
    """The files that torch reads."""
    read, seen = torch.load, []

    def counting(file, *arguments, **options):
        seen.append(file)
        return read(file, *arguments, **options)

    monkeypatch.setattr(torch, "load", counting)
    return seen


def test_a_checkpoint_is_read_once(here, motion_file, reads):
    run = [*TINY, "-m", str(motion_file), "--train.eval_interval", "0", "--train.data_dir", "runs"]
    assert main([*run, "--train.total_timesteps", "64"]) == 0
    assert not reads
    (run_dir,) = (here / "runs").iterdir()
    small = ["-m", str(motion_file), "--env.num_envs", "2"]
    for words in (
        ["--mode", "eval", "-c", str(run_dir / "latest.pt"), *small],
        ["--mode", "play", "-c", str(run_dir / "latest.pt"), *small, "--viewer", "none", "--play.num_envs", "1"],
        ["--resume", str(run_dir), "--train.total_timesteps", "128"],
        [*run, "-c", str(run_dir / "latest.pt"), "--train.total_timesteps", "64"],
    ):
        reads.clear()
        assert main(words) == 0
        assert len(reads) == 1, words


def test_training_goes_on_from_the_weights_of_a_checkpoint(here, motion_file):
    run = [*TINY, "-m", str(motion_file), "--train.total_timesteps", "64", "--train.eval_interval", "0"]
    assert main([*run, "--train.data_dir", "first"]) == 0
    checkpoint = next((here / "first").glob("*/latest.pt"))
    frozen = ["--train.learning_rate", "1e-30", "--train.data_dir", "second"]
    assert main([*run, *frozen, "-c", str(checkpoint)]) == 0
    before = torch.load(checkpoint, weights_only=True)["policy"]
    after = torch.load(next((here / "second").glob("*/latest.pt")), weights_only=True)["policy"]
    assert torch.equal(before["mean_head.weight"], after["mean_head.weight"])


def bad_motion_files(tmp_path, motion_file):
    yield "missing file", tmp_path / "missing.npz", "missing.npz"
    truncated = tmp_path / "truncated.npz"
    truncated.write_bytes(motion_file.read_bytes()[:200])
    yield "truncated file", truncated, "truncated.npz"
    nan = rewritten(motion_file, tmp_path / "nan.npz", root_pos=lambda array: np.where(np.arange(len(array))[:, None] == 3, np.nan, array))
    yield "NaN in a clip", nan, "stand"
    skeleton = rewritten(motion_file, tmp_path / "skeleton.npz", local_quats=lambda array: array[:, :22])
    yield "another skeleton", skeleton, "22"
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    yield "a folder", folder, "folder.npz"


def one_error_line(capsys):
    captured = capsys.readouterr()
    assert captured.err.startswith("puffer-phc: ")
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


def test_bad_motion_files(here, tmp_path, motion_file, capsys):
    for case, path, named in bad_motion_files(tmp_path, motion_file):
        code = main([*TINY, "-m", str(path), "--train.data_dir", "runs"])
        assert code == USER_ERROR, case
        assert named in one_error_line(capsys), case
        assert not list(here.iterdir()), case


def test_paths_are_shown_as_they_are(here, motion_file, capsys):
    """Brackets are markup to the library that draws the terminal."""
    assert main([*TINY, "-m", str(motion_file), "--train.total_timesteps", "128", "--train.data_dir", "runs[red]", "--debug"]) == 0
    (checkpoint,) = (here / "runs[red]").glob("*/latest.pt")
    assert str(checkpoint) in capsys.readouterr().out


def test_log_lines_go_where_stderr_is_at_the_time(monkeypatch):
    """A live dashboard takes the place of ``sys.stderr`` after logging has been set up."""
    later = io.StringIO()
    logger = logging.Logger("a run")
    logger.addHandler(CurrentStderr())
    monkeypatch.setattr(sys, "stderr", later)
    logger.warning("%d of %d", 3, 4)
    assert later.getvalue() == "3 of 4\n"


def test_a_clip_of_one_frame(here, tmp_path, motion_file, capsys):
    with np.load(motion_file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    shortened = {name: value[:1] if value.shape[:1] == (20,) else value for name, value in arrays.items()}
    lengths = [name for name, value in shortened.items() if value.dtype.kind in "iu" and value.ravel()[:1].tolist() == [20]]
    assert lengths, "the file format states the number of frames"
    shortened.update({name: np.ones_like(shortened[name]) for name in lengths})
    path = tmp_path / "one.npz"
    np.savez(path, **shortened)
    assert main([*TINY, "-m", str(path), "--train.data_dir", "runs"]) == USER_ERROR
    assert "frame" in one_error_line(capsys)
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("argv", "fragments"),
    [
        (["--env.num_evns", "4"], ["--env.num_evns", "--env.num_envs"]),
        (["--env.num_envs", "0"], ["env.num_envs", "0"]),
        (["--env.num_envs", "100", "--train.batch_size", "1000"], ["1000", "100 × 8 = 800"]),
        (["-c", "nowhere.pt"], ["nowhere.pt"]),
        (["--mode", "play", "-c", "x.pt"], ["x.pt"]),
        (["--mode", "sweep", "--sweep.metric", "eval/mpjpe"], ["sweep.metric", "eval/mpjpe_all"]),
        (["--mode", "sweep", "--sweep.metric", "eval/mpjpe_all"], ["sweep.goal", "minimized"]),
        (["--mode", "sweep", "--sweep.method", "carbs-imbue"], ["carbs-imbue", "https://github.com/imbue-ai/carbs"]),
        (["--env.backend", "mujoco_warp", "--train.device", "cpu"], ["mujoco_warp", "CUDA", "mujoco_cpu"]),
        (["--env.backend", "isaac_gym", "--train.device", "cpu"], ["isaac_gym"]),
    ],
)
def test_bad_options(here, motion_file, capsys, argv, fragments):
    assert main(["-m", str(motion_file), "--train.data_dir", "runs", *argv]) == USER_ERROR
    line = one_error_line(capsys)
    for fragment in fragments:
        assert fragment in line
    assert not list(here.iterdir())


def checkpoint_of(path, observation_size, action_size, policy):
    config = Config(policy=PolicyConfig(layer_sizes=(16,), hidden_size=16))
    save_checkpoint(path, Checkpoint(dataclasses.asdict(config), policy, observation_size, action_size, None))
    return str(path)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_checkpoints_that_do_not_fit(here, tmp_path, motion_file, capsys, mode):
    other_size = checkpoint_of(tmp_path / "size.pt", 100, 5, {})
    other_layers = checkpoint_of(tmp_path / "layers.pt", 934, 57, {"weight": torch.zeros(3)})
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(b"PK\x03\x04 not a checkpoint")
    for path, fragments in ((other_size, ["100", "5", "934", "57"]), (other_layers, ["layers.pt"]), (str(damaged), ["damaged.pt"])):
        code = main([*TINY, "--mode", mode, "-m", str(motion_file), "-c", path, "--train.data_dir", "runs", "--output", "results"])
        assert code == USER_ERROR
        line = one_error_line(capsys)
        for fragment in fragments:
            assert fragment in line
        assert not list(here.iterdir())


@pytest.mark.parametrize("option", ["--train.data_dir", "--output"])
def test_an_unwritable_folder_is_found_before_the_work(here, tmp_path, motion_file, capsys, option):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    mode = ["--mode", "eval", "-c", str(tmp_path / "any.pt")] if option == "--output" else []
    if mode:
        checkpoint_of(tmp_path / "any.pt", 934, 57, {})
    assert main([*TINY, *mode, "-m", str(motion_file), option, str(in_the_way / "deeper")]) == USER_ERROR
    assert str(in_the_way) in one_error_line(capsys)
    assert not list(here.iterdir())


def test_debug_shows_where_an_error_came_from(here):
    with pytest.raises(Exception, match="nowhere"):
        main(["--debug", "-c", "nowhere.pt"])


def test_interrupting_leaves_a_checkpoint_and_says_how_to_go_on(here, motion_file):
    command = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), *TINY, "-m", str(motion_file), "--train.data_dir", "runs"]
    process = subprocess.Popen(
        [*command, "--train.eval_interval", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    try:
        wait_for_metrics(here / "runs", process)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == INTERRUPTED, errors
    assert "Traceback" not in errors
    checkpoint = next((here / "runs").glob("*/latest.pt"))
    assert f"go on: python {command[1]} --resume {checkpoint.parent}\n" in output
    assert f"evaluate: python {command[1]} --mode eval -c {checkpoint} -m {motion_file}\n" in output
    assert torch.load(checkpoint, weights_only=True)["trainer"]["global_step"] > 0


def environment():
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


@pytest.mark.skipif(sys.platform != "linux", reason="what MUJOCO_GL may say")
@pytest.mark.parametrize("backend", ["mujoco_cpu", "mujoco_warp"])
def test_a_setting_that_keeps_mujoco_from_training_is_one_line(here, backend):
    """It decides only what pictures are drawn with, but MuJoCo looks at it when it is imported."""
    code = f"""
import torch
from puffer_phc import build
from puffer_phc.command_line import run_main
from puffer_phc.config import EnvConfig
run_main(lambda: build.make_simulator(EnvConfig(backend="{backend}"), 1, torch.device("cpu")))
"""
    command, variables = [sys.executable, "-c", code], {**environment(), "MUJOCO_GL": "nonsense"}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"puffer-phc: backend '{backend}' needs MuJoCo, whose import fails: ")
    assert "MUJOCO_GL is 'nonsense': unset it" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="what MUJOCO_GL may say")
def test_a_setting_that_keeps_mujoco_from_drawing_is_one_line(here, motion_file):
    command = [sys.executable, str(REPOSITORY / "scripts" / "vis_motion_mj.py"), "-m", str(motion_file), "--video", "clip.gif"]
    done = subprocess.run(command, capture_output=True, text=True, env={**environment(), "MUJOCO_GL": "nonsense"}, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (USER_ERROR, 1)
    assert done.stderr.startswith("puffer-phc: drawing needs MuJoCo, whose import fails: ")
    assert "MUJOCO_GL is 'nonsense': unset it" in done.stderr
    assert not list(here.iterdir())


def wait_for_metrics(runs, process):
    for _ in range(600):
        logs = list(runs.glob("*/metrics.jsonl"))
        if logs and logs[0].stat().st_size:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("no iteration within a minute")


def test_the_script_works_from_any_folder(here):
    command = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), "--mode", "eval", "-c", "nowhere.pt"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == USER_ERROR
    assert done.stderr.count("\n") == 1
    assert not list(here.iterdir())


def test_sigterm_saves_and_a_resumed_run_goes_on_in_its_folder(here, motion_file, capsys):
    command = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), *TINY, "-m", str(motion_file), "--train.data_dir", "runs"]
    endless = [*command, "--train.eval_interval", "0", "--train.total_timesteps", "1000000"]
    process = subprocess.Popen(endless, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        wait_for_metrics(here / "runs", process)
        run = next((here / "runs").iterdir())
        assert main(["--resume", str(run)]) == USER_ERROR
        assert f"another process trains in '{run}'" in capsys.readouterr().err
        process.terminate()
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == TERMINATED, errors
    steps = load_checkpoint(run / "latest.pt").trainer["global_step"]
    assert main(["--resume", str(run), "--train.total_timesteps", str(steps + 100)]) == 0
    assert f"going on after {steps:,} steps" in capsys.readouterr().out
    assert load_checkpoint(run / "latest.pt").trainer["global_step"] > steps
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for name in SPENT:
        times = [line[name] for line in lines if name in line]
        assert times[0] > 0.0 and times == sorted(times), "a run's times go on, too"
    assert len(list((here / "runs").iterdir())) == 1


def test_resuming_what_is_no_run_is_one_line(here, motion_file, capsys):
    save_motion_file(here / "two.npz", [*load_motion_file(motion_file), load_motion_file(motion_file)[0]._replace(name="again")])
    short = ["--train.total_timesteps", "128", "--train.eval_interval", "0"]
    assert main([*TINY, "-m", str(motion_file), "--train.data_dir", "runs", *short]) == 0
    run = next((here / "runs").iterdir())
    with (run / "metrics.jsonl").open("a") as log:
        log.write(json.dumps({"step": 192}) + "\n")
    (run / f"latest.pt.killed{PART_SUFFIX}").write_text("half a checkpoint")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    capsys.readouterr()
    assert main(["--resume", "nowhere"]) == USER_ERROR
    assert main(["--resume", str(run), "-m", "two.npz"]) == USER_ERROR
    after = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert after == before, "what is refused changes nothing"
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert "does not exist" in lines[0] and "does not fit these options or motions" in lines[1]

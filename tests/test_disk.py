"""No room, no folder, no right to write, nobody who reads: training goes on, or stops with one line, and the last checkpoint is whole."""

import errno
import json
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from faulty import Recorder, make_trainer
from synthetic_motion import swaying_clip

from puffer_phc.commands import train
from puffer_phc.commands.session import Session
from puffer_phc.errors import CheckpointError, ConfigError
from puffer_phc.files import LineFile, log_for_others, whole_file
from puffer_phc.learn.checkpoint import load_checkpoint
from puffer_phc.learn.distributed import World
from puffer_phc.learn.run_folder import load_newest
from puffer_phc.motion.file import save_motion_file
from puffer_phc.options import parse_options
from puffer_phc.report.dashboard import Progress
from puffer_phc.report.metrics_log import MetricsLog
from puffer_phc.report.several import Several
from puffer_phc.resolve import resolve

pytest.importorskip("mujoco", reason="training needs the MuJoCo backend")

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = "--env.num_envs 4 --train.batch_size 64 --policy.layer_sizes 16 --policy.hidden_size 16 --env.backend mujoco_cpu"
TINY += " --train.eval_interval 0 --train.checkpoint_interval 2"
LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
from puffer_phc.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The program in a process that can make no file larger than ``size`` bytes: writing ends in the middle, as on a full disk."""


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_at_a_checkpoint_is_said_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path, 9, checkpoint_interval=2)
    iterate = trainer.iterate

    def iterate_and_change() -> None:
        iterate()
        if trainer.iteration == 4:
            monkeypatch.setattr("os.fsync", full)
        if trainer.iteration == 5:
            assert load_newest(tmp_path / "run")[1].trainer["iteration"] == 2
            monkeypatch.undo()

    trainer.iterate = iterate_and_change
    assert trainer.fit()
    assert len(trainer.reporter.messages) == 1
    assert "No space left on device; training goes on" in trainer.reporter.messages[0]
    assert load_checkpoint(tmp_path / "run" / "latest.pt").trainer["iteration"] == 8
    assert not list((tmp_path / "run").glob("*.part"))


def test_a_full_disk_at_the_end_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_trainer(tmp_path, 3).fit()
    trainer = make_trainer(tmp_path, 3)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        trainer.fit()
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "run" / "latest.pt").trainer["iteration"] == 2


def short_run(folder: Path) -> List[str]:
    """The command line of a tiny training on a motion file in ``folder``, its runs beside that."""
    save_motion_file(folder / "motion.npz", [swaying_clip(40)])
    words = ["-m", str(folder / "motion.npz"), "--train.data_dir", str(folder / "runs"), "--train.total_timesteps", "320"]
    return [*TINY.split(), *words]


def run(words: List[str], size: int, output: Any = subprocess.PIPE) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LIMITED.format(size=size), *words]
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, env=environment, check=False, timeout=300)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file sizes")
def test_a_checkpoint_that_finds_no_room_half_way_leaves_the_old_one_whole(tmp_path: Path) -> None:
    """A real write that fails in the middle, in torch's own writer; the same command with room goes on from the checkpoint before."""
    words = short_run(tmp_path)
    assert run(words, size=10**9).returncode == 0
    (folder,) = (tmp_path / "runs").iterdir()
    before = load_checkpoint(folder / "latest.pt").trainer["global_step"]
    size = (folder / "latest.pt").stat().st_size
    more = ["--resume", str(folder), "--train.total_timesteps", "1000"]
    stopped = run(more, size=size // 2)
    assert stopped.returncode == 2, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert stopped.stderr.splitlines()[-1].startswith("puffer-phc: checkpoint") and "File too large" in stopped.stderr
    assert "training goes on" in stopped.stdout
    assert load_checkpoint(folder / "latest.pt").trainer["global_step"] == before
    assert not list(folder.glob("*.part"))
    assert run(more, size=10**9).returncode == 0
    assert load_checkpoint(folder / "latest.pt").trainer["global_step"] >= 1000
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] >= 1000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_output_that_finds_no_room_does_not_stop_training(tmp_path: Path) -> None:
    words = short_run(tmp_path)
    with Path("/dev/full").open("w") as nowhere:
        done = run(words, size=10**9, output=nowhere)
    assert done.returncode == 0, done.stderr
    assert "training goes on without it" in done.stderr and "Traceback" not in done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert load_checkpoint(folder / "latest.pt").trainer["global_step"] >= 320


def run_unread(words: List[str]) -> "subprocess.CompletedProcess[str]":
    """The program with a standard output that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return run(words, size=10**9, output=writer)
    finally:
        os.close(writer)


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_reader_who_is_gone_does_not_stop_training(tmp_path: Path) -> None:
    """As in ``train.py | head``; rich would end the program with the first line that nobody reads, before there is a checkpoint."""
    done = run_unread(short_run(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("training goes on without it") == 1 and "Traceback" not in done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert load_checkpoint(folder / "latest.pt").trainer["global_step"] >= 320
    words = ["--mode", "eval", "-c", str(folder / "latest.pt"), "-m", str(tmp_path / "motion.npz"), "--output", str(tmp_path / "results")]
    done = run_unread(words)
    assert done.returncode == 0, done.stderr
    assert sorted(path.suffix for path in (tmp_path / "results").iterdir()) == [".html", ".json", ".tsv"]
    done = run_unread(["--mode", "play", "--viewer", "none", *words[2:]])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_deleted_run_folder_comes_back_with_the_next_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 7, checkpoint_interval=2)
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl") if (tmp_path / "run").mkdir() is None else None
    recorder = Recorder()
    trainer.reporter = Several([log, recorder], Progress(1))
    iterate = trainer.iterate

    def iterate_and_delete() -> None:
        iterate()
        if trainer.iteration == 3:
            shutil.rmtree(tmp_path / "run")

    trainer.iterate = iterate_and_delete
    assert trainer.fit()
    assert load_checkpoint(tmp_path / "run" / "latest.pt").trainer["iteration"] == 6
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
    assert recorder.messages == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_turns_read_only_is_said_and_training_goes_on(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 7, checkpoint_interval=2)
    trainer.save()
    (tmp_path / "run").chmod(stat.S_IREAD | stat.S_IEXEC)
    trainer.iteration = 1
    trainer.try_to_save()
    (tmp_path / "run").chmod(stat.S_IRWXU)
    assert "Permission denied; training goes on" in trainer.reporter.messages[0]
    assert load_checkpoint(tmp_path / "run" / "latest.pt").trainer["iteration"] == 0


def test_a_line_that_does_not_fit_is_taken_back_and_later_ones_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.on_iteration(1, {"loss": 1.0})
    write = os.write
    monkeypatch.setattr("os.write", lambda descriptor, content: write(descriptor, content[:5]))
    log.on_iteration(2, {"loss": 2.0})
    log.on_iteration(3, {"loss": 3.0})
    monkeypatch.undo()
    log.on_iteration(4, {"loss": 4.0})
    log.close()
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 4]


def test_a_log_without_room_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    monkeypatch.setattr("os.write", full)
    for step in range(5):
        log.on_iteration(step, {})
    monkeypatch.undo()
    assert caplog.text.count("No space left on device") == 1
    log.on_iteration(5, {})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 5}


def test_a_resumed_log_has_no_lines_of_what_comes_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (10, 20, 30, 40)) + '{"step": 5')
    MetricsLog(path, first_step=20).on_iteration(30, {"again": 1.0})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 10}, {"step": 20}, {"step": 30, "again": 1.0}]


class Broken:
    """A listener whose disk is full."""

    def __init__(self) -> None:
        self.calls = 0

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        self.calls += 1
        full()

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        full()

    def message(self, text: str) -> None:
        full()

    def close(self) -> None:
        full()


def test_a_listener_that_cannot_write_stops_neither_the_others_nor_the_run(caplog: pytest.LogCaptureFixture) -> None:
    broken, other = Broken(), Recorder()
    several = Several([broken, other], Progress(10))
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            several.on_iteration(step, {})
        several.message("a line")
        several.close()
    assert broken.calls == 3 and list(other.iterations) == [0, 1, 2] and other.messages == ["a line"]
    assert caplog.text.count("Broken can't write") == 1


def test_links_in_output_folders_are_not_followed(tmp_path: Path) -> None:
    """Somebody who may write to a shared folder could otherwise have the program write to any file of its user."""
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    link = tmp_path / "metrics.jsonl"
    link.symlink_to(outside)
    with pytest.raises(OSError, match="symbolic"):
        LineFile(link)
    with pytest.raises(ConfigError, match=r"metrics\.jsonl"):
        MetricsLog(link)
    with pytest.raises(OSError, match="symbolic"):
        log_for_others(link)
    with whole_file(link) as temporary:
        temporary.write_text("ours")
    assert not link.is_symlink() and link.read_text() == "ours"
    assert outside.read_text() == "precious"
    with whole_file(tmp_path / "new.txt") as temporary:
        (tmp_path / temporary.name).unlink()
        (tmp_path / temporary.name).symlink_to(outside)
        assert temporary.parent == tmp_path
    assert outside.read_text() == "precious"


def test_lines_wait_for_the_first_who_listens() -> None:
    reporter, early, late = Several([], Progress(1)), Recorder(), Recorder()
    reporter.message("before anybody listens")
    reporter.join([early])
    reporter.join([late])
    reporter.message("to all")
    assert (early.messages, late.messages) == (["before anybody listens", "to all"], ["to all"])


@pytest.mark.parametrize("name", ["metrics.jsonl", "watch.log"])
def test_a_refused_folder_gets_no_files_of_trackers_and_the_screen_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip("tensorboard")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / name).symlink_to(tmp_path / "outside.txt")
    monkeypatch.setattr(train, "terminal_reporter", lambda *_: pytest.fail("the screen is taken"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    arguments = parse_options(["--tensorboard", "--train.watch", "True"])
    session = Session(resolve(arguments.sections(), torch.device("cpu")), torch.device("cpu"), World(), None)
    trainer = make_trainer(tmp_path, 1)
    with pytest.raises((ConfigError, OSError), match=name):
        train.make_listeners(arguments, session, trainer.policy, run_dir, Progress(10))
    assert {path.name for path in run_dir.iterdir()} <= {"metrics.jsonl", "watch.log"}
    assert not list(tmp_path.glob("puffer_phc_watch_*"))

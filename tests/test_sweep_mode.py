"""The sweep mode: what trainings are started with, one small sweep of real trainings, and its page."""

import os
import re
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path

import pytest
import torch
from sweeping import lines
from synthetic_motion import swaying_clip

from puffer_phc.command_line import INTERRUPTED, USER_ERROR
from puffer_phc.commands.sweep import NOT_SWEPT, _Listener, definition, make_search, option_kind, read_space, worker_devices
from puffer_phc.commands.training_launcher import TrainingLauncher
from puffer_phc.config import Config, SweepConfig
from puffer_phc.errors import ConfigError
from puffer_phc.main import main
from puffer_phc.motion.file import save_motion_file
from puffer_phc.option_words import SWEPT_SECTIONS, option_types
from puffer_phc.options import dotted, parse_options
from puffer_phc.sweep.journal import Journal
from puffer_phc.sweep.scores import Point
from puffer_phc.sweep.space import Choice, Numeric, Space

REPOSITORY = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
SPACE = Space([Numeric("train.learning_rate", "log_uniform_values", 1e-4, 1e-2)])
TINY = """
[env]
num_envs = 4
backend = mujoco_cpu
[train]
batch_size = 64
data_dir = runs
[policy]
layer_sizes = 16
hidden_size = 16
[sweep]
runs = 1
evaluations = 2
[sweep.train.total_timesteps]
distribution = log_uniform_values
min = 256
max = 512
[sweep.train.learning_rate]
distribution = log_uniform_values
min = 1e-4
max = 1e-2
"""


def described(tmp_path, text=TINY, *argv):
    path = tmp_path / "sweep.ini"
    path.write_text(text, encoding="utf-8")
    return parse_options(["--config", str(path), *argv])


def test_a_training_gets_exactly_the_options_of_the_sweep(tmp_path):
    arguments = described(tmp_path, TINY, "--train.gamma", "0.9", "--policy.layer_sizes", "32", "16")
    params = {"train.learning_rate": 3e-4, "train.total_timesteps": 512}
    command = TrainingLauncher(arguments, tmp_path, CPU).command(params, tmp_path / "runs" / "0000")
    assert command[:3] == [sys.executable, "-m", "puffer_phc.start"]
    trained = parse_options(command[3:])
    expected = {**dotted(arguments.sections()), **params, "train.data_dir": str(tmp_path / "runs" / "0000"), "train.device": "cpu"}
    expected.update({"train.eval_interval": 4, "train.watch": False})
    given = dotted(trained.sections())
    assert {name: value for name, value in given.items() if not name.startswith("sweep.") and value != expected[name]} == {}


def test_two_sweeps_do_not_share_a_folder(tmp_path, capsys):
    path, folder = tmp_path / "sweep.ini", tmp_path / "runs" / SweepConfig().name
    folder.mkdir(parents=True)
    path.write_text(TINY, encoding="utf-8")
    save_motion_file(tmp_path / "motion.npz", [swaying_clip(40)])
    code = "import sys; from pathlib import Path; from puffer_phc.files import FolderLock; lock = FolderLock(Path(sys.argv[1]), '')"
    code += "; print(flush=True); sys.stdin.read()"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as other:
        other.stdout.readline()
        words = ["--mode", "sweep", "--config", str(path), "-m", str(tmp_path / "motion.npz"), "--train.data_dir", str(tmp_path / "runs")]
        assert main(words) == USER_ERROR
    assert f"another process works on the sweep in '{folder}'; choose another --sweep.name" in capsys.readouterr().err


def test_the_projects_own_file_may_change_while_a_sweep_goes_on(tmp_path):
    command = TrainingLauncher(described(tmp_path), tmp_path, CPU).command({}, tmp_path / "run")
    named = Path(command[command.index("--config") + 1])
    assert named.parent == tmp_path and "=" not in named.read_text()


def test_evaluations_are_spread_evenly(tmp_path):
    launcher = TrainingLauncher(described(tmp_path), tmp_path, CPU)

    def eval_interval(name, value):
        words = launcher.command({name: value}, tmp_path / "run")
        return words[words.index("--train.eval_interval") + 1] if "--train.eval_interval" in words else None

    assert eval_interval("train.total_timesteps", 640) == "5"
    assert eval_interval("train.total_timesteps", 320) == "2", "after two and four iterations: the first of five batches is looked at only"
    assert eval_interval("train.total_timesteps", 100) == "1"
    assert launcher.total_steps({"train.total_timesteps": 640}) == 640
    assert eval_interval("train.minibatch_size", 7) is None, "sizes that do not divide: the training will say so"


def test_every_worker_gets_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert worker_devices(Config(), torch.device("cuda"), None) == ["0", "1", "2"]
    assert worker_devices(Config(), torch.device("cuda"), 5) == ["0", "1", "2", "0", "1"]
    assert worker_devices(Config(), torch.device("cuda", 2), None) == ["2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert worker_devices(Config(), torch.device("cuda"), None) == ["4", "6"]
    assert worker_devices(Config(), CPU, None) == [None]


def test_a_worker_sees_its_gpu_alone(tmp_path):
    launcher = TrainingLauncher(described(tmp_path), tmp_path, torch.device("cuda"))
    assert launcher.environment("2")["CUDA_VISIBLE_DEVICES"] == "2"
    assert str(REPOSITORY) in launcher.environment("2")["PYTHONPATH"].split(os.pathsep)
    assert "cuda" in launcher.command({}, tmp_path)


def test_every_method_makes_suggestions_within_the_ranges():
    for method in ("carbs", "random"):
        search = make_search(SPACE, SweepConfig(method=method, seed=4), 0)
        assert 1e-4 <= search.suggest()["train.learning_rate"] <= 1e-2


def test_a_real_training_with_the_sweep_killed_in_between(tmp_path):
    pytest.importorskip("mujoco", reason="training needs the MuJoCo backend")
    save_motion_file(tmp_path / "motion.npz", [swaying_clip(20)])
    (tmp_path / "sweep.ini").write_text(TINY, encoding="utf-8")
    words = ["--mode", "sweep", "--config", str(tmp_path / "sweep.ini"), "-m", str(tmp_path / "motion.npz")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), *words]
    folder = tmp_path / "runs" / "sweep"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=tmp_path) as process:
        wait_for(lambda: (folder / "sweep.jsonl").exists() and any(line["event"] == "started" for line in lines(folder)), process)
        process.send_signal(signal.SIGKILL)
    assert main(words) == 0
    events = [line["event"] for line in lines(folder)]
    assert events.count("suggested") == events.count("ended") == 1
    (params,) = [line["params"] for line in lines(folder) if line["event"] == "suggested"]
    steps = [line["point"][0] for line in lines(folder) if line["event"] == "observed"]
    assert steps == sorted(set(steps)) and len(steps) == 2
    assert params["train.total_timesteps"] <= steps[-1] < params["train.total_timesteps"] + 64
    assert "network 16 16" in (folder / "runs" / "0000" / "log.txt").read_text(encoding="utf-8")
    assert "eval/survival_strict" in (folder / "sweep.html").read_text(encoding="utf-8")


def test_what_would_fail_every_run_is_refused_before_the_first(tmp_path, capsys):
    save_motion_file(tmp_path / "here.npz", [swaying_clip(20)])
    both = "[sweep.env.motion_file]\ndistribution = values\nvalues = here.npz | not here.npz\n"
    for text, words in ((TINY, ["-m", str(tmp_path / "none.npz")]), (TINY + both, [])):
        (tmp_path / "sweep.ini").write_text(text, encoding="utf-8")
        assert main(["--mode", "sweep", "--config", str(tmp_path / "sweep.ini"), *words]) == 2
        missing = words[1] if words else str(tmp_path / "not here.npz")
        assert f"motion file '{missing}' does not exist" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_value_for_what_is_swept_is_said_not_to_be_used(tmp_path, caplog):
    read_space(described(tmp_path, TINY, "--train.gamma", "0.9"))
    assert not caplog.records
    read_space(described(tmp_path, TINY, "--train.total-timesteps", "300"))
    (record,) = caplog.records
    expected = f"--train.total_timesteps is not used: {tmp_path / 'sweep.ini'} sweeps it"
    assert record.getMessage() == f"{expected}; take out its section [sweep.train.total_timesteps] to set it"


def test_a_sweep_without_a_score_shows_no_table_of_nothing(tmp_path, capsys):
    journal = Journal(tmp_path, {})
    _Listener(journal, SPACE, SweepConfig(name="mine"), tmp_path, None).finish()
    assert capsys.readouterr().out.splitlines()[0] == "mine: front of 0 runs with a score, 0 failed"


def test_the_page_is_written_anew_where_something_is_new_and_not_all_the_time(tmp_path, monkeypatch):
    journal, page = Journal(tmp_path, {}), tmp_path / "sweep.html"
    listener = _Listener(journal, SPACE, SweepConfig(), tmp_path, None)
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)

    def is_written():
        page.unlink(missing_ok=True)
        listener.refresh()
        return page.exists()

    assert not is_written(), "nothing has happened"
    run = journal.suggested({"train.learning_rate": 1e-3})
    assert is_written()
    journal.observed(run, Point(100, 0.5, 1.0))
    assert not is_written(), "it is only seconds old"
    now += 25.0
    assert is_written() and "0.5000" in page.read_text(encoding="utf-8")
    now += 25.0
    assert not is_written(), "nothing is new"


def test_swept_paths_count_from_the_ini_file(tmp_path):
    both = "[sweep.env.motion_file]\ndistribution = values\nvalues = a.npz | /b b.npz\ncentre = a.npz\n"
    *_, files = read_space(described(tmp_path, TINY + both)).parameters
    assert files == Choice("env.motion_file", (str(tmp_path / "a.npz"), "/b b.npz"), str(tmp_path / "a.npz"))


def test_what_the_documentation_says_about_ranges_can_be_used(tmp_path):
    blocks = re.findall(r"```ini\n(.*?)```", (REPOSITORY / "docs" / "sweep.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        arguments = described(tmp_path, block)
        names = [parameter.name for parameter in read_space(arguments).parameters]
        assert names == re.findall(r"\[sweep\.([\w.]+)\]", block)
    assert arguments.sweep.evaluations == 3


def test_every_option_can_be_swept_and_reaches_the_training(tmp_path):
    values, refused = dotted(Config()), []
    for name, hint in option_types().items():
        if name.partition(".")[0] not in SWEPT_SECTIONS:
            continue
        try:
            *_, parameter = read_space(described(tmp_path, f"[sweep.{name}]\n{some_range(option_kind(hint), values[name])}\n")).parameters
        except ConfigError as error:
            assert "belongs to the sweep itself" in str(error)
            refused.append(name)
            continue
        for value in parameter.ends():
            command = TrainingLauncher(described(tmp_path), tmp_path, CPU).command({name: value}, tmp_path)
            assert dotted(parse_options(command[3:]).sections())[name] == value
    assert sorted(refused) == sorted(NOT_SWEPT)


def some_range(kind, value):
    """What a section about an option of this type may say."""
    if kind is float:
        low, high = sorted(((value or 0.5) / 2, value or 0.5))
        return f"distribution = uniform\nmin = {low}\nmax = {high}"
    if kind is int:
        return f"distribution = int_uniform\nmin = {value or 8}\nmax = {2 * (value or 8)}"
    several = {bool: "True | False", str: f"{value} | other"}
    words = " | ".join(typing.get_args(kind)) if typing.get_origin(kind) is typing.Literal else several.get(kind, "64 | 64 32")
    return f"distribution = values\nvalues = {words}"


def test_a_sweep_goes_on_with_the_options_that_it_began_with(tmp_path):
    def definition_of(*argv):
        arguments = described(tmp_path, TINY, *argv)
        return definition(read_space(arguments), arguments.sweep, TrainingLauncher(arguments, tmp_path, CPU).common())

    Journal(tmp_path, definition_of()).close()
    Journal(tmp_path, definition_of("--sweep.runs", "9", "--train.device", "cpu", "--train.learning_rate", "1e-3")).close()
    with pytest.raises(ConfigError, match=r"another env\.kp_scale, train\.gamma; choose another --sweep\.name"):
        Journal(tmp_path, definition_of("--train.gamma", "0.9", "--env.kp_scale", "2"))


def wait_for(condition, process):
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    raise AssertionError("nothing within a minute")


def test_ctrl_c_is_the_shells_code():
    assert 128 + signal.SIGINT == INTERRUPTED

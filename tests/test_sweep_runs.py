"""Runs of a sweep as processes: what they report, how they end, and kill -9 of any of them."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from sweeping import STEPS, FakeLauncher, lines, make_sweep, rules

from puffer_phc.errors import ConfigError
from puffer_phc.files import FolderLock
from puffer_phc.sweep import runs
from puffer_phc.sweep.journal import FAILED, FINISHED, JOURNAL, STOPPED, TIMED_OUT, Journal, Run
from puffer_phc.sweep.processes import born, end_orphans, is_running
from puffer_phc.sweep.results import STEPS as STEPS_OPTION
from puffer_phc.sweep.results import is_bad, observations_of
from puffer_phc.sweep.scores import MetricsReader, Point

TESTS = Path(__file__).resolve().parent
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="the killed processes are forked")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(runs, "PAUSE_SECONDS", 0.01)


class Told:
    """A search that suggests from a list and remembers what it was told."""

    def __init__(self, *scores):
        self._scores = iter(scores)
        self.results = []
        self.outstanding = []

    def suggest(self, outstanding=()):
        self.outstanding.append(len(outstanding))
        return {"score": next(self._scores)}

    def observe(self, params, score, cost, failed=False):
        self.results.append((params["score"], score, cost, failed))


def test_every_run_is_a_process_with_its_folder_and_log(tmp_path):
    search = Told(0.5, 0.25, 0.75)
    sweep, journal = make_sweep(tmp_path / "s", rules(), search=search, devices=("0", "1"))
    assert sweep.run()
    assert [run.outcome for run in journal.runs] == [FINISHED] * 3
    assert sorted(search.results) == [(score, STEPS * score, float(STEPS), False) for score in (0.25, 0.5, 0.75)]
    assert search.outstanding[:2] == [0, 1]
    assert {path.name for path in (tmp_path / "s" / "runs").iterdir()} == {"0000", "0001", "0002"}
    assert all((tmp_path / "s" / "runs" / name / "log.txt").exists() for name in ("0000", "0001", "0002"))


def test_a_finished_sweep_does_nothing_again_and_a_longer_one_goes_on(tmp_path):
    make_sweep(tmp_path, rules(num_runs=2))[0].run()
    before = (tmp_path / JOURNAL).read_text()
    search = Told(0.5)
    assert make_sweep(tmp_path, rules(num_runs=2), search=search)[0].run()
    assert (tmp_path / JOURNAL).read_text() == before
    assert len(search.results) == 2
    longer, journal = make_sweep(tmp_path, rules(num_runs=3), search=Told(0.5))
    assert longer.run()
    assert [run.outcome for run in journal.runs] == [FINISHED] * 3


def test_options_that_do_not_fit_are_a_failure_with_its_reason(tmp_path):
    search = Told(0.5)
    _, journal = done = make_sweep(tmp_path, rules(num_runs=1), FakeLauncher(trouble="fail"), search=search)
    assert done[0].run()
    assert journal.runs[0].outcome == FAILED
    assert journal.runs[0].reason == "exit code 1: the options do not fit"
    assert [result[3] for result in search.results] == [True]


def test_a_run_without_a_finite_score_is_a_failure(tmp_path):
    sweep, journal = make_sweep(tmp_path, rules(num_runs=1), FakeLauncher(trouble="nan"), search=Told(0.5))
    assert sweep.run()
    assert journal.runs[0].outcome == FAILED and "eval/score" in journal.runs[0].reason


def test_a_run_beyond_its_time_ends_and_keeps_what_it_has(tmp_path):
    search = Told(0.5)
    sweep, journal = make_sweep(tmp_path, rules(num_runs=1, time_limit=0.6), FakeLauncher(pause=0.2, steps=1000), search=search)
    assert sweep.run()
    (run,) = journal.runs
    assert run.outcome == TIMED_OUT
    assert 1 <= len(run.points) < 1000
    ((_, score, cost, failed),) = search.results
    assert not failed
    assert score == 0.5 * run.points[-1].step
    assert cost == pytest.approx(1000.0), "what the whole run would have cost"


def test_what_does_not_end_when_asked_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("puffer_phc.sweep.processes._GRACE_SECONDS", 0.2)
    sweep, journal = make_sweep(tmp_path, rules(num_runs=1, time_limit=0.3), FakeLauncher(pause=0.05, steps=1000, trouble="hang"))
    started = time.monotonic()
    assert sweep.run()
    assert time.monotonic() - started < 10.0
    assert journal.runs[0].outcome == TIMED_OUT
    assert not is_running(journal.runs[0].process)


def test_bad_runs_are_stopped_and_good_ones_are_not(tmp_path):
    scores = (0.8, 0.6, 0.7, 0.9, 0.1, 0.95)
    launcher = FakeLauncher(pause=0.08)
    sweep, journal = make_sweep(tmp_path, rules(num_runs=6, stop_share=0.25), launcher, search=Told(*scores))
    assert sweep.run()
    assert [run.outcome for run in journal.runs] == [FINISHED] * 4 + [STOPPED, FINISHED]
    assert len(journal.runs[4].points) < STEPS


@POSIX
def test_kill_9_of_sweep_and_workers_loses_nothing_and_counts_nothing_twice(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "sweeping.py"), str(tmp_path / "s"), "6", "3"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["sweep"] >= 2 and outcome["worker"] >= 2, outcome
    assert outcome["status"] == outcome["orphans"] == 0, done.stderr
    events = Counter((line["event"], line["run"]) for line in lines(tmp_path / "s")[1:])
    for number in range(6):
        assert events["suggested", number] == events["ended", number] == 1
        assert events["observed", number] == STEPS
        folders = list((tmp_path / "s" / "runs" / f"{number:04d}").glob("attempt_*"))
        assert any((folder / "saved").read_text() == str(STEPS) for folder in folders if (folder / "saved").exists())
    assert not any(event == "suggested" and number >= 6 for event, number in events)
    journal = Journal(tmp_path / "s", {"metric": "eval/score"})
    for run in journal.runs:
        assert [point.value for point in run.points] == [run.params["score"] * step for step in range(1, STEPS + 1)]
        assert run.outcome == FINISHED


@POSIX
def test_a_training_that_the_sweep_could_not_write_down_does_nothing(tmp_path):
    class Marks(FakeLauncher):
        def command(self, params, folder):
            return ["touch", str(tmp_path / "began")]

    def begin(before_it_is_written):
        (tmp_path / "s").mkdir(exist_ok=True)
        process = os.fork()
        if process == 0:
            sweep, journal = make_sweep(tmp_path / "s", rules(num_runs=1, retries=0), Marks(), search=Told(0.5))
            started = journal.started
            journal.started = lambda run, process: (before_it_is_written(), started(run, process))
            sweep.run()
            os._exit(0)
        return os.waitpid(process, 0)[1]

    assert begin(lambda: os.kill(os.getpid(), 9)) == 9
    time.sleep(0.5)
    assert [line["event"] for line in lines(tmp_path / "s")] == ["begun", "suggested"]
    assert not (tmp_path / "began").exists()
    assert begin(lambda: None) == 0
    assert (tmp_path / "began").exists()


@POSIX
def test_a_folder_is_free_when_its_sweep_is_killed_while_it_starts_a_training(tmp_path):
    """Between fork and exec a training is a copy of the sweep, with all its open files."""
    told, tell = os.pipe()
    sweep = os.fork()
    if sweep == 0:
        _lock, training = FolderLock(tmp_path, "taken"), os.fork()
        if training:
            os.write(tell, str(training).encode())
        while True:
            time.sleep(60.0)
    training = int(os.read(told, 20))
    try:
        os.kill(sweep, signal.SIGKILL)
        os.waitpid(sweep, 0)
        FolderLock(tmp_path, "taken").release()
    finally:
        os.kill(training, signal.SIGKILL)


@POSIX
def test_a_run_that_is_killed_again_and_again_is_a_failure(tmp_path):
    class Suicidal(FakeLauncher):
        def command(self, params, folder):
            return [sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)"]

    sweep, journal = make_sweep(tmp_path, rules(num_runs=1, retries=2), Suicidal(), search=Told(0.5))
    assert sweep.run()
    assert journal.runs[0].outcome == FAILED and "signal 9" in journal.runs[0].reason
    assert journal.runs[0].attempts == 3


def test_stopping_leaves_runs_to_go_on_with(tmp_path):
    sweep, journal = make_sweep(tmp_path, rules(num_runs=1), FakeLauncher(pause=0.05, steps=60))

    def stop_on_the_way():
        while not (journal.runs and journal.runs[0].points):
            time.sleep(0.01)
        sweep.stop()

    somebody = threading.Thread(target=stop_on_the_way, daemon=True)
    somebody.start()
    assert not sweep.run()
    assert journal.runs[0].outcome is None
    reached = journal.runs[0].points[-1].step
    again, journal = make_sweep(tmp_path, rules(num_runs=1), FakeLauncher(pause=0.0, steps=60))
    assert again.run()
    (run,) = journal.runs
    assert [point.step for point in run.points] == list(range(1, 61)) and reached < 60
    assert [point.seconds for point in run.points] == [float(step) for step in range(1, 61)], "seconds go on, too"
    assert run.attempts == 2


@POSIX
def test_being_stopped_with_the_sweep_is_no_retry(tmp_path):
    def go_on(interrupt):
        sweep, journal = make_sweep(tmp_path, rules(num_runs=1, retries=1), FakeLauncher(pause=0.05, steps=40))

        def interfere():
            before = len(journal.runs[0].points) if journal.runs else 0
            while not (journal.runs and len(journal.runs[0].points) > before):
                time.sleep(0.01)
            interrupt(sweep, journal.runs[0])

        threading.Thread(target=interfere, daemon=True).start()
        return sweep.run(), journal.runs[0]

    for _ in range(3):
        assert go_on(lambda sweep, _: sweep.stop())[1].outcome is None
    done, run = go_on(lambda _, run: os.kill(run.process["id"], signal.SIGKILL))
    assert done and (run.outcome, run.losses, run.attempts) == (FINISHED, 1, 5)


WAITING = """
import signal, sys, time
from pathlib import Path
own, other = map(Path, sys.argv[1:])
def end(*_):
    own.touch()
    while not other.exists():
        time.sleep(0.01)
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600.0)
"""


@POSIX
def test_trainings_of_a_sweep_that_is_gone_are_ended_all_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("puffer_phc.sweep.processes._GRACE_SECONDS", 30.0)
    names = (str(tmp_path / "a"), str(tmp_path / "b"))
    commands = [[sys.executable, "-S", "-c", WAITING, *words] for words in (names, names[::-1])]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) for command in commands]
    try:
        assert [process.stdout.readline() for process in started] == [b"ready\n"] * 2
        identities = [{"id": process.pid, "born": born(process.pid)} for process in started]
        assert end_orphans([None, *identities]) == [False, True, True]
        assert [process.wait() for process in started] == [143, 143], "neither had to be killed"
    finally:
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()
    assert end_orphans(identities) == [False, False]


def test_the_same_failure_of_all_runs_ends_a_sweep(tmp_path):
    scores = [0.1 * n for n in range(9)]
    sweep, journal = make_sweep(tmp_path, rules(num_runs=9), FakeLauncher(trouble="fail"), search=Told(*scores), devices=("a", "b"))
    with pytest.raises(ConfigError, match=r"all [56] runs failed with exit code 1: the options do not fit; .*--sweep\.name"):
        sweep.run()
    assert 5 <= len(journal.runs) <= 6
    journal.close()
    with pytest.raises(ConfigError, match=r"all [56] runs failed"):
        make_sweep(tmp_path, rules(num_runs=9), search=Told(*scores))[0].run()


def test_another_definition_in_the_same_folder_is_refused_by_name(tmp_path):
    Journal(tmp_path, {"metric": "a", "train.gamma": [0, 1]}).close()
    Journal(tmp_path, {"metric": "a", "train.gamma": [0, 1]}).close()
    with pytest.raises(ConfigError, match=r"train\.gamma.*--sweep\.name"):
        Journal(tmp_path, {"metric": "a", "train.gamma": [0, 2]})


def test_a_torn_last_line_is_cut_off(tmp_path):
    journal = Journal(tmp_path, {})
    journal.observed(journal.suggested({"score": 0.5, "sizes": (1, 2)}), Point(1, 2.0, 3.0))
    journal.close()
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + b'{"event": "ended", "ru')
    again = Journal(tmp_path, {})
    assert again.runs == [Run(0, {"score": 0.5, "sizes": (1, 2)}, [Point(1, 2.0, 3.0)])]
    assert (tmp_path / JOURNAL).read_bytes() == whole
    again.ended(again.runs[0], FINISHED)
    again.close()
    assert Journal(tmp_path, {}).runs[0].outcome == FINISHED


def test_a_damaged_journal_is_one_clear_error(tmp_path):
    (tmp_path / JOURNAL).write_text('{"event": "begun", "definition": {}}\n{"event": "ended", "run": 4}\n')
    with pytest.raises(ConfigError, match="line 2"):
        Journal(tmp_path, {})


def test_a_process_is_told_from_another_with_its_id():
    own = {"id": os.getpid(), "born": born(os.getpid())}
    assert is_running(own)
    assert not is_running({**own, "born": "other"})
    assert not is_running(None)


def test_a_score_is_a_finite_figure_with_the_seconds_of_training_before_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    figures = [
        {"step": 2, "performance/SPS": 0.01},
        {"step": 2, "eval/x": 0.5},
        {"step": 4, "performance/SPS": 0.5},
        {"step": 5, "eval/x": None},
        {"step": 8, "performance/SPS": 0.25},
        {"step": 8, "eval/x": 0.75},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in figures) + '{"step": 1')
    reader = MetricsReader("eval/x")
    assert reader.read(tmp_path / "none.jsonl") == []
    points = [Point(2, 0.5, 200.0), Point(8, 0.75, 2 * 12.0 + 2 * 2.0 + 4 * 4.0)]
    assert reader.read(path) == reader.read(path) == points, "compiling counts as three times the usual 4 s a step, where these are known"
    with path.open("a") as file:
        file.write('1, "eval/x": 1.5}\n{"step": 12, "performance/SPS": 0.002}\n{"step": 12, "eval/x": 2.0}\n')
    later = [Point(11, 1.5, 44.0), Point(12, 2.0, 44.0 + 4 * 12.0)]
    assert reader.read(path) == [*points, *later], "so does an iteration after an interruption"
    (tmp_path / "new").write_text("".join(json.dumps(line) + "\n" for line in figures[:2]))
    (tmp_path / "new").replace(path)
    assert reader.read(path) == points[:1], "a training that goes on has dropped lines"


def test_iterations_slowed_by_another_training_on_the_gpu_count_in_full(tmp_path):
    path = tmp_path / "metrics.jsonl"
    compiling, beside_others, alone = [40.0], [8.0] * 12, [1.0] * 30
    lines_of = [{"step": step, "performance/SPS": 1.0 / seconds} for step, seconds in enumerate(compiling + beside_others + alone, 1)]
    lines_of[12:12] = [{"step": 12, "eval/x": 0.25}]
    lines_of += [{"step": 43, "eval/x": 0.5}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines_of))
    early, late = MetricsReader("eval/x").read(path)
    assert early.seconds == pytest.approx(3 * 8.0 + 11 * 8.0)
    assert late.seconds == pytest.approx(3 * 8.0 + 12 * 8.0 + 30 * 1.0), "what came before does not get cheaper"


def test_evaluations_in_the_middle_are_results_of_shorter_runs():
    run = Run(0, {STEPS_OPTION: 100, "a": 1}, [Point(50, 2.0, 5.0), Point(104, 3.0, 11.0)])
    short, whole = observations_of(run, -1.0)
    assert short == ({STEPS_OPTION: 50, "a": 1}, -2.0, 5.0, False)
    assert whole == (run.params, -3.0, 11.0, False)


def test_failures_keep_the_results_before_them():
    run = Run(0, {STEPS_OPTION: 100}, [Point(50, 2.0, 5.0)], outcome=FAILED)
    partial, failure = observations_of(run, 1.0)
    assert partial.score == 2.0 and failure.failed and math.isnan(failure.score)
    assert failure.params == run.params
    lost = Run(0, {"a": 1}, [Point(50, 2.0, 5.0)], outcome=FAILED)
    assert [one.failed for one in observations_of(lost, 1.0)] == [True]


def test_a_run_is_bad_among_those_that_have_spent_as_much():
    others = [Run(n, {}, [Point(1, value, 10.0), Point(2, 9.0, 50.0)]) for n, value in enumerate((1.0, 2.0, 3.0, 4.0))]
    run = Run(9, {}, [Point(1, 1.5, 12.0)])
    assert is_bad(run, others, 1.0, 0.5) and not is_bad(run, others, 1.0, 0.1)
    assert not is_bad(run, others, -1.0, 0.5), "less is better"
    assert not is_bad(run, others[:3], 1.0, 0.5), "three are too few to compare"
    assert not is_bad(run, others, 1.0, 0.0)

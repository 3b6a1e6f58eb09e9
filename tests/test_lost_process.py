"""Two processes train as one, and one of them is told to stop, dies or hangs: what they had learned is saved, and nobody is asked."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import pytest
import torch
from synthetic_motion import swaying_clip
from test_distributed import HORIZON, TOTAL_ENVS, Silent, free_port, make_config

from puffer_phc import build
from puffer_phc.command_line import INTERRUPTED, TERMINATED
from puffer_phc.commands import stopping as signals
from puffer_phc.errors import CheckpointError, LostProcessError
from puffer_phc.learn import rescue, run_folder
from puffer_phc.learn.checkpoint import load_checkpoint, load_policy
from puffer_phc.learn.distributed import World
from puffer_phc.learn.host_copy import HostCopier
from puffer_phc.learn.run_folder import load_newest, load_own, save_in_run, save_own
from puffer_phc.learn.trainer import Trainer
from puffer_phc.main import main
from puffer_phc.motion.file import save_motion_file
from puffer_phc.resources import child_environment

pytest.importorskip("mujoco", reason="the training processes need the MuJoCo backend")

GOOD = 3
"""Iterations that all processes finish; in the next one something happens to one of them."""


def make_trainer(world: World, folder: Path, num_iterations: int, run: str = "run", **options: Any) -> Trainer:
    """A run with two gradient steps an iteration, and no checkpoints but the first and the last one."""
    steps = TOTAL_ENVS * HORIZON
    quiet = {"eval_interval": 0, "checkpoint_interval": 0, "total_timesteps": num_iterations * steps, **options}
    config = make_config(world, folder, **quiet)
    config = replace(config, train=replace(config.train, minibatch_size=config.train.batch_size // 2))
    motions = build.load_motions(config, torch.device("cpu"), world)
    env = build.make_environment(config, motions, world)
    policy = build.make_policy(config, env.env.observation_size, env.env.action_size, torch.device("cpu"))
    return Trainer(config, env, policy, folder / run, Silent(), None, world)


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([value.double().flatten() for value in trainer.policy.state_dict().values()])


def in_second_step(trainer: Trainer, act: Callable[[], object]) -> None:
    """Let ``act`` happen before the second gradient step after the good iterations: the first one has changed the weights."""
    compute, steps = trainer.updater.losses, []

    def losses(*arguments: Any) -> Any:
        steps.append(trainer.iteration)
        if steps.count(GOOD) == 2:
            act()
        return compute(*arguments)

    trainer.updater.losses = losses


def after_each(trainer: Trainer, act: Callable[[int], object]) -> None:
    """Let ``act`` happen after the last exchange of each iteration, given its number from 1."""
    judge = trainer.recovery.judge

    def judged(wrong: Optional[str], iteration: int) -> Optional[str]:
        act(iteration)
        return judge(wrong, iteration)

    trainer.recovery.judge = judged


def resumed(world: World, folder: Path, num_iterations: int, run: str = "run") -> Trainer:
    trainer = make_trainer(world, folder, num_iterations, run)
    path, checkpoint = load_newest(folder / run)
    load_policy(trainer.policy, checkpoint, path)
    trainer.load_state(checkpoint.trainer or {})
    return trainer


def joined(rank: int, port: int) -> World:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    return World.from_environment("cpu")


def terminated_worker(rank: int, port: int, folder: Path) -> None:
    """SIGTERM comes to both, to the first before the sums of an iteration and to the second after them; then both go on."""
    world = joined(rank, port)
    whole = make_trainer(world, folder, 7, "whole")
    whole.fit()
    first = make_trainer(world, folder, 1000)
    if rank == 0:
        in_second_step(first, lambda: os.kill(os.getpid(), signal.SIGTERM))
    else:
        after_each(first, lambda iteration: iteration == GOOD + 1 and os.kill(os.getpid(), signal.SIGTERM))
    with signals.stopping(first) as came:
        is_done = first.fit()
    world.gather("both have written")
    second = resumed(world, folder, 7)
    second.fit()
    equal = torch.equal(weights(second), weights(whole)) and torch.equal(second.env.env.times, whole.env.env.times)
    found = {"came": came, "is_done": is_done, "stopped": first.iteration, "end": second.iteration, "equal": equal}
    torch.save({**found, "messages": second.reporter.messages}, folder / f"rank{rank}.pt")
    world.close()


def killed_worker(rank: int, port: int, folder: Path, victim: int) -> None:
    """One is killed between the two gradient steps of an iteration; the other says what it has and how it ended."""
    found: Dict[str, Any] = {}
    with pytest.raises(LostProcessError) as error, joined(rank, port) as world:
        trainer = make_trainer(world, folder, 1000)
        after_each(trainer, lambda iteration: found.update({str(iteration): weights(trainer)}))
        if rank == victim:
            in_second_step(trainer, lambda: os.kill(os.getpid(), signal.SIGKILL))
        try:
            trainer.fit()
        finally:
            found.update(live=weights(trainer), iteration=trainer.iteration)
    torch.save({**found, "error": str(error.value)}, folder / f"rank{rank}.pt")


def stuck_worker(rank: int, port: int, folder: Path) -> None:
    """The second process stands still in the middle of an iteration, so that the first waits in a sum that never ends."""
    signals.PATIENCE_SECONDS = 1.0
    trainer = make_trainer(joined(rank, port), folder, 1000)
    if rank == 1:
        in_second_step(trainer, lambda: os.kill(os.getpid(), signal.SIGSTOP))
    with signals.stopping(trainer):
        trainer.fit()


def silent_worker(rank: int, port: int, folder: Path) -> None:
    """Both save while nothing of torch.distributed may be called, the second one without the first."""
    world = joined(rank, port)
    trainer = make_trainer(world, folder, GOOD)
    trainer.fit()
    for path in (folder / "run").glob("*.pt") if rank == 0 else ():
        path.unlink()
    world.gather("nothing is there")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in vars(torch.distributed).items():
            if callable(value) and not isinstance(value, type) and name[0] != "_":
                patch.setattr(torch.distributed, name, refuse)
        with pytest.raises(LostProcessError):
            world.sum_(torch.ones(1))
        trainer.save()
        trainer._saver.keep(trainer._counters())
    torch.save({}, folder / f"rank{rank}.pt")


def refuse(*_: object, **__: object) -> None:
    raise RuntimeError("somebody was asked")


def begin(worker: Callable[..., None], *arguments: Any) -> List[Any]:
    context, port = multiprocessing.get_context("spawn"), free_port()
    processes = [context.Process(target=worker, args=(rank, port, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    return processes


def end(processes: List[Any], seconds: float = 120.0) -> List[int]:
    """Exit codes. Nobody is left."""
    last = time.monotonic() + seconds
    try:
        for process in processes:
            process.join(max(last - time.monotonic(), 0.0))
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_motion_file(tmp_path / "motion.npz", [swaying_clip(40), swaying_clip(60, seed=1)])
    return tmp_path


def test_two_processes_told_to_stop_end_together_and_go_on_bit_for_bit(folder: Path) -> None:
    assert end(begin(terminated_worker, folder)) == [0, 0]
    first, second = (torch.load(folder / f"rank{rank}.pt") for rank in range(2))
    for found in (first, second):
        assert found["came"] == [signal.SIGTERM] and not found["is_done"]
        assert found["stopped"] == GOOD + 1 and found["end"] == 6
        assert found["equal"] and found["messages"] == []


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_leaves_the_last_whole_iteration_to_the_other(folder: Path, victim: int) -> None:
    processes = begin(killed_worker, folder, victim)
    processes[victim].join(120)
    killed = time.monotonic()
    codes = end(processes)
    assert time.monotonic() - killed < 20
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] == 0
    found = torch.load(folder / f"rank{1 - victim}.pt")
    assert found["iteration"] == GOOD and "another process of this run is gone" in found["error"]
    newest, checkpoint = load_newest(folder / "run")
    assert newest.name == "latest.pt" and (checkpoint.trainer or {})["iteration"] == GOOD
    saved = torch.cat([value.double().flatten() for value in checkpoint.policy.values()])
    assert torch.equal(saved, found[str(GOOD)])
    assert not torch.equal(saved, found["live"]), "one of two steps was made after that"
    alone = resumed(World(), folder, GOOD + 3)
    assert any("all rows begin new episodes" in line for line in alone.reporter.messages)
    assert alone.fit() and alone.iteration >= GOOD + 2


def test_a_process_that_waits_in_vain_saves_and_ends_soon_after_it_was_told_to(folder: Path) -> None:
    processes = begin(stuck_worker, folder)
    try:
        state = Path(f"/proc/{processes[1].pid}/stat")
        if not state.exists():
            pytest.skip("this system doesn't say whether a process stands still")
        while state.read_text().split(")")[1].split()[0] != "T":
            assert processes[0].is_alive()
            time.sleep(0.05)
        processes[0].terminate()
        told = time.monotonic()
        processes[0].join(30)
        assert processes[0].exitcode == TERMINATED and time.monotonic() - told < 10
    finally:
        end(processes, 0.0)
    assert (load_newest(folder / "run")[1].trainer or {})["iteration"] == GOOD
    assert resumed(World(), folder, GOOD + 3).fit()


def rescue_with_states(folder: Path, *arrivals: bool) -> rescue.Rescue:
    """One that has kept states of iterations from 3 on, which are there or not yet."""
    whole = make_trainer(World(), folder, GOOD).checkpoint()
    saving = rescue.Rescue(folder / "run", lambda policy, state: whole._replace(policy=policy, trainer=state), 0, 3, torch.device("cpu"))
    for iteration, has_arrived in enumerate(arrivals, 3):
        saving.keep(iteration, whole.policy, {**(whole.trainer or {}), "iteration": iteration})
        saving._states[-1] = saving._states[-1]._replace(has_arrived=torch.tensor(has_arrived))
    return saving


def saved_iteration(folder: Path) -> int:
    return (load_newest(folder / "run")[1].trainer or {})["iteration"]


def test_of_states_of_different_iterations_the_latest_checkpoint_is_the_last(folder: Path) -> None:
    """Where one of three is lost, the sums of an iteration may have reached one of the others only."""
    behind, ahead = rescue_with_states(folder, True), rescue_with_states(folder, True, True)
    ahead.save()
    behind.save()
    assert saved_iteration(folder) == 4 and not (folder / "run" / "model_00000003.pt").exists()


def test_two_that_write_at_once_leave_the_later_state_as_the_latest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one comes to its end between the two files of this one."""
    behind, ahead = rescue_with_states(folder, True), rescue_with_states(folder, True, True)
    name_latest, others = run_folder.make_latest, [ahead]

    def name_latest_late(path: Path) -> None:
        while others:
            others.pop().save()
        name_latest(path)

    monkeypatch.setattr(run_folder, "make_latest", name_latest_late)
    behind.save()
    assert saved_iteration(folder) == 4


def test_a_process_lost_between_its_checkpoint_and_the_name_of_the_latest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behind, lost, ahead = (rescue_with_states(folder, *arrivals) for arrivals in ((True,), (True, True), (True, True)))
    behind.save()
    with monkeypatch.context() as patch:
        for module in (run_folder, rescue):
            patch.setattr(module, "make_latest", lambda path: None)
        lost.save()
    assert saved_iteration(folder) == 3
    ahead.save()
    assert saved_iteration(folder) == 4


def test_checkpoints_from_before_a_run_went_on_do_not_stand_for_those_to_save(folder: Path) -> None:
    for number in (3, 9):
        path = folder / "run" / f"model_{number:08d}.pt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"damaged")
    rescue_with_states(folder, True).save()
    assert saved_iteration(folder) == 3 and load_checkpoint(folder / "run" / "model_00000003.pt")


def test_where_a_state_does_not_arrive_the_one_before_is_saved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue, "_ARRIVAL_SECONDS", 0.1)
    saving = rescue_with_states(folder, True, True, False)
    saving.save()
    assert saved_iteration(folder) == 4


def test_a_state_that_is_about_to_arrive_is_waited_for(folder: Path) -> None:
    saving = rescue_with_states(folder, True, False)
    timer = threading.Timer(0.1, saving._states[-1].has_arrived.fill_, (True,))
    timer.start()
    saving.save()
    timer.join()
    assert saved_iteration(folder) == 4


def test_where_nothing_arrives_that_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(rescue, "_ARRIVAL_SECONDS", 0.1)
    rescue_with_states(folder, False).save()
    assert "until iteration 3 is lost: the device does not answer" in caplog.text and not (folder / "run").exists()


def test_what_is_saved_is_not_written_over_by_what_is_learned_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main thread may go on while another one writes."""
    saving, write = rescue_with_states(folder, True, True), rescue.Rescue._write

    def write_late(self: rescue.Rescue, kept: rescue.Kept) -> None:
        before = {name: value.clone() for name, value in kept.policy.items()}
        for iteration in (5, 6, 7):
            thread = threading.Thread(target=saving.keep, args=(iteration, {name: 0 * value for name, value in before.items()}, {}))
            thread.start()
            thread.join(0.1)
        assert all(torch.equal(kept.policy[name], value) for name, value in before.items())
        write(self, kept)

    monkeypatch.setattr(rescue.Rescue, "_write", write_late)
    saving.save()
    assert saved_iteration(folder) == 4


def test_two_states_are_kept_and_no_third_while_it_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is memory for two."""
    saving, kept = rescue_with_states(folder, True, True), []
    copy = HostCopier.copy
    monkeypatch.setattr(HostCopier, "copy", lambda self, state: kept.append(len(saving._states)) or copy(self, state))
    saving.keep(5, {"weights": torch.zeros(1)}, {})
    assert kept == [1] and [state.iteration for state in saving._states] == [4, 5]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_a_gpu_has_learned_arrives_as_it_was_while_it_learns_on(tmp_path: Path) -> None:
    saving = rescue.Rescue(tmp_path, lambda *_: pytest.fail("nothing is saved"), 0, 3, torch.device("cuda"))
    weights, generator = torch.zeros(1 << 22, device="cuda"), torch.Generator("cuda")
    for iteration in range(1, 8):
        weights.fill_(float(iteration))
        saving.keep(iteration, {"weights": weights}, {"generator": generator.get_state(), "steps": [iteration]})
        weights.fill_(-1.0)
        assert rescue._is_there(saving._states[-1])
        for state in saving._states:
            assert state.policy["weights"].is_pinned() and bool((state.policy["weights"] == float(state.iteration)).all())
            assert torch.equal(state.trainer["generator"], generator.get_state()) and state.trainer["steps"] == [state.iteration]


def test_a_process_alone_spends_nothing_on_the_loss_of_another(folder: Path) -> None:
    trainer, saved = make_trainer(World(), folder, GOOD), []

    def last_words(_: int) -> None:
        trainer.rescue.save()
        saved.append(sorted(path.name for path in (folder / "run").iterdir()))

    after_each(trainer, last_words)
    assert trainer.fit()
    assert saved and all(names == ["latest.pt", "model_00000000.pt"] for names in saved), "there was nothing kept to be saved"


WORKER = """
import signal, time
from pathlib import Path
import torch
from puffer_phc.commands import stopping
from puffer_phc.learn.rescue import Rescue
signal.signal(signal.SIGTERM, lambda *_: print("told", flush=True))
with stopping.ending_the_stuck(Rescue(Path("run"), lambda *_: None, 0, 1, torch.device("cpu")), 0.5):
    print("ready", flush=True)
    time.sleep(5.0)
print("nobody ended it", flush=True)
"""
LAUNCHER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WORKER!r}])"


@pytest.mark.skipif(os.name != "posix", reason="elsewhere processes have no parents to lose")
@pytest.mark.parametrize("is_torchrun", [True, False])
def test_a_process_whose_torchrun_is_killed_stops_as_if_it_were_told_to(is_torchrun: bool) -> None:
    """What another launcher started may outlive it: that is what nohup is for."""
    environment = {name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"}
    environment.update(PYTHONPATH=str(Path(__file__).parents[1]), **({"TORCHELASTIC_RUN_ID": "none"} if is_torchrun else {}))
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER], stdout=subprocess.PIPE, text=True, env=environment)
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "ready\n"
    launcher.kill()
    until_the_worker_is_gone = launcher.stdout.read()
    launcher.wait()
    assert until_the_worker_is_gone.splitlines() == (["told"] if is_torchrun else ["nobody ended it"])


SETTING_UP = """
import hashlib, sys, time
from puffer_phc.command_line import run_main
from puffer_phc.commands import stopping
stopping._PATIENCE_BEFORE_SECONDS = 0.5

def work():
    with stopping.ending_when_told():
        print("ready", flush=True)
        {wait}
    return 0

sys.exit(run_main(work))
"""
WAITS = {"in Python": "time.sleep(60.0)", "elsewhere": "hashlib.pbkdf2_hmac('sha256', b'a', b'b', 1 << 30)"}


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a process can't be told to end")
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_process_told_to_end_before_it_learns_ends_soon_wherever_it_waits(wait: str) -> None:
    command = [sys.executable, "-c", SETTING_UP.format(wait=wait)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment())
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    told = time.monotonic()
    process.terminate()
    errors = process.communicate(timeout=60)[1]
    assert (process.returncode, errors) == (TERMINATED, "terminated\n") and time.monotonic() - told < 20.0


def test_a_training_told_to_end_before_it_begins_ends_as_one_told_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def told_while_it_is_made(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5.0)

    monkeypatch.setattr(build, "make_environment", told_while_it_is_made)
    assert main(options(folder)) == TERMINATED
    assert capfd.readouterr().err == "terminated\n" and not (folder / "runs").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stopped_training_ends_with_the_code_of_its_first_signal() -> None:
    assert signals.exit_code([signal.SIGINT, signal.SIGTERM]) == INTERRUPTED
    assert signals.exit_code([signal.SIGTERM]) == signals.exit_code([]) == TERMINATED


def test_saving_asks_nobody(folder: Path) -> None:
    assert end(begin(silent_worker, folder)) == [0, 0]
    names = sorted(path.name for path in (folder / "run").iterdir())
    assert names == ["latest.pt", "model_00000002.pt", "own_00000002_rank1of2.pt"]


def test_states_of_different_moments_never_meet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    of = {"iteration": 5, "num_processes": 3, "weights": 17}
    state = {"ranks": [{"env": {}, "of": 0}], "moment": of}
    for rank in (1, 2):
        save_own(tmp_path, {"of": rank}, of, rank)
    assert [load_own(tmp_path, state, rank, 3) for rank in range(3)] == [{"env": {}, "of": 0}, {"of": 1}, {"of": 2}]
    assert [load_own(tmp_path, state, rank, 2) for rank in range(2)] == [None, None]
    assert load_own(tmp_path, {**state, "moment": {**of, "weights": 18}}, 1, 3) is None
    assert load_own(tmp_path, {**state, "moment": {**of, "iteration": 6}}, 1, 3) is None
    assert load_own(tmp_path, {"ranks": [{"sampler": {}}]}, 0, 1) is None
    path = tmp_path / "own_00000005_rank1of3.pt"
    path.write_bytes(path.read_bytes()[:-50])
    assert load_own(tmp_path, state, 1, 3) is None and "damaged" in caplog.text


def test_a_run_of_two_without_a_part_begins_new_episodes_in_both(folder: Path) -> None:
    assert end(begin(partless_worker, folder)) == [0, 0]
    for rank in range(2):
        found = torch.load(folder / f"rank{rank}.pt")
        assert found["steps"] == 0 and len(found["messages"]) == (1 if rank == 0 else 0)


def partless_worker(rank: int, port: int, folder: Path) -> None:
    """The second process's own file vanishes."""
    world = joined(rank, port)
    make_trainer(world, folder, GOOD).fit()
    world.gather("both have written")
    if rank == 1:
        (folder / "run" / "own_00000002_rank1of2.pt").unlink()
    world.gather("it is gone")
    second = resumed(world, folder, GOOD + 2)
    steps = int(second.env.env.steps.sum())
    second.fit()
    torch.save({"steps": steps, "messages": second.reporter.messages}, folder / f"rank{rank}.pt")
    world.close()


def test_own_files_go_with_their_checkpoints(tmp_path: Path) -> None:
    from test_checkpoint import make_checkpoint, make_policy

    for iteration in (2, 4, 6):
        save_own(tmp_path, {}, {"iteration": iteration, "num_processes": 2}, 1)
        save_in_run(tmp_path, make_checkpoint(make_policy()), iteration, keep=2)
    own = sorted(path.name for path in tmp_path.glob("own_*"))
    assert own == ["own_00000004_rank1of2.pt", "own_00000006_rank1of2.pt"]
    assert load_checkpoint(tmp_path / "model_00000004.pt").observation_size == 20


def test_own_files_of_checkpoints_that_found_no_room_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_checkpoint import make_checkpoint, make_policy
    from test_disk import full

    checkpoint = make_checkpoint(make_policy())
    for iteration in (2, 4, 6, 8):
        save_own(tmp_path, {}, {"iteration": iteration, "num_processes": 2}, 1)
        with monkeypatch.context() as patch:
            if iteration > 2:
                patch.setattr("os.fsync", full)
            with pytest.raises(CheckpointError) if iteration > 2 else contextlib.nullcontext():
                save_in_run(tmp_path, checkpoint, iteration, keep=2)
    own = sorted(path.name for path in tmp_path.glob("own_*"))
    assert own == ["own_00000002_rank1of2.pt", "own_00000008_rank1of2.pt"], "the last whole checkpoint's, and what may yet be completed"


def options(folder: Path, *more: str) -> List[str]:
    """Of a small run without end that saves no checkpoint on the way."""
    small = {
        "-m": folder / "motion.npz",
        "--train.data_dir": folder / "runs",
        "--env.num_envs": 4,
        "--train.batch_size": 64,
        "--policy.layer_sizes": 16,
        "--policy.hidden_size": 16,
        "--train.eval_interval": 0,
        "--train.checkpoint_interval": 0,
    }
    return [*(str(word) for option in small.items() for word in option), *more]


LAST_MOMENT = 28.0
"""Seconds after which torchrun is about to kill who is left."""


def wait_for_iterations(folder: Path, process: Any, count: int) -> Path:
    """The folder of a run that has logged so many iterations."""
    for _ in range(2400):
        logs = list(folder.glob("runs/*/metrics.jsonl"))
        if logs and len(logs[0].read_bytes().splitlines()) >= count:
            return logs[0].parent
        assert process.poll() is None, (folder / "errors.txt").read_text(encoding="utf-8")
        time.sleep(0.1)
    raise AssertionError("no iterations within four minutes")


def process_of(launcher: int, rank: int) -> int:
    """The process that a launcher has started as this rank."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text(encoding="utf-8").split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"no rank {rank}")


def time_to_the_end_of(run: Any, survivor: int) -> float:
    """Seconds until the launcher ends; where the process that is left does not end in time, it says where it stands."""
    began = time.monotonic()
    try:
        run.wait(LAST_MOMENT)
    except subprocess.TimeoutExpired:
        os.kill(survivor, signal.SIGABRT)
        run.wait(60 - LAST_MOMENT)
    return time.monotonic() - began


def run_and_kill(folder: Path, victim: int, *more: str) -> None:
    """Under torchrun the run ends within a minute, says why, and has what was learned; one process goes on from it."""
    script = Path(__file__).parents[1] / "scripts" / "train.py"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()), str(script)]
    environment = {**child_environment(), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    command = [*launcher, *options(folder, *more)]
    with (folder / "errors.txt").open("w", encoding="utf-8") as log:
        run = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL, env=environment)
        try:
            run_dir = wait_for_iterations(folder, run, 5)
            survivor = process_of(run.pid, 1 - victim)
            os.kill(process_of(run.pid, victim), signal.SIGKILL)
            seconds = time_to_the_end_of(run, survivor)
        finally:
            run.kill()
    errors = (folder / "errors.txt").read_text(encoding="utf-8")
    print(f"ended {seconds:.1f} s after the kill")
    assert seconds < LAST_MOMENT and run.returncode != 0, errors
    assert "SIGKILL" in errors and "has what was learned until iteration" in errors, errors
    state = load_newest(run_dir)[1].trainer or {}
    assert state["iteration"] >= 4
    resume = ["--resume", str(run_dir), "--train.total_timesteps", str(state["global_step"] + 128)]
    done = subprocess.run([sys.executable, str(script), *resume], capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (load_newest(run_dir)[1].trainer or {})["iteration"] > state["iteration"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_a_run_within_a_minute_and_leaves_its_last_iteration(folder: Path, victim: int) -> None:
    run_and_kill(folder, victim, "--train.device", "cpu", "--env.backend", "mujoco_cpu")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_on_a_gpu_leaves_its_last_iteration_to_one_that_waits_for_it(folder: Path, victim: int) -> None:
    run_and_kill(folder, victim, "--train.device", "cuda", "--env.backend", "mujoco_warp")

"""The command line: one function per mode, and every error of ours as one line with exit code 2."""

import contextlib
import dataclasses
import json
import logging
import secrets
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

import torch
from rich.console import Console

from puffer_phc import build, eval_mode
from puffer_phc.command_line import INTERRUPTED, run_main
from puffer_phc.config import Config, EnvConfig, chosen
from puffer_phc.errors import BackendError, CheckpointError, ConfigError
from puffer_phc.evaluate.evaluation import EvaluationResult, Policy
from puffer_phc.evaluate.tables import summary_table, write_results
from puffer_phc.files import remove_parts, write_whole
from puffer_phc.learn.checkpoint import LATEST, Checkpoint
from puffer_phc.learn.determinism import be_deterministic
from puffer_phc.learn.distributed import World
from puffer_phc.learn.origin import machine, origin
from puffer_phc.learn.policy import PHCPolicy
from puffer_phc.learn.rollout import Deterministic, set_products
from puffer_phc.learn.trainer import Trainer
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.options import Parsed, parse_options
from puffer_phc.report.dashboard import Progress, terminal_reporter
from puffer_phc.report.metrics_log import METRICS, MetricsLog, uptime_until
from puffer_phc.report.several import Several
from puffer_phc.report.trackers import TensorBoard, Wandb, require
from puffer_phc.reporter import Reporter
from puffer_phc.resolve import choose_device, describe_sizes, resolve
from puffer_phc.resources import resource_root
from puffer_phc.watching import Watch

TERMINATED = 143
"""Exit code after SIGTERM, likewise."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run what the command line (default: this process's) asks for; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="%(message)s", handlers=[CurrentStderr()])
    logging.getLogger("puffer_phc").setLevel(logging.INFO)
    return run_main(lambda: run_mode(words), "--debug" in words)


def run_mode(words: List[str]) -> int:
    """Run the mode that a command line asks for."""
    arguments = parse_options(words)
    return _MODES[arguments.mode](arguments)


class CurrentStderr(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at the time: a live dashboard puts itself there, to keep its picture whole."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, if there is anywhere to write to."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{self.format(record)}\n")


class Session(NamedTuple):
    """What train and eval have in common."""

    config: Config
    """Resolved."""
    device: torch.device
    world: World
    checkpoint: Optional[Checkpoint]


def open_session(arguments: Parsed) -> Session:
    """Choose the device and settle automatic values, before anything expensive."""
    return settle(arguments.sections(), arguments.checkpoint)


def settle(options: Config, checkpoint: Optional[Checkpoint] = None) -> Session:
    """Join the other processes, if there are any, each on a device of its own, and settle the automatic values of ``options``."""
    device = choose_device(options)
    world = World.from_environment(device.type)
    if device.type == "cuda" and world.size > 1:
        device = torch.device("cuda", world.local_rank)
    config = resolve(options, device)
    if config.train.deterministic:
        be_deterministic()
    set_products(config.train.precision)
    return Session(with_equal_limits(config, world), device, world, checkpoint)


def with_equal_limits(config: Config, world: World) -> Config:
    """``config`` with as many frames of motion on every device as the fullest one has room for: all are to hold the same clips."""
    frames = min(world.gather(chosen(config.env.max_resident_frames)))
    return dataclasses.replace(config, env=dataclasses.replace(config.env, max_resident_frames=frames))


def train(arguments: Parsed) -> int:
    """Train a policy; the run's folder gets config.json, metrics.jsonl and checkpoints."""
    check_writable(Path(arguments.train.data_dir))
    for package in ("wandb",) * arguments.track + ("tensorboard",) * arguments.tensorboard:
        require(package)
    if arguments.train.watch:
        from puffer_phc.view.web import check_port

        check_port(arguments.train.watch_host, arguments.train.watch_port, "train.watch_")
    session = open_session(arguments)
    motions = build.load_motions(session.config, session.device, session.world)
    env = build.make_environment(session.config, motions, session.world)
    policy = session_policy(session, arguments, env.env.observation_size, env.env.action_size)
    evaluator = build.Evaluator(session.config, motions, session.world, env) if chosen(session.config.train.eval_interval) > 0 else None
    state = resumed_state(arguments, session)
    run_dir = arguments.resume or make_run_dir(session)
    with contextlib.closing(make_reporter(arguments, session, run_dir, policy)) as reporter:
        evaluate = None
        if evaluator is not None:
            keep = eval_mode.EvaluationKeeper(session.config, motions, run_dir, reporter)
            evaluate = build.training_evaluation(evaluator, env, keep if session.world.is_main else None)
        for line in describe_sizes(session.config):
            reporter.message(line)
        trainer = Trainer(session.config, env, policy, run_dir, reporter, evaluate, session.world)
        if state is not None:
            take_up(trainer, state, run_dir)
            reporter.message(f"going on after {trainer.global_step:,} steps")
        elif session.checkpoint is not None:
            trainer.warm_up()
        with stopping(trainer) as signals:
            done = trainer.fit()
    if session.world.is_main:
        say_how_to_go_on(trainer, run_dir, done)
    session.world.close()
    if done:
        return 0
    return TERMINATED if signal.SIGTERM in signals else INTERRUPTED


def resumed_state(arguments: Parsed, session: Session) -> Optional[Dict[str, Any]]:
    """What ``--resume`` goes on from; None without it. Raises CheckpointError where the run's checkpoint has nothing of the kind."""
    if arguments.resume is None or session.checkpoint is None:
        return None
    state = session.checkpoint.trainer
    if state is None or type(state.get("global_step")) is not int:
        raise CheckpointError(f"'{arguments.checkpoint_path}' holds a policy but no training to go on with; start from it with -c")
    return state


def take_up(trainer: Trainer, state: Dict[str, Any], run_dir: Path) -> None:
    """Give ``trainer`` the ``state`` of its run's checkpoint. Raises CheckpointError where it does not fit."""
    try:
        trainer.load_state(state)
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError, ValueError, BackendError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"the checkpoint in '{run_dir}' does not fit these options or motions ({reason}); start from it with -c"
        ) from error


def say_how_to_go_on(trainer: Trainer, run_dir: Path, done: bool) -> None:
    """The last lines of a run: what it left, and how to use it."""
    say(f"{'finished' if done else 'stopped'} after {trainer.global_step:,} steps; checkpoint: {run_dir / LATEST}")
    say(f"evaluate: {again(['--mode', 'eval', '-c', str(run_dir / LATEST)], trainer.config.env.motion_file)}")
    if not done:
        say(f"go on: {again(['--resume', str(run_dir)])}")


@contextlib.contextmanager
def stopping(trainer: Trainer) -> Iterator[List[int]]:
    """Ctrl-C and SIGTERM stop ``trainer`` after its iteration, a second one at once. Yields the list of signals that came."""
    came: List[int] = []

    def stop(number: int, _frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)
        trainer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(line: str) -> None:
    """One line on the terminal, as it is: nothing in a path is taken for colours or a place to break. None where nobody reads it."""
    with contextlib.suppress(OSError):
        Console().print(line, markup=False, highlight=False, soft_wrap=True)


def again(words: List[str], motion_file: Optional[str] = None) -> str:
    """What a user types to run this program again with ``words``, on the same motions: a checkpoint does not bring them along."""
    script = sys.argv[0]
    program = ["python", script] if script.endswith(".py") else [Path(script).name]
    is_default = motion_file is None or Path(motion_file) == resource_root() / EnvConfig.motion_file
    return " ".join(shlex.quote(word) for word in program + words + ([] if is_default else ["-m", str(motion_file)]))


def session_policy(session: Session, arguments: Parsed, observation_size: int, action_size: int) -> PHCPolicy:
    """A new policy, with the weights of the session's checkpoint where there is one."""
    policy = build.make_policy(session.config, observation_size, action_size, session.device)
    if session.checkpoint is not None and arguments.checkpoint_path is not None:
        build.restore_policy(policy, session.checkpoint, arguments.checkpoint_path)
    return policy


def evaluate(arguments: Parsed) -> int:
    """Evaluate a checkpoint on every clip; writes the summary, the table by motion and a page about both to ``--output``."""
    if arguments.checkpoint_path is None:
        raise ConfigError("--mode eval needs a checkpoint: -c FILE")
    check_writable(arguments.output)
    session, result, motions, policy = evaluated(arguments)
    if session.world.is_main:
        Console().print(summary_table(result))
        files = write_results(result, arguments.output)
        for path in files:
            say(f"wrote {path}")
    if session.config.eval.report:
        other = eval_mode.second_result(session.config, motions, session.world)
        if session.world.is_main:
            traces = eval_mode.worst_traces(session.config, motions, policy, result)
            say(f"wrote {eval_mode.write_report(files.report, session.config, arguments.checkpoint_path, result, traces, other)}")
    session.world.close()
    return 0


class Evaluated(NamedTuple):
    """An evaluation and what it was made with."""

    session: Session
    result: EvaluationResult
    motions: MotionLibrary
    policy: Policy


def evaluated(arguments: Parsed) -> Evaluated:
    """What the checkpoint of ``arguments`` does on every clip."""
    session = open_session(arguments)
    eval_mode.check_compare(session.config)
    motions = build.load_motions(session.config, session.device, session.world)
    evaluator = build.Evaluator(session.config, motions, session.world)
    network = session_policy(session, arguments, evaluator.observation_size, evaluator.action_size)
    policy = Deterministic(network)
    result = evaluator(policy)
    evaluator.close()
    return Evaluated(session, result, motions, policy)


def play(arguments: Parsed) -> int:
    """Show a checkpoint's policy moving: in a window, on a web page, in a video."""
    from puffer_phc.play_mode import play as show  # viewers are loaded by those who watch

    if arguments.checkpoint_path is None:
        raise ConfigError("--mode play needs a checkpoint: -c FILE (a run's latest.pt; none comes along in sample_data)")
    check_writable(arguments.output)
    session = open_session(arguments)
    return show(session.config, session.device, arguments.checkpoint_path, arguments.output, arguments.checkpoint)


def sweep(arguments: Parsed) -> int:
    """Search for good options: many trainings, each a process of its own."""
    from puffer_phc.sweep_mode import sweep as search  # optimisers and processes are loaded by those who sweep

    check_writable(Path(arguments.train.data_dir))
    return search(arguments)


def check_writable(folder: Path) -> None:
    """Raise ConfigError where files can't be made in ``folder`` or in the folders that have to be made for it. Leaves nothing there."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise ConfigError(f"can't write to '{folder}': '{existing}' is not a folder")
    try:
        with tempfile.TemporaryFile(dir=str(existing)):
            pass
    except OSError as error:
        raise ConfigError(f"can't write to '{folder}': {error.strerror or error} in '{existing}'") from error


def make_run_dir(session: Session) -> Path:
    """A new folder ``<data_dir>/<env_name>-<8 hex>``, the same on every process, with the run's options in config.json."""
    name = session.world.gather(f"{session.config.base.env_name}-{secrets.token_hex(4)}")[0]
    run_dir = Path(session.config.train.data_dir) / name
    if session.world.is_main:
        try:
            run_dir.mkdir(parents=True)
            write_whole(run_dir / "config.json", json.dumps(dataclasses.asdict(session.config), indent=2) + "\n")
        except OSError as error:
            raise ConfigError(f"can't write to '{run_dir}': {error.strerror}") from error
    return run_dir


def make_reporter(arguments: Parsed, session: Session, run_dir: Path, policy: PHCPolicy) -> Several:
    """Terminal, metrics.jsonl, the trackers and the page that were asked for; on other processes than the first, nothing."""
    state = resumed_state(arguments, session)
    first_step = 0 if state is None else state["global_step"]
    earlier = uptime_until(run_dir / METRICS, first_step)
    progress = Progress(chosen(session.config.train.total_timesteps), first_step=first_step, earlier=earlier)
    listeners: List[Reporter] = []
    if session.world.is_main:
        remove_parts(run_dir)
        listeners += _trackers(arguments, session, run_dir)
        listeners.append(MetricsLog(run_dir / METRICS, first_step))
        listeners.append(terminal_reporter(Console(), f"puffer-phc · {run_dir}", progress))
        if session.config.train.watch:
            page = Watch(session.config, run_dir, policy)
            listeners[-1].message(f"watch at {page.url}")
            listeners.append(page)
    return Several(listeners, progress)


def _trackers(arguments: Parsed, session: Session, run_dir: Path) -> List[Reporter]:
    trackers: List[Reporter] = []
    options, facts = dataclasses.asdict(session.config), {**origin(), **machine(session.device)}
    if arguments.track:
        trackers.append(Wandb(run_dir, arguments.wandb_project, options, facts))
    if arguments.tensorboard:
        trackers.append(TensorBoard(run_dir, options, facts))
    return trackers


_MODES: Dict[str, Callable[[Parsed], int]] = {"train": train, "eval": evaluate, "play": play, "sweep": sweep}


if __name__ == "__main__":
    sys.exit(main())

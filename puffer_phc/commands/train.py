"""The train mode: a run with its folder, its reporters, its signals and its last words."""

import contextlib
import dataclasses
import json
import secrets
from pathlib import Path
from typing import Any, ContextManager, Dict, Iterator, List, Optional

from puffer_phc import build
from puffer_phc.addresses import check_port
from puffer_phc.command_line import Terminal, again, say
from puffer_phc.commands.evaluation_keeper import EvaluationKeeper
from puffer_phc.commands.session import Session, open_session, session_policy
from puffer_phc.commands.stopping import ending_when_told, exit_code, stopping
from puffer_phc.config import chosen
from puffer_phc.errors import BackendError, CheckpointError, ConfigError
from puffer_phc.files import FolderLock, check_writable, remove_parts, write_whole
from puffer_phc.learn.origin import machine, origin
from puffer_phc.learn.policy import PHCPolicy
from puffer_phc.learn.run_folder import LATEST
from puffer_phc.learn.trainer import Trainer
from puffer_phc.options import Parsed
from puffer_phc.report.dashboard import Progress, terminal_reporter
from puffer_phc.report.metrics_log import METRICS, UPTIME, MetricsLog, spent_until
from puffer_phc.report.several import Several
from puffer_phc.report.trackers import TensorBoard, Wandb, require
from puffer_phc.reporter import Reporter
from puffer_phc.resolve import describe_sizes
from puffer_phc.resources import num_processes
from puffer_phc.watch.reporter import Watch


def train(arguments: Parsed) -> int:
    """Train a policy; the run's folder gets config.json, metrics.jsonl and checkpoints."""
    check_writable(Path(arguments.train.data_dir))
    for package in ("wandb",) * arguments.track + ("tensorboard",) * arguments.tensorboard:
        require(package)
    if arguments.train.watch:
        check_port(arguments.train.watch_host, arguments.train.watch_port, "train.watch_")
    with contextlib.ExitStack() as beginning:
        beginning.enter_context(ending_when_told())
        with open_session(arguments) as session:
            return run(session, arguments, beginning)


def run(session: Session, arguments: Parsed, beginning: contextlib.ExitStack) -> int:
    """Train in ``session``, from the beginning or where a run stopped; returns the exit code. ``beginning`` is closed before it learns."""
    motions = build.load_motions(session.config, session.device, session.world)
    env = build.make_environment(session.config, motions, session.world)
    policy = session_policy(session, arguments, env.env.observation_size, env.env.action_size)
    evaluator = build.Evaluator(session.config, motions, session.world, env) if chosen(session.config.train.eval_interval) > 0 else None
    state = resumed_state(arguments, session)
    run_dir = arguments.resume or make_run_dir(session)
    with held(run_dir, session), contextlib.closing(make_reporter(session, run_dir, state)) as reporter:
        evaluate = None
        if evaluator is not None:
            keep = EvaluationKeeper(session.config, motions, run_dir, reporter)
            evaluate = build.training_evaluation(evaluator, env, keep if session.world.is_main else None)
        for line in describe_sizes(session.config, session.world.size):
            reporter.message(line)
        trainer = Trainer(session.config, env, policy, run_dir, reporter, evaluate, session.world)
        if state is not None:
            take_up(trainer, state, run_dir)
            reporter.message(f"going on after {trainer.global_step:,} steps")
        elif session.checkpoint is not None:
            trainer.warm_up()
        if session.world.is_main:
            reporter.join(make_listeners(arguments, session, policy, run_dir, reporter.progress))
        session.world.gather(None)  # nobody writes to the folder while the first process tidies it
        beginning.close()
        with stopping(trainer) as signals:
            done = trainer.fit()
    if session.world.is_main:
        say_how_to_go_on(trainer, run_dir, done)
    if done:
        return 0
    return exit_code(signals)


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
        say(f"go on: {again(['--resume', str(run_dir)], num_processes=num_processes())}")


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


def held(run_dir: Path, session: Session) -> ContextManager[object]:
    """Two trainings in one folder would mix their files. Raises ConfigError where another process trains there."""
    if not session.world.is_main:
        return contextlib.nullcontext()
    return FolderLock(run_dir, f"another process trains in '{run_dir}'; stop it first, or start a run of your own from it with -c")


def make_reporter(session: Session, run_dir: Path, state: Optional[Dict[str, Any]]) -> Several:
    """What knows how far the run is and what it has taken, before anybody listens. ``state`` is what it goes on from, if it does."""
    first_step = 0 if state is None else state["global_step"]
    spent = spent_until(run_dir / METRICS, first_step)
    progress = Progress(chosen(session.config.train.total_timesteps), first_step=first_step, earlier=spent[UPTIME])
    return Several([], progress, spent)


def make_listeners(arguments: Parsed, session: Session, policy: PHCPolicy, run_dir: Path, progress: Progress) -> List[Reporter]:
    """The trackers, metrics.jsonl, the terminal and the page that were asked for; all or none.

    They change what lies in ``run_dir``: lines after ``progress.step`` go, which come again.
    """
    remove_parts(run_dir)
    with contextlib.ExitStack() as made:
        listeners = [made.enter_context(contextlib.closing(one)) for one in _listeners(arguments, session, policy, run_dir, progress)]
        made.pop_all()
    return listeners


def _listeners(arguments: Parsed, session: Session, policy: PHCPolicy, run_dir: Path, progress: Progress) -> Iterator[Reporter]:
    """One after the other: what may refuse the folder, what leaves files of its own there, and last what takes the screen."""
    yield MetricsLog(run_dir / METRICS, progress.step)
    page = Watch(session.config, run_dir, policy) if session.config.train.watch else None
    if page is not None:
        yield page
    yield from _trackers(arguments, session, run_dir)
    terminal = terminal_reporter(Terminal(), f"puffer-phc · {run_dir}", progress)
    if page is not None:
        terminal.message(f"watch at {page.url}")
    yield terminal


def _trackers(arguments: Parsed, session: Session, run_dir: Path) -> Iterator[Reporter]:
    options, facts = dataclasses.asdict(session.config), {**origin(), **machine(session.device)}
    if arguments.track:
        yield Wandb(run_dir, arguments.wandb_project, options, facts)
    if arguments.tensorboard:
        yield TensorBoard(run_dir, options, facts)

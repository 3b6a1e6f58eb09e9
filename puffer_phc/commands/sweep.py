"""The sweep mode: options and their ranges from the INI file, trainings as processes of their own, a table and a page at the end."""

import contextlib
import logging
import math
import os
import signal
import time
import typing
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch

from puffer_phc.command_line import say, show
from puffer_phc.commands.training_launcher import TrainingLauncher
from puffer_phc.config import Config, SweepConfig
from puffer_phc.errors import ConfigError
from puffer_phc.evaluate.figures import GOALS
from puffer_phc.files import FolderLock, check_writable, is_there, make_folder, whole_file
from puffer_phc.learn.origin import origin
from puffer_phc.option_words import SWEPT, Given, option_types, parse_values, read_swept
from puffer_phc.options import Parsed, absolute, assemble, dotted, ini_file
from puffer_phc.report.sweep_table import FrontTable
from puffer_phc.report.trackers import Wandb, require
from puffer_phc.resolve import choose_device
from puffer_phc.sweep.carbs import Carbs, CarbsOptions
from puffer_phc.sweep.imbue import ImbueCarbs
from puffer_phc.sweep.journal import FAILED, Journal, Run
from puffer_phc.sweep.protocol import Search
from puffer_phc.sweep.random_search import RandomSearch
from puffer_phc.sweep.results import final_point
from puffer_phc.sweep.runs import Rules, Sweep
from puffer_phc.sweep.space import Numeric, Parameter, Space, parameter_from

logger = logging.getLogger(__name__)

PAGE = "sweep.html"

_MOTIONS = "env.motion_file"

NOT_SWEPT = (
    "base.env_name",
    "train.device",
    "train.data_dir",
    "train.eval_interval",
    "train.watch",
    "train.watch_host",
    "train.watch_port",
)
"""Options that the sweep itself sets, or that change nothing."""
_PAGE_SECONDS = 20.0
"""Between two pages, where more happens."""


def sweep(arguments: Parsed) -> int:
    """Run, or go on with, the sweep that the INI file describes. Raises ConfigError for what is wrong with it, before the first run."""
    check_writable(Path(arguments.train.data_dir))
    options = arguments.sweep
    _check_metric(options)
    if arguments.track:
        require("wandb")
    space = read_space(arguments)
    config = arguments.sections()
    _check_motions(space, config)
    device = choose_device(config)
    devices = worker_devices(config, device, options.workers)
    search = make_search(space, options, 0)
    folder = Path(arguments.train.data_dir) / options.name
    make_folder(folder)
    with contextlib.ExitStack() as held:
        held.enter_context(FolderLock(folder, f"another process works on the sweep in '{folder}'; choose another --sweep.name"))
        launcher = TrainingLauncher(arguments, folder, device)
        described = definition(space, options, launcher.common())
        journal = held.enter_context(contextlib.closing(Journal(folder, described)))
        if journal.runs:
            logger.info("going on with the sweep in %s: %d runs, %d of them over", folder, len(journal.runs), _num_over(journal))
            search = make_search(space, options, len(journal.runs))
        listener = _Listener(journal, space, options, folder, _open_tracker(arguments, folder, described, held))
        received = _run_until_signal(Sweep(journal, search, folder, launcher, rules(options), devices, listener.on_end, listener.refresh))
    listener.finish()
    if journal.runs and all(run.outcome == FAILED for run in journal.runs):
        raise ConfigError(f"all {len(journal.runs)} runs failed, the last with {journal.runs[-1].reason}")
    return 128 + received if received else 0


def _open_tracker(arguments: Parsed, folder: Path, described: Dict[str, Any], held: contextlib.ExitStack) -> Optional[Wandb]:
    """Weights & Biases where it was asked for, until ``held`` ends."""
    if not arguments.track:
        return None
    tracker = Wandb(folder, arguments.wandb_project, {"sweep": described}, origin())
    held.callback(tracker.close)
    return tracker


def read_space(arguments: Parsed) -> Space:
    """The swept options; a line says which of them the command line gives in vain.

    Raises ConfigError, naming file and section, for a range that can't be used.
    """
    path = ini_file(arguments.config)
    parameters: List[Parameter] = []
    for name, words in read_swept(path).items():
        if name in arguments.given:
            logger.warning("--%s is not used: %s sweeps it; take out its section [%s%s] to set it", name, path, SWEPT, name)
        try:
            parameters.append(_parameter(name, words, arguments.sections(), path.parent))
        except ConfigError as error:
            raise ConfigError(f"{path}: [{SWEPT}{name}]: {error}") from error
    try:
        return Space(parameters)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _parameter(name: str, words: Mapping[str, str], config: Config, folder: Path) -> Parameter:
    """The parameter that a section describes, with ends that the option itself allows; relative paths count from ``folder``."""
    if name in NOT_SWEPT:
        raise ConfigError("this option belongs to the sweep itself and can't be swept")

    def parse(word: str) -> Any:
        return absolute(parse_values({name: Given([word], name)}), folder)[name]

    parameter = parameter_from(name, words, option_kind(option_types()[name]), parse)
    for value in parameter.ends():
        assemble({**dotted(config), name: value})
    return parameter


def option_kind(hint: Any) -> type:
    """The type of an option, automatic or not."""
    members = [member for member in typing.get_args(hint) if member is not type(None)]
    is_optional = typing.get_origin(hint) is typing.Union and len(members) == 1
    return members[0] if is_optional else hint


def make_search(space: Space, options: SweepConfig, done: int) -> Search:
    """The search that ``sweep.method`` names; ``done`` suggestions have been made in an earlier process."""
    seed = options.seed + 1000 * done
    if options.method == "random":
        return RandomSearch(space, seed)
    if options.method == "carbs-imbue":
        return ImbueCarbs(space, seed, options.initial_runs, options.search_radius, options.resample_interval, options.time_limit)
    own = CarbsOptions(options.initial_runs, options.search_radius, options.resample_interval, options.time_limit)
    return Carbs(space, own, seed)


def definition(space: Space, options: SweepConfig, common: Mapping[str, Any]) -> Dict[str, Any]:
    """What all runs of a sweep have to have in common: how they are judged, the ranges, and the ``common`` options that are not swept."""
    described: Dict[str, Any] = {"metric": options.metric, "goal": options.goal}
    described.update({name: value for name, value in common.items() if name not in NOT_SWEPT})
    for parameter in space.parameters:
        if isinstance(parameter, Numeric):
            described[parameter.name] = [parameter.distribution, parameter.low, parameter.high, parameter.rounding]
        else:
            described[parameter.name] = [parameter.distribution, *map(str, parameter.values)]
    return described


def rules(options: SweepConfig) -> Rules:
    """How runs are judged."""
    sign = 1.0 if options.goal == "maximize" else -1.0
    return Rules(options.metric, sign, options.runs, options.time_limit, options.retries, options.stop_share)


def _check_metric(options: SweepConfig) -> None:
    if options.metric not in GOALS:
        raise ConfigError(f"sweep.metric is {options.metric!r}; choose {', '.join(GOALS)}")
    if GOALS[options.metric] != options.goal:
        raise ConfigError(f"sweep.goal is {options.goal}, but {options.metric} is to be {GOALS[options.metric]}d")


def _check_motions(space: Space, config: Config) -> None:
    """Raise ConfigError for a motion file that is not there: every run with it would fail."""
    swept = next((parameter for parameter in space.parameters if parameter.name == _MOTIONS), None)
    for path in [config.env.motion_file] if swept is None else swept.ends():
        if not is_there(Path(path)):
            raise ConfigError(f"motion file '{path}' does not exist")


def worker_devices(config: Config, device: torch.device, workers: Optional[int]) -> List[Optional[str]]:
    """For every worker what it gets in CUDA_VISIBLE_DEVICES; None on a CPU."""
    if device.type != "cuda":
        return [None] * (workers or 1)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in visible.split(",")] if visible else [str(index) for index in range(torch.cuda.device_count())]
    names = names if device.index is None else [names[device.index]]
    return [names[index % len(names)] for index in range(workers or len(names))]


class _Listener:
    """Keeps the page up to date and passes ended runs on to Weights & Biases."""

    def __init__(self, journal: Journal, space: Space, options: SweepConfig, folder: Path, tracker: Optional[Wandb]) -> None:
        self._journal, self._space, self._options, self._folder, self._tracker = journal, space, options, folder, tracker
        self._last_page = -math.inf
        self._shown: List[Tuple[int, Optional[str]]] = []

    def on_end(self, run: Run) -> None:
        """A run is over."""
        last = final_point(run)
        if self._tracker is not None and last is not None:
            numbers = {f"sweep/{name}": float(value) for name, value in run.params.items() if isinstance(value, (int, float))}
            self._tracker.on_evaluation(_num_over(self._journal), {self._options.metric: last.value, "sweep/cost": last.seconds, **numbers})

    def refresh(self) -> None:
        """Write the page anew where there is something new, unless it is only seconds old."""
        known = [(len(run.points), run.outcome) for run in self._journal.runs]
        if known != self._shown and time.monotonic() - self._last_page > _PAGE_SECONDS:
            self._write_page()
            self._shown, self._last_page = known, time.monotonic()

    def finish(self) -> None:
        """Show the table and where the page is."""
        path = self._write_page(is_working=False)
        table = FrontTable(self._journal.runs, self._space, self._options)
        if table.rows:
            show(table)
        else:
            say(table.title)
        say(f"wrote {path}")

    def _write_page(self, is_working: bool = True) -> Path:
        from puffer_phc.report.sweep_report import sweep_report  # draws, and takes a second to load

        path = self._folder / PAGE
        with whole_file(path) as temporary:
            temporary.write_text(sweep_report(self._journal.runs, self._space, self._options, is_working), encoding="utf-8")
        return path


def _num_over(journal: Journal) -> int:
    return sum(run.is_over for run in journal.runs)


def _run_until_signal(work: Sweep) -> int:
    """Run; Ctrl-C and SIGTERM end it after the trainings have saved. Returns the signal that came, or 0."""
    came: List[int] = []

    def stop(number: int, _frame: object) -> None:
        came.append(number)
        logger.info("stopping: trainings end their iteration and save; the same command goes on")
        work.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        work.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return came[0] if came else 0

"""Runs of a sweep: each a process of its own, several at once, none lost and none counted twice whatever is killed."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Protocol, Sequence

from puffer_phc.errors import ConfigError
from puffer_phc.sweep.journal import FAILED, FINISHED, STOPPED, TIMED_OUT, Journal, Run
from puffer_phc.sweep.processes import Job, end_orphans
from puffer_phc.sweep.protocol import Params, Search
from puffer_phc.sweep.results import final_point, is_bad, observations_of
from puffer_phc.sweep.scores import MetricsReader

logger = logging.getLogger(__name__)

LOG = "log.txt"
PAUSE_SECONDS = 0.5
"""Between looks at the runs."""
_HOPELESS = 5
"""Runs that have to have failed for one and the same reason, and none otherwise, before no more are tried."""
_INTERRUPTED_CODES = (130, 143)
"""Of a training that somebody else has ended: not its options' fault."""


class Launcher(Protocol):
    """Knows how a training is started."""

    def command(self, params: Params, folder: Path) -> Sequence[str]:
        """What trains in ``folder``, or goes on with what an earlier process has left there."""
        ...

    def can_resume(self, folder: Path) -> bool:
        """Whether there is something to go on with."""
        ...

    def environment(self, device: Optional[str]) -> Mapping[str, str]:
        """Variables for a process that is to have ``device`` to itself."""
        ...

    def metrics(self, folder: Path) -> Path:
        """The file that the training in ``folder`` writes figures to."""
        ...

    def total_steps(self, params: Params) -> Optional[int]:
        """Environment steps of a whole run, where that is known."""
        ...


class Rules(NamedTuple):
    """How runs are judged and how many there are."""

    metric: str
    sign: float
    """1 where more is better, −1 where less is."""
    num_runs: int
    time_limit: float
    """s for each process."""
    retries: int
    """Times that a run is started again after something else than its options has ended it."""
    stop_share: float
    """Runs among the worst such share are stopped; 0: none."""


@dataclass
class _Active:
    """A run under way."""

    run: Run
    job: Job
    folder: Path
    metrics: MetricsReader
    ending: Optional[str] = None
    """Why it was asked to end: an outcome, or an empty text because the sweep ends."""


class Sweep:
    """Keeps ``devices`` busy with runs that ``search`` suggests, until there are ``rules.num_runs`` of them.

    One process works for every entry of ``devices``, with that entry to itself; None stands for no particular device. ``on_end`` is called
    after each run, ``on_look`` between looks at the runs.
    """

    def __init__(
        self,
        journal: Journal,
        search: Search,
        folder: Path,
        launcher: Launcher,
        rules: Rules,
        devices: Sequence[Optional[str]] = (None,),
        on_end: Optional[Callable[[Run], None]] = None,
        on_look: Optional[Callable[[], None]] = None,
    ) -> None:
        self._journal, self._search, self._folder, self._launcher = journal, search, folder, launcher
        self._rules, self._devices, self._on_end, self._on_look = rules, list(devices), on_end, on_look
        self._active: Dict[int, _Active] = {}
        self._told: Dict[int, int] = {}
        self._total_steps: Dict[int, Optional[int]] = {}
        self._stop_requested = False
        for run in journal.runs:
            self._tell(run)

    def run(self) -> bool:
        """Work until all runs are over, or ``stop`` is called; returns whether all are.

        Raises ConfigError where nothing but the same failure comes of all runs: then it is not the options' fault.
        """
        unfinished = self._unfinished()
        for run, was_running in zip(unfinished, end_orphans([run.process for run in unfinished])):
            if was_running:
                logger.info("run %d was still working for a sweep that is gone; it was ended and goes on", run.number)
        while not self._stop_requested:
            self._check_hope()
            self._fill()
            if not self._active:
                return True
            self._watch()
            if self._on_look is not None:
                self._on_look()
            time.sleep(PAUSE_SECONDS)
        self._end_all()
        return len(self._journal.runs) >= self._rules.num_runs and not self._unfinished()

    def _check_hope(self) -> None:
        over = [run for run in self._journal.runs if run.is_over]
        if len(over) >= _HOPELESS and len({(run.outcome, run.reason) for run in over}) == 1 and over[0].outcome == FAILED:
            self._end_all()
            raise ConfigError(f"all {len(over)} runs failed with {over[0].reason}; put that right and choose another --sweep.name")

    def stop(self) -> None:
        """End ``run`` soon: trainings save and can be gone on with. Safe to call from a signal handler."""
        self._stop_requested = True

    def _unfinished(self) -> List[Run]:
        return [run for run in self._journal.runs if not run.is_over]

    def _fill(self) -> None:
        """Give every free device a run: one that was begun before, else a new one."""
        for slot in range(len(self._devices)):
            if slot in self._active:
                continue
            working = {active.run.number for active in self._active.values()}
            waiting = [run for run in self._unfinished() if run.number not in working]
            if waiting:
                self._start(slot, waiting[0])
            elif len(self._journal.runs) < self._rules.num_runs:
                params = self._search.suggest([run.params for run in self._unfinished()])
                self._start(slot, self._journal.suggested(params))

    def _start(self, slot: int, run: Run) -> None:
        base = self._folder / "runs" / f"{run.number:04d}"
        folder = self._attempt_folder(base, run)
        folder.mkdir(parents=True, exist_ok=True)
        device = self._devices[slot]
        job = Job(self._launcher.command(run.params, folder), self._launcher.environment(device), base / LOG)
        self._journal.started(run, {**job.identity, "folder": folder.name})
        job.begin()
        self._active[slot] = _Active(run, job, folder, MetricsReader(self._rules.metric))
        words = " ".join(f"{name}={_shown(value)}" for name, value in run.params.items())
        logger.info("run %d%s: %s", run.number, f" on {device}" if device is not None else "", words)

    def _attempt_folder(self, base: Path, run: Run) -> Path:
        """The last attempt's folder where it can be gone on with, else a new one that no process knows of."""
        if run.process is not None and self._launcher.can_resume(base / run.process["folder"]):
            return base / run.process["folder"]
        return base / f"attempt_{1 + len(list(base.glob('attempt_*')))}"

    def _watch(self) -> None:
        for slot, active in list(self._active.items()):
            code = active.job.exit_code
            self._read(active)
            if code is not None:
                del self._active[slot]
                self._conclude(active, code)
            elif active.ending is not None:
                active.job.stop()
            elif time.monotonic() - active.job.started > self._rules.time_limit:
                active.ending = TIMED_OUT
            elif self._is_to_be_stopped(active.run):
                active.ending = STOPPED

    def _is_to_be_stopped(self, run: Run) -> bool:
        total, last = self._steps_of(run), final_point(run)
        is_at_its_end = last is not None and total is not None and last.step >= total
        return not is_at_its_end and is_bad(run, self._journal.runs, self._rules.sign, self._rules.stop_share)

    def _read(self, active: _Active) -> None:
        """Take in the evaluations that are new in the run's metrics file."""
        run = active.run
        for point in active.metrics.read(self._launcher.metrics(active.folder)):
            if not run.points or point.step > run.points[-1].step:
                self._journal.observed(run, point)
        self._tell(run)

    def _conclude(self, active: _Active, code: int) -> None:
        """Decide what the end of a process means for its run."""
        run, was_killed = active.run, code < 0 or code in _INTERRUPTED_CODES
        if active.ending:
            outcome, reason = active.ending, ""
        elif code == 0:
            outcome, reason = (FINISHED, "") if run.points else (FAILED, f"no evaluation with a finite {self._rules.metric}")
        elif active.ending is not None or (was_killed and run.losses < self._rules.retries):
            if active.ending is None:
                self._journal.lost(run, _code_text(code))
            logger.info("run %d was interrupted (%s); it goes on later", run.number, _code_text(code))
            return
        else:
            outcome, reason = FAILED, f"{_code_text(code)}: {_last_line(active.folder.parent / LOG)}"
        self._journal.ended(run, outcome, reason)
        self._tell(run)
        self._announce(run)

    def _announce(self, run: Run) -> None:
        last = final_point(run)
        figures = f", {self._rules.metric} {last.value:.5g} after {last.seconds:.0f} s" if last is not None else ""
        logger.info("run %d: %s%s%s", run.number, run.outcome, figures, f" ({run.reason})" if run.reason else "")
        if self._on_end is not None:
            self._on_end(run)

    def _tell(self, run: Run) -> None:
        """Pass on to the search what it has not been told of ``run``."""
        observations = observations_of(run, self._rules.sign, self._steps_of(run))
        for observation in observations[self._told.get(run.number, 0) :]:
            self._search.observe(*observation)
        self._told[run.number] = len(observations)

    def _steps_of(self, run: Run) -> Optional[int]:
        if run.number not in self._total_steps:
            self._total_steps[run.number] = self._launcher.total_steps(run.params)
        return self._total_steps[run.number]

    def _end_all(self) -> None:
        for active in self._active.values():
            active.ending = active.ending or ""
        while self._active:
            self._watch()
            time.sleep(PAUSE_SECONDS)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _code_text(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")[:300]

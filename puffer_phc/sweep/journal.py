"""The state of a sweep: one file to which lines are added and nothing else, so that no crash can take back what it says."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from puffer_phc.errors import ConfigError
from puffer_phc.files import LineFile
from puffer_phc.sweep.protocol import Params
from puffer_phc.sweep.scores import Point

JOURNAL = "sweep.jsonl"

FINISHED, FAILED, STOPPED, TIMED_OUT = "finished", "failed", "stopped", "time limit"
"""How runs end: by themselves, by a fault of their options, by the sweep because they were bad, or because they took too long."""


@dataclass
class Run:
    """One run, as far as the journal knows."""

    number: int
    params: Params
    points: List[Point] = field(default_factory=list)
    outcome: Optional[str] = None
    """How it ended; None while it has not."""
    reason: str = ""
    attempts: int = 0
    """Times that a process was started for it."""
    losses: int = 0
    """How many of these somebody else has ended, the sweep apart."""
    process: Optional[Dict[str, Any]] = None
    """The last of these processes: its id, and when it was born."""

    @property
    def is_over(self) -> bool:
        """Whether no process will be started for it any more."""
        return self.outcome is not None


class Journal:
    """The runs of the sweep in ``folder``, and the file that remembers them.

    ``definition`` is what all runs must have in common. Raises ConfigError where the folder's sweep was begun with another one, and for a
    file that can't be read or written.
    """

    def __init__(self, folder: Path, definition: Dict[str, Any]) -> None:
        self._path = folder / JOURNAL
        self.runs: List[Run] = []
        try:
            self._file = LineFile(self._path)  # refuses a link before anything is cut off behind it
            lines = _whole_lines(self._path)
        except OSError as error:
            raise ConfigError(f"can't use '{self._path}': {error.strerror or error}") from error
        self._load(lines, json.loads(json.dumps(definition)))

    def _load(self, lines: List[Dict[str, Any]], definition: Dict[str, Any]) -> None:
        if not lines:
            self._write("begun", definition=definition)
        elif lines[0].get("definition") != definition:
            changed = _differences(lines[0].get("definition") or {}, definition)
            raise ConfigError(
                f"'{self._path.parent}' holds a sweep that was begun with another {', '.join(changed)}; choose another --sweep.name"
            )
        for number, line in enumerate(lines[1:], start=2):
            try:
                self._replay(line)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise ConfigError(f"'{self._path}', line {number}, is no line of a sweep: {error!r}") from error

    def suggested(self, params: Params) -> Run:
        """A new run with ``params``."""
        return self._add("suggested", run=len(self.runs), params=params)

    def started(self, run: Run, process: Dict[str, Any]) -> None:
        """A process works on ``run``."""
        self._add("started", run=run.number, process=process)

    def observed(self, run: Run, point: Point) -> None:
        """``run`` was evaluated."""
        self._add("observed", run=run.number, point=list(point))

    def lost(self, run: Run, reason: str) -> None:
        """The process that works on ``run`` was ended by somebody else; another one will go on."""
        self._add("lost", run=run.number, reason=reason)

    def ended(self, run: Run, outcome: str, reason: str = "") -> None:
        """``run`` is over."""
        self._add("ended", run=run.number, outcome=outcome, reason=reason)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, event: str, **facts: Any) -> Run:
        return self._replay(self._write(event, **facts))

    def _write(self, event: str, **facts: Any) -> Dict[str, Any]:
        line = {"event": event, **facts}
        try:
            self._file.write(json.dumps(line))
        except OSError as error:
            raise ConfigError(f"can't write to '{self._path}': {error.strerror or error}") from error
        return line

    def _replay(self, line: Dict[str, Any]) -> Run:
        """Take in what a line says; saying it twice changes nothing."""
        event, number = line["event"], line["run"]
        if event == "suggested" and number == len(self.runs):
            self.runs.append(Run(number, {name: _value(value) for name, value in line["params"].items()}))
        run = self.runs[number]
        if event == "started":
            run.attempts += 1
            run.process = line["process"]
        elif event == "observed":
            point = Point(*line["point"])
            if not run.points or point.step > run.points[-1].step:
                run.points.append(point)
        elif event == "lost":
            run.losses += 1
        elif event == "ended":
            run.outcome, run.reason = line["outcome"], line["reason"]
        return run


def _value(value: Any) -> Any:
    """JSON has no tuples, options have no lists."""
    return tuple(value) if isinstance(value, list) else value


def _whole_lines(path: Path) -> List[Dict[str, Any]]:
    """The lines of the file; a last one that a power cut has torn is cut off, in the file too."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("rb+") as file:
            file.truncate(len(whole))
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise ConfigError(f"'{path}' is damaged: {error}") from error


def _differences(one: Dict[str, Any], other: Dict[str, Any]) -> List[str]:
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return sorted(names) or ["version"]

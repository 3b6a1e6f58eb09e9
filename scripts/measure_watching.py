"""What ``--train.watch`` costs a run: pairs of equal runs, with and without the page, one after the other.

    python scripts/measure_watching.py --pairs 6

A run is ``scripts/train.py`` with its defaults. The watched one has a reader that asks its page for news as a browser does. Compared are
the processor seconds of the run with the page's process, start and end included, and the steps a second. The order within a pair
alternates. Where other work is on the machine only the processor seconds mean something, and these only where threads that wait do so
asleep: ``OMP_WAIT_POLICY=passive``. Needs an operating system that counts a child's processor time (not Windows).
"""

import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

import tyro
from rich.console import Console
from rich.table import Table

from puffer_phc.command_line import Aside, run_main
from puffer_phc.errors import ConfigError, PhcError
from puffer_phc.watch.process import TAKEN

NEWS_SECONDS = 1.5
"""As the page's script asks."""
TRAIN = Path(__file__).resolve().parent / "train.py"


@dataclass(frozen=True)
class Options:
    """Measure what watching costs."""

    pairs: int = 6
    """Pairs of runs."""
    steps: int = 400_000
    """Environment steps of a run."""


class Run(NamedTuple):
    """What one run took."""

    processor_seconds: float
    """Of the run and every process that it started."""
    start_seconds: float
    """Of the page's process until a humanoid moved."""
    page_seconds: float
    """Of the page's process since then."""
    steps_per_second: float
    """The mean after the first iteration."""


def own_seconds(run: Run) -> float:
    """Processor seconds of the run without the page's process."""
    return run.processor_seconds - run.start_seconds - run.page_seconds


CHANGES: Dict[str, Callable[[Run, Run], float]] = {
    "processor seconds": lambda alone, watched: watched.processor_seconds / alone.processor_seconds - 1.0,
    "the page's after its start, of the run's own": lambda alone, watched: watched.page_seconds / own_seconds(watched),
    "steps a second": lambda alone, watched: watched.steps_per_second / alone.steps_per_second - 1.0,
}
"""Shares of what a run alone takes."""


def measure(steps: int, is_watched: bool) -> Run:
    """One run of ``steps`` environment steps, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, str(TRAIN), "--train.total_timesteps", str(steps), "--train.data_dir", folder]
        port = free_port()
        if is_watched:
            words += ["--train.watch", "--train.watch_port", str(port)]
        with reading(port) if is_watched else contextlib.nullcontext():
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise PhcError(f"a run failed: {process.stderr.read().decode(errors='replace').strip() if process.stderr else status}")
        (run_dir,) = Path(folder).iterdir()
        return Run(usage.ru_utime + usage.ru_stime, *page_seconds(run_dir / "watch.log"), steps_per_second(run_dir / "metrics.jsonl"))


def page_seconds(log: Path) -> Tuple[float, float]:
    """What the page's process says that it took to start and since then; 0 where there was none."""
    lines = log.read_text().splitlines() if log.exists() else []
    start, since = next((re.findall(r"[\d.]+", line) for line in lines if line.startswith(TAKEN)), ("0", "0"))
    return float(start), float(since)


def steps_per_second(metrics: Path) -> float:
    """Between a run's first and last iteration."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    first, *_, last = [(line["0verview/agent_steps"], line["performance/uptime"]) for line in lines if "0verview/SPS" in line]
    return (last[0] - first[0]) / (last[1] - first[1])


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def reading(port: int) -> Iterator[None]:
    """Ask the page at ``port`` for news until the block ends, and for an attempt when there is a new one."""
    ended = threading.Event()
    thread = threading.Thread(target=read_page, args=(f"http://127.0.0.1:{port}", ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def read_page(url: str, ended: threading.Event) -> None:
    """What the page's script fetches."""
    attempt = 0
    while not ended.wait(NEWS_SECONDS):
        with contextlib.suppress(OSError):
            newest = json.loads(fetch(f"{url}/state"))["attempt"]
            if newest != attempt:
                fetch(f"{url}/attempt")
                attempt = newest


def fetch(url: str) -> bytes:
    """The answer."""
    with urllib.request.urlopen(url, timeout=30.0) as reply:
        return reply.read()


def run(options: Options, console: Console) -> int:
    """Measure pair after pair and show each as it comes, then the medians."""
    if not hasattr(os, "wait4"):
        raise ConfigError("this system does not count the processor time of children")
    pairs: List[Tuple[Run, Run]] = []
    for index in range(options.pairs):
        found = {is_watched: measure(options.steps, is_watched) for is_watched in (index % 2 == 0, index % 2 == 1)}
        pairs.append((found[False], found[True]))
        console.print(f"pair {index + 1}: {describe(*pairs[-1])}", soft_wrap=True)
    show(pairs, console)
    return 0


def describe(alone: Run, watched: Run) -> str:
    """The two runs of a pair in a line."""
    return (
        f"processor {alone.processor_seconds:.1f} s alone, {watched.processor_seconds:.1f} s watched, "
        f"of which {watched.start_seconds:.2f} s for the page's start and {watched.page_seconds:.2f} s for the page; "
        f"{alone.steps_per_second:,.0f} and {watched.steps_per_second:,.0f} steps/s"
    )


def show(pairs: List[Tuple[Run, Run]], console: Console) -> None:
    """What watching added to each pair's run: the median and the range."""
    table = Table("watched against alone", "median", "lowest", "highest")
    for name, change in CHANGES.items():
        found = [100.0 * change(alone, watched) for alone, watched in pairs]
        table.add_row(name, *(f"{value:+.2f} %" for value in (statistics.median(found), min(found), max(found))))
    console.print(table)


def main() -> int:
    """Parse the command line and measure."""
    return run_main(lambda: run(tyro.cli(Options, description=__doc__), Aside()))


if __name__ == "__main__":
    sys.exit(main())

"""What conversion scripts show: progress, a table of what was left out and why, and what was written."""

import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from puffer_phc.errors import MotionFileError
from puffer_phc.files import check_writable_file, write_whole
from puffer_phc.motion.clip_names import plain_text
from puffer_phc.motion.conversion import Converted, Dropped
from puffer_phc.motion.file import save_motion_file

ROWS = 60
"""Rows of the table on the terminal; a report has all."""

NAMES = 3
"""Names of files that share a reason, likewise."""


def check_request(output: Optional[Path], report: Optional[Path], processes: int) -> None:
    """Raise a PhcError, before hours of work, where nothing could be written or nobody would do the work."""
    if output is not None and output.suffix != ".npz":
        raise MotionFileError(f"output '{output}': the name of a motion file ends in .npz")
    for path in (output, report):
        if path is not None:
            check_writable_file(path)
    if processes < 1:
        raise MotionFileError(f"--processes is {processes}, must be at least 1")


def collect(parts: Iterator[Tuple[int, Converted]], files: int, console: Console) -> Converted:
    """All parts together, with a progress bar over so many ``files``."""
    total = Converted([], [])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("converting", total=files)
        for count, part in parts:
            total.clips.extend(part.clips)
            total.dropped.extend(part.dropped)
            progress.advance(task, count)
    return total


def show_dropped(dropped: Sequence[Dropped], console: Console) -> None:
    """A table of what was left out, files together where the reason is the same, and the counts."""
    groups: Dict[Tuple[str, str], List[str]] = defaultdict(list)
    for entry in dropped:
        groups[entry.kind, entry.reason].append(entry.name)
    if not groups:
        return
    table = Table("left out", "why", "files", "which", title=f"{len(dropped)} left out")
    for (kind, reason), names in sorted(groups.items())[:ROWS]:
        table.add_row(kind, reason, str(len(names)), " ".join(names[:NAMES]) + (" …" if len(names) > NAMES else ""))
    console.print(table)
    if len(groups) > ROWS:
        console.print(f"{len(groups) - ROWS} rows more: see --report")
    for kind, count in Counter(entry.kind for entry in dropped).most_common():
        console.print(f"{count:6d} {kind}")


def finish(total: Converted, output: Callable[[int], Path], report: Optional[Path], begin: float, console: Console) -> None:
    """Show and write what came out; ``output`` names the file for a number of clips, ``begin`` is ``time.perf_counter`` at the start.

    Raises MotionFileError when nothing did.
    """
    clips = sorted(total.clips, key=lambda clip: clip.name)
    path = output(len(clips))
    if clips:
        save_motion_file(path, clips)
    dropped = sorted(Dropped(*map(plain_text, entry)) for entry in total.dropped)
    show_dropped(dropped, console)
    if report is not None:
        write_whole(report, "".join("\t".join(entry) + "\n" for entry in dropped))
    if not clips:
        raise MotionFileError("none of the files could be converted")
    mended = sum(bool(clip.repairs) for clip in clips)
    if mended:
        console.print(f"{mended:6d} repaired: scripts/inspect_motions.py says what")
    seconds, elapsed = sum(clip.duration for clip in clips), time.perf_counter() - begin
    frames = sum(clip.num_frames for clip in clips)
    rate = f"{seconds / 3600:.3f} h in {elapsed:.0f} s ({seconds / elapsed:.0f} x real time)"
    console.print(f"{len(clips)} clips, {frames} frames, {rate}: {path}", soft_wrap=True)

"""Motion capture files (CMU ASF/AMC, BVH, DeepMimic txt) to a motion file of the humanoid.

    python scripts/convert_mocap_data.py DATA/cmu motions.npz
    python scripts/convert_mocap_data.py dance.bvh dance.npz --map my_joints.json --fps 60

A folder is walked. Frame rates come from --fps, else from the column fps of an index.csv above the file, else from the file (BVH) or CMU's
120 Hz. Files that cannot be read and clips that cannot be played are named with the reason.
"""

import logging
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from typing_extensions import Annotated

from puffer_phc.errors import PhcError
from puffer_phc.motion.bvh import read_joint_map
from puffer_phc.motion.convert import CMU_LICENCE, Converted, Dropped, Options, convert, find_sources, make_jobs
from puffer_phc.motion.file import save_motion_file


@dataclass(frozen=True)
class Arguments:
    """Convert motion capture files to a motion file."""

    input: Annotated[Path, tyro.conf.Positional]
    """A motion file (.amc, .bvh, .txt) or a folder of them."""
    output: Annotated[Path, tyro.conf.Positional]
    """The motion file to write, .npz."""
    fps: Optional[float] = None
    """Frames per second of all files, whatever they or an index say."""
    map: Optional[Path] = None
    """A JSON joint map for BVH files; built in are the two CMU conversions and Mixamo's names."""
    licence: str = CMU_LICENCE
    """The licence text stored with the clips."""
    processes: int = os.cpu_count() or 1
    """Worker processes."""
    keep_all: bool = False
    """Keep clips that the inspection rejects or that need a scene."""
    report: Optional[Path] = None
    """A file for the table of what was dropped and why, tab separated."""
    debug: bool = False
    """Show tracebacks."""


def _convert(arguments: Arguments, console: Console) -> Converted:
    """All files of the input, with a progress bar."""
    jobs = make_jobs(find_sources(arguments.input))
    joint_map = read_joint_map(arguments.map) if arguments.map else None
    options = Options(arguments.fps, joint_map, arguments.licence, arguments.keep_all)
    total = Converted([], [], [])
    with Progress(console=console) as progress:
        task = progress.add_task("converting", total=sum(len(job) for job in jobs))
        for count, part in convert(jobs, options, arguments.processes):
            total.clips.extend(part.clips)
            total.inspections.extend(part.inspections)
            total.dropped.extend(part.dropped)
            progress.advance(task, count)
    return total


def _show(dropped: List[Dropped], console: Console) -> None:
    """The table of what was dropped and why."""
    table = Table("clip", "what", "why", title=f"{len(dropped)} left out")
    for entry in sorted(dropped):
        table.add_row(*entry)
    if dropped:
        console.print(table)
    for kind, count in Counter(entry.kind for entry in dropped).most_common():
        console.print(f"{count:5d} {kind}")


def _run(arguments: Arguments, console: Console) -> int:
    """Convert, report, save."""
    if arguments.output.suffix != ".npz":
        raise PhcError(f"output '{arguments.output}': the name of a motion file ends in .npz")
    begin = time.perf_counter()
    total = _convert(arguments, console)
    _show(total.dropped, console)
    if arguments.report:
        arguments.report.write_text("".join("\t".join(entry) + "\n" for entry in sorted(total.dropped)))
    if not total.clips:
        raise PhcError(f"nothing in '{arguments.input}' could be converted")
    clips = sorted(total.clips, key=lambda clip: clip.name)
    save_motion_file(arguments.output, clips)
    seconds, elapsed = sum(clip.duration for clip in clips), time.perf_counter() - begin
    frames = sum(clip.num_frames for clip in clips)
    console.print(f"{len(clips)} clips, {frames} frames, {seconds / 3600:.3f} h in {elapsed:.0f} s ({seconds / elapsed:.0f} x real time)")
    console.print(str(arguments.output), markup=False)
    return 0


def main() -> int:
    """Parse the command line and convert."""
    arguments = tyro.cli(Arguments, description=__doc__)
    logging.basicConfig(level=logging.DEBUG if arguments.debug else logging.WARNING, format="%(message)s")
    console = Console()
    try:
        return _run(arguments, console)
    except PhcError as error:
        if arguments.debug:
            raise
        console.print(f"error: {error}", style="red", markup=False)
        return 2


if __name__ == "__main__":
    sys.exit(main())

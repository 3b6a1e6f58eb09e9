"""AMASS folders (SMPL+H *_poses.npz, SMPL-X *_stageii.npz) to a motion file of the humanoid.

    python scripts/convert_amass_data.py --path AMASS
    python scripts/convert_amass_data.py --path AMASS --split all --output everything.npz --mirror

Files are expected as AMASS's archives unpack: <path>/<data set>/<subject>/<file>.npz. Any frame rate becomes 30 frames per second in exact
time. No body model is needed. What is left out is listed by reason, damaged files by name.
"""

import logging
import os
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from typing_extensions import Annotated, Literal

from puffer_phc.errors import PhcError
from puffer_phc.motion.amass import (
    Converted,
    Dropped,
    Options,
    Selection,
    Source,
    convert,
    find_files,
    read_failed_keys,
    read_occlusions,
    select,
)
from puffer_phc.motion.file import save_motion_file
from puffer_phc.motion.smpl_model import load_smpl_model

ROWS = 40
"""Damaged files that the terminal lists; --report has all."""

BODY_MODEL = Path(__file__).resolve().parent.parent / "smpl" / "SMPL_NEUTRAL.pkl"


@dataclass(frozen=True)
class Arguments:
    """Convert AMASS to a motion file."""

    path: Path
    """The folder that holds AMASS's data sets."""
    output: Optional[Path] = None
    """The motion file to write, .npz; default: amass_<split>_<count>.npz in the folder."""
    split: Literal["train", "valid", "test", "all"] = "train"
    """Data sets of PHC's training, validation or test split, or all there are."""
    occlusion_file: Annotated[Optional[Path], tyro.conf.arg(aliases=("--occulusion-file",))] = None
    """PHC's amass_occlusion_v3.pkl: clips that need objects are left out, others cut where they leave the floor."""
    failed_keys: Optional[Path] = None
    """Convert only these clips: a pickle with failed_keys, or a text file with one name a line."""
    name_offset: int = -3
    """Path components, counted from the end, that make a clip's name; the first of them is the data set."""
    floor: Literal["humanoid", "mesh"] = "humanoid"
    """humanoid: found when clips are loaded; mesh: from the skin of a SMPL body, kept by --env.motion_floor file."""
    body_model: Path = BODY_MODEL
    """The SMPL body for --floor mesh."""
    mirror: bool = False
    """Add the mirror image of every clip; --env.mirror_motions does it at load instead."""
    processes: int = os.cpu_count() or 1
    """Worker processes."""
    report: Optional[Path] = None
    """A file for the table of all that was left out, tab separated."""
    debug: bool = False
    """Show tracebacks."""


def _convert(sources: Sequence[Source], options: Options, processes: int, console: Console) -> Converted:
    """All sources, with a progress bar."""
    total = Converted([], [])
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("converting", total=len(sources))
        for count, part in convert(sources, options, processes):
            total.clips.extend(part.clips)
            total.dropped.extend(part.dropped)
            progress.advance(task, count)
    return total


def _show(dropped: Sequence[Dropped], console: Console) -> None:
    """What was left out: damaged files by name, the rest by reason."""
    damaged = sorted(entry for entry in dropped if entry.kind == "unreadable")
    if damaged:
        table = Table("file", "why", title=f"{len(damaged)} unreadable")
        for entry in damaged[:ROWS]:
            table.add_row(entry.name, entry.reason)
        if len(damaged) > ROWS:
            table.add_row("…", f"{len(damaged) - ROWS} more, see --report")
        console.print(table, markup=False)
    groups: Dict[Tuple[str, str], List[str]] = defaultdict(list)
    for entry in dropped:
        groups[entry.kind, entry.reason if entry.kind != "unreadable" else "see above"].append(entry.name)
    if groups:
        table = Table("left out", "why", "files", "for example", title=f"{len(dropped)} files left out")
        for (kind, reason), names in sorted(groups.items()):
            table.add_row(kind, reason, str(len(names)), min(names))
        console.print(table, markup=False)


def _body_model(arguments: Arguments) -> Optional[Path]:
    """The body model that is asked for, read once so that a bad one ends the conversion before it begins."""
    if arguments.floor != "mesh":
        return None
    if not arguments.body_model.exists():
        raise PhcError(f"--floor mesh needs a SMPL body, '{arguments.body_model}' does not exist; --floor humanoid needs none")
    load_smpl_model(arguments.body_model)
    return arguments.body_model


def _run(arguments: Arguments, console: Console) -> int:
    """Convert, report, save."""
    if arguments.output and arguments.output.suffix != ".npz":
        raise PhcError(f"output '{arguments.output}': the name of a motion file ends in .npz")
    if arguments.name_offset >= 0 or arguments.processes < 1:
        raise PhcError(
            f"--name-offset is {arguments.name_offset}, must be negative; --processes is {arguments.processes}, must be at least 1"
        )
    begin = time.perf_counter()
    occlusions = read_occlusions(arguments.occlusion_file) if arguments.occlusion_file else {}
    only = read_failed_keys(arguments.failed_keys) if arguments.failed_keys else None
    options = Options(arguments.mirror, _body_model(arguments))
    sources, dropped = select(find_files(arguments.path), Selection(arguments.split, arguments.name_offset, occlusions, only))
    total = _convert(sources, options, arguments.processes, console)
    dropped = sorted(dropped + total.dropped)
    _show(dropped, console)
    if arguments.report:
        arguments.report.write_text("".join("\t".join(entry) + "\n" for entry in dropped), encoding="utf-8")
    if not total.clips:
        raise PhcError(f"nothing in '{arguments.path}' could be converted (--split {arguments.split})")
    clips = sorted(total.clips, key=lambda clip: clip.name)
    output = arguments.output or arguments.path / f"amass_{arguments.split}_{len(clips)}.npz"
    save_motion_file(output, clips)
    seconds, elapsed = sum(clip.duration for clip in clips), time.perf_counter() - begin
    frames = sum(clip.num_frames for clip in clips)
    rate = f"{seconds / 3600:.3f} h in {elapsed:.0f} s ({seconds / elapsed:.0f} x real time)"
    console.print(f"{len(clips)} clips, {frames} frames, {rate}: {output}", soft_wrap=True, highlight=False, markup=False)
    return 0


def main() -> int:
    """Parse the command line and convert."""
    arguments = tyro.cli(Arguments, description=__doc__)
    logging.basicConfig(level=logging.DEBUG if arguments.debug else logging.WARNING, format="%(message)s")
    console = Console()
    try:
        return _run(arguments, console)
    except (PhcError, OSError) as error:
        if arguments.debug:
            raise
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return 2


if __name__ == "__main__":
    sys.exit(main())

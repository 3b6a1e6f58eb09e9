"""How near converted clips are to their originals: every figure that docs/motion.md states, from the files alone.

    python scripts/measure_retargeting.py motions.npz DATA/cmu --table clips.tsv

What the figures mean is said in puffer_phc/motion/fidelity.py.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from typing_extensions import Annotated

from puffer_phc.command_line import Aside, run_main
from puffer_phc.errors import MotionFileError
from puffer_phc.motion.convert import find_sources, make_jobs
from puffer_phc.motion.fidelity import JOINTS, Measured, measure_job, spreads
from puffer_phc.motion.file import load_motion_file


@dataclass(frozen=True)
class Arguments:
    """Measure converted clips against their originals."""

    motions: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MOTIONS")]
    """The motion file."""
    originals: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ORIGINALS")]
    """The folder it was converted from."""
    table: Optional[Path] = None
    """A file for the figures of every clip, tab separated."""
    subjects: str = "16,127"
    """Performers whose knees are reported, as the first part of clip names."""


def _show(measured: Sequence[Measured], subjects: Sequence[str], console: Console) -> None:
    """The table of figures over all clips."""
    table = Table("figure", "clips", "median", "p90", "max", title="Converted clips against their originals")
    for spread in spreads(measured, subjects):
        table.add_row(*spread.row())
    console.print(table)
    amc = [clip for clip in measured if clip.is_amc]
    if amc:
        means = np.mean([clip.error_cm for clip in amc], axis=0)
        console.print("  ".join(f"{joint} {error:.1f}" for joint, error in zip(JOINTS, means)))


def _write(measured: Sequence[Measured], path: Path) -> None:
    """One line a clip."""
    lines = ["\t".join(("clip", "error_cm", "sunk_share", "largest_jump_deg", "knee_deg", "knee_joint_deg", *JOINTS))]
    for clip in sorted(measured, key=lambda one: one.name):
        values = (clip.error_cm.mean(), clip.sunk_share, clip.largest_jump_deg, clip.knee_deg, clip.knee_joint_deg, *clip.error_cm)
        lines.append("\t".join((clip.name, *(f"{value:.4g}" for value in values))))
    path.write_text("\n".join(lines) + "\n")


def _run(arguments: Arguments, console: Console) -> int:
    """Measure, show, write."""
    clips = {clip.name: clip for clip in load_motion_file(arguments.motions)}
    measured = [one for job in make_jobs(find_sources(arguments.originals)) for one in measure_job(job, clips)]
    if not measured:
        raise MotionFileError(f"no clip of '{arguments.motions}' was made of a file in '{arguments.originals}'")
    _show(measured, arguments.subjects.split(","), console)
    if arguments.table:
        _write(measured, arguments.table)
    return 0


def main() -> int:
    """Parse the command line and measure."""
    torch.set_num_threads(1)
    return run_main(lambda: _run(tyro.cli(Arguments, description=__doc__), Aside()))


if __name__ == "__main__":
    sys.exit(main())

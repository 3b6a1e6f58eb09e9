"""Motion capture files (CMU ASF/AMC, BVH, DeepMimic txt) to a motion file of the humanoid.

    python scripts/convert_mocap_data.py DATA/cmu motions.npz
    python scripts/convert_mocap_data.py dance.bvh dance.npz --map my_joints.json --fps 60

A folder is walked. Frame rates come from --fps, else from the column fps of an index.csv in the folder or above the file, else from the
file (BVH) or CMU's 120 Hz (60 for its subjects 60 and 61). Files that cannot be read and clips that cannot be played are named with the
reason.
"""

import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import tyro
from rich.console import Console
from typing_extensions import Annotated

from puffer_phc.command_line import Aside, run_main
from puffer_phc.commands.converting import check_request, collect, finish
from puffer_phc.errors import ConfigError
from puffer_phc.motion.convert import Options, convert, find_sources, make_jobs
from puffer_phc.motion.file import FPS_RANGE
from puffer_phc.motion.joint_map import read_joint_map


@dataclass(frozen=True)
class Arguments:
    """Convert motion capture files to a motion file."""

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")]
    """A motion file (.amc, .bvh, .txt) or a folder of them."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """The motion file to write, .npz."""
    fps: Optional[float] = None
    """Frames per second of all files, whatever they or an index say."""
    map: Optional[Path] = None
    """A JSON joint map for BVH files; built in are the two CMU conversions and Mixamo's names."""
    licence: Optional[str] = None
    """Licence text for all clips; otherwise CMU's for files named as CMU's are (02_01), zlib's for DeepMimic's, none for others."""
    processes: int = os.cpu_count() or 1
    """Worker processes."""
    keep_all: bool = False
    """Keep clips that the inspection rejects or that need a scene."""
    report: Optional[Path] = None
    """A file for the table of what was dropped and why, tab separated."""
    debug: bool = False
    """Show tracebacks."""


def _run(arguments: Arguments, console: Console) -> int:
    """Convert, report, save."""
    begin = time.perf_counter()
    check_request(arguments.output, arguments.report, arguments.processes)
    if arguments.fps is not None and not FPS_RANGE[0] <= arguments.fps <= FPS_RANGE[1]:
        raise ConfigError(f"--fps is {arguments.fps:g}, must be {FPS_RANGE[0]:g} … {FPS_RANGE[1]:g}")
    jobs = make_jobs(find_sources(arguments.input))
    joint_map = read_joint_map(arguments.map) if arguments.map else None
    options = Options(arguments.fps, joint_map, arguments.licence, arguments.keep_all)
    total = collect(convert(jobs, options, arguments.processes), sum(len(job) for job in jobs), console)
    finish(total, lambda _: arguments.output, arguments.report, begin, console)
    return 0


def main() -> int:
    """Parse the command line and convert."""
    debug = "--debug" in sys.argv
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(message)s")
    return run_main(lambda: _run(tyro.cli(Arguments, description=__doc__), Aside()), debug)


if __name__ == "__main__":
    sys.exit(main())

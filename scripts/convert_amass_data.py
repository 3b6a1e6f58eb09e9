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
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import tyro
from rich.console import Console
from typing_extensions import Annotated, Literal

from puffer_phc.command_line import Aside, run_main
from puffer_phc.commands.converting import check_request, collect, finish
from puffer_phc.errors import ConfigError
from puffer_phc.files import check_writable
from puffer_phc.motion.amass import Options, convert
from puffer_phc.motion.amass_selection import Selection, find_files, read_failed_keys, read_occlusions, select
from puffer_phc.motion.smpl_model import load_smpl_model

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


def _body_model(arguments: Arguments) -> Optional[Path]:
    """The body model that is asked for, read once so that a bad one ends the conversion before it begins."""
    if arguments.floor != "mesh":
        return None
    if not arguments.body_model.exists():
        raise ConfigError(f"--floor mesh needs a SMPL body, '{arguments.body_model}' does not exist; --floor humanoid needs none")
    load_smpl_model(arguments.body_model)
    return arguments.body_model


def _run(arguments: Arguments, console: Console) -> int:
    """Convert, report, save."""
    begin = time.perf_counter()
    check_request(arguments.output, arguments.report, arguments.processes)
    if arguments.name_offset >= 0:
        raise ConfigError(f"--name-offset is {arguments.name_offset}, must be negative")
    occlusions = read_occlusions(arguments.occlusion_file) if arguments.occlusion_file else {}
    only = read_failed_keys(arguments.failed_keys) if arguments.failed_keys else None
    options = Options(arguments.mirror, _body_model(arguments))
    files = find_files(arguments.path)
    if arguments.output is None:
        check_writable(arguments.path)
    sources, dropped = select(files, Selection(arguments.split, arguments.name_offset, occlusions, only))
    total = collect(convert(sources, options, arguments.processes), len(sources), console)
    total.dropped.extend(dropped)

    def output(count: int) -> Path:
        return arguments.output or arguments.path / f"amass_{arguments.split}_{count}.npz"

    finish(total, output, arguments.report, begin, console)
    return 0


def main() -> int:
    """Parse the command line and convert."""
    debug = "--debug" in sys.argv
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(message)s")
    return run_main(lambda: _run(tyro.cli(Arguments, description=__doc__), Aside()), debug)


if __name__ == "__main__":
    sys.exit(main())

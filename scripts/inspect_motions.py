"""What is wrong with the clips of a motion file: a table on the terminal, a TSV with every figure, and one HTML page to look through.

    python scripts/inspect_motions.py motions.npz
    python scripts/inspect_motions.py motions.npz --output mended.npz

TSV and page lie beside the motion file unless they are given other names.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

import torch
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table
from typing_extensions import Annotated

from puffer_phc.command_line import Aside, run_main
from puffer_phc.errors import ConfigError
from puffer_phc.files import check_writable_file, write_whole
from puffer_phc.motion.file import Clip, load_motion_file, save_motion_file
from puffer_phc.motion.inspect import OK, REPAIRED, Inspection, inspect_clip
from puffer_phc.motion.inspection_page import inspection_page


@dataclass(frozen=True)
class Arguments:
    """Inspect the clips of a motion file."""

    motions: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MOTIONS")]
    """The motion file."""
    tsv: Optional[Path] = None
    """Where the figures go; by default beside the motion file, ending in .tsv."""
    html: Optional[Path] = None
    """Where the page goes; by default beside the motion file, ending in .html."""
    output: Optional[Path] = None
    """A motion file for the clips that are ok or could be repaired."""


def _inspect(clips: List[Clip], console: Console) -> Tuple[List[Clip], List[Inspection]]:
    """Repaired clips and what was found in them."""
    results = [inspect_clip(clip) for clip in track(clips, "inspecting", console=console)]
    return [clip for clip, _ in results], [inspection for _, inspection in results]


def _text(value: object) -> str:
    """A field of the TSV."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _tsv(inspections: List[Inspection]) -> str:
    """One line a clip under a line of field names."""
    lines = ["\t".join(Inspection._fields)]
    lines += ["\t".join(_text(value) for value in inspection) for inspection in inspections]
    return "\n".join(lines) + "\n"


def _show(inspections: List[Inspection], console: Console) -> None:
    """Clips that are not simply ok, and the counts."""
    table = Table("clip", "verdict", "why")
    for inspection in inspections:
        if inspection.verdict != OK:
            table.add_row(inspection.name, inspection.verdict, inspection.reasons)
    if table.row_count:
        console.print(table)
    for verdict, count in Counter(inspection.verdict for inspection in inspections).most_common():
        console.print(f"{count:6d} {verdict}")


def _run(arguments: Arguments, console: Console) -> int:
    """Inspect, show, write."""
    tsv, page = arguments.tsv or arguments.motions.with_suffix(".tsv"), arguments.html or arguments.motions.with_suffix(".html")
    motions = load_motion_file(arguments.motions)
    for path in (tsv, page, arguments.output):
        if path is not None:
            check_writable_file(path)
    if arguments.output and arguments.output.suffix != ".npz":
        raise ConfigError(f"--output is '{arguments.output}', the name of a motion file ends in .npz")
    clips, inspections = _inspect(motions, console)
    _show(inspections, console)
    write_whole(tsv, _tsv(inspections))
    write_whole(page, inspection_page(clips, inspections, f"Clips of {arguments.motions.name}"))
    console.print(f"{tsv}\n{page}", soft_wrap=True)
    if arguments.output:
        kept = [clip for clip, inspection in zip(clips, inspections) if inspection.verdict in (OK, REPAIRED)]
        save_motion_file(arguments.output, kept)
        console.print(f"{len(kept)} clips: {arguments.output}", soft_wrap=True)
    return 0


def main() -> int:
    """Parse the command line and inspect."""
    torch.set_num_threads(1)
    return run_main(lambda: _run(tyro.cli(Arguments, description=__doc__), Aside()))


if __name__ == "__main__":
    sys.exit(main())

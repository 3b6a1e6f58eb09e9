"""Shrink a checkpoint for carrying or publishing: weights in sixteen or eight bits, no optimiser.

python scripts/compact_checkpoint.py experiments/RUN/latest.pt policy.pt
python scripts/compact_checkpoint.py experiments/RUN/latest.pt policy.pt --eight-bits

Eight bits take half of what sixteen take; docs/results.md says what that costs (nothing that an evaluation shows).

With the critic a run goes on from it: as latest.pt in a folder of its own, it is what --resume takes. In parts it passes where files have
to be small; cat joins them again, and a part that is missing or damaged is noticed by the checkpoint's checksums.
"""

import argparse
import sys
from pathlib import Path
from typing import Optional

from puffer_phc.command_line import run_main, say
from puffer_phc.files import whole_file
from puffer_phc.learn.checkpoint import compact, load_checkpoint, save_checkpoint


def shrink(checkpoint: Path, output: Path, with_critic: bool, eight_bits: bool, part_megabytes: Optional[float]) -> int:
    """Read, shrink, write."""
    save_checkpoint(output, compact(load_checkpoint(checkpoint), with_critic), eight_bits)
    size = output.stat().st_size
    say(f"wrote {output}: {size / 1e6:.2f} MB")
    if part_megabytes is not None:
        count = split(output, int(part_megabytes * 1e6))
        say(f"in {count} parts; join them again with: cat {output}.part* > {output}")
    return 0


def split(path: Path, part_bytes: int) -> int:
    """Write the file as ``<name>.part00``, ``.part01``, … of at most ``part_bytes``; returns how many there are."""
    content = path.read_bytes()
    starts = range(0, len(content), part_bytes)
    for number, start in enumerate(starts):
        with whole_file(path.with_name(f"{path.name}.part{number:02d}")) as temporary:
            temporary.write_bytes(content[start : start + part_bytes])
    return len(starts)


def size_of_part(text: str) -> float:
    """Megabytes, at least a thousandth of one."""
    value = float(text)
    if not value >= 1e-3:
        raise ValueError
    return value


def main() -> int:
    """Read, shrink, write; one line and exit code 2 where that can't be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a run")
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument("--with-critic", action="store_true", help="keep the critic, so that training can go on from the file")
    parser.add_argument("--eight-bits", action="store_true", help="store weight matrices in eight bits instead of sixteen")
    parser.add_argument("--part-megabytes", type=size_of_part, metavar="MB", help="write the file in parts of at most this size, too")
    arguments = parser.parse_args()
    return run_main(
        lambda: shrink(arguments.checkpoint, arguments.output, arguments.with_critic, arguments.eight_bits, arguments.part_megabytes)
    )


if __name__ == "__main__":
    sys.exit(main())

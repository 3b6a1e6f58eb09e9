"""Shrink a checkpoint for carrying or publishing: half-precision weights, no optimiser.

python scripts/compact_checkpoint.py experiments/RUN/latest.pt sample_data/policy.pt
"""

import argparse
import sys
from pathlib import Path

from puffer_phc.command_line import run_main
from puffer_phc.learn.checkpoint import compact, load_checkpoint, save_checkpoint


def shrink(checkpoint: Path, output: Path, with_critic: bool) -> int:
    """Read, shrink, write."""
    save_checkpoint(output, compact(load_checkpoint(checkpoint), with_critic))
    print(f"wrote {output}: {output.stat().st_size / 1e6:.1f} MB")
    return 0


def main() -> int:
    """Read, shrink, write; one line and exit code 2 where that can't be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a run")
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument("--with-critic", action="store_true", help="keep the critic, so that training can go on from the file")
    arguments = parser.parse_args()
    return run_main(lambda: shrink(arguments.checkpoint, arguments.output, arguments.with_critic))


if __name__ == "__main__":
    sys.exit(main())

"""Shrink a checkpoint for carrying or publishing: half-precision weights, no optimiser.

python scripts/compact_checkpoint.py experiments/RUN/latest.pt sample_data/policy.pt
"""

import argparse
import sys
from pathlib import Path

from puffer_phc.errors import PhcError
from puffer_phc.learn.checkpoint import compact, load_checkpoint, save_checkpoint


def main() -> int:
    """Read, shrink, write; one line and exit code 2 where that can't be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a run")
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument("--with-critic", action="store_true", help="keep the critic, so that training can go on from the file")
    arguments = parser.parse_args()
    try:
        save_checkpoint(arguments.output, compact(load_checkpoint(arguments.checkpoint), arguments.with_critic))
    except PhcError as error:
        print(f"puffer-phc: {error}", file=sys.stderr)
        return 2
    print(f"wrote {arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

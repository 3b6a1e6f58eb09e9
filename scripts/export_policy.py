"""A checkpoint's policy as ONNX, for programs without this package, and the humanoid that it moves as MJCF beside it.

python scripts/export_policy.py experiments/RUN/latest.pt policy.onnx
"""

import argparse
import sys
from pathlib import Path

from puffer_phc.command_line import run_main, say
from puffer_phc.commands.export import OPSET, export


def write(checkpoint: Path, output: Path) -> int:
    """Export, and say what was written."""
    files = export(checkpoint, output)
    say(f"wrote {files.onnx}: {files.onnx.stat().st_size / 1e6:.1f} MB, ONNX opset {OPSET}")
    say(f"wrote {files.mjcf}")
    return 0


def main() -> int:
    """Export; one line and exit code 2 where that can't be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a run")
    parser.add_argument("output", type=Path, help=".onnx file to write")
    arguments = parser.parse_args()
    return run_main(lambda: write(arguments.checkpoint, arguments.output))


if __name__ == "__main__":
    sys.exit(main())

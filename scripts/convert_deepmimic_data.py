"""Write a motion file from DeepMimic motions: python scripts/convert_deepmimic_data.py OUT.npz [FILE_OR_FOLDER ...]."""

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import List, Optional

from puffer_phc.command_line import run_main, say
from puffer_phc.errors import MotionFileError
from puffer_phc.motion.deepmimic import import_deepmimic
from puffer_phc.motion.file import save_motion_file


def pybullet_motions() -> Path:
    """The folder of motions that the installed pybullet brings."""
    package = importlib.util.find_spec("pybullet_data")
    if package is None or package.origin is None:
        raise MotionFileError("pybullet, which brings the motions, is not installed: pip install pybullet, or name a folder")
    return Path(package.origin).parent / "data" / "motions"


def motion_files(paths: List[Path]) -> List[Path]:
    """The files among ``paths``, folders replaced by the humanoid motions in them."""
    files: List[Path] = []
    for path in paths:
        found = sorted(path.glob("humanoid3d_*.txt")) if path.is_dir() else [path]
        if not found:
            raise MotionFileError(f"folder '{path}' has no humanoid3d_*.txt")
        files += found
    return files


def convert(paths: List[Path], output: Path) -> int:
    """Convert and say what came out."""
    clips = [import_deepmimic(path) for path in motion_files(paths or [pybullet_motions()])]
    save_motion_file(output, clips)
    for clip in clips:
        say(f"{clip.name:16s} {clip.num_frames:5d} frames {clip.duration:6.2f} s")
    say(f"{len(clips)} clips, {output.stat().st_size / 1000:.0f} kB: {output}")
    return 0


def main(arguments: Optional[List[str]] = None) -> int:
    """Parse the command line and convert; exit code 2 when a file is not usable."""
    parser = argparse.ArgumentParser(description="Write a motion file from DeepMimic motions.")
    parser.add_argument("output", type=Path, help="motion file to write (.npz)")
    parser.add_argument("inputs", type=Path, nargs="*", help="text files or folders; default: those that pybullet brings")
    options = parser.parse_args(arguments)
    return run_main(lambda: convert(options.inputs, options.output))


if __name__ == "__main__":
    sys.exit(main())

"""A motion file as large as one likes, by varying real clips: to measure loading and training at the size of AMASS.

    python scripts/make_synthetic_library.py motions.npz large.npz --clips 11313 --frames 4000000

Every clip is a stretch of a real one, turned, moved, perhaps mirrored, with some joints swaying a little more; where the
real one is too short it is played to and fro. The result is for measuring only: it teaches nothing that the real clips do not.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import track
from typing_extensions import Annotated

from puffer_phc import rotations
from puffer_phc.command_line import Aside, run_main
from puffer_phc.errors import ConfigError
from puffer_phc.humanoid.skeleton import NUM_BODIES
from puffer_phc.motion.file import Clip, load_motion_file, save_motion_file
from puffer_phc.motion.frame_rate import FPS, resample
from puffer_phc.motion.mirror import mirror_clip

SWAY_JOINTS = 6
"""Joints of a clip that sway more than in the original."""


@dataclass(frozen=True)
class Arguments:
    """Make a large motion file."""

    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")]
    """The motion file to vary."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """The motion file to write, .npz."""
    clips: int = 11313
    """Clips to make."""
    frames: int = 4_000_000
    """Frames in all, at 30 per second."""
    seed: int = 0
    """Seed of all variations."""


def lengths(random: np.random.Generator, clips: int, frames: int) -> np.ndarray:
    """(C,) frames of clips, spread as widely as AMASS's, ``frames`` in all and at least 10 each."""
    spread = np.exp(random.normal(0.0, 0.9, clips))
    rounded = np.maximum((spread / spread.sum() * frames).astype(np.int64), 10)
    rounded[rounded.argmax()] += frames - rounded.sum()
    return rounded


def variation(clip: Clip, name: str, num_frames: int, random: np.random.Generator) -> Clip:
    """``num_frames`` frames of a clip, varied."""
    there_and_back = np.arange(num_frames) + random.integers(0, clip.num_frames)
    frames = np.abs((there_and_back + clip.num_frames - 1) % (2 * clip.num_frames - 2) - (clip.num_frames - 1))
    quats = torch.from_numpy(clip.local_quats[frames])
    seconds = torch.arange(num_frames)[:, None] / FPS
    for joint in random.choice(np.arange(1, NUM_BODIES), SWAY_JOINTS, replace=False):
        axis = torch.from_numpy(random.normal(0.0, 0.04, 3)).float()
        phase, rate = random.uniform(0.0, 6.0), random.uniform(1.0, 4.0)
        quats[:, joint] = rotations.multiply(quats[:, joint], rotations.from_rotation_vector(axis * (rate * seconds + phase).sin()))
    yaw = rotations.yaw(torch.tensor(random.uniform(-np.pi, np.pi), dtype=torch.float32))
    quats[:, 0] = rotations.multiply(yaw.expand(num_frames, 4), quats[:, 0])
    shift = torch.from_numpy(np.append(random.normal(0.0, 1.0, 2), 0.0)).float()
    root_pos = rotations.rotate(yaw, torch.from_numpy(clip.root_pos[frames])) + shift
    return clip._replace(name=name, root_pos=root_pos.numpy(), local_quats=quats.numpy())


def make(arguments: Arguments, console: Console) -> int:
    """Make, save and say so."""
    if arguments.clips < 1 or arguments.frames < 10 * arguments.clips:
        raise ConfigError(f"{arguments.clips} clips of {arguments.frames} frames: at least one clip and ten frames a clip are needed")
    torch.set_num_threads(1)
    originals = [resample(clip, FPS) for clip in load_motion_file(arguments.input)]
    originals += [mirror_clip(clip) for clip in originals]
    random = np.random.default_rng(arguments.seed)
    begin = time.perf_counter()
    clips: List[Clip] = []
    for index, count in enumerate(track(lengths(random, arguments.clips, arguments.frames), "varying", console=console)):
        clips.append(variation(originals[random.integers(len(originals))], f"synthetic_{index:06d}", int(count), random))
    made = time.perf_counter()
    save_motion_file(arguments.output, clips)
    console.print(
        f"{len(clips)} clips, {sum(clip.num_frames for clip in clips)} frames made in {made - begin:.0f} s, written in "
        f"{time.perf_counter() - made:.0f} s, {arguments.output.stat().st_size / 1e9:.2f} GB: {arguments.output}",
        soft_wrap=True,
    )
    return 0


def main() -> int:
    """Parse the command line and make the file."""
    return run_main(lambda: make(tyro.cli(Arguments, description=__doc__), Aside()))


if __name__ == "__main__":
    sys.exit(main())

"""A motion file as it is, without physics: in MuJoCo's window, or as a video where there is no display.

    python scripts/vis_motion_mj.py -m motions.npz -i 3
    python scripts/vis_motion_mj.py -m motions.npz -i 3 --video clip.mp4
    python scripts/vis_motion_mj.py -m motions.npz --list

The clip plays at its true rate. MuJoCo's kinematics place the bodies from the joint coordinates; the dots are where
the motion library says that they are.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

import tyro
from rich.console import Console
from typing_extensions import Annotated

from puffer_phc.command_line import Aside, run_main
from puffer_phc.errors import BackendError, ConfigError
from puffer_phc.motion.file import Clip, load_motion_file
from puffer_phc.resources import resource_root

SECONDS_OF_VIDEO = 30.0
"""The longest video unless --seconds asks for more."""


@dataclass(frozen=True)
class Arguments:
    """Look at the clips of a motion file."""

    motion_file: Annotated[Path, tyro.conf.arg(aliases=("-m",))] = resource_root() / "sample_data" / "deepmimic.npz"
    """A motion file, .npz or an original-style .pkl."""
    index: Annotated[int, tyro.conf.arg(aliases=("-i",))] = 0
    """The clip to begin with, counted from 0."""
    video: Optional[Path] = None
    """Write a video of the clip, .mp4 or .gif, instead of opening a window."""
    width: int = 960
    """Pixels of the video."""
    height: int = 720
    """Pixels of the video."""
    fps: float = 30.0
    """Pictures per second of the video."""
    seconds: Optional[float] = None
    """Length of the video; default: the clip's, at most 30 s."""
    speed: float = 1.0
    """Relative to real time."""
    keep_floor: bool = False
    """Leave heights as the file has them, instead of putting the clip on the floor as training does."""
    list: bool = False
    """Name the clips and end."""
    debug: bool = False
    """Show tracebacks."""


def _list(clips: List[Clip], console: Console) -> None:
    """One line a clip."""
    for index, clip in enumerate(clips):
        line = f"{index:5d}  {clip.duration:8.2f} s  {clip.fps:7.3f} fps  {clip.name}"
        console.print(line, soft_wrap=True)


def _record(arguments: Arguments, clips: List[Clip], console: Console) -> None:
    """Write a video of one clip."""
    from puffer_phc.view.motion_player import Player, Puppet, pictures
    from puffer_phc.view.video import VideoFile

    player = Player(clips, arguments.index, arguments.speed, not arguments.keep_floor)
    assert arguments.video is not None
    video = VideoFile(arguments.video, arguments.width, arguments.height, arguments.fps)
    seconds = arguments.seconds or min(player.clip.duration / arguments.speed, SECONDS_OF_VIDEO)
    try:
        for picture in pictures(player, Puppet(), (arguments.width, arguments.height), arguments.fps, seconds):
            video.add(picture)
    except BaseException:
        video.cancel()
        raise
    console.print(f"wrote {video.close()}: {player.clip.name}, {seconds:.2f} s", soft_wrap=True)


def _show(arguments: Arguments, clips: List[Clip], console: Console) -> None:
    """Play in MuJoCo's window until it is closed."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise BackendError("there is no display to open a window on; --video clip.mp4 needs none")
    from puffer_phc.view.motion_player import KEYS, Player, show

    for key in KEYS:
        console.print(f"{key.name:>10}  {key.help}")
    show(Player(clips, arguments.index, arguments.speed, not arguments.keep_floor))


def _run(arguments: Arguments, console: Console) -> int:
    """List, record or show."""
    clips = load_motion_file(arguments.motion_file)
    if not 0 <= arguments.index < len(clips):
        raise ConfigError(f"--index is {arguments.index}, motion file '{arguments.motion_file}' has clips 0 … {len(clips) - 1}")
    for name in ("width", "height", "fps", "speed", "seconds"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < 1e5:
            raise ConfigError(f"--{name} is {value}, must be more than 0")
    if arguments.list:
        _list(clips, console)
    elif arguments.video:
        _record(arguments, clips, console)
    else:
        _show(arguments, clips, console)
    return 0


def main() -> int:
    """Parse the command line and show the clip."""
    return run_main(lambda: _run(tyro.cli(Arguments, description=__doc__), Aside()), "--debug" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())

"""The play mode: from options to a session and the front end that shows it."""

import logging
import time
from pathlib import Path
from typing import Callable, Optional

from rich.progress import track

from puffer_phc import build
from puffer_phc.addresses import check_port
from puffer_phc.command_line import Aside, Terminal, say
from puffer_phc.commands.session import needed_checkpoint, open_session
from puffer_phc.config import Config
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.errors import BackendError
from puffer_phc.files import check_writable
from puffer_phc.learn.checkpoint import Checkpoint, load_checkpoint
from puffer_phc.learn.policy import PHCPolicy
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.options import Parsed
from puffer_phc.play.playlist import Playlist
from puffer_phc.play.session import PlaySession
from puffer_phc.view.display import choose_viewer, why_no_window
from puffer_phc.view.session import Recorder, Settings
from puffer_phc.view.video import VideoRecorder

_NUM_ENVS = {"web": 16, "native": 4, "video": 4, "none": 16}
"""Humanoids where play.num_envs is auto."""

_logger = logging.getLogger(__name__)


def play(arguments: Parsed) -> int:
    """Show a checkpoint's policy moving: in a window, on a web page, in a video. Files go to ``--output``."""
    path, output = needed_checkpoint(arguments), arguments.output
    check_writable(output)
    with open_session(arguments) as (config, device, _world, checkpoint):
        viewer, reason = choose_viewer(config.play.viewer)
        motions = build.load_motions(config, device)
        if reason:
            _logger.info("%s", reason)
        return _FRONT_ENDS[viewer](config, lambda: make_play_session(config, motions, path, output, viewer, checkpoint), output)


def make_play_session(
    config: Config, motions: MotionLibrary, path: Path, output: Path, viewer: str, checkpoint: Optional[Checkpoint] = None
) -> PlaySession:
    """Environment, policy and session for a viewer."""
    options, device = config.play, motions.device
    num_envs = options.num_envs or (1 if options.clip and viewer in ("video", "none") else _NUM_ENVS[viewer])
    playlist = Playlist(motions, num_envs, options.clip, config.train.seed)
    simulator = build.make_simulator(config.env, num_envs, device)
    env = ImitationEnv(simulator, motions, playlist, config.env, options.reset_distance or None)

    def load(path: Path, checkpoint: Optional[Checkpoint] = None) -> PHCPolicy:
        return build.saved_policy(config, env.observation_size, env.action_size, device, checkpoint or load_checkpoint(path), path)

    def record() -> Recorder:
        path = output / f"recording_{time.strftime('%Y%m%d_%H%M%S')}.mp4"
        return VideoRecorder(path, config.video.width, config.video.height, 1.0 / env.control_dt)

    settings = Settings(sampled=not options.deterministic)
    return PlaySession(env, load(path, checkpoint), path, load, record, settings, options.push_speed)


Opener = Callable[[], PlaySession]


def show_native(config: Config, opened: Opener, output: Path) -> int:
    """MuJoCo's window until it is closed."""
    why_not = why_no_window()
    if why_not is not None:
        raise BackendError(f"play.viewer native can't open a window: {why_not}; choose web or video")
    from puffer_phc.view.native import Window

    session = opened()
    window = Window(session)
    try:
        window.run()
    finally:
        window.close()
        session.close()
    return 0


def show_web(config: Config, opened: Opener, output: Path) -> int:
    """A web page until its button, or Ctrl-C, which is an interruption here as everywhere."""
    from puffer_phc.view.web import WebPage

    check_port(config.play.host, config.play.port)
    session = opened()
    page = WebPage(session, config.play.host, config.play.port)
    say(f"watch at {page.url} · Ctrl-C ends")
    try:
        page.run()
    finally:
        page.close()
        session.close()
    return 0


def show_video(config: Config, opened: Opener, output: Path) -> int:
    """A file of ``video.seconds``, one tile a humanoid."""
    options = config.video
    path = Path(options.path) if options.path else output / f"play_{time.strftime('%Y%m%d_%H%M%S')}.mp4"
    session = opened()
    fps = 1.0 / session.control_dt
    num_tiles = session.frame().num_humanoids
    recorder = VideoRecorder(path, options.width, options.height, fps, range(num_tiles))
    try:
        for _ in track(range(max(round(options.seconds * fps), 1)), "drawing", console=Aside(), transient=True):
            session.step()
            recorder.add(session.frame(), session.settings)
    except BaseException:
        recorder.cancel()
        raise
    finally:
        session.close()
    say(f"wrote {recorder.close()}")
    return 0


def show_text(config: Config, opened: Opener, output: Path) -> int:
    """No picture: a line for every clip (or the chosen one), when it is over or lost for the first time."""
    session = opened()
    console = Terminal()
    left = set(session.clip_names) if config.play.clip is None else {config.play.clip}
    try:
        while left:
            session.step()
            for episode in (episode for episode in session.ended if episode.clip in left):
                left.remove(episode.clip)
                what = "lost after" if episode.is_lost else "played to the end,"
                console.print(f"{episode.clip}: {what} {episode.time:.1f} s", soft_wrap=True)
    finally:
        session.close()
    return 0


_FRONT_ENDS = {"native": show_native, "web": show_web, "video": show_video, "none": show_text}

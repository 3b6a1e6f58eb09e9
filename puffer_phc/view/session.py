"""What front ends see of a playing session: a picture's worth of states, the settings, and where to post commands."""

import time
from typing import Any, Callable, NamedTuple, Optional, Protocol, Sequence, Tuple

from torch import Tensor


class Frame(NamedTuple):
    """One instant of N humanoids and their references, on the CPU, world frame, metres, quaternions wxyz."""

    body_pos: Tensor
    """(N, B, 3)."""
    body_quat: Tensor
    """(N, B, 4)."""
    reference_pos: Tensor
    """(N, B, 3)."""
    reference_quat: Tensor
    """(N, B, 4)."""
    marker_pos: Tensor
    """(N, B, 3) where the reference's bodies are one control step later."""
    origins: Tensor
    """(N, 3) the floor under the first frame of each clip."""
    errors: Tensor
    """(N,) m, mean distance of the bodies from the reference."""
    times: Tensor
    """(N,) s in the clip."""
    durations: Tensor
    """(N,) s."""
    clips: Tuple[str, ...]
    """N clip names."""

    @property
    def num_humanoids(self) -> int:
        """N."""
        return len(self.clips)


class Settings(NamedTuple):
    """What commands change; toggles, numbers and choices of ``COMMANDS`` are fields of the same name."""

    paused: bool = False
    speed: float = 1.0
    clip: Optional[str] = None
    """None: all in turn."""
    humanoid: int = 0
    follow: bool = True
    reference: bool = True
    beside: bool = False
    markers: bool = True
    drawing: bool = True
    sampled: bool = False
    recording: bool = False
    colour_shift: int = 0
    """Turns of the palette."""


class CameraPlace(NamedTuple):
    """Where a front end's camera is, in the scene of ``scene.Stage``, m."""

    position: Tuple[float, float, float]
    look_at: Tuple[float, float, float]


class Session(Protocol):
    """A policy that plays, as front ends use it. All but ``post`` belong to the thread that calls ``advance``."""

    control_dt: float
    """Seconds of a control step."""
    clip_names: Sequence[str]
    settings: Settings
    is_over: bool
    """Whether somebody asked to quit."""
    camera: Optional[CameraPlace]
    """Front ends that have a camera write its place here."""

    def post(self, name: str, value: Any = None) -> None:
        """Ask for a command of ``COMMANDS``, from any thread; toggles flip where ``value`` is None."""
        ...

    def advance(self, seconds: float) -> int:
        """Obey what was posted, and play on for ``seconds`` of a clock on the wall; returns the control steps taken."""
        ...

    def step(self) -> None:
        """One control step, whatever the clock says."""
        ...

    def frame(self) -> Frame:
        """The present instant."""
        ...

    def status(self) -> Tuple[Tuple[str, str], ...]:
        """(what, value) lines for the screen."""
        ...


class Recorder(Protocol):
    """Takes frames into a file."""

    def add(self, frame: Frame, settings: Settings) -> None:
        """Add the picture of ``frame``."""
        ...

    def close(self) -> str:
        """Finish the file; returns its path."""
        ...

    def cancel(self) -> None:
        """Leave no file."""
        ...


def play_at_pace(session: Session, draw: Callable[[float], None], pictures_per_second: float, is_open: Callable[[], bool]) -> None:
    """Let ``session`` follow the clock until it is over or ``is_open`` says no; ``draw`` gets the seconds since the last picture."""
    last = time.monotonic()
    while is_open() and not session.is_over:
        now = time.monotonic()
        session.advance(now - last)
        draw(now - last)
        last = now
        time.sleep(max(0.0, now + 1.0 / pictures_per_second - time.monotonic()))

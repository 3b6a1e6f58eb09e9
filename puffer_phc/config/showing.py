"""What is shown of a policy: figures, a viewer, videos."""

from dataclasses import dataclass
from typing import Optional

from typing_extensions import Literal

from puffer_phc.config.ranges import check
from puffer_phc.errors import ConfigError


@dataclass(frozen=True)
class EvalConfig:
    """Section [eval]."""

    num_envs: Optional[int] = None
    """Clips evaluated at a time; auto: as env.num_envs."""
    report: bool = True
    """Write a page about the evaluation beside its tables."""
    report_clips: int = 6
    """Worst clips that the page shows in motion and in pictures."""
    compare: Optional[str] = None
    """What the page compares with: another checkpoint, which plays the same clips, or the results_by_motion table of an evaluation."""

    def __post_init__(self) -> None:
        check("eval", self, counts=("num_envs",), not_negative=("report_clips",))


@dataclass(frozen=True)
class PlayConfig:
    """Section [play]."""

    viewer: Literal["auto", "native", "web", "video", "none"] = "auto"
    """MuJoCo's window, a web page, a video file or lines of text; auto: the window where there is a display, else the page."""
    clip: Optional[str] = None
    """Name of the clip that every humanoid imitates; auto: all clips in turn."""
    num_envs: Optional[int] = None
    """Humanoids side by side; auto: 16 on the page, 4 in the window and in a video, 1 there where a clip is named."""
    host: str = "127.0.0.1"
    """Address that the page listens on; 0.0.0.0 lets other machines watch and steer."""
    port: int = 8080
    """Port of the page."""
    deterministic: bool = True
    """Whether the policy's mean is played, without exploration noise; can be switched while watching."""
    reset_distance: float = 1.0
    """m: a humanoid starts over when a body is farther than this from its reference; 0: only when the clip is over."""
    push_speed: float = 1.0
    """m/s that a push adds to the pelvis, in a random horizontal direction."""

    def __post_init__(self) -> None:
        check("play", self, counts=("num_envs",), not_negative=("reset_distance", "push_speed"))
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"play.port is {self.port}, must be between 0 and 65535")


@dataclass(frozen=True)
class VideoConfig:
    """Section [video]."""

    path: Optional[str] = None
    """File that play.viewer video writes, .mp4 or .gif; auto: play_<time>.mp4 in --output. Recordings go to --output, too."""
    width: int = 640
    """Pixels."""
    height: int = 480
    """Pixels."""
    seconds: float = 10.0
    """Length."""

    def __post_init__(self) -> None:
        check("video", self, positive=("seconds",))
        for name in ("width", "height"):
            value = getattr(self, name)
            if not 16 <= value <= 4096 or value % 2:
                raise ConfigError(f"video.{name} is {value}, must be an even number between 16 and 4096")

"""A trace as a video file."""

from pathlib import Path

from puffer_phc.config import VideoConfig
from puffer_phc.evaluate.trace import Trace
from puffer_phc.report.attempts import trace_frame
from puffer_phc.view.session import Settings
from puffer_phc.view.video import VideoRecorder


def film(trace: Trace, path: Path, options: VideoConfig) -> None:
    """Write the last ``options.seconds`` of ``trace`` to ``path``, a .gif or .mp4.

    Raises ConfigError where it can't be written, BackendError where nothing can be drawn.
    """
    recorder = VideoRecorder(path, options.width, options.height, 1.0 / trace.control_dt, [0])
    try:
        for instant in range(max(len(trace.pos) - max(round(options.seconds / trace.control_dt), 1), 0), len(trace.pos)):
            recorder.add(trace_frame(trace, [instant]), Settings())
    except BaseException:
        recorder.cancel()
        raise
    recorder.close()

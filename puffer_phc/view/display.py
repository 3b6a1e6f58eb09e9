"""Where pictures can be shown on this machine."""

import os
import sys
from typing import Optional, Tuple

from puffer_phc.mujoco_loading import import_mujoco


def choose_viewer(wanted: str) -> Tuple[str, str]:
    """The viewer that ``play.viewer`` means here, and why where that is worth a line."""
    if wanted != "auto":
        return wanted, ""
    why_not = why_no_window()
    return ("native", "") if why_not is None else ("web", f"no window: {why_not}; a web page instead (play.viewer chooses)")


def why_no_window() -> Optional[str]:
    """Why MuJoCo's window can't be opened here; None where it can."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    if sys.platform == "darwin":
        viewer = import_mujoco("a window", "viewer")
        return None if getattr(viewer, "_MJPYTHON", None) else "on macOS it needs mjpython instead of python"
    try:
        import glfw
    except ImportError as error:
        return str(error)
    return None if glfw.init() else "the display does not answer"

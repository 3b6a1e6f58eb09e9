"""MuJoCo, or the line that says why it can't be had."""

import importlib
import os
from typing import Any

from puffer_phc.errors import BackendError


def import_mujoco(who: str, part: str = "") -> Any:
    """The module ``mujoco``, or a ``part`` of it, for ``who``. Raises BackendError where it isn't installed or its import fails.

    That happens to what is installed where ``MUJOCO_GL`` names an OpenGL that is not there, although nothing is to be drawn.
    """
    try:
        return importlib.import_module(f"mujoco.{part}" if part else "mujoco")
    except ModuleNotFoundError as error:
        if error.name != "mujoco":
            raise _failure(who, error) from error
        raise BackendError(f"{who} needs MuJoCo; run: pip install 'mujoco>=3.17,<4'") from error
    except Exception as error:  # PyOpenGL fails in ways of its own
        raise _failure(who, error) from error


def _failure(who: str, error: Exception) -> BackendError:
    setting = os.environ.get("MUJOCO_GL")
    advice = f"; MUJOCO_GL is '{setting}': unset it, pictures are drawn with what there is" if setting else ""
    return BackendError(f"{who} needs MuJoCo, whose import fails: {error}{advice}")

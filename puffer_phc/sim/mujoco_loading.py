"""MuJoCo, or the line that says why it can't be had."""

import os
from typing import Any

from puffer_phc.errors import BackendError


def import_mujoco(backend: str) -> Any:
    """The module ``mujoco``. Raises BackendError, naming ``backend``, where it isn't installed or its import fails.

    That happens to what is installed where ``MUJOCO_GL`` names an OpenGL that is not there, although nothing is to be drawn.
    """
    try:
        import mujoco
    except ModuleNotFoundError as error:
        if error.name != "mujoco":
            raise _failure(backend, error) from error
        raise BackendError(f"backend '{backend}' needs MuJoCo; run: pip install 'mujoco>=3.17,<4'") from error
    except Exception as error:  # PyOpenGL fails in ways of its own
        raise _failure(backend, error) from error
    return mujoco


def _failure(backend: str, error: Exception) -> BackendError:
    setting = os.environ.get("MUJOCO_GL")
    advice = f"; MUJOCO_GL is '{setting}': unset it, nothing is drawn in training" if setting else ""
    return BackendError(f"backend '{backend}' needs MuJoCo, whose import fails: {error}{advice}")

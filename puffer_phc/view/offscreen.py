"""Pictures without a window: an OpenGL context from what this machine has, and MuJoCo's renderer in it."""

import importlib
import logging
import os
import sys
from typing import Any, List, Sequence

import numpy as np
import torch

from puffer_phc.errors import BackendError
from puffer_phc.view.mujoco_scene import MAX_SHAPES, Board, camera, mujoco

_logger = logging.getLogger(__name__)


_FAST = {"samples": 0, "shadow_size": 1024}
"""Where the processor draws: 63 ms a picture instead of 154, for rougher edges."""


class Canvas:
    """A picture of ``width`` × ``height`` pixels that scenes are drawn into, tile by tile.

    ``board`` has the MuJoCo ``model`` and ``data`` that scenes begin with: a floor and a sun, unless another is given.
    """

    def __init__(self, width: int, height: int, board: Any = None) -> None:
        self.width, self.height = width, height
        self._gl: Any = open_context(width, height)
        self.board = board or (Board(width, height, **_FAST) if is_software() else Board(width, height))
        sizes = self.board.model.vis.global_
        sizes.offwidth, sizes.offheight = width, height
        try:
            self._context = mujoco.MjrContext(self.board.model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except mujoco.FatalError as error:  # GLFW hands out contexts without a display, too
            self._gl.free()
            raise BackendError(f"no OpenGL to draw with ({error})") from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self.scene = mujoco.MjvScene(self.board.model, MAX_SHAPES)
        self.option = mujoco.MjvOption()
        """What is drawn of the board, and how."""

    @property
    def binding(self) -> str:
        """Which of MuJoCo's bindings to OpenGL draws."""
        return type(self._gl).__module__.rpartition(".")[2]

    def begin(self, camera: Any) -> None:
        """Start a scene of the board as ``camera`` sees it; figures are added to ``scene``."""
        every = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.board.model, self.board.data, self.option, None, camera, every, self.scene)

    def draw(self, left: int, bottom: int, width: int, height: int) -> None:
        """Draw the scene into a rectangle of the picture, pixels."""
        self._gl.make_current()
        mujoco.mjr_render(mujoco.MjrRect(left, bottom, width, height), self.scene, self._context)

    def read(self) -> np.ndarray:
        """The picture: (height, width, 3) uint8, top row first."""
        self._gl.make_current()
        pixels = np.empty((self.height, self.width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(pixels, None, mujoco.MjrRect(0, 0, self.width, self.height), self._context)
        return np.flipud(pixels)

    def close(self) -> None:
        """Free the context. Safe to call twice."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None


def open_context(width: int, height: int) -> Any:
    """An OpenGL context that is current. Raises BackendError naming what was tried and why it failed.

    The environment's ``MUJOCO_GL`` decides where it is set; else what draws without a display comes first.
    """
    failures: List[str] = []
    for module in candidates():
        try:
            context = importlib.import_module(f"mujoco.{module}").GLContext(width, height)
            context.make_current()
        except Exception as error:  # each binding fails in ways of its own
            failures.append(f"{module}: {' '.join(str(error).split()) or type(error).__name__}")
            _forget_pyopengl()
        else:
            _logger.debug("drawing with %s", module)
            return context
    raise BackendError(f"no OpenGL to draw with ({'; '.join(failures)}); on Linux install libegl1 with libgl1-mesa-dri, or libosmesa6")


def renderer() -> str:
    """What the current context draws with, in its driver's words; empty where they can't be had."""
    try:
        name = importlib.import_module("OpenGL.GL").glGetString(0x1F01)  # GL_RENDERER
    except Exception:  # not every binding comes with PyOpenGL
        return ""
    return bytes(name or b"").decode(errors="replace")


def is_software() -> bool:
    """Whether the current context draws on the processor."""
    return any(name in renderer().lower() for name in ("llvmpipe", "softpipe", "swrast"))


def drawing() -> str:
    """Draws a small picture of the floor, and says with what. Raises BackendError where nothing comes of it."""
    canvas = Canvas(64, 64)
    name = " on ".join(filter(None, (canvas.binding, renderer())))
    canvas.begin(camera(torch.zeros(3), distance=4.0, azimuth=130.0, elevation=-14.0))
    canvas.draw(0, 0, 64, 64)
    is_empty = canvas.read().std() == 0.0
    canvas.close()
    if is_empty:
        raise BackendError(f"{name} draws nothing")
    return name


def candidates() -> Sequence[str]:
    """MuJoCo's bindings to try, in order: what MUJOCO_GL says, or what this system may have."""
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if chosen in ("egl", "osmesa", "glfw", "cgl"):
        return (chosen,)
    if sys.platform.startswith("linux"):
        return ("egl", "osmesa", "glfw")
    return ("cgl", "glfw") if sys.platform == "darwin" else ("glfw",)


def _forget_pyopengl() -> None:
    """PyOpenGL binds itself to one platform at its first import; without this a second one could not be tried."""
    os.environ.pop("PYOPENGL_PLATFORM", None)
    for name in [
        name for name in sys.modules if name.split(".")[0] == "OpenGL" or name in ("mujoco.egl", "mujoco.egl.egl_ext", "mujoco.osmesa")
    ]:
        del sys.modules[name]

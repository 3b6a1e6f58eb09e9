"""MuJoCo's own window as a front end: keys post commands, text lists them, shapes are added to its scene."""

import contextlib
import threading
from typing import Any, Dict

from puffer_phc.errors import BackendError
from puffer_phc.mujoco_loading import import_mujoco
from puffer_phc.view.commands import COMMANDS
from puffer_phc.view.mujoco_scene import Board, Figures, camera_place, mujoco
from puffer_phc.view.scene import LOOK_HEIGHT, Focus, stage
from puffer_phc.view.session import Session, play_at_pace

viewer: Any = import_mujoco("a window", "viewer")

PICTURES_PER_SECOND = 60.0
_SHADOW_RADIUS, _SHADOW_SIZE = 12.0, 4096
_CLOSING_SECONDS = 5.0
_SPECIAL_KEYS = {"SPACE": 32, "ESCAPE": 256, "BACKSPACE": 259}
"""GLFW's codes; letters and digits are their characters' codes."""


def key_commands() -> Dict[int, str]:
    """Names of commands by GLFW's code of their key."""
    return {_SPECIAL_KEYS.get(entry.key) or ord(entry.key): entry.name for entry in COMMANDS if entry.key}


class Window:
    """The window of one session; ``run`` plays until it is closed.

    MuJoCo gives most keys a meaning of its own (letters switch what its models show); what they changed is put back at every picture.
    ``handle`` is MuJoCo's.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._board = Board(shadow_radius=_SHADOW_RADIUS, shadow_size=_SHADOW_SIZE)
        self._figures, self._focus = Figures(), Focus()
        self._keys = key_commands()
        before = set(threading.enumerate())
        try:
            board = self._board
            self.handle = viewer.launch_passive(board.model, board.data, key_callback=self.press, show_left_ui=False, show_right_ui=False)
        except (RuntimeError, mujoco.FatalError) as error:
            raise BackendError(f"MuJoCo's window can't be opened: {error}; choose --viewer web or video") from error
        self._threads = [thread for thread in threading.enumerate() if thread not in before]
        self._option, self._flags = mujoco.MjvOption(), self.handle.user_scn.flags.copy()
        with self.handle.lock():
            camera = self.handle.cam
            camera.distance, camera.azimuth, camera.elevation = 4.5, 130.0, -14.0

    def run(self) -> None:
        """Play and draw until the window is closed or somebody quits."""
        play_at_pace(self._session, self.draw, PICTURES_PER_SECOND, self.handle.is_running)

    def draw(self, seconds: float) -> None:
        """Show the present instant, ``seconds`` after the last picture."""
        session = self._session
        if session.settings.drawing:
            frame, settings = session.frame(), session.settings
            staged = stage(frame, settings)
            point = self._focus.move(staged.body_pos[:, 0], settings, seconds)
            with self.handle.lock():
                self._undo_keys()
                self._board.light_up(point)
                self.handle.user_scn.ngeom = 0
                self._figures.add(self.handle.user_scn, frame, staged, settings)
                if settings.follow:
                    self.handle.cam.lookat[:] = (point[0], point[1], LOOK_HEIGHT)
                session.camera = camera_place(self.handle.cam)
        self.handle.set_texts(self.texts())
        self.handle.sync()

    def close(self) -> None:
        """Close the window, and wait until it is gone: it must not draw while the process ends."""
        with contextlib.suppress(mujoco.UnexpectedError):
            self.handle.close()
        for thread in self._threads:
            thread.join(_CLOSING_SECONDS)

    def press(self, code: int) -> None:
        """Obey the key of GLFW's ``code``, if it is one of ours."""
        if code in self._keys:
            self._session.post(self._keys[code])

    def _undo_keys(self) -> None:
        """Put back what MuJoCo's own keys change."""
        option = self.handle.opt
        option.geomgroup[:] = self._option.geomgroup
        option.flags[:] = self._option.flags
        option.frame, option.label = self._option.frame, self._option.label
        self.handle.user_scn.flags[:] = self._flags
        self.handle.cam.type = mujoco.mjtCamera.mjCAMERA_FREE

    def texts(self) -> Any:
        """Status and keys, in the letters that MuJoCo has and in the 500 of them that it takes for each block."""
        font, places = mujoco.mjtFont.mjFONT_NORMAL, mujoco.mjtGridPos
        status = [(what, value.replace("×", "x")) for what, value in self._session.status()]
        keys = [(entry.key, entry.label) for entry in COMMANDS if entry.key]
        return [
            (font, places.mjGRID_TOPLEFT, *("\n".join(column) for column in zip(*status))),
            (font, places.mjGRID_TOPRIGHT, *("\n".join(column) for column in zip(*keys))),
        ]

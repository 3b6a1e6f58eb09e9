"""Clips as they are, without physics: a clock that keys can stop, turn and speed up, and the humanoid placed where the clip says.

The bodies are drawn where MuJoCo's kinematics put them from the joint coordinates, the markers where the world rotations of the motion
library lead. They coincide only where joint coordinates are read as rotation vectors on both sides.
"""

import contextlib
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch

from puffer_phc import rotations
from puffer_phc.humanoid.kinematics import forward_kinematics, local_rotations
from puffer_phc.humanoid.mjcf import PhysicsOptions, build_mjcf
from puffer_phc.motion.file import Clip
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.mujoco_loading import import_mujoco
from puffer_phc.state import Reference
from puffer_phc.view.mujoco_scene import mujoco
from puffer_phc.view.offscreen import Canvas

SPEEDS: Tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Relative to real time."""

MARKER_RADIUS = 0.02
MARKER_COLOUR = np.array([0.9, 0.1, 0.1, 1.0], dtype=np.float32)

FRAME = 1.0 / 30.0
"""s that a single step goes on."""


class Player:
    """Which clip plays, where in it, and how fast."""

    def __init__(self, clips: Sequence[Clip], index: int = 0, speed: float = 1.0, sets_floor: bool = True) -> None:
        self.clips = clips
        self.index = index
        self.time = 0.0
        self.speed = speed
        self.is_paused = False
        self.loops = True
        self._sets_floor = sets_floor
        self._loaded: Tuple[int, MotionLibrary] = (index, self._load(index))

    @property
    def clip(self) -> Clip:
        """The clip that plays."""
        return self.clips[self.index]

    @property
    def is_over(self) -> bool:
        """Whether the clip has ended and does not begin again."""
        return not self.loops and self.time >= self.clip.duration

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` of the viewer's time pass. At the end the clip begins again, or holds its last frame."""
        if not self.is_paused:
            self._set_time(self.time + seconds * self.speed)

    def _set_time(self, time: float) -> None:
        duration = self.clip.duration
        self.time = time % duration if self.loops else min(max(time, 0.0), duration)

    def step(self, frames: int) -> None:
        """Pause, ``frames`` further on."""
        self.is_paused = True
        self._set_time(self.time + frames * FRAME)

    def choose(self, offset: int) -> None:
        """Another clip, ``offset`` further in the file, from its start."""
        self.index = (self.index + offset) % len(self.clips)
        self.restart()

    def restart(self) -> None:
        """The clip from its start."""
        self.time = 0.0

    def toggle_pause(self) -> None:
        """Pause or go on."""
        self.is_paused = not self.is_paused

    def toggle_loop(self) -> None:
        """Begin again at the end, or stay there."""
        self.loops = not self.loops

    def change_speed(self, steps: int) -> None:
        """Faster or slower, by places in ``SPEEDS``."""
        nearest = min(range(len(SPEEDS)), key=lambda place: abs(SPEEDS[place] - self.speed))
        self.speed = SPEEDS[min(max(nearest + steps, 0), len(SPEEDS) - 1)]

    def reference(self) -> Reference:
        """The motion at this moment, one row."""
        if self._loaded[0] != self.index:
            self._loaded = (self.index, self._load(self.index))
        return self._loaded[1].at(torch.zeros(1, dtype=torch.int64), torch.tensor([self.time]))

    def _load(self, index: int) -> MotionLibrary:
        return MotionLibrary([self.clips[index]], torch.device("cpu"), sets_floor=self._sets_floor)

    def status(self) -> str:
        """A line for the viewer."""
        state = "paused" if self.is_paused else f"{self.speed:g} x"
        loop = "loop" if self.loops else "once"
        return f"{self.index}/{len(self.clips) - 1} {self.clip.name}  {self.time:.2f} / {self.clip.duration:.2f} s  {state}  {loop}"


class Key(NamedTuple):
    """One key of the window."""

    code: int
    """GLFW's number."""
    name: str
    help: str
    act: Callable[[Player], None]


KEYS: Tuple[Key, ...] = (
    Key(262, "right", "next clip", lambda player: player.choose(1)),
    Key(263, "left", "previous clip", lambda player: player.choose(-1)),
    Key(32, "space", "pause or go on", lambda player: player.toggle_pause()),
    Key(265, "up", "faster", lambda player: player.change_speed(1)),
    Key(264, "down", "slower", lambda player: player.change_speed(-1)),
    Key(257, "enter", "begin again at the end, or stay there", lambda player: player.toggle_loop()),
    Key(268, "home", "from the start", lambda player: player.restart()),
    Key(334, "keypad +", "one frame on", lambda player: player.step(1)),
    Key(333, "keypad -", "one frame back", lambda player: player.step(-1)),
)
"""Keys that MuJoCo's window leaves free; most letters switch its drawing options."""


def press(player: Player, code: int) -> None:
    """Do what the key with GLFW's number ``code`` is for; nothing where it is for nothing."""
    actions: Dict[int, Callable[[Player], None]] = {key.code: key.act for key in KEYS}
    if code in actions:
        actions[code](player)


class Puppet:
    """The humanoid in MuJoCo, placed by kinematics alone."""

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(build_mjcf(PhysicsOptions()))
        self.model.vis.map.shadowclip, self.model.vis.map.shadowscale = 4.0, 0.8
        self.model.light_mode[:] = mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM  # the sun's shadow map covers only what is near it
        self.data = mujoco.MjData(self.model)
        self.marker_pos = np.zeros((0, 3))

    def place(self, reference: Reference) -> None:
        """Put the humanoid on a reference of one row; its ball joints take the rotation vectors as quaternions."""
        pose = reference.pose()
        self.data.qpos[:3] = pose.root_pos[0].numpy()
        self.data.qpos[3:7] = pose.root_quat[0].numpy()
        self.data.qpos[7:] = rotations.from_rotation_vector(pose.dof_pos[0].view(-1, 3)).flatten().numpy()
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        positions, _ = forward_kinematics(pose.root_pos, local_rotations(reference.body.quat))
        self.marker_pos = positions[0].double().numpy()

    def marker_error(self) -> float:
        """The largest distance in m between a body and its marker."""
        return float(np.linalg.norm(self.data.xpos[1:] - self.marker_pos, axis=-1).max())

    def add_markers(self, scene: Any) -> None:
        """Add the markers to an ``MjvScene``."""
        for pos in self.marker_pos:
            if scene.ngeom >= scene.maxgeom:
                return
            geom = scene.geoms[scene.ngeom]
            size = np.full(3, MARKER_RADIUS)
            mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_SPHERE, size, pos, np.eye(3).reshape(-1), MARKER_COLOUR)
            geom.emission = 0.6
            scene.ngeom += 1

    def camera(self, distance: float = 3.2, azimuth: float = 130.0, elevation: float = -12.0) -> Any:
        """A camera that follows the pelvis."""
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        camera.trackbodyid = 1
        camera.distance, camera.azimuth, camera.elevation = distance, azimuth, elevation
        return camera


def pictures(player: Player, puppet: Puppet, size: Tuple[int, int], fps: float, seconds: float) -> Iterator[np.ndarray]:
    """Pictures (height, width, 3) uint8 of ``seconds`` of the player's clip, ``fps`` a second, ``size`` = (width, height) pixels."""
    camera = puppet.camera()
    with contextlib.closing(Canvas(*size, board=puppet)) as canvas:
        canvas.option.flags[:] = transparent().flags
        for _ in range(max(1, round(seconds * fps))):
            puppet.place(player.reference())
            canvas.begin(camera)
            puppet.add_markers(canvas.scene)
            canvas.draw(0, 0, *size)
            yield canvas.read()
            player.advance(1.0 / fps)


def transparent() -> Any:
    """Drawing options that let the markers shine through the bodies."""
    option = mujoco.MjvOption()
    option.flags[mujoco.mjtVisFlag.mjVIS_TRANSPARENT] = True
    return option


def show(player: Player) -> None:
    """Play in MuJoCo's window until it is closed."""
    viewer = import_mujoco("a window", "viewer")
    puppet = Puppet()
    pressed: List[int] = []
    puppet.place(player.reference())
    panels = {"show_left_ui": False, "show_right_ui": False}
    with viewer.launch_passive(puppet.model, puppet.data, key_callback=pressed.append, **panels) as window:
        window.opt.flags[:] = transparent().flags
        for name in ("type", "trackbodyid", "distance", "azimuth", "elevation"):
            setattr(window.cam, name, getattr(puppet.camera(), name))
        before = time.perf_counter()
        while window.is_running():
            now = time.perf_counter()
            while pressed:
                press(player, pressed.pop(0))
            player.advance(now - before)
            before = now
            _refresh(window, player, puppet)
            time.sleep(max(0.0, 1.0 / 60.0 - (time.perf_counter() - now)))


def _refresh(window: Any, player: Player, puppet: Puppet) -> None:
    """Draw the player's moment in the window."""
    with window.lock():
        puppet.place(player.reference())
        window.user_scn.ngeom = 0
        puppet.add_markers(window.user_scn)
    window.set_texts((mujoco.mjtFontScale.mjFONTSCALE_150, mujoco.mjtGridPos.mjGRID_TOPLEFT, player.status(), ""))
    window.sync()

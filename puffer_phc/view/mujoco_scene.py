"""MuJoCo as a drawing board: a floor and a sun as its model, humanoids as shapes added to its scene; used by window and video."""

from typing import Any, Iterable, Optional

import numpy as np
import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import BackendError
from puffer_phc.mujoco_loading import import_mujoco
from puffer_phc.view.scene import (
    MARKER_COLOUR,
    MARKER_RADIUS,
    REFERENCE_COLOUR,
    REFERENCE_OPACITY,
    Shapes,
    Staged,
    colours,
    humanoid_shapes,
    place,
    slim,
)
from puffer_phc.view.session import CameraPlace, Frame, Settings

mujoco: Any = import_mujoco("drawing")

_BOARD = """
<mujoco model="stage">
  <visual>
    <global offwidth="{width}" offheight="{height}" fovy="45"/>
    <headlight ambient="0.38 0.38 0.38" diffuse="0.35 0.35 0.35" specular="0.05 0.05 0.05"/>
    <quality shadowsize="{shadow_size}" offsamples="{samples}"/>
    <map znear="0.02" zfar="120" fogstart="12" fogend="44" shadowclip="{shadow_radius}"/>
    <rgba haze="0.80 0.86 0.91 1" fog="0.80 0.86 0.91 1"/>
  </visual>
  <statistic center="0 0 0.9" extent="1"/>
  <asset>
    <texture name="sky" type="skybox" builtin="gradient" rgb1="0.80 0.86 0.91" rgb2="0.52 0.66 0.80" width="256" height="1536"/>
    <texture name="floor" type="2d" builtin="checker" mark="edge" rgb1="0.56 0.59 0.62" rgb2="0.50 0.53 0.56" markrgb="0.68 0.70 0.72"
             width="256" height="256"/>
    <material name="floor" texture="floor" texrepeat="1 1" texuniform="true"/>
  </asset>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 0.5" material="floor"/>
    <body name="sun" mocap="true">
      <light type="directional" dir="{x} {y} {z}" diffuse="0.60 0.60 0.57" castshadow="true"/>
    </body>
  </worldbody>
</mujoco>
"""

_SUNLIGHT = torch.tensor([0.35, 0.45, -1.0])
_SUN_DISTANCE = 8.0
"""Far enough that what MuJoCo shades wrongly, the half of the shadowed square that is nearer to the sun, is out of sight."""

_KINDS = {
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
}
MAX_SHAPES = 20000
"""Room in a scene: 170 humanoids with reference and markers."""


class Board:
    """A floor without end and a sun that shines on what is looked at and casts shadows for ``shadow_radius`` m around.

    ``width`` and ``height`` are those of pictures without a window, ``shadow_size`` the pixels across all shadows, ``samples`` those of
    an edge's pixel.
    """

    def __init__(self, width: int = 640, height: int = 480, shadow_radius: float = 6.0, shadow_size: int = 2048, samples: int = 4) -> None:
        x, y, z = _SUNLIGHT.tolist()
        document = _BOARD.format(
            width=width, height=height, shadow_radius=shadow_radius, shadow_size=shadow_size, samples=samples, x=x, y=y, z=z
        )
        try:
            self.model = mujoco.MjModel.from_xml_string(document)
        except ValueError as error:  # of Isaac Gym's Python there are only old ones
            raise BackendError(f"MuJoCo {mujoco.__version__} is too old to draw with, 3.17 or newer is needed") from error
        self.data = mujoco.MjData(self.model)
        self.light_up(torch.zeros(3))

    def light_up(self, point: Tensor) -> None:
        """Aim the sun at ``point`` (3,) m."""
        self.data.mocap_pos[0] = (point - _SUN_DISTANCE * _SUNLIGHT).numpy()
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)


class Figures:
    """Adds humanoids, references and markers to an ``MjvScene``."""

    def __init__(self) -> None:
        self._shapes = humanoid_shapes()
        self._kinds = [_KINDS[kind] for kind in self._shapes.kinds]
        self._sizes, self._slim_sizes = _model_sizes(self._shapes), _model_sizes(slim(self._shapes))
        self._plain = np.array([*REFERENCE_COLOUR, REFERENCE_OPACITY], dtype=np.float32)
        self._red = np.array([*MARKER_COLOUR, 1.0], dtype=np.float32)

    def add(self, scene: Any, frame: Frame, staged: Staged, settings: Settings, ids: Optional[Iterable[int]] = None) -> None:
        """Append the figures of humanoids ``ids`` (default: all) that the settings want to see; transparent ones come last."""
        chosen = list(range(frame.num_humanoids) if ids is None else ids)
        rgb = colours(frame.num_humanoids, self._shapes.shades, settings.colour_shift)[chosen]
        opaque = torch.cat((rgb, torch.ones(*rgb.shape[:2], 1)), dim=-1).numpy()
        self._add_bodies(scene, staged.body_pos[chosen], frame.body_quat[chosen], opaque, self._sizes)
        if settings.markers:
            self._add_markers(scene, staged.marker_pos[chosen].flatten(0, 1))
        if settings.reference:
            ghost = np.broadcast_to(self._plain, opaque.shape)
            self._add_bodies(scene, staged.reference_pos[chosen], frame.reference_quat[chosen], ghost, self._slim_sizes)

    def _add_bodies(self, scene: Any, body_pos: Tensor, body_quat: Tensor, rgba: np.ndarray, sizes: np.ndarray) -> None:
        pos, quat = place(self._shapes, body_pos, body_quat)
        matrices = rotations.to_matrix(quat).flatten(-2).double().numpy()
        for figure_pos, figure_matrices, figure_rgba in zip(pos.double().numpy(), matrices, rgba):
            for row in zip(self._kinds, sizes, figure_pos, figure_matrices, figure_rgba):
                _append(scene, *row)

    def _add_markers(self, scene: Any, points: Tensor) -> None:
        size, turn = np.array([MARKER_RADIUS, 0.0, 0.0]), np.eye(3).ravel()
        for point in points.double().numpy():
            _append(scene, mujoco.mjtGeom.mjGEOM_SPHERE, size, point, turn, self._red)


def _model_sizes(shapes: Shapes) -> np.ndarray:
    """(P, 3) as MuJoCo's models have them: a capsule's are its radius and half length."""
    is_capsule = torch.tensor([kind == "capsule" for kind in shapes.kinds])
    return torch.where(is_capsule[:, None], shapes.size[:, [0, 2, 1]], shapes.size).double().numpy()


def _append(scene: Any, kind: Any, size: np.ndarray, pos: np.ndarray, matrix: np.ndarray, rgba: np.ndarray) -> None:
    if scene.ngeom < scene.maxgeom:
        mujoco.mjv_initGeom(scene.geoms[scene.ngeom], kind, size, pos, matrix, rgba)
        scene.ngeom += 1


def camera(look_at: Tensor, distance: float, azimuth: float, elevation: float) -> Any:
    """An ``MjvCamera`` that looks at ``look_at`` (3,) m from ``distance`` m; angles in degrees."""
    made = mujoco.MjvCamera()
    made.type = mujoco.mjtCamera.mjCAMERA_FREE
    made.lookat[:] = look_at.numpy()
    made.distance, made.azimuth, made.elevation = distance, azimuth, elevation
    return made


def camera_place(made: Any) -> CameraPlace:
    """Where a free ``MjvCamera`` is."""
    azimuth, elevation = np.radians(made.azimuth), np.radians(made.elevation)
    forward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    look_at = np.array(made.lookat)
    return CameraPlace(*(tuple(point.tolist()) for point in (look_at - made.distance * forward, look_at)))

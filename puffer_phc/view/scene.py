"""Where everything is drawn: the humanoid's shapes placed on its bodies, humanoids on a grid, the reference over or beside them."""

import math
from typing import List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from typing_extensions import Literal

from puffer_phc import rotations
from puffer_phc.humanoid.skeleton import BODIES, BODY_NAMES, Box, Capsule
from puffer_phc.view.session import Frame, Settings

Colour = Tuple[float, float, float]

SPACING = 3.0
"""m between neighbours: room for outstretched arms and a few steps."""
BESIDE = 1.2
"""m from the humanoid to its reference side by side."""
LOOK_HEIGHT = 0.85
"""m over the floor: the middle of a standing humanoid."""
MARKER_RADIUS = 0.025
"""m."""
REFERENCE_COLOUR: Colour = (0.12, 0.72, 0.34)
REFERENCE_OPACITY = 0.35
MARKER_COLOUR: Colour = (0.85, 0.10, 0.10)
PALETTE: Tuple[Colour, ...] = (
    (0.35, 0.56, 0.78),
    (0.92, 0.60, 0.30),
    (0.80, 0.42, 0.45),
    (0.48, 0.70, 0.70),
    (0.64, 0.52, 0.74),
    (0.90, 0.78, 0.40),
    (0.86, 0.58, 0.66),
    (0.60, 0.50, 0.42),
)
"""One a humanoid, over and over."""

_RIGHT_SHADE, _TRUNK_SHADE = 0.78, 0.92
"""Right limbs are darker than left ones, so that crossing legs can be told apart."""


class Shapes(NamedTuple):
    """P shapes of one humanoid in their bodies' frames."""

    kinds: Tuple[Literal["sphere", "capsule", "box", "cylinder"], ...]
    bodies: Tensor
    """(P,) int64."""
    pos: Tensor
    """(P, 3) m, centre."""
    quat: Tensor
    """(P, 4); the axis of capsules and cylinders is z."""
    size: Tensor
    """(P, 3) m: half extents of what the shape fills but for a capsule's caps; a sphere's are its radius."""
    shades: Tensor
    """(P,) factor on the humanoid's colour."""

    def select(self, kind: str) -> "Shapes":
        """The shapes of one kind."""
        ids = torch.tensor([index for index, name in enumerate(self.kinds) if name == kind], dtype=torch.int64)
        return Shapes(tuple(name for name in self.kinds if name == kind), *(part[ids] for part in self[1:]))  # type: ignore[arg-type]


def humanoid_shapes() -> Shapes:
    """The collision shape of every body."""
    rows = []
    for index, body in enumerate(BODIES):
        shape = body.shape
        if isinstance(shape, Capsule):
            rows.append(("capsule", index, *_capsule(torch.tensor(shape.start), torch.tensor(shape.end), shape.radius)))
        elif isinstance(shape, Box):
            rows.append(("box", index, torch.tensor(shape.center), _UPRIGHT, shape.half_extents))
        else:
            rows.append(("sphere", index, torch.tensor(shape.center), _UPRIGHT, (shape.radius,) * 3))
    return _shapes(rows)


def simple_shapes() -> Shapes:
    """The same humanoid of spheres, cylinders and boxes only, which keep their form under any scale: a capsule becomes three shapes."""
    rows = []
    for kind, body, pos, quat, size, _ in zip(*humanoid_shapes()):
        if kind != "capsule":
            rows.append((kind, int(body), pos, quat, size.tolist()))
            continue
        radius, half_length = float(size[0]), float(size[2])
        axis = rotations.rotate(quat, torch.tensor([0.0, 0.0, half_length]))
        rows.append(("cylinder", int(body), pos, quat, size.tolist()))
        rows += [("sphere", int(body), end, _UPRIGHT, (radius,) * 3) for end in (pos - axis, pos + axis)]
    return _shapes(rows)


def slim(shapes: Shapes) -> Shapes:
    """The same shapes a little thinner: a reference that is tracked exactly disappears in the humanoid, and sticks out where it isn't."""
    return shapes._replace(size=shapes.size - shapes.size.clamp_max(_SLIMMING) * 0.5)


_UPRIGHT = torch.tensor([1.0, 0.0, 0.0, 0.0])
_SLIMMING = 0.02
"""m; half of it is taken off."""


def _capsule(start: Tensor, end: Tensor, radius: float) -> Tuple[Tensor, Tensor, Tuple[float, float, float]]:
    """Position, rotation and size of the capsule around a segment."""
    half_length = float((end - start).norm()) / 2
    return (start + end) / 2, _turn_from_z((end - start) / (2 * half_length)), (radius, radius, half_length)


def _shapes(rows: List[tuple]) -> Shapes:
    kinds, bodies, pos, quat, size = zip(*rows)
    shades = torch.tensor([_shade(BODY_NAMES[body]) for body in bodies])
    return Shapes(kinds, torch.tensor(bodies), torch.stack(pos), torch.stack(quat), torch.tensor([list(row) for row in size]), shades)


def _shade(name: str) -> float:
    return {"L_": 1.0, "R_": _RIGHT_SHADE}.get(name[:2], _TRUNK_SHADE)


def _turn_from_z(direction: Tensor) -> Tensor:
    """(4,) the shortest rotation that takes z to the unit vector ``direction`` (3,)."""
    z = torch.tensor([0.0, 0.0, 1.0])
    half_way = torch.cat(((1.0 + direction[2:]).clamp_min(1e-6), rotations.cross(z, direction)))
    return rotations.normalize(half_way)


def place(shapes: Shapes, body_pos: Tensor, body_quat: Tensor) -> Tuple[Tensor, Tensor]:
    """World positions (N, P, 3) and rotations (N, P, 4) of ``shapes`` on bodies at (N, B, 3), (N, B, 4)."""
    pos, quat = body_pos[:, shapes.bodies], body_quat[:, shapes.bodies]
    return pos + rotations.rotate(quat, shapes.pos.expand_as(pos)), rotations.multiply(quat, shapes.quat.expand_as(quat))


def colours(num_humanoids: int, shades: Tensor, shift: int) -> Tensor:
    """(N, P, 3) in [0, 1]: each humanoid's colour of the palette in the shades (P,) of its shapes."""
    base = torch.tensor([PALETTE[(index + shift) % len(PALETTE)] for index in range(num_humanoids)])
    return base[:, None] * shades[:, None]


def grid(num_humanoids: int) -> Tensor:
    """(N, 3) m: cells of a square grid around the origin, row by row."""
    columns = math.ceil(math.sqrt(num_humanoids))
    rows = math.ceil(num_humanoids / columns)
    index = torch.arange(num_humanoids)
    x, y = (index % columns) - (columns - 1) / 2, (index // columns) - (rows - 1) / 2
    return SPACING * torch.stack((x, y, torch.zeros(num_humanoids)), dim=-1)


class Staged(NamedTuple):
    """What is drawn where, m."""

    body_pos: Tensor
    """(N, B, 3)."""
    reference_pos: Tensor
    """(N, B, 3)."""
    marker_pos: Tensor
    """(N, B, 3)."""


def stage(frame: Frame, settings: Settings) -> Staged:
    """The frame with each humanoid's clip beginning at its cell of the grid, and the reference where the settings want it."""
    shift = (grid(frame.num_humanoids) - frame.origins)[:, None]
    aside = shift + torch.tensor([0.0, BESIDE if settings.beside else 0.0, 0.0])
    return Staged(frame.body_pos + shift, frame.reference_pos + aside, frame.marker_pos + shift)


class Focus:
    """The point on the floor that the camera looks at: under the chosen humanoid while following, smoothed, else where it last was."""

    _RATE = 6.0
    """1/s: fast enough for a sprint, slow enough that the floor does not sway with every step."""
    _JUMP = 1.5
    """m: farther than this is another humanoid or a new clip, and the focus jumps there."""

    def __init__(self) -> None:
        self._point: Optional[Tensor] = None

    def move(self, root_pos: Tensor, settings: Settings, seconds: float) -> Tensor:
        """(3,) m with height 0, after ``seconds`` of following the pelvises ``root_pos`` (N, 3)."""
        target = root_pos[settings.humanoid] * torch.tensor([1.0, 1.0, 0.0])
        if self._point is None:
            self._point = target
        elif settings.follow:
            is_far = bool((target - self._point).norm() > self._JUMP)
            self._point = target if is_far else torch.lerp(self._point, target, 1.0 - math.exp(-self._RATE * seconds))
        return self._point

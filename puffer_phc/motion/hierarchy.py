"""Where the joints of a captured skeleton are: rotations and offsets carried from parents to children, in components.

Products of quaternions whose components are arrays of their own are several times faster than products of (F, 4). A component may be a
NumPy array or a tensor (F,), or a plain number where it does not change.
"""

from typing import Any, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

Components = Tuple[Any, ...]
"""The components of a vector (x, y, z) or quaternion (w, x, y, z)."""


IDENTITY: Components = (1.0, 0.0, 0.0, 0.0)


class Place(NamedTuple):
    """A joint in the world over time."""

    position: Components
    quat: Components
    """wxyz, of the bone that begins at the joint."""


def product(a: Components, b: Components) -> Components:
    """The Hamilton product a ⊗ b."""
    aw, ax, ay, az = a
    bw, bx, by, bz = b
    return (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )


def rotated(quat: Components, vector: Sequence[float]) -> Components:
    """A fixed vector (3,) turned by ``quat``: v + w t + u × t with t = 2 u × v."""
    w, x, y, z = quat
    a, b, c = vector
    tx, ty, tz = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return (a + w * tx + (y * tz - z * ty), b + w * ty + (z * tx - x * tz), c + w * tz + (x * ty - y * tx))


def moved(place: Place, offset: Sequence[float]) -> Components:
    """The position of what is fixed to a place at ``offset`` (3,) in its frame."""
    return tuple(start + shift for start, shift in zip(place.position, rotated(place.quat, offset)))


def turned(quat: Components, axis: int, cosine: Any, sine: Any) -> Components:
    """``quat`` ⊗ a turn about one of its own axes, given as cosine and sine of half the angle."""
    w, vector = quat[0], list(quat[1:])
    along, left, right = vector[axis], vector[(axis + 1) % 3], vector[(axis + 2) % 3]
    vector[axis] = along * cosine + w * sine
    vector[(axis + 1) % 3] = left * cosine + right * sine
    vector[(axis + 2) % 3] = right * cosine - left * sine
    return (w * cosine - along * sine, *vector)


def conjugate(quat: Components) -> Components:
    """The inverse rotation."""
    return (quat[0], -quat[1], -quat[2], -quat[3])


def stacked(places: Sequence[Components]) -> np.ndarray:
    """(F, J, K) from K components, NumPy arrays, of each of J joints."""
    return np.stack([np.stack(place, axis=-1) for place in places], axis=1)


def ancestors(parents: Mapping[str, str], names: Sequence[str]) -> List[str]:
    """``names`` and everything above them that ``parents`` knows."""
    found: List[str] = []
    for name in names:
        while name in parents and name not in found:
            found.append(name)
            name = parents[name]
    return found

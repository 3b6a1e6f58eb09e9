"""Where the joints of a captured skeleton are: rotations and offsets carried from parents to children, in components (F,)."""

from typing import Any, List, Mapping, NamedTuple, Sequence

import numpy as np

from puffer_phc.humanoid.kinematics import Components, carried

IDENTITY: Components = (1.0, 0.0, 0.0, 0.0)


class Place(NamedTuple):
    """A joint in the world over time."""

    position: Components
    quat: Components
    """wxyz, of the bone that begins at the joint."""


def moved(place: Place, offset: Sequence[float]) -> Components:
    """The position of what is fixed to a place at ``offset`` (3,) in its frame."""
    return carried(place.position, place.quat, offset)


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

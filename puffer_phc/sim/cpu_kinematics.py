"""Joint coordinates and body states from MuJoCo's states for a whole batch, in a few hundred numpy operations.

After a physics step MuJoCo's own body states are one step old, and asking it for fresh ones costs a tenth of the simulation: it
factorises the mass matrix and searches contacts again on the way. These few lines cost a third of that. Arrays have the environments
last, so that every operation runs over contiguous memory, and bodies by rank: generation by generation from the root on.
"""

from typing import List, Tuple, Union

import numpy as np

from puffer_phc.humanoid.skeleton import NUM_BODIES, NUM_DOFS, OFFSETS, PARENTS

Index = Union[slice, np.ndarray]


def _ancestors(body: int) -> List[int]:
    """The body itself, its parent, and so on up to the root."""
    return [body] if PARENTS[body] < 0 else [body, *_ancestors(PARENTS[body])]


def _by_generation() -> List[int]:
    """Bodies from the root on, generation by generation, children in the order of their parents."""
    order, generation = [], [0]
    while generation:
        order += generation
        generation = [child for parent in generation for child in range(NUM_BODIES) if PARENTS[child] == parent]
    return order


_ORDER = np.array(_by_generation())
_RANK = np.argsort(_ORDER)
_PARENT_RANKS = np.array([_RANK[max(PARENTS[body], 0)] for body in _ORDER])


def _generations() -> List[Tuple[slice, Index]]:
    """Ranks of the bodies of each generation and of their parents, as slices where these follow each other."""
    depths = np.array([len(_ancestors(body)) for body in _ORDER])
    ranges = [(int(np.argmax(depths == depth)), int((depths <= depth).sum())) for depth in range(2, depths.max() + 1)]
    return [(slice(first, last), _as_slice(_PARENT_RANKS[first:last])) for first, last in ranges]


def _as_slice(ranks: np.ndarray) -> Index:
    """The same ranks without the cost of a gather, where they are consecutive."""
    return slice(int(ranks[0]), int(ranks[-1]) + 1) if (np.diff(ranks) == 1).all() else ranks


_TINY = 1e-100
"""A vector part shorter than this counts as no rotation, instead of dividing by zero."""

_GENERATIONS = _generations()
_OFFSETS = OFFSETS.astype(np.float32)[_ORDER].T[:, :, None]
_SUM_OVER_ANCESTORS = np.array([[ancestor in _ancestors(body) for ancestor in _ORDER] for body in _ORDER], dtype=np.float32)


def write_body_states(
    qpos: np.ndarray, qvel: np.ndarray, pos: np.ndarray, quat: np.ndarray, lin_vel: np.ndarray, ang_vel: np.ndarray
) -> None:
    """Fill world positions (N, B, 3) m, rotations (N, B, 4), and velocities (N, B, 3) of the body origins, m/s and rad/s.

    ``qpos`` (N, 99) and ``qvel`` (N, 75) are MuJoCo's: root position and linear velocity in the world frame, then unit quaternions
    and angular velocities relative to the parent in the body's own frame, the root's too.
    """
    coordinates, velocities = qpos.T.astype(np.float32, order="C"), qvel.T.astype(np.float32, order="C")
    num_envs = coordinates.shape[1]
    world = _world_rotations(coordinates[3:].reshape(NUM_BODIES, 4, num_envs)[_ORDER])
    matrices = _matrices(world)
    spins = _apply(matrices, velocities[3:].reshape(NUM_BODIES, 3, num_envs)[_ORDER].swapaxes(0, 1))
    arms = _apply(matrices[:, :, _PARENT_RANKS], _OFFSETS)
    omega = _SUM_OVER_ANCESTORS @ spins
    reach = _SUM_OVER_ANCESTORS @ arms
    drift = _SUM_OVER_ANCESTORS @ _cross(omega[:, _PARENT_RANKS], arms)
    pos[...] = (reach + coordinates[:3, None])[:, _RANK].T
    quat[...] = world[:, _RANK].T
    lin_vel[...] = (drift + velocities[:3, None])[:, _RANK].T
    ang_vel[...] = omega[:, _RANK].T


def rotation_vectors(qpos: np.ndarray) -> np.ndarray:
    """(..., D) float32 joint coordinates, rotation vectors in rad of length at most π, of MuJoCo positions (..., 99)."""
    w, x, y, z = np.ascontiguousarray(qpos[..., 7:].reshape(-1, 4).T)
    sine = np.sqrt(x * x + y * y + z * z)
    scale = np.copysign(2.0 * np.arctan2(sine, np.abs(w)) / np.maximum(sine, _TINY), w)
    vectors = np.empty((w.size, 3), dtype=np.float32)
    for axis, component in enumerate((x, y, z)):
        np.multiply(component, scale, out=vectors[:, axis], casting="same_kind")
    return vectors.reshape(*qpos.shape[:-1], NUM_DOFS)


def _world_rotations(local: np.ndarray) -> np.ndarray:
    """(4, B, N) world quaternions from child-to-parent ones (B, 4, N), both by rank.

    A quaternion is a pair of complex numbers, (w + xi) + (y + zi)j, whose product takes four complex ones.
    """
    shape = local.shape[0], local.shape[2]
    first, second = np.empty(shape, np.complex64), np.empty(shape, np.complex64)
    first.real, first.imag, second.real, second.imag = local.swapaxes(0, 1)
    for bodies, parents in _GENERATIONS:
        a, b, c, d = first[parents], second[parents], first[bodies], second[bodies]
        product = a * c - b * d.conj()
        second[bodies] = a * d + b * c.conj()
        first[bodies] = product
    return np.stack((first.real, first.imag, second.real, second.imag))


def _matrices(quat: np.ndarray) -> np.ndarray:
    """(3, 3, B, N) rotation matrices of (4, B, N) quaternions."""
    w, x, y, z = quat
    doubled = 2.0 * quat
    xx, yy, zz = doubled[1] * x, doubled[2] * y, doubled[3] * z
    xy, xz, yz = doubled[1] * y, doubled[1] * z, doubled[2] * z
    wx, wy, wz = doubled[1] * w, doubled[2] * w, doubled[3] * w
    return np.stack((1 - yy - zz, xy - wz, xz + wy, xy + wz, 1 - xx - zz, yz - wx, xz - wy, yz + wx, 1 - xx - yy)).reshape(3, 3, *w.shape)


def _apply(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(3, B, N) vectors turned by (3, 3, B, N) matrices."""
    return matrices[:, 0] * vectors[0] + matrices[:, 1] * vectors[1] + matrices[:, 2] * vectors[2]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(3, B, N) cross products."""
    return np.stack((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]))

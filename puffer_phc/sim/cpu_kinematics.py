"""Joint coordinates and body states from MuJoCo's states for a whole batch, in a few hundred numpy operations.

After a physics step MuJoCo's own body states are one step old, and asking it for fresh ones costs a tenth of the simulation: it
factorises the mass matrix and searches contacts again on the way. These few lines cost a third of that. Arrays have the environments
last, so that every operation runs over contiguous memory.
"""

from typing import List, Tuple

import numpy as np

from puffer_phc.humanoid.skeleton import NUM_BODIES, NUM_DOFS, OFFSETS, PARENTS


def _ancestors(body: int) -> List[int]:
    """The body itself, its parent, and so on up to the root."""
    return [body] if PARENTS[body] < 0 else [body, *_ancestors(PARENTS[body])]


def _generations() -> List[Tuple[np.ndarray, np.ndarray]]:
    """Bodies and their parents, generation by generation from the root's children on."""
    depths = np.array([len(_ancestors(body)) - 1 for body in range(NUM_BODIES)])
    children = [np.flatnonzero(depths == depth) for depth in range(1, depths.max() + 1)]
    return [(bodies, np.array(PARENTS)[bodies]) for bodies in children]


_TINY = 1e-100
"""Added to no result: a vector part shorter than this counts as no rotation, instead of dividing by zero."""

_GENERATIONS = _generations()
_PARENT_ROWS = np.maximum(PARENTS, 0)
_SUM_OVER_ANCESTORS = np.array([[float(ancestor in _ancestors(body)) for ancestor in range(NUM_BODIES)] for body in range(NUM_BODIES)])


def write_body_states(
    qpos: np.ndarray, qvel: np.ndarray, pos: np.ndarray, quat: np.ndarray, lin_vel: np.ndarray, ang_vel: np.ndarray
) -> None:
    """Fill world positions (N, B, 3) m, rotations (N, B, 4), and velocities (N, B, 3) of the body origins, m/s and rad/s.

    ``qpos`` (N, 99) and ``qvel`` (N, 75) are MuJoCo's: root position and linear velocity in the world frame, then unit quaternions
    and angular velocities relative to the parent in the body's own frame, the root's too. float64 in, any float type out.
    """
    coordinates, velocities = np.ascontiguousarray(qpos.T), np.ascontiguousarray(qvel.T)
    num_envs = coordinates.shape[1]
    world = _world_rotations(coordinates[3:].reshape(NUM_BODIES, 4, num_envs))
    matrices = _matrices(world)
    spins = _apply(matrices, velocities[3:].reshape(NUM_BODIES, 3, num_envs).swapaxes(0, 1))
    arms = _apply(matrices[:, :, _PARENT_ROWS], OFFSETS.T[:, :, None])
    omega = _SUM_OVER_ANCESTORS @ spins
    parent_omega = omega[:, _PARENT_ROWS]
    ang_vel[...] = omega.T
    pos[...] = (_SUM_OVER_ANCESTORS @ arms + coordinates[:3, None]).T
    lin_vel[...] = (_SUM_OVER_ANCESTORS @ _cross(parent_omega, arms) + velocities[:3, None]).T
    quat[...] = world.T


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
    """(4, B, N) world quaternions from child-to-parent ones (B, 4, N).

    A quaternion is a pair of complex numbers, (w + xi) + (y + zi)j, whose product takes four complex ones.
    """
    first, second = local[:, 0] + 1j * local[:, 1], local[:, 2] + 1j * local[:, 3]
    for bodies, parents in _GENERATIONS:
        a, b, c, d = first[parents], second[parents], first[bodies], second[bodies]
        first[bodies] = a * c - b * d.conj()
        second[bodies] = a * d + b * c.conj()
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

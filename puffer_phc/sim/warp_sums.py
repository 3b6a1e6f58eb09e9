# type: ignore
# ruff: noqa: N803, RUF046, UP018
# Warp compiles the source of these functions: its own language with its own types, of which Python's checkers know little. It wants
# numbers that change within a loop to be made by float() and int(). Matrices are called as in the equations.
"""Kernels that stand in for those of MuJoCo Warp whose results depend on which thread comes first.

Each takes the arguments of the one it stands in for, and computes the same but for rounding. The difference is who writes: here every
number has one thread that writes it, which takes what it is made of in one order, so that no addition has to be atomic. Rows are
constraint rows of the sparse Jacobian J: row r of a world has ``J_rownnz[r]`` entries from ``J_rowadr[r]`` on, their columns descending.
"""

import warp as wp
from mujoco_warp._src.types import ConstraintState, ContactType, vec5

wp.set_module_options({"enable_backward": False})

CONTACTS_OF_A_PAIR = 256
"""More than two geometries can have with each other."""

_LANES = 32
_QUADRATIC = int(ConstraintState.QUADRATIC)
_CONSTRAINT = int(ContactType.CONSTRAINT)
_MAX_KEY = 2**62


@wp.kernel
def contact_keys(
    num_geoms: int,
    num_contacts: wp.array[int],
    world: wp.array[int],
    geoms: wp.array[wp.vec2i],
    number: wp.array[int],
    keys: wp.array[wp.int64],
    places: wp.array[int],
) -> None:
    """What contacts are sorted by: world, the two geometries, which of their contacts it is; unused places last. Launched over places."""
    i = wp.tid()
    places[i] = i
    keys[i] = wp.int64(_MAX_KEY)
    if i < num_contacts[0]:
        key = wp.int64(world[i]) * wp.int64(num_geoms) + wp.int64(geoms[i][0])
        key = key * wp.int64(num_geoms) + wp.int64(geoms[i][1])
        keys[i] = key * wp.int64(CONTACTS_OF_A_PAIR) + wp.int64(number[i])


@wp.kernel
def gather(num_rows: wp.array[int], places: wp.array[int], source: wp.array2d[int], target: wp.array2d[int]) -> None:
    """``target[i] = source[places[i]]`` for the rows that are in use. Launched over ``target``."""
    i, j = wp.tid()
    if i < num_rows[0]:
        target[i, j] = source[places[i], j]


@wp.func
def _chain_length(first: int, second: int, dof_parentid: wp.array[int]) -> int:
    """How many coordinates move one of two bodies and not the other; ``first`` and ``second`` are their last coordinates, or -1."""
    a = int(first)
    b = int(second)
    length = int(0)
    while (a >= 0 or b >= 0) and a != b:
        if a > b:
            a = dof_parentid[a]
        else:
            b = dof_parentid[b]
        length += 1
    return length


@wp.kernel
def contact_rows(
    body_weldid: wp.array[int],
    body_dofnum: wp.array[int],
    body_dofadr: wp.array[int],
    dof_parentid: wp.array[int],
    geom_bodyid: wp.array[int],
    max_rows: int,
    max_entries: int,
    num_contacts: wp.array[int],
    dist: wp.array[float],
    condim: wp.array[int],
    includemargin: wp.array[float],
    adhesion: wp.array[float],
    world: wp.array[int],
    geoms: wp.array[wp.vec2i],
    kind: wp.array[int],
    nefc: wp.array[int],
    row_of_contact: wp.array2d[int],
    contact_of_row: wp.array2d[int],
    block_start: wp.array2d[int],
    block_size: wp.array2d[int],
    num_blocks: wp.array[int],
    J_rownnz: wp.array2d[int],
    J_rowadr: wp.array2d[int],
    Jqvel: wp.array2d[float],
    num_entries: wp.array[int],
) -> None:
    """Rows for contacts that are sorted by world, in their order, pyramidal cones. Launched over contacts.

    The thread of a world's first contact numbers the rows of all of them.
    """
    first = wp.tid()
    count = wp.min(num_contacts[0], dist.shape[0])
    if first >= count:
        return
    w = world[first]
    if first > 0 and world[wp.max(first - 1, 0)] == w:
        return
    row = nefc[w]
    entry = num_entries[w]
    block = num_blocks[w]
    contact = int(first)
    while contact < count and world[wp.min(contact, count - 1)] == w:
        if (kind[contact] & _CONSTRAINT) != 0 and (dist[contact] < includemargin[contact] or adhesion[contact] != 0.0):
            rows = 2 * (condim[contact] - 1)
            if condim[contact] == 1:
                rows = 1
            body1 = body_weldid[geom_bodyid[geoms[contact][0]]]
            body2 = body_weldid[geom_bodyid[geoms[contact][1]]]
            last1 = body_dofadr[body1] + body_dofnum[body1] - 1
            last2 = body_dofadr[body2] + body_dofnum[body2] - 1
            length = _chain_length(last1, last2, dof_parentid)
            if row < max_rows:
                block_start[w, block] = row
                block_size[w, block] = wp.min(rows, max_rows - row)
                block += 1
            for i in range(rows):
                row_of_contact[contact, i] = -1
                if row + i < max_rows:
                    row_of_contact[contact, i] = row + i
                    contact_of_row[w, row + i] = contact
                    Jqvel[w, row + i] = 0.0
                    if entry + rows * length <= max_entries:
                        J_rowadr[w, row + i] = entry + i * length
                        J_rownnz[w, row + i] = length
            row += rows
            entry += rows * length
        contact += 1
    nefc[w] = row
    num_entries[w] = entry
    num_blocks[w] = block


@wp.kernel
def row_speeds(
    nefc: wp.array[int],
    J_rownnz: wp.array2d[int],
    J_rowadr: wp.array2d[int],
    J_colind: wp.array3d[int],
    J: wp.array3d[float],
    qvel: wp.array2d[float],
    Jqvel: wp.array2d[float],
) -> None:
    """J q̇. Launched over (N, rows)."""
    w, row = wp.tid()
    if row >= nefc[w]:
        return
    speed = float(0.0)
    for i in range(J_rowadr[w, row], J_rowadr[w, row] + J_rownnz[w, row]):
        speed += J[w, 0, i] * qvel[w, J_colind[w, 0, i]]
    Jqvel[w, row] = speed


@wp.kernel
def constraint_forces(
    nefc: wp.array[int],
    J_rownnz: wp.array2d[int],
    J_rowadr: wp.array2d[int],
    J_colind: wp.array3d[int],
    J: wp.array3d[float],
    force: wp.array2d[float],
    dof_cdof: wp.array2d[int],
    num_changed: wp.array[int],
    is_done: wp.array[bool],
    qfrc_constraint: wp.array2d[float],
) -> None:
    """Jᵀ f, by coordinate. Launched over (N, rows), of whose threads each takes every so manieth coordinate."""
    w, thread = wp.tid()
    if is_done[w] or num_changed[w] == 0:
        return
    max_rows = force.shape[1]
    for dof in range(thread, qfrc_constraint.shape[1], max_rows):
        total = float(0.0)
        for row in range(wp.min(nefc[w], max_rows)):
            push = force[w, row]
            if push != 0.0:
                for i in range(J_rowadr[w, row], J_rowadr[w, row] + J_rownnz[w, row]):
                    if J_colind[w, 0, i] == dof:
                        total += J[w, 0, i] * push
        qfrc_constraint[w, dof] = total


@wp.func
def _write_gradient(
    w: int,
    dof: int,
    qfrc_smooth: wp.array2d[float],
    qfrc_constraint: wp.array2d[float],
    Ma: wp.array2d[float],
    grad: wp.array2d[float],
    grad_dot: wp.array[float],
) -> None:
    grad[w, dof] = Ma[w, dof] - qfrc_smooth[w, dof] - qfrc_constraint[w, dof]
    if dof == 0:
        total = float(0.0)
        for i in range(qfrc_constraint.shape[1]):
            g = Ma[w, i] - qfrc_smooth[w, i] - qfrc_constraint[w, i]
            total += g * g
        grad_dot[w] = total


@wp.kernel
def gradient(
    qfrc_smooth: wp.array2d[float],
    qfrc_constraint: wp.array2d[float],
    Ma: wp.array2d[float],
    num_changed: wp.array[int],
    is_done: wp.array[bool],
    grad: wp.array2d[float],
    grad_dot: wp.array[float],
) -> None:
    """The gradient and its square, which the first coordinate's thread sums. Launched over (N, coordinates)."""
    w, dof = wp.tid()
    if not is_done[w]:
        _write_gradient(w, dof, qfrc_smooth, qfrc_constraint, Ma, grad, grad_dot)


@wp.kernel
def gradient_where_changed(
    qfrc_smooth: wp.array2d[float],
    qfrc_constraint: wp.array2d[float],
    Ma: wp.array2d[float],
    num_changed: wp.array[int],
    is_done: wp.array[bool],
    grad: wp.array2d[float],
    grad_dot: wp.array[float],
) -> None:
    """``gradient`` of the worlds in which a constraint changed its state. Launched over (N, coordinates)."""
    w, dof = wp.tid()
    if not is_done[w] and num_changed[w] != 0:
        _write_gradient(w, dof, qfrc_smooth, qfrc_constraint, Ma, grad, grad_dot)


@wp.func
def _place_of(column: int, start: int, length: int, J_colind: wp.array3d[int], w: int) -> int:
    """Where in a row's entries a column is, or -1."""
    for i in range(length):
        if J_colind[w, 0, start + i] == column:
            return i
    return -1


@wp.kernel
def hessian(
    impratio: wp.array[float],
    friction: wp.array[vec5],
    condim: wp.array[int],
    contact_of_row: wp.array2d[int],
    block_start: wp.array2d[int],
    block_size: wp.array2d[int],
    num_blocks: wp.array[int],
    J_rownnz: wp.array2d[int],
    J_rowadr: wp.array2d[int],
    J_colind: wp.array3d[int],
    J: wp.array3d[float],
    D: wp.array2d[float],
    state: wp.array2d[int],
    dof_cdof: wp.array2d[int],
    Jaref: wp.array2d[float],
    is_done: wp.array[bool],
    num_groups: int,
    H: wp.array3d[float],
) -> None:
    """H += Jᵀ D J above the diagonal, blocks of rows with the same columns in turn. Launched over (N, groups, lanes).

    A thread has the columns of H that are its own.
    """
    w, group, lane = wp.tid()
    if is_done[w]:
        return
    for column in range(group * _LANES + lane, H.shape[2], num_groups * _LANES):
        for block in range(num_blocks[w]):
            head = block_start[w, block]
            start = J_rowadr[w, head]
            length = J_rownnz[w, head]
            place = _place_of(column, start, length, J_colind, w)
            if place >= 0:
                # Columns descend: those after ``place`` are above the diagonal.
                for other in range(place, length):
                    total = float(0.0)
                    for row in range(head, head + block_size[w, block]):
                        if state[w, row] == _QUADRATIC:
                            adr = J_rowadr[w, row]
                            total += J[w, 0, adr + other] * D[w, row] * J[w, 0, adr + place]
                    H[w, J_colind[w, 0, start + other], column] += total


@wp.func
def _next_of(ids: wp.array2d[int], count: int, last: int, w: int) -> int:
    """The smallest of a world's first ``count`` numbers that is greater than ``last``."""
    found = int(2147483647)
    for i in range(count):
        if ids[w, i] > last and ids[w, i] < found:
            found = ids[w, i]
    return found


@wp.kernel
def hessian_changes(
    J_rownnz: wp.array2d[int],
    J_rowadr: wp.array2d[int],
    J_colind: wp.array3d[int],
    J: wp.array3d[float],
    D: wp.array2d[float],
    state: wp.array2d[int],
    dof_cdof: wp.array2d[int],
    changed: wp.array2d[int],
    num_changed: wp.array[int],
    num_groups: int,
    H: wp.array3d[float],
) -> None:
    """What rows that begin or cease to be quadratic change in H, in the order of the rows. Launched over (N, groups, lanes)."""
    w, group, lane = wp.tid()
    for column in range(group * _LANES + lane, H.shape[2], num_groups * _LANES):
        row = int(-1)
        for _i in range(num_changed[w]):
            row = _next_of(changed, num_changed[w], row, w)
            start = J_rowadr[w, row]
            length = J_rownnz[w, row]
            place = _place_of(column, start, length, J_colind, w)
            if place >= 0:
                scale = -D[w, row]
                if state[w, row] == _QUADRATIC:
                    scale = D[w, row]
                for other in range(place, length):
                    H[w, J_colind[w, 0, start + other], column] += scale * J[w, 0, start + other] * J[w, 0, start + place]

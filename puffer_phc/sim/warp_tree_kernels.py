# type: ignore
# ruff: noqa: N803
# Warp compiles the source of these functions: its own language with its own types, of which Python's checkers know little. Matrices are
# called as in the equations.
"""The kernels of ``warp_tree``: M = Lᵀ D⁻¹ L along a tree, L lower triangular with ones on its diagonal, D given as reciprocals.

Launched over (N, threads of a block). Each goes through the coordinates in turn and waits for all threads of the block in between.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.func_native(snippet="WP_TILE_SYNC();")
def _wait_for_block() -> None: ...


@wp.kernel
def factorize(
    row_start: wp.array[int],
    row_length: wp.array[int],
    target_rows: wp.array[int],
    pairs: wp.array[wp.vec2i],
    M: wp.array2d[float],
    L: wp.array2d[float],
    D: wp.array2d[float],
) -> None:
    """L and D of M, from the leaves to the root: each coordinate is taken out of those that it depends on.

    ``target_rows`` has for each entry the first address of the row of its column; ``pairs`` are (0, 0), (1, 0), (1, 1), (2, 0) and so on.
    """
    w, lane = wp.tid()
    lanes = wp.block_dim()
    num_dofs = D.shape[1]
    for entry in range(lane, M.shape[1], lanes):
        L[w, entry] = M[w, entry]
    _wait_for_block()
    for i in range(num_dofs):
        dof = num_dofs - 1 - i
        row = row_start[dof]
        length = row_length[dof] - 1
        pivot = 1.0 / L[w, row + length]
        for p in range(lane, (length * (length + 1)) // 2, lanes):
            a = pairs[p][0]
            b = pairs[p][1]
            L[w, target_rows[row + a] + b] -= L[w, row + a] * L[w, row + b] * pivot
        _wait_for_block()
        for a in range(lane, length, lanes):
            L[w, row + a] *= pivot
        if lane == 0:
            D[w, dof] = pivot


@wp.kernel
def solve(
    row_start: wp.array[int],
    row_length: wp.array[int],
    columns: wp.array[int],
    num_dependent: wp.array[int],
    L: wp.array2d[float],
    D: wp.array2d[float],
    y: wp.array2d[float],
    x: wp.array2d[float],
) -> None:
    """Solve M x = y; x and y may be the same array. The ``num_dependent`` coordinates that depend on one follow it."""
    w, lane = wp.tid()
    lanes = wp.block_dim()
    num_dofs = x.shape[1]
    for dof in range(lane, num_dofs, lanes):
        x[w, dof] = y[w, dof]
    _wait_for_block()
    for i in range(num_dofs):
        dof = num_dofs - 1 - i
        row = row_start[dof]
        value = x[w, dof]
        for a in range(lane, row_length[dof] - 1, lanes):
            x[w, columns[row + a]] -= L[w, row + a] * value
        _wait_for_block()
    for dof in range(lane, num_dofs, lanes):
        x[w, dof] *= D[w, dof]
    _wait_for_block()
    for dof in range(num_dofs):
        place = row_length[dof] - 1
        value = x[w, dof]
        for other in range(dof + 1 + lane, dof + 1 + num_dependent[dof], lanes):
            x[w, other] -= L[w, row_start[other] + place] * value
        _wait_for_block()


@wp.kernel
def add_forces(a: wp.array2d[float], b: wp.array2d[float], c: wp.array2d[float], total: wp.array2d[float]) -> None:
    """The sum of three. Launched over (N, coordinates)."""
    w, dof = wp.tid()
    total[w, dof] = a[w, dof] + b[w, dof] + c[w, dof]

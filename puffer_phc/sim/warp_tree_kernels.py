# type: ignore
# ruff: noqa: N803
# Warp compiles the source of these functions: its own language with its own types, of which Python's checkers know little. Matrices are
# called as in the equations.
"""The kernels of ``warp_tree``: M = Lᵀ D⁻¹ L along a tree, L lower triangular with ones on its diagonal, D given as reciprocals.

Launched over (N, threads of a block). Each block goes through the coordinates in turn, its threads side by side where nothing is written
twice. The loops are in C++: Warp's own indexing, with strides and from the end, takes four times as many instructions as what is computed.
Arrays are contiguous.
"""

import warp as wp

wp.set_module_options({"enable_backward": False})


@wp.func_native("""
    for (int dof = num_dofs - 1; dof >= 0; --dof) {
        const int row = row_start.data[dof];
        const int place = row_length.data[dof] - 1;
        const int end = dof + 1 + num_dependent.data[dof];
        for (int other = lane; other <= place; other += lanes) {
            float value = M.data[row + other];
            for (int k = dof + 1; k < end; ++k) {
                const float* taken = L.data + row_start.data[k];
                value -= taken[place] * D.data[k] * taken[other];
            }
            L.data[row + other] = value;
            if (other == place)
                D.data[dof] = 1.0f / value;
        }
        WP_TILE_SYNC();
    }
    for (int dof = lane; dof < num_dofs; dof += lanes)
        for (int entry = row_start.data[dof]; entry < row_start.data[dof] + row_length.data[dof] - 1; ++entry)
            L.data[entry] *= D.data[dof];
""")
def _factorize(
    row_start: wp.array[int],
    row_length: wp.array[int],
    num_dependent: wp.array[int],
    num_dofs: int,
    lane: int,
    lanes: int,
    M: wp.array[float],
    L: wp.array[float],
    D: wp.array[float],
) -> None: ...


@wp.func_native("""
    for (int dof = lane; dof < num_dofs; dof += lanes)
        x.data[dof] = y.data[dof];
    WP_TILE_SYNC();
    for (int dof = num_dofs - 1; dof >= 0; --dof) {
        const int row = row_start.data[dof];
        const float value = x.data[dof];
        for (int place = lane; place < row_length.data[dof] - 1; place += lanes)
            x.data[columns.data[row + place]] -= L.data[row + place] * value;
        WP_TILE_SYNC();
    }
    for (int dof = lane; dof < num_dofs; dof += lanes)
        x.data[dof] *= D.data[dof];
    WP_TILE_SYNC();
    for (int dof = 0; dof < num_dofs; ++dof) {
        const int place = row_length.data[dof] - 1;
        const int end = dof + 1 + num_dependent.data[dof];
        const float value = x.data[dof];
        for (int k = dof + 1 + lane; k < end; k += lanes)
            x.data[k] -= L.data[row_start.data[k] + place] * value;
        WP_TILE_SYNC();
    }
""")
def _solve(
    row_start: wp.array[int],
    row_length: wp.array[int],
    num_dependent: wp.array[int],
    columns: wp.array[int],
    num_dofs: int,
    lane: int,
    lanes: int,
    L: wp.array[float],
    D: wp.array[float],
    y: wp.array[float],
    x: wp.array[float],
) -> None: ...


@wp.kernel
def factorize(
    row_start: wp.array[int],
    row_length: wp.array[int],
    num_dependent: wp.array[int],
    M: wp.array2d[float],
    L: wp.array2d[float],
    D: wp.array2d[float],
) -> None:
    """L and D of M, from the leaves to the root. The ``num_dependent`` coordinates that depend on one follow it.

    A thread has an entry of a coordinate's row, and takes from it what all coordinates that depend on this one contribute.
    """
    w, lane = wp.tid()
    _factorize(row_start, row_length, num_dependent, D.shape[1], lane, wp.block_dim(), M[w], L[w], D[w])


@wp.kernel
def solve(
    row_start: wp.array[int],
    row_length: wp.array[int],
    num_dependent: wp.array[int],
    columns: wp.array[int],
    L: wp.array2d[float],
    D: wp.array2d[float],
    y: wp.array2d[float],
    x: wp.array2d[float],
) -> None:
    """Solve M x = y; x and y may be the same array. From the leaves to the root, and back."""
    w, lane = wp.tid()
    _solve(row_start, row_length, num_dependent, columns, x.shape[1], lane, wp.block_dim(), L[w], D[w], y[w], x[w])


@wp.kernel
def add_forces(a: wp.array2d[float], b: wp.array2d[float], c: wp.array2d[float], total: wp.array2d[float]) -> None:
    """The sum of three. Launched over (N, coordinates)."""
    w, dof = wp.tid()
    total[w, dof] = a[w, dof] + b[w, dof] + c[w, dof]

"""Equations whose matrix is as sparse as a humanoid's inertia: two coordinates have an entry where one moves the other's body.

MuJoCo Warp factorises such a matrix level by level of the tree, one launch each, with atomic subtractions. Here one block of threads has a
humanoid and does all in one launch: coordinate by coordinate, threads side by side where nothing is written twice. The order is always
the same, and so are the bits.

With the discrete integrator the engine takes the factor as the preconditioner of an iteration, because springs and dampers could couple
coordinates that inertia does not. Here none do, so that the factor is of the very matrix, and one solution with it is the solution.
"""

from typing import Any

import numpy as np
import warp
from mujoco_warp._src import derivative, smooth, support

from puffer_phc.sim import warp_tree_kernels as kernels
from puffer_phc.sim.warp_parts import StandIn, StandIns

_LANES = 32
"""Threads for each humanoid: about as many as the longest row has entries."""


class Tree:
    """The sparsity of ``model``'s (``mujoco.MjModel``) inertia matrix, and what can be done with matrices of it.

    ``model`` has one tree, and no tendon, fluid or actuator that couples coordinates. Row k of a lower triangle has its entries from
    ``M_rowadr[k]`` on: those of the coordinates that k depends on, root first, then its own.
    """

    def __init__(self, model: Any) -> None:
        """Arrays go to Warp's current device."""
        rows, counts, columns = model.M_rowadr, model.M_rownnz, model.M_colind
        self._shape = [_array(rows), _array(counts), _array(np.bincount(columns) - 1)]
        self._columns = _array(columns)

    def stand_ins(self) -> StandIns:
        """The engine's functions that this replaces."""
        return {
            (smooth, "_factor_i_sparse"): StandIn(self._factorize, ("m", "d", "M", "L", "D")),
            (smooth, "_solve_LD_sparse"): StandIn(self._solve, ("m", "d", "L", "D", "x", "y", "x_scratch")),
            (derivative, "eff_solve"): StandIn(_solve_effective, ("m", "d", "qacc", "qfrc")),
            (derivative, "eff_mul_m"): StandIn(_multiply_effective, ("m", "d", "res", "vec", "skip", "efm_con", "flex_scratch")),
        }

    def _factorize(self, m: Any, d: Any, M: Any, L: Any, D: Any) -> None:  # noqa: N803  # the engine's names
        _launch_blocks(kernels.factorize, d.nworld, [*self._shape, M], [L, D])

    def _solve(self, m: Any, d: Any, L: Any, D: Any, x: Any, y: Any, x_scratch: Any = None) -> None:  # noqa: N803
        _launch_blocks(kernels.solve, d.nworld, [*self._shape, self._columns, L, D, y], [x])


def _solve_effective(m: Any, d: Any, qacc: Any, qfrc: Any = None) -> None:
    """The accelerations to which forces, what is implicit in springs and dampers included, would lead without constraints."""
    if qfrc is None:
        qfrc = qacc
        warp.launch(kernels.add_forces, dim=qacc.shape, inputs=[d.qfrc_smooth, d.efm_c, d.efm_ca], outputs=[qacc])
    smooth.solve_LD(m, d, d.qHLD, d.qHDiagInv, qacc, qfrc)


def _multiply_effective(m: Any, d: Any, res: Any, vec: Any, skip: Any = None, efm_con: Any = None, flex_scratch: Any = None) -> None:
    """The matrix of these equations times ``vec``: the engine asks for it with the discrete integrator only."""
    support.mul_m(m, d, res, vec, skip=skip, M=d.qH)


def _launch_blocks(kernel: Any, num_envs: int, inputs: Any, outputs: Any) -> None:
    """One block of threads for each humanoid; on the CPU one thread."""
    lanes = _LANES if warp.get_device().is_cuda else 1
    warp.launch(kernel, dim=(num_envs, lanes), inputs=inputs, outputs=outputs, block_dim=lanes)


def _array(values: Any) -> Any:
    return warp.array(np.asarray(values, dtype=np.int32), dtype=int)

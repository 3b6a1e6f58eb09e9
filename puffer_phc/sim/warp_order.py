"""MuJoCo Warp with the same bits each time: what it leaves to chance on a GPU is put in order, without sorting what is summed.

Its own deterministic mode (version 3.17) leaves contacts and constraint rows in whatever order threads come: the functions that would sort
them are empty. Sums are in order there because each atomic addition writes a record and all records are sorted, as many as there is room
for: hundreds of sorts a step. Here instead:

- Contacts are sorted, and a world's first one numbers the rows of all.
- Sums over constraint rows and coordinates are made by ``warp_sums``, where every number has one thread that writes it.
- Bodies add to their parents atomically, all of one depth at once: levels are split such that no two of one launch have the same parent.
- Equations along the tree are ``warp_tree``'s, which are always in order.
- J q̇ of a contact's rows is added up by eight threads: done again by one, and what follows from it too.

What is left are additions of integers; of zeros, as each of a ball joint's three actuators adds to the other two axes; and of one number to
each place.
"""

from typing import Any, Callable, List

import numpy as np
import warp
from mujoco_warp._src import collision_driver, constraint, solver, types

from puffer_phc.errors import BackendError
from puffer_phc.sim import warp_sums
from puffer_phc.sim.warp_parts import StandIn, StandIns

_FIELDS = ("dist", "pos", "frame", "includemargin", "friction", "solref", "solreffriction", "solimp", "dim", "geom", "worldid", "type")
_FIELDS += ("geomcollisionid", "adhesion")
"""What a contact is made of here: ``flex``, ``elem`` and ``vert`` are of bodies that bend, ``efc_address`` is empty when this is sorted."""


def sort_contacts(model: Any, data: Any) -> None:
    """Put the contacts of ``data`` in order: by world, pair of geometries and number within the pair. Nothing waits for the device."""
    size, contact = data.naconmax, data.contact
    integer: Any = warp.int64
    keys, places = warp.empty(2 * size, dtype=integer), warp.empty(2 * size, dtype=int)
    known_by = [contact.worldid, contact.geom, contact.geomcollisionid]
    warp.launch(warp_sums.contact_keys, dim=size, inputs=[model.ngeom, data.nacon, *known_by, keys, places])
    warp.utils.radix_sort_pairs(keys, places, size)
    for name in _FIELDS:
        field = _words(getattr(contact, name))
        before = warp.clone(field)
        warp.launch(warp_sums.gather, dim=field.shape, inputs=[data.nacon, places, before, field])


def sum_row_speeds(model: Any, data: Any) -> None:
    """J q̇ of every row by one thread, then the engine's own kernel for what depends on it."""
    rows, contact = data.efc, data.contact
    jacobian = [data.nefc, rows.J_rownnz, rows.J_rowadr, rows.J_colind, rows.J]
    warp.launch(warp_sums.row_speeds, dim=(data.nworld, data.njmax), inputs=[*jacobian, data.qvel, rows.Jqvel])
    inputs = [model.opt.timestep, model.opt.disableflags, model.opt.impratio_invsqrt, model.body_invweight0, model.geom_bodyid]
    inputs += [contact.efc_address, rows.Jqvel, data.nacon, contact.dist, contact.dim, contact.includemargin, contact.worldid, contact.geom]
    inputs += [contact.friction, contact.solref, contact.solreffriction, contact.solimp, contact.adhesion, contact.type]
    inputs += [rows.type, rows.id, rows.pos, rows.margin, rows.D, rows.vel, rows.aref, rows.frictionloss]
    is_discrete = model.opt.integrator == types.IntegratorType.DISCRETE
    kernel = constraint._efc_contact_update(model.opt.cone, model.flg_adhesion, is_discrete)
    warp.launch(kernel, dim=(data.naconmax, int(model.nmaxpyramid)), inputs=inputs)


def _words(field: Any) -> Any:
    """An array (C,) of numbers, vectors or matrices as integers (C, W) in the same memory: four bytes each."""
    words = warp.types.type_size_in_bytes(field.dtype) // 4
    return warp.array(ptr=field.ptr, dtype=int, shape=(field.shape[0], words), device=field.device, copy=False)


def _gradient(is_where_changed: bool, deterministic: bool = False) -> Any:
    return warp_sums.gradient_where_changed if is_where_changed else warp_sums.gradient


def _always(kernel: Any) -> Callable[..., Any]:
    return lambda *given: kernel


STAND_INS: StandIns = {
    (collision_driver, "_sort_contacts"): StandIn(sort_contacts, ("m", "d")),
    (constraint, "_sort_constraints"): StandIn(sum_row_speeds, ("m", "d")),
    (constraint, "_efc_contact_init"): StandIn(
        _always(warp_sums.contact_rows),
        ("cone_type", "is_sparse", "newton", "flg_adhesion"),
    ),
    (solver, "_update_constraint_init_qfrc_constraint_sparse"): StandIn(
        _always(warp_sums.constraint_forces),
        ("compact", "nv", "deterministic"),
    ),
    (solver, "_update_gradient_grad"): StandIn(_gradient, ("stable_fast", "deterministic")),
    (solver, "_JTDACJ_sparse"): StandIn(
        _always(warp_sums.hessian),
        ("compact", "cone_type", "max_condim", "block_dim", "max_records", "deterministic"),
    ),
    (solver, "_update_gradient_h_incremental_sparse"): StandIn(
        _always(warp_sums.hessian_changes),
        ("compact", "max_records", "deterministic"),
    ),
}
"""What the engine leaves to chance, done in order. For a model that is ``ordered``, beside ``warp_tree``'s."""


def ordered(model: Any) -> None:
    """Ready a model of the engine for its part of the order. Raises BackendError for solvers that have none here."""
    if (model.opt.cone, model.opt.solver, model.is_sparse) != (types.ConeType.PYRAMIDAL, types.SolverType.NEWTON, True):
        raise BackendError("deterministic physics needs pyramidal cones, Newton's method and a sparse Jacobian")
    model.opt.deterministic = types.DeterminismType.CONTACTS | types.DeterminismType.CONSTRAINT
    model.body_tree = tuple(warp.array(part, dtype=int) for part in _without_siblings(model.body_tree, model.body_parentid.numpy()))


def _without_siblings(levels: Any, parents: Any) -> List[List[int]]:
    """Levels of bodies split into parts in which no two have the same parent, in the levels' order."""
    parts: List[List[int]] = []
    for level in levels:
        rest = level.numpy().tolist()
        while rest:
            _, first = np.unique(parents[rest], return_index=True)
            parts.append([rest[i] for i in sorted(first)])
            rest = [body for i, body in enumerate(rest) if i not in set(first)]
    return parts

"""What ``warp_order`` does to MuJoCo Warp, on Warp's CPU device: the same physics, whatever order its threads would come in on a GPU."""

import re
from collections import Counter
from typing import Any, Dict, List, Set

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp")

import warp
from differences import assert_same
from mujoco_warp._src import collision_driver, constraint, solver
from test_mujoco_warp import random_pose, targets_near

from puffer_phc.errors import BackendError
from puffer_phc.humanoid.mjcf import PhysicsOptions
from puffer_phc.sim import warp_order, warp_sums
from puffer_phc.sim.mujoco_warp import MujocoWarpSimulator
from puffer_phc.sim.warp_parts import StandIn, standing_in
from puffer_phc.state import Pose

NUM_ENVS = 6
OPTIONS = {"discrete": PhysicsOptions(), "implicitfast": PhysicsOptions(120.0, 4, "implicitfast", iterations=10)}

ATOMIC = {
    "_subtree_com_acc": "no two of a launch have the same parent",
    "_crb_accumulate": "no two of a launch have the same parent",
    "_cfrc_backward": "no two of a launch have the same parent",
    "_efc_contact_jac_sparse": "its sums are made again",
    "_gravity_force": "nothing floats: nothing is added",
    "_transmission": "a counter; where a row lies makes no difference",
    "_eff_actuator_actuation": "an actuator has one coordinate, and adds zeros to others",
    "_eff_add_actuator_qH_diag": "an actuator has one coordinate, and adds zeros to others",
    "_qfrc_actuator": "an actuator has one coordinate, and adds zeros to others",
    "_qderiv_actuator_passive_actuation_sparse": "an actuator has one coordinate, and adds zeros to others",
    "_add_actuator_metric_dense": "an actuator has one coordinate, and adds zeros to others",
    "_update_constraint_efc": "counters; the order of the list is made again",
    "_linesearch_iterative_kernel": "bits",
    "_solve_done": "a counter",
    "_friction_dof": "counters of rows; there is no friction in joints",
    "_linesearch_jv_fused_kernel": "for dense Jacobians",
    "_solve_init_jaref_kernel": "for dense Jacobians",
    "_M": "one addition to each place",
    "_apply_ft": "one addition to each place",
    "_eff_init_sdiag": "one addition to each place",
    "_regularize_constraint": "one addition to each place",
    "_qderiv_tendon_damping": "one subtraction from each place",
    "hessian": "a place is one thread's own",
    "hessian_changes": "a place is one thread's own",
    "_cinert": "components of a vector of the thread's own",
    "_efc_contact_update": "one addition to each place",
    "measure": "a maximum",
    "freeze": "counters",
}
"""Kernels of a control step in which something is added up by threads that do not wait for each other, and why that makes no difference."""


ADDING = re.compile(r"atomic_\w+\(|\]\s*[+-]=")
"""Warp makes an atomic addition of ``array[i] += …`` too."""


@pytest.fixture(params=list(OPTIONS))
def options(request: pytest.FixtureRequest) -> PhysicsOptions:
    return OPTIONS[request.param]


def in_contact(num_envs: int = NUM_ENVS) -> Pose:
    """From halfway in the floor to just over it."""
    pose = random_pose(7, -0.02, num_envs)
    pose.root_pos[:, 2] -= torch.linspace(0.0, 0.1, num_envs)
    return pose


def make(options: PhysicsOptions, pose: Pose) -> MujocoWarpSimulator:
    simulator = MujocoWarpSimulator(len(pose.root_pos), options, torch.device("cpu"))
    simulator.set_state(torch.ones(len(pose.root_pos), dtype=torch.bool), pose)
    return simulator


def state(simulator: MujocoWarpSimulator) -> Dict[str, Any]:
    return {name: tensor.clone() for name, tensor in simulator.integration_state().items()}


def test_order_changes_roundings_only(options: PhysicsOptions, deterministic: None) -> None:
    pose = in_contact()
    ordered = make(options, pose)
    torch.use_deterministic_algorithms(False)
    plain = make(options, pose)
    rows = []
    for step in range(8):
        plain.restore(ordered.snapshot())
        for simulator in (ordered, plain):
            simulator.step(targets_near(pose, step))
        torch.testing.assert_close(ordered.body.pos, plain.body.pos, atol=2e-4, rtol=0.0)
        torch.testing.assert_close(ordered.body.lin_vel, plain.body.lin_vel, atol=2e-2, rtol=0.0)
        assert np.array_equal(ordered._data.nefc.numpy(), plain._data.nefc.numpy())
        rows.append(ordered._data.nefc.numpy().max())
    assert max(rows) > 15
    assert ordered.is_ordered and not plain.is_ordered and plain.warp_model.opt.deterministic == 0


def test_contacts_and_changed_rows_in_any_order_move_humanoids_alike(
    options: PhysicsOptions, deterministic: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pose, states, draw, shuffled = in_contact(), [], np.random.default_rng(0), Counter()

    def sort_shuffled(m: Any, d: Any) -> None:
        count = int(d.nacon.numpy()[0])
        order = draw.permutation(count)
        for name in warp_order._FIELDS:
            words = warp_order._words(getattr(d.contact, name)).numpy()
            words[:count] = words[:count][order]
        shuffled["contacts"] += count > 1
        warp_order.sort_contacts(m, d)

    def launch_shuffled(kernel: Any, *arguments: Any, **named: Any) -> None:
        if kernel is warp_sums.hessian_changes:
            lists, counts = (array.numpy() for array in named["inputs"][7:9])
            for row, count in zip(lists, counts):
                row[:count] = draw.permutation(row[:count])
                shuffled["rows"] += count > 1
        launch(kernel, *arguments, **named)

    launch = warp.launch
    for is_shuffled in (False, True, True):
        if is_shuffled:
            monkeypatch.setitem(warp_order.STAND_INS, (collision_driver, "_sort_contacts"), StandIn(sort_shuffled, ("m", "d")))
            monkeypatch.setattr(warp, "launch", launch_shuffled)
        simulator = make(options, pose)
        for step in range(12):
            simulator.step(targets_near(pose, step))
        states.append(state(simulator))
    assert_same(states[0], states[1], "shuffled")
    assert_same(states[0], states[2], "shuffled otherwise")
    assert shuffled["contacts"] > 20 and shuffled["rows"] > 10


def test_contacts_that_are_not_sorted_make_a_difference(deterministic: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would notice: as it comes, the engine numbers rows as contacts come."""
    pose, states = in_contact(), []
    torch.use_deterministic_algorithms(False)

    def reverse(d: Any) -> None:
        count = int(d.nacon.numpy()[0])
        for name in warp_order._FIELDS:
            words = warp_order._words(getattr(d.contact, name)).numpy()
            words[:count] = words[:count][::-1].copy()

    for is_reversed in (False, True):
        simulator = make(OPTIONS["discrete"], pose)
        if is_reversed:
            simulator.warp_model.opt.deterministic = 1
            monkeypatch.setattr(collision_driver, "_sort_contacts", lambda m, d: reverse(d))
        for step in range(3):
            simulator.step(targets_near(pose, step))
        states.append(state(simulator))
    with pytest.raises(AssertionError, match="qvel"):
        assert_same(states[0], states[1], "reversed")


def test_what_is_added_atomically_is_known(options: PhysicsOptions, deterministic: None, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic: Set[str] = set()
    launch = warp.launch

    def spy(kernel: Any, dim: Any, *arguments: Any, **named: Any) -> None:
        is_empty = 0 in (dim if isinstance(dim, (tuple, list)) else (dim,))
        if not is_empty and ADDING.search(kernel.adj.source):
            atomic.add(kernel.key.split("__locals__")[0])
        assert kernel.module.options.get("deterministic") in (None, 0, "not_guaranteed", False) or is_sortless(kernel), kernel.key
        launch(kernel, dim, *arguments, **named)

    monkeypatch.setattr(warp, "launch", spy)
    simulator = make(options, in_contact(2))
    simulator.step(torch.zeros(2, 69))
    assert atomic - set(ATOMIC) == set()
    assert {"_crb_accumulate", "_update_constraint_efc", "freeze"} <= atomic


def is_sortless(kernel: Any) -> bool:
    return "atomic" not in kernel.adj.source


def test_an_actuator_has_one_coordinate(deterministic: None) -> None:
    """Its own, so that the zeros which it adds to others change no sum."""
    simulator = make(OPTIONS["discrete"], in_contact(2))
    simulator.step(torch.zeros(2, 69))
    data = simulator._data
    moments, columns = data.actuator_moment.numpy(), data.moment_colind.numpy()
    starts, counts = data.moment_rowadr.numpy(), data.moment_rownnz.numpy()
    for world in range(2):
        own: List[int] = []
        for start, count in zip(starts[world], counts[world]):
            row = slice(start, start + count)
            (used,) = np.nonzero(moments[world, row])
            own.append(int(columns[world, row][used].item()))
        assert sorted(own) == list(range(6, 75))


def test_no_two_bodies_of_a_launch_have_the_same_parent(deterministic: None) -> None:
    simulator = make(OPTIONS["discrete"], in_contact(2))
    parents, placed = simulator.warp_model.body_parentid.numpy(), []
    for part in simulator.warp_model.body_tree:
        bodies = part.numpy().tolist()
        assert len(set(parents[bodies])) == len(bodies)
        assert all(parents[body] in placed for body in bodies if body > 0)
        placed += bodies
    assert sorted(placed) == list(range(25))


def test_sums_are_made_in_order_inside(deterministic: None) -> None:
    with standing_in(warp_order.STAND_INS):
        assert solver._JTDACJ_sparse(False) is warp_sums.hessian
    assert solver._JTDACJ_sparse is not warp_order.STAND_INS[solver, "_JTDACJ_sparse"].function


def test_other_cones_are_an_error(deterministic: None) -> None:
    with pytest.raises(BackendError, match="pyramidal"):
        make(PhysicsOptions(cone="elliptic"), in_contact(2))


def test_an_engine_of_other_parts_is_an_error(deterministic: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out of a call has to be what it was: an argument that is lost on the way would go unnoticed."""

    def renamed(cone_type: Any, is_sparse: bool, newton: bool, adhesion: bool) -> None: ...

    monkeypatch.setattr(constraint, "_efc_contact_init", renamed)
    with pytest.raises(BackendError, match="_efc_contact_init"):
        make(OPTIONS["discrete"], in_contact(2))

"""Equations along the tree: against dense algebra, against the engine's own way, and in whole steps."""

from contextlib import contextmanager
from typing import Any, Iterator, Tuple

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp")

import warp
from mujoco_warp._src import derivative, smooth
from test_mujoco_warp import random_pose, targets_near

from puffer_phc.humanoid.mjcf import PhysicsOptions
from puffer_phc.sim import warp_parts
from puffer_phc.sim.mujoco_warp import MujocoWarpSimulator
from puffer_phc.sim.warp_tree import Tree
from puffer_phc.state import Pose

NUM_ENVS, NUM_DOFS = 3, 75
ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=ON_GPU)]


def falling(device: str) -> Pose:
    return Pose(*(part.to(device) for part in random_pose(7, -0.05, NUM_ENVS)))


def make(device: str = "cpu") -> MujocoWarpSimulator:
    """Humanoids that have taken a step in contact with the floor, so that the engine's matrices are there."""
    simulator = MujocoWarpSimulator(NUM_ENVS, PhysicsOptions(), torch.device(device))
    pose = falling(device)
    simulator.set_state(torch.ones(NUM_ENVS, dtype=torch.bool, device=device), pose)
    simulator.step(targets_near(pose, 0))
    return simulator


@contextmanager
def engine(simulator: MujocoWarpSimulator, is_own: bool) -> Iterator[Tuple[Any, Any]]:
    """The engine's model and data, while it works in its own way or in ours."""
    with warp.ScopedDevice(warp.device_from_torch(simulator.device)):
        stand_ins = {} if is_own else Tree(simulator.model).stand_ins()
        with warp_parts.standing_in(stand_ins):
            yield simulator.warp_model, simulator._data


def dense(simulator: MujocoWarpSimulator, values: Any) -> np.ndarray:
    """(N, D, D) symmetric matrices of the entries of lower triangles."""
    model, entries = simulator.model, values.numpy().astype(np.float64)
    found = np.zeros((NUM_ENVS, NUM_DOFS, NUM_DOFS))
    for dof in range(NUM_DOFS):
        row = slice(model.M_rowadr[dof], model.M_rowadr[dof] + model.M_rownnz[dof])
        columns = model.M_colind[row]
        found[:, dof, columns] = found[:, columns, dof] = entries[:, row]
    return found


@pytest.mark.parametrize("device", DEVICES)
def test_factor_and_solution_are_those_of_the_dense_matrix(device: str) -> None:
    simulator = make(device)
    force = np.random.default_rng(1).normal(size=(NUM_ENVS, NUM_DOFS)).astype(np.float32)
    with engine(simulator, False) as (model, data):
        smooth._factor_i_sparse(model, data, data.M, data.qLD, data.qLDiagInv)
        x = warp.array(force)
        smooth.solve_LD(model, data, data.qLD, data.qLDiagInv, x, x)
    matrix = dense(simulator, data.M)
    lower = np.tril(dense(simulator, data.qLD), -1) + np.eye(NUM_DOFS)
    factored = lower.transpose(0, 2, 1) @ (lower / data.qLDiagInv.numpy()[:, :, None])
    np.testing.assert_allclose(factored, matrix, atol=1e-5 * np.abs(matrix).max())
    np.testing.assert_allclose(np.einsum("nij,nj->ni", matrix, x.numpy()), force, atol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_the_factor_is_the_engines(device: str) -> None:
    simulator, found = make(device), []
    for is_own in (True, False):
        with engine(simulator, is_own) as (model, data):
            lower, diagonal = warp.zeros_like(data.qLD), warp.zeros_like(data.qLDiagInv)
            smooth._factor_i_sparse(model, data, data.qH, lower, diagonal)
            found.append((lower.numpy(), diagonal.numpy()))
    for own, ours in zip(*found):
        np.testing.assert_allclose(ours, own, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_one_solution_with_the_factor_is_where_the_engines_iteration_ends(device: str) -> None:
    """No spring or damper couples what inertia doesn't: the factor is of the very matrix."""
    simulator, found = make(device), []
    draws = np.random.default_rng(2).normal(size=(NUM_ENVS, NUM_DOFS)).astype(np.float32)
    for is_own in (True, False):
        with engine(simulator, is_own) as (model, data):
            vector = warp.array(draws)
            acceleration, product = warp.zeros_like(data.qacc_smooth), warp.zeros_like(vector)
            derivative.eff_solve(model, data, acceleration)
            derivative.eff_mul_m(model, data, product, vector)
            found.append((acceleration.numpy(), product.numpy()))
    for own, ours in zip(*found):
        np.testing.assert_allclose(ours, own, rtol=1e-4, atol=1e-4 * np.abs(own).max())
    assert np.abs(found[0][0]).max() > 10.0


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_is_the_engines(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pose, simulators = falling(device), [make(device)]
    monkeypatch.setattr(Tree, "stand_ins", lambda self: {})
    simulators.append(make(device))
    for step in range(8):
        simulators[1].restore(simulators[0].snapshot())
        for simulator in simulators:
            simulator.step(targets_near(pose, step))
        ours, own = simulators
        torch.testing.assert_close(ours.body.pos, own.body.pos, atol=2e-4, rtol=0.0)
        torch.testing.assert_close(ours.body.lin_vel, own.body.lin_vel, atol=2e-2, rtol=0.0)


def test_an_engine_of_other_parts_works_in_its_own_way(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    factorize = smooth._factor_i_sparse

    def renamed(m: Any, d: Any, matrix: Any, L: Any, D: Any) -> None:  # noqa: N803
        factorize(m, d, matrix, L, D)

    monkeypatch.setattr(smooth, "_factor_i_sparse", renamed)
    simulator = make()
    assert "_factor_i_sparse" in caplog.text and simulator._stand_ins == {}
    assert bool(simulator.body.pos.isfinite().all())


def test_the_engine_is_as_it_was_outside() -> None:
    stand_ins = Tree(make().model).stand_ins()
    before = [getattr(module, name) for module, name in stand_ins]
    with pytest.raises(ZeroDivisionError), warp_parts.standing_in(stand_ins):
        assert [getattr(module, name) for module, name in stand_ins] == [stand_in.function for stand_in in stand_ins.values()]
        raise ZeroDivisionError
    assert [getattr(module, name) for module, name in stand_ins] == before

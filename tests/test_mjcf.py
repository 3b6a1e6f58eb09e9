"""The MJCF document: what MuJoCo makes of it, option by option."""

from pathlib import Path

import numpy as np
import pytest

import puffer_phc.humanoid
from puffer_phc.humanoid.mjcf import STANDING_HEIGHT, PhysicsOptions, build_mjcf
from puffer_phc.humanoid.skeleton import BODIES, BODY_NAMES, EXCLUDED_CONTACTS, OFFSETS, PARENTS, dof_damping, dof_stiffness


def compile_model(**options):
    mujoco = pytest.importorskip("mujoco")
    return mujoco.MjModel.from_xml_string(build_mjcf(PhysicsOptions(**options)))


@pytest.fixture(scope="module")
def model():
    return compile_model()


def test_the_committed_file_is_the_generated_one():
    committed = Path(puffer_phc.humanoid.__file__).with_name("humanoid.xml")
    assert committed.read_text(encoding="utf-8") == build_mjcf(PhysicsOptions())


def test_bodies_are_those_of_the_table_in_its_order(model):
    assert (model.nbody, model.nq, model.nv, model.nu) == (25, 99, 75, 69)
    assert [model.body(index + 1).name for index in range(24)] == list(BODY_NAMES)
    np.testing.assert_array_equal(model.body_parentid[1:] - 1, PARENTS)
    np.testing.assert_allclose(model.body_pos[2:], OFFSETS[1:])
    assert abs(model.body_mass.sum() - 73.9954) < 1e-4


def test_joints_are_free_of_everything_but_armature(model):
    mujoco = pytest.importorskip("mujoco")
    assert model.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE
    assert (model.jnt_type[1:] == mujoco.mjtJoint.mjJNT_BALL).all()
    assert not model.jnt_limited.any() and not model.jnt_stiffness.any()
    assert not model.dof_damping.any() and not model.dof_frictionloss.any()
    np.testing.assert_array_equal(model.dof_armature, [0.0] * 6 + [0.02] * 69)


@pytest.mark.parametrize(("kp_scale", "kd_scale"), [(1.0, 1.0), (0.5, 3.0)])
def test_actuators_are_the_drives_of_the_table(kp_scale, kd_scale):
    model = compile_model(stiffness_scale=kp_scale, damping_scale=kd_scale)
    np.testing.assert_allclose(model.actuator_gainprm[:, 0], kp_scale * dof_stiffness())
    np.testing.assert_allclose(model.actuator_biasprm[:, 1], -kp_scale * dof_stiffness())
    np.testing.assert_allclose(model.actuator_biasprm[:, 2], -kd_scale * dof_damping())
    np.testing.assert_array_equal(model.actuator_trnid[:, 0], np.repeat(np.arange(1, 24), 3))
    np.testing.assert_array_equal(model.actuator_gear[:, :3], np.tile(np.eye(3), (23, 1)))


def test_nothing_saturates_a_drive(model):
    """A force range loses the implicit damping where it binds, and gives not-a-number at the original's exploration."""
    assert not model.actuator_forcelimited.any() and not model.actuator_ctrllimited.any() and not model.jnt_actfrclimited.any()


def test_contacts_have_the_measured_numbers(model):
    np.testing.assert_allclose(model.geom_solref, [[0.015, 1.0]] * 25)
    np.testing.assert_allclose(model.geom_solimp[:, :3], [[0.9, 0.99, 0.003]] * 25)
    assert not model.geom_margin.any()
    np.testing.assert_allclose(model.geom_friction[:, 0], 1.0)
    floor = model.geom("floor")
    assert floor.condim == 3
    assert set(model.geom_condim[model.geom_bodyid > 0]) == {1}


def test_excluded_pairs(model):
    pairs = {frozenset((BODY_NAMES[(key >> 16) - 1], BODY_NAMES[(key & 0xFFFF) - 1])) for key in model.exclude_signature.tolist()}
    assert pairs == {frozenset(pair) for pair in EXCLUDED_CONTACTS}


@pytest.mark.parametrize("has_self_collision", [True, False])
def test_self_collision_is_an_option(has_self_collision):
    """All joints folded far: with self-collision bodies touch bodies, without it only the floor touches."""
    mujoco = pytest.importorskip("mujoco")
    model = compile_model(has_self_collision=has_self_collision)
    data = mujoco.MjData(model)
    half = np.sin(1.1) / np.sqrt(3.0)
    data.qpos[7:] = np.tile([np.cos(1.1), half, half, half], 23)
    data.qpos[2] = 0.1
    mujoco.mj_forward(model, data)
    bodies = model.geom_bodyid[data.contact.geom[: data.ncon]]
    floor = (bodies == 0).any(axis=1)
    assert floor.any()
    assert (~floor).any() == has_self_collision


def test_no_excluded_or_related_pair_ever_touches(model):
    mujoco = pytest.importorskip("mujoco")
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    forbidden = {frozenset(pair) for pair in EXCLUDED_CONTACTS} | {frozenset((body.name, body.parent)) for body in BODIES[1:]}
    touched = set()
    for _ in range(60):
        joints = rng.normal(size=(23, 4)) * 0.6 + [1.0, 0.0, 0.0, 0.0]
        data.qpos[7:] = (joints / np.linalg.norm(joints, axis=1, keepdims=True)).ravel()
        mujoco.mj_forward(model, data)
        pairs = model.geom_bodyid[data.contact.geom[: data.ncon]]
        touched |= {frozenset(BODY_NAMES[body - 1] for body in pair) for pair in pairs if (pair > 0).all()}
    assert len(touched) > 20
    assert not touched & forbidden


def test_solver_settings(model):
    mujoco = pytest.importorskip("mujoco")
    option = model.opt
    assert option.timestep == 1.0 / 60.0
    assert option.integrator == mujoco.mjtIntegrator.mjINT_DISCRETE
    assert option.solver == mujoco.mjtSolver.mjSOL_NEWTON
    assert option.cone == mujoco.mjtCone.mjCONE_PYRAMIDAL
    assert (option.iterations, option.ls_iterations, option.impratio) == (5, 20, 1.0)
    other = compile_model(rate=120.0, integrator="implicitfast", iterations=5, ls_iterations=7, cone="elliptic").opt
    assert (other.timestep, other.iterations, other.ls_iterations) == (1.0 / 120.0, 5, 7)
    assert other.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    assert other.cone == mujoco.mjtCone.mjCONE_ELLIPTIC


def test_the_zero_pose_stands_on_the_floor(model):
    mujoco = pytest.importorskip("mujoco")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert data.qpos[2] == STANDING_HEIGHT
    assert data.ncon > 0
    assert np.abs(data.contact.dist[: data.ncon]).max() < 1e-6


def test_control_period():
    assert PhysicsOptions(rate=120.0, substeps=4).control_dt == PhysicsOptions().control_dt == 1.0 / 30.0

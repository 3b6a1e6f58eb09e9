"""Isaac Gym's MJCF and MuJoCo's describe one humanoid: MuJoCo reads both, and what it makes of them is compared."""

import numpy as np
import pytest

from puffer_phc.humanoid.hinge_mjcf import DOF_NAMES, build_hinge_mjcf, collision_filters
from puffer_phc.humanoid.mjcf import PhysicsOptions, build_mjcf
from puffer_phc.humanoid.skeleton import BODY_NAMES, EXCLUDED_CONTACTS

mujoco = pytest.importorskip("mujoco", minversion="3.17", reason="MuJoCo 3.17 or newer reads both")
FILTERS_OF_PHC = (0, 0, 7, 16, 12, 0, 56, 2, 33, 128, 0, 192, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def compiled(build, **options):
    return mujoco.MjModel.from_xml_string(build(PhysicsOptions(**options)))


@pytest.fixture(scope="module")
def pair():
    return compiled(build_mjcf), compiled(build_hinge_mjcf)


def test_bodies_are_the_same(pair):
    ball, hinges = pair
    assert [hinges.body(i).name for i in range(hinges.nbody)] == [ball.body(i).name for i in range(ball.nbody)]
    for name in ("body_parentid", "body_mass", "body_inertia", "body_ipos", "body_iquat", "body_quat"):
        np.testing.assert_array_equal(getattr(hinges, name), getattr(ball, name), err_msg=name)
    np.testing.assert_array_equal(hinges.body_pos[2:], ball.body_pos[2:])
    assert abs(hinges.body_mass.sum() - 73.9954) < 1e-4


def test_shapes_are_the_same(pair):
    ball, hinges = pair
    own = np.flatnonzero(ball.geom_bodyid > 0)
    assert hinges.ngeom == len(own) == 24
    for name in ("geom_type", "geom_bodyid", "geom_size", "geom_pos", "geom_quat", "geom_friction"):
        np.testing.assert_array_equal(getattr(hinges, name), getattr(ball, name)[own], err_msg=name)


@pytest.mark.parametrize(("kp_scale", "kd_scale"), [(1.0, 1.0), (0.5, 3.0)])
def test_gains_and_armature_are_the_same(kp_scale, kd_scale):
    scales = {"stiffness_scale": kp_scale, "damping_scale": kd_scale}
    ball, hinges = compiled(build_mjcf, **scales), compiled(build_hinge_mjcf, **scales)
    np.testing.assert_allclose(hinges.jnt_stiffness[1:], ball.actuator_gainprm[:, 0], rtol=1e-12)
    np.testing.assert_allclose(hinges.dof_damping[6:], -ball.actuator_biasprm[:, 2], rtol=1e-12)
    np.testing.assert_array_equal(hinges.dof_armature, ball.dof_armature)


def test_three_hinges_a_body_stand_where_the_ball_joint_stands(pair):
    ball, hinges = pair
    assert hinges.jnt_type[0] == mujoco.mjtJoint.mjJNT_FREE and (hinges.jnt_type[1:] == mujoco.mjtJoint.mjJNT_HINGE).all()
    assert tuple(hinges.joint(i).name for i in range(1, hinges.njnt)) == DOF_NAMES
    np.testing.assert_array_equal(hinges.jnt_bodyid[1:], np.repeat(ball.jnt_bodyid[1:], 3))
    np.testing.assert_array_equal(hinges.jnt_axis[1:], ball.actuator_gear[:, :3])
    assert not hinges.jnt_pos.any() and not ball.jnt_pos.any()


def test_limits_bind_at_no_target(pair):
    """Targets are at most 2.8 rad; PHC's ranges are half a turn, and two turns for shoulders and elbows."""
    _, hinges = pair
    half_turns = dict(zip(DOF_NAMES, hinges.jnt_range[1:, 1] / np.pi))
    assert hinges.jnt_limited[1:].all()
    np.testing.assert_allclose(hinges.jnt_range[1:, 0], -hinges.jnt_range[1:, 1])
    assert {name[:-2] for name, value in half_turns.items() if abs(value - 4.0) < 1e-9} == {
        f"{side}_{part}" for side in "LR" for part in ("Shoulder", "Elbow")
    }
    assert all(abs(value - 1.0) < 1e-9 or abs(value - 4.0) < 1e-9 for value in half_turns.values())


def filtered(masks):
    names = range(len(masks))
    return {frozenset((BODY_NAMES[a], BODY_NAMES[b])) for a in names for b in names if a < b and masks[a] & masks[b]}


def test_the_filter_excludes_the_pairs_of_the_table():
    assert filtered(collision_filters(True)) == {frozenset(pair) for pair in EXCLUDED_CONTACTS} == filtered(FILTERS_OF_PHC)
    assert len(filtered(collision_filters(False))) == 24 * 23 // 2

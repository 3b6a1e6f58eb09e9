"""Forward kinematics and lowest points in torch against MuJoCo."""

import numpy as np
import pytest
import torch

from puffer_phc import rotations
from puffer_phc.humanoid.kinematics import forward_kinematics, local_quats_from_dofs, local_rotations, lowest_point, mass_centre
from puffer_phc.humanoid.mjcf import PhysicsOptions, build_mjcf

N = 50


@pytest.fixture(scope="module")
def poses():
    """Root positions, root rotations, and rotation vectors of joints bent by up to half a turn."""
    generator = torch.Generator().manual_seed(3)
    root_pos = torch.randn(N, 3, generator=generator)
    root_quat = rotations.normalize(torch.randn(N, 4, generator=generator))
    axes = torch.nn.functional.normalize(torch.randn(N, 23, 3, generator=generator), dim=-1)
    return root_pos, root_quat, (axes * 3.1 * torch.rand(N, 23, 1, generator=generator)).flatten(1)


def test_kinematics_equal_mujoco(poses):
    mujoco = pytest.importorskip("mujoco", minversion="3.17")
    root_pos, root_quat, dof_pos = poses
    local = local_quats_from_dofs(root_quat, dof_pos)
    positions, quats = forward_kinematics(root_pos, local)
    model = mujoco.MjModel.from_xml_string(build_mjcf(PhysicsOptions()))
    data = mujoco.MjData(model)
    for row in range(N):
        data.qpos[:] = np.concatenate((root_pos[row], local[row].flatten()))
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(positions[row], data.xpos[1:], atol=1e-5)
        same = np.abs((quats[row].numpy() * data.xquat[1:]).sum(-1))
        np.testing.assert_allclose(same, 1.0, atol=1e-6)
        np.testing.assert_allclose(data.actuator_length, dof_pos[row], atol=2e-6)
        np.testing.assert_allclose(mass_centre(positions[row], quats[row]), data.subtree_com[1], atol=1e-5)


def test_batch_kinematics_of_the_cpu_backend_equal_mujoco(poses):
    mujoco = pytest.importorskip("mujoco", minversion="3.17")
    from puffer_phc.sim.cpu_kinematics import rotation_vectors, write_body_states

    root_pos, root_quat, dof_pos = poses
    qpos = torch.cat((root_pos, local_quats_from_dofs(root_quat, dof_pos).flatten(1)), dim=1).double().numpy()
    qvel = np.random.default_rng(4).normal(size=(N, 75))
    found = [np.full((N, 24, size), np.inf) for size in (3, 4, 3, 3)]
    write_body_states(qpos, qvel, *found)
    np.testing.assert_allclose(rotation_vectors(qpos), dof_pos, atol=2e-6)
    model = mujoco.MjModel.from_xml_string(build_mjcf(PhysicsOptions()))
    data = mujoco.MjData(model)
    for row in range(N):
        data.qpos[:], data.qvel[:] = qpos[row], qvel[row]
        mujoco.mj_forward(model, data)
        spin, center_velocity = data.cvel[1:, :3], data.cvel[1:, 3:]
        expected = data.xpos[1:], data.xquat[1:], center_velocity + np.cross(spin, data.xpos[1:] - data.subtree_com[1]), spin
        for array, values in zip(found, expected):
            np.testing.assert_allclose(array[row], values, atol=1e-5)


def test_rotation_vectors_of_the_cpu_backend_at_the_identity_and_beyond():
    from puffer_phc.sim.cpu_kinematics import rotation_vectors

    qpos = np.zeros((3, 99))
    qpos[:, 7::4] = 1.0
    qpos[1, 7:11] = [-1.0, 0.0, 0.0, 0.0]
    qpos[2, 7:11] = [1.0, 1e-9, 0.0, 0.0]
    vectors = rotation_vectors(qpos)
    assert (vectors[:2] == 0.0).all()
    np.testing.assert_allclose(vectors[2, 0], 2e-9, rtol=1e-6)


def test_local_rotations_undo_kinematics(poses):
    local = local_quats_from_dofs(poses[1], poses[2])
    _, quats = forward_kinematics(poses[0], local)
    assert ((local_rotations(quats) * local).sum(-1).abs() - 1.0).abs().max() < 1e-5


def test_leading_axes_are_free(poses):
    local = local_quats_from_dofs(poses[1], poses[2])
    flat = forward_kinematics(poses[0], local)
    folded = forward_kinematics(poses[0].unflatten(0, (5, 10)), local.unflatten(0, (5, 10)))
    for one, other in zip(flat, folded):
        torch.testing.assert_close(one, other.flatten(0, 1))


def test_lowest_points_equal_those_of_mujocos_shapes(poses):
    mujoco = pytest.importorskip("mujoco", minversion="3.17")
    root_pos, root_quat, dof_pos = poses
    local = local_quats_from_dofs(root_quat, dof_pos)
    heights = lowest_point(*forward_kinematics(root_pos, local))
    model = mujoco.MjModel.from_xml_string(build_mjcf(PhysicsOptions()))
    data = mujoco.MjData(model)
    kinds = mujoco.mjtGeom
    for row in range(10):
        data.qpos[:] = np.concatenate((root_pos[row], local[row].flatten()))
        mujoco.mj_forward(model, data)
        for body in range(24):
            geom = model.geom(model.body_geomadr[body + 1])
            size, matrix, height = geom.size, data.geom_xmat[geom.id].reshape(3, 3), data.geom_xpos[geom.id][2]
            if geom.type == kinds.mjGEOM_BOX:
                extent = np.abs(matrix[2]) @ size
            else:
                extent = size[0] + (abs(matrix[2, 2]) * size[1] if geom.type == kinds.mjGEOM_CAPSULE else 0.0)
            assert abs(heights[row, body] - (height - extent)) < 1e-5

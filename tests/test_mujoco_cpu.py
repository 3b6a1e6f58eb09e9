"""Facts about MuJoCo's C engine that the CPU backend is built around, each pinned, and the backend's own edges."""

import math
import sys

import numpy as np
import pytest
import torch

from puffer_phc import rotations
from puffer_phc.errors import BackendError
from puffer_phc.humanoid.mjcf import STANDING_HEIGHT, PhysicsOptions, build_mjcf
from puffer_phc.humanoid.skeleton import dof_ids
from puffer_phc.sim import mujoco_cpu
from puffer_phc.sim.mujoco_cpu import MujocoCpuSimulator
from puffer_phc.sim.pd import clamp_target, drive_torque
from puffer_phc.state import Pose

mujoco = pytest.importorskip("mujoco")
pytest.importorskip("mujoco.batch")

D = 69


def poses(num_envs, seed=0, height=1.0, speed=1.0):
    generator = torch.Generator().manual_seed(seed)

    def normal(size, scale):
        return scale * torch.randn(num_envs, size, generator=generator)

    root_pos = normal(3, 0.3) + torch.tensor([0.0, 0.0, height])
    root_quat = rotations.from_rotation_vector(normal(3, 0.4))
    return Pose(root_pos, root_quat, normal(3, speed), normal(3, speed), normal(D, 0.2), normal(D, speed))


def model_and_data(**options):
    model = mujoco.MjModel.from_xml_string(build_mjcf(PhysicsOptions(**options)))
    return model, mujoco.MjData(model)


def load(model, data, pose, row):
    """Put one row of a pose into MuJoCo's own data."""
    joints = rotations.from_rotation_vector(pose.dof_pos[row].double().unflatten(-1, (23, 3)))
    data.qpos[:] = np.concatenate((pose.root_pos[row], pose.root_quat[row], joints.flatten()))
    spin = rotations.rotate(rotations.conjugate(pose.root_quat[row].double()), pose.root_ang_vel[row].double())
    data.qvel[:] = np.concatenate((pose.root_lin_vel[row], spin, pose.dof_vel[row]))
    data.qacc_warmstart[:] = 0.0


def test_steps_equal_mujocos_own_and_states_are_not_one_step_late():
    simulator = MujocoCpuSimulator(3, PhysicsOptions(), num_threads=1)
    pose = poses(3, speed=3.0)
    simulator.set_state(torch.ones(3, dtype=torch.bool), pose)
    target = pose.dof_pos + 0.1
    for _ in range(3):
        simulator.step(target)
    model, data = model_and_data()
    for row in range(3):
        load(model, data, pose, row)
        data.ctrl[:] = target[row]
        for _ in range(6):
            mujoco.mj_step(model, data)
        late = data.xpos[1:].copy()
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(simulator.body.pos[row], data.xpos[1:], atol=1e-4)
        np.testing.assert_allclose(simulator.dof.vel[row], data.qvel[6:], atol=1e-2)
        spin = data.cvel[1:, :3]
        lin_vel = data.cvel[1:, 3:] + np.cross(spin, data.xpos[1:] - data.subtree_com[1])
        np.testing.assert_allclose(simulator.body.lin_vel[row], lin_vel, atol=1e-2)
        np.testing.assert_allclose(simulator.body.ang_vel[row], spin, atol=1e-2)
        assert np.abs(late - data.xpos[1:]).max() > 5e-3


def test_the_engine_takes_errors_modulo_a_full_turn():
    """MuJoCo 3.14 and newer: a target more than π from the joint reverses the force. This is why targets are clamped."""
    model, data = model_and_data()
    dof = dof_ids(("L_Shoulder",))[1]
    for position, target in ((-2.0, 2.0), (0.0, 3.1), (0.0, 3.2), (0.0, 5.0), (2.5, -2.5)):
        data.qpos[7 + 4 * (dof // 3) : 11 + 4 * (dof // 3)] = [math.cos(position / 2), 0.0, math.sin(position / 2), 0.0]
        data.ctrl[:] = 0.0
        data.ctrl[dof] = target
        mujoco.mj_forward(model, data)
        error = math.remainder(target - position, 2.0 * math.pi)
        assert abs(data.actuator_force[dof] - 500.0 * error) < 1e-6
        column = torch.zeros(1, D)
        pos, goal = column.clone(), column.clone()
        pos[0, dof], goal[0, dof] = position, target
        gains = MujocoCpuSimulator(1, PhysicsOptions()).gains
        assert abs(drive_torque(goal, pos, column, gains)[0, dof] - data.actuator_force[dof]) < 1e-2
        clamped = clamp_target(goal, pos, column, gains, 500.0)
        data.ctrl[dof] = clamped[0, dof]
        mujoco.mj_forward(model, data)
        assert math.copysign(1.0, data.actuator_force[dof]) == math.copysign(1.0, target - position)


def test_far_targets_converge_only_when_clamped():
    """A constant target of 5 rad on the knee, the original's scale there: clamped it is held at 2.8 rad, raw it never settles."""
    settled = {}
    for is_clamped in (True, False):
        simulator = MujocoCpuSimulator(1, PhysicsOptions(has_self_collision=False))
        pose = Pose(*(tensor * 0.0 for tensor in poses(1)))
        pose = pose._replace(root_pos=torch.tensor([[0.0, 0.0, 200.0]]), root_quat=torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
        simulator.set_state(torch.ones(1, dtype=torch.bool), pose)
        knee = dof_ids(("L_Knee",))[1]
        target = torch.zeros(1, D)
        target[0, knee] = 5.0
        for _ in range(60):
            dof = simulator.dof
            simulator.step(clamp_target(target, dof.pos, dof.vel, simulator.gains, 500.0) if is_clamped else target)
        settled[is_clamped] = simulator.dof.pos[0, knee].item()
    assert abs(settled[True] - 2.8) < 0.02
    assert settled[False] < 0.0


def test_wild_targets_do_not_diverge_when_clamped():
    """Random targets over the original's whole action range, a new one each step, for two seconds."""
    simulator = MujocoCpuSimulator(16, PhysicsOptions())
    generator = torch.Generator().manual_seed(1)
    scale = torch.full((D,), math.pi)
    scale[[4, 16]] = 5.0
    for _ in range(60):
        wild = scale * (2.0 * torch.rand(16, D, generator=generator) - 1.0)
        simulator.step(clamp_target(wild, simulator.dof.pos, simulator.dof.vel, simulator.gains, 500.0))
    assert simulator.read_counters() == (0, 0, 0)
    assert simulator.body.ang_vel.abs().max() < 200.0


@pytest.mark.parametrize(
    ("integrator", "rate", "share"), [("discrete", 60.0, 0.1), ("discrete", 120.0, 0.03), ("implicitfast", 120.0, 0.25)]
)
def test_the_reported_torque_is_the_one_that_moved_the_joints(integrator, rate, share):
    """In the air, M·Δv/h + bias is near the torque at the end of the step, and the engine's actuator_force is far from it.

    Exactly, the discrete integrator applies kp·(θ* − θ − h·ω_new) − kd·ω_new and implicitfast kp·(θ* − θ) − kd·ω_new, θ being that
    before the step: the joint position after it differs from θ + h·ω_new by the curvature of rotation vectors.
    """
    model, data = model_and_data(integrator=integrator, rate=rate)
    model.opt.gravity[:] = 0.0
    pose = poses(1, height=10.0, speed=2.0)
    load(model, data, pose, 0)
    mujoco.mj_forward(model, data)
    mass, bias, velocity, position = np.zeros((75, 75)), data.qfrc_bias.copy(), data.qvel.copy(), data.actuator_length.copy()
    mujoco.mj_fullM(model, data, mass)
    gains = MujocoCpuSimulator(1, PhysicsOptions()).gains
    target = pose.dof_pos + 0.3
    data.ctrl[:] = target[0]
    mujoco.mj_step(model, data)
    moved = (mass @ (data.qvel - velocity) / model.opt.timestep + bias)[6:]
    step = model.opt.timestep if integrator == "discrete" else 0.0
    stiffness, damping = gains.stiffness.numpy(), gains.damping.numpy()
    np.testing.assert_allclose(
        moved, stiffness * (target[0].numpy() - position - step * data.qvel[6:]) - damping * data.qvel[6:], rtol=1e-6, atol=1e-4
    )
    explicit = data.actuator_force.copy()
    mujoco.mj_forward(model, data)
    reported = drive_torque(target, torch.tensor(data.actuator_length[None]).float(), torch.tensor(data.qvel[None, 6:]).float(), gains)[0]
    assert np.abs(reported.numpy() - moved).mean() < share * np.abs(moved).mean()
    assert np.abs(explicit - moved).mean() > 2.0 * np.abs(moved).mean()


def test_diverged_rows_are_not_reset_behind_our_back():
    """With MuJoCo's autoreset a diverged humanoid would go on from the zero pose as if nothing had happened."""
    simulator = MujocoCpuSimulator(2, PhysicsOptions())
    assert simulator.batch.model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    simulator.batch.bind("qvel")[1, 20] = 1e12
    simulator.step(torch.zeros(2, D))
    assert simulator.diverged.tolist() == [False, True]
    assert simulator.read_counters().diverged == 1


def test_no_log_file_is_left(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    config = mujoco.MjLogConfig.get()
    before = config.logto_file, config.logto_console
    simulator = MujocoCpuSimulator(4, PhysicsOptions(), num_threads=2)
    simulator.batch.bind("qvel")[1, 20], simulator.batch.bind("qpos")[2, 0] = math.nan, math.inf
    simulator.step(torch.full((4, D), math.nan))
    simulator.step(torch.zeros(4, D))
    assert simulator.read_counters().diverged == 4
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""
    config = mujoco.MjLogConfig.get()
    assert (config.logto_file, config.logto_console) == before


def test_threads_give_bit_equal_results():
    pose = poses(7, seed=3)
    histories = []
    for num_threads in (1, 2, 5):
        simulator = MujocoCpuSimulator(7, PhysicsOptions(), num_threads)
        assert simulator.num_threads == num_threads
        simulator.set_state(torch.ones(7, dtype=torch.bool), pose)
        for step in range(10):
            simulator.step(pose.dof_pos + 0.05 * step)
        histories.append([tensor.clone() for tensor in (*simulator.body, *simulator.dof)])
    for history in histories[1:]:
        assert all(torch.equal(one, other) for one, other in zip(histories[0], history))


def test_snapshots_go_to_another_simulator_and_through_a_file(tmp_path):
    first, second = MujocoCpuSimulator(3, PhysicsOptions()), MujocoCpuSimulator(3, PhysicsOptions())
    pose = poses(3)
    first.set_state(torch.ones(3, dtype=torch.bool), pose)
    for _ in range(8):
        first.step(pose.dof_pos)
    torch.save(first.snapshot(), tmp_path / "snapshot.pt")
    second.restore(torch.load(tmp_path / "snapshot.pt", weights_only=True))
    for simulator in (first, second):
        for _ in range(4):
            simulator.step(pose.dof_pos + 0.1)
    assert all(torch.equal(one, other) for one, other in zip((*first.body, *first.dof), (*second.body, *second.dof)))


def test_warm_starts_are_part_of_the_state():
    """Without them the same rows move on differently, so a snapshot that left them out would not be exact."""
    simulator = MujocoCpuSimulator(2, PhysicsOptions(iterations=2))
    for _ in range(10):
        simulator.step(torch.zeros(2, D))
    snapshot = simulator.snapshot()
    results = []
    for is_cleared in (False, True):
        simulator.restore(snapshot)
        if is_cleared:
            simulator.batch.bind("qacc_warmstart")[:] = 0.0
        simulator.step(torch.full((2, D), 0.2))
        results.append(simulator.batch.state.copy())
    assert not np.array_equal(*results)


def test_overflows_are_counted_by_row_and_step_and_leave_no_file(monkeypatch, tmp_path):
    """An arena with room for no more than a few contacts, and a fall that has many."""
    monkeypatch.chdir(tmp_path)
    cramped = build_mjcf(PhysicsOptions()).replace("<worldbody>", "<size memory='90K'/><worldbody>", 1)
    monkeypatch.setattr(mujoco_cpu, "build_mjcf", lambda options: cramped)
    simulator = MujocoCpuSimulator(2, PhysicsOptions())
    for _ in range(5):
        simulator.step(torch.zeros(2, D))
    counters = simulator.read_counters()
    assert 0 < counters.contact_overflows + counters.constraint_overflows <= 20
    assert simulator.read_counters() == (0, 0, 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_envs", [0, -3])
def test_no_environments_are_refused(num_envs):
    with pytest.raises(BackendError, match=str(num_envs)):
        MujocoCpuSimulator(num_envs, PhysicsOptions())


def test_a_model_that_the_engine_refuses_is_named():
    with pytest.raises(BackendError, match="mujoco_cpu"):
        MujocoCpuSimulator(1, PhysicsOptions(integrator="leapfrog"))


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 8, 19, "final", 0))
    with pytest.raises(BackendError, match=r"Python 3\.10 or newer, this is 3\.8\.19"):
        MujocoCpuSimulator(1, PhysicsOptions())


@pytest.mark.parametrize(("module", "message"), [("mujoco", "needs MuJoCo"), ("mujoco.batch", r"mujoco\.batch of MuJoCo 3\.17")])
def test_a_missing_engine_is_named(monkeypatch, module, message):
    monkeypatch.setitem(sys.modules, module, None)
    if module == "mujoco.batch":
        monkeypatch.delattr(mujoco, "batch", raising=False)
    with pytest.raises(BackendError, match=message):
        MujocoCpuSimulator(1, PhysicsOptions())


def test_the_humanoid_stands_for_a_second():
    simulator = MujocoCpuSimulator(1, PhysicsOptions())
    for _ in range(30):
        simulator.step(torch.zeros(1, D))
    assert abs(simulator.body.pos[0, 0, 2] - STANDING_HEIGHT) < 0.01

"""MuJoCo Warp against MuJoCo, on Warp's CPU device with a few worlds; the tests marked ``gpu`` add what only a GPU can show."""

import logging

import pytest
import torch

pytest.importorskip("mujoco_warp")

from puffer_phc import rotations
from puffer_phc.humanoid.kinematics import forward_kinematics, local_quats_from_dofs, lowest_point
from puffer_phc.humanoid.mjcf import PhysicsOptions
from puffer_phc.sim.mujoco_cpu import MujocoCpuSimulator
from puffer_phc.sim.mujoco_warp import MujocoWarpSimulator
from puffer_phc.sim.pd import drive_torque
from puffer_phc.state import Pose

NUM_ENVS, NUM_DOFS = 4, 69
CPU = torch.device("cpu")
ALL = torch.ones(NUM_ENVS, dtype=torch.bool)


def random_pose(seed: int, height: float, num_envs: int = NUM_ENVS) -> Pose:
    """Bent joints, tilted roots and motion of everything; the lowest point is ``height`` over the floor."""
    generator = torch.Generator().manual_seed(seed)

    def normal(size: int, scale: float) -> torch.Tensor:
        return torch.randn(num_envs, size, generator=generator) * scale

    root_quat = rotations.from_rotation_vector(normal(3, 0.3))
    dof_pos = normal(NUM_DOFS, 0.2)
    at_origin = forward_kinematics(torch.zeros(num_envs, 3), local_quats_from_dofs(root_quat, dof_pos))
    lowest = lowest_point(*at_origin).amin(-1)
    root_pos = torch.stack((normal(1, 1.0)[:, 0], normal(1, 1.0)[:, 0], height - lowest), dim=-1)
    return Pose(root_pos, root_quat, normal(3, 1.0), normal(3, 1.0), dof_pos, normal(NUM_DOFS, 1.0))


def targets_near(pose: Pose, seed: int = 9) -> torch.Tensor:
    noise = torch.randn(pose.dof_pos.shape, generator=torch.Generator().manual_seed(seed))
    return pose.dof_pos + 0.2 * noise.to(pose.dof_pos.device)


@pytest.fixture(scope="module")
def simulator():
    simulator = MujocoWarpSimulator(NUM_ENVS, PhysicsOptions(), CPU)
    yield simulator
    simulator.close()


@pytest.fixture(scope="module", params=["discrete", "implicitfast"])
def pair(request):
    options = PhysicsOptions() if request.param == "discrete" else PhysicsOptions(120.0, 4, request.param, iterations=10)
    pair = MujocoWarpSimulator(NUM_ENVS, options, CPU), MujocoCpuSimulator(NUM_ENVS, options, num_threads=1)
    yield pair
    for simulator in pair:
        simulator.close()


def assert_equal_states(warp, reference, position: float, velocity: float) -> None:
    for simulator in (warp, reference):
        assert not simulator.diverged.any()
    assert (warp.body.pos - reference.body.pos).abs().max() < position
    assert rotations.angle(rotations.multiply(rotations.conjugate(reference.body.quat), warp.body.quat)).max() < 10 * position
    assert (warp.body.lin_vel - reference.body.lin_vel).abs().max() < velocity
    assert (warp.body.ang_vel - reference.body.ang_vel).abs().max() < velocity
    assert (warp.dof.pos - reference.dof.pos).abs().max() < 10 * position
    assert (warp.dof.vel - reference.dof.vel).abs().max() < velocity
    scale = reference.dof.torque.abs().max() + reference.gains.damping.max() * velocity + reference.gains.stiffness.max() * 10 * position
    assert (warp.dof.torque - reference.dof.torque).abs().max() < 100 * velocity + 1e-4 * scale
    assert (warp.dof.power - reference.dof.power).abs().max() < 1e-2 * reference.dof.power.max() + 1.0


@pytest.mark.parametrize("height,steps,position,velocity", [(5.0, 5, 1e-4, 1e-3), (-0.004, 1, 1e-3, 0.05)], ids=["flight", "contact"])
def test_equals_the_cpu_backend(pair, height, steps, position, velocity):
    pose = random_pose(0, height)
    target = targets_near(pose)
    for simulator in pair:
        simulator.set_state(ALL, pose)
    assert_equal_states(*pair, 1e-5, 1e-4)
    for _ in range(steps):
        for simulator in pair:
            simulator.step(target)
    assert_equal_states(*pair, position, velocity)


def test_feet_that_cross_meet_as_in_the_cpu_backend(pair):
    """Boxes against boxes, where the two backends use different collision routines."""
    pose = random_pose(1, 5.0)
    dof_pos = torch.zeros(NUM_ENVS, NUM_DOFS)
    dof_pos[:, 0], dof_pos[:, 12] = -0.14, 0.14
    dof_pos += 0.01 * torch.randn(dof_pos.shape, generator=torch.Generator().manual_seed(2))
    pose = pose._replace(dof_pos=dof_pos, dof_vel=torch.zeros_like(dof_pos))
    for simulator in pair:
        simulator.set_state(ALL, pose)
        simulator.step(dof_pos)
    assert_equal_states(*pair, 1e-3, 0.05)


def test_publishes_forward_kinematics_of_the_given_pose(simulator):
    pose = random_pose(3, 1.0)
    simulator.set_state(ALL, pose)
    pos, quat = forward_kinematics(pose.root_pos, local_quats_from_dofs(pose.root_quat, pose.dof_pos))
    torch.testing.assert_close(simulator.body.pos, pos, atol=1e-5, rtol=0)
    assert rotations.angle(rotations.multiply(rotations.conjugate(quat), simulator.body.quat)).max() < 1e-5
    torch.testing.assert_close(simulator.body.ang_vel[:, 0], pose.root_ang_vel, atol=1e-5, rtol=0)
    torch.testing.assert_close(simulator.dof.pos, pose.dof_pos, atol=1e-5, rtol=0)


def test_published_velocities_are_the_rate_of_change_of_positions(simulator):
    pose, dt = random_pose(4, 1.0), 1e-5
    simulator.set_state(ALL, pose)
    start = [part.clone().double() for part in simulator.body]
    turn = rotations.from_rotation_vector(pose.root_ang_vel.double() * dt)
    joints = rotations.from_rotation_vector(pose.dof_pos.double().unflatten(-1, (-1, 3)))
    joints = rotations.multiply(joints, rotations.from_rotation_vector(pose.dof_vel.double().unflatten(-1, (-1, 3)) * dt))
    root_quat = rotations.multiply(turn, pose.root_quat.double())
    local = torch.cat((root_quat.unsqueeze(-2), joints), dim=-2)
    pos, quat = forward_kinematics(pose.root_pos.double() + pose.root_lin_vel.double() * dt, local)
    before = forward_kinematics(pose.root_pos.double(), local_quats_from_dofs(pose.root_quat.double(), pose.dof_pos.double()))
    torch.testing.assert_close(start[2], (pos - before[0]) / dt, atol=1e-3, rtol=0)
    spin = rotations.to_rotation_vector(rotations.multiply(quat, rotations.conjugate(before[1]))) / dt
    torch.testing.assert_close(start[3], spin, atol=1e-3, rtol=0)


def test_power_is_the_mean_over_substeps_of_the_implicit_torque_times_velocity(simulator):
    single = MujocoWarpSimulator(NUM_ENVS, PhysicsOptions(substeps=1), CPU)
    pose = random_pose(5, 5.0)
    target = targets_near(pose)
    expected = torch.zeros(NUM_ENVS, NUM_DOFS)
    single.set_state(ALL, pose)
    for _ in range(2):
        single.step(target)
        torque = drive_torque(target, single.dof.pos, single.dof.vel, single.gains)
        torch.testing.assert_close(single.dof.torque, torque, atol=0.1, rtol=1e-4)
        expected += 0.5 * (torque * single.dof.vel).abs()
    simulator.set_state(ALL, pose)
    simulator.step(target)
    torch.testing.assert_close(simulator.dof.power, expected, atol=0.5, rtol=1e-3)
    assert simulator.dof.power.max() > 1.0
    single.close()


def test_views_keep_their_addresses(simulator):
    def addresses():
        states = (*simulator.body, *simulator.dof, simulator.diverged, *simulator.integration_state().values())
        return [tensor.data_ptr() for tensor in states]

    before = addresses()
    simulator.set_state(ALL, random_pose(6, 0.0))
    simulator.step(torch.zeros(NUM_ENVS, NUM_DOFS))
    simulator.push(ALL, torch.ones(NUM_ENVS, 3))
    simulator.restore(simulator.snapshot())
    assert addresses() == before


def test_set_state_moves_its_rows_and_no_others(simulator):
    simulator.set_state(ALL, random_pose(7, 0.0))
    simulator.step(torch.zeros(NUM_ENVS, NUM_DOFS))
    before = simulator.snapshot()
    published = [part.clone() for part in (*simulator.body, *simulator.dof)]
    mask = torch.tensor([True, False, True, False])
    simulator.set_state(mask, random_pose(8, 1.0))
    after = simulator.snapshot()
    for name, part in after.items():
        assert torch.equal(part[~mask], before[name][~mask]), name
    for part, old in zip((*simulator.body, *simulator.dof), published):
        assert torch.equal(part[~mask], old[~mask])
    for name in ("ctrl", "warm_start", "torque", "power"):
        assert before[name][~mask].abs().max() > 0 or name == "ctrl"
        assert after[name][mask].abs().max() == 0, name
    torch.testing.assert_close(simulator.body.pos[mask][:, 0], random_pose(8, 1.0).root_pos[mask])


def test_push_adds_to_the_velocity_of_every_body(simulator):
    simulator.set_state(ALL, random_pose(10, 1.0))
    before = simulator.body.lin_vel.clone()
    mask, velocity = torch.tensor([False, True, True, False]), torch.tensor([1.0, -2.0, 0.5]).repeat(NUM_ENVS, 1)
    simulator.push(mask, velocity)
    expected = before + (velocity * mask.unsqueeze(-1)).unsqueeze(1)
    torch.testing.assert_close(simulator.body.lin_vel, expected, atol=1e-5, rtol=0)


def test_snapshot_and_same_targets_repeat_the_motion(simulator):
    pose = random_pose(11, 0.0)
    targets = [targets_near(pose, seed) for seed in range(4)]
    simulator.set_state(ALL, pose)
    simulator.step(targets[0])
    snapshot = simulator.snapshot()
    runs = []
    for _ in range(2):
        simulator.restore(snapshot)
        for target in targets[1:]:
            simulator.step(target)
        runs.append([part.clone() for part in (*simulator.body, *simulator.dof)])
    for first, second in zip(*runs):
        assert torch.equal(first, second)


def test_a_diverged_row_is_frozen_counted_once_and_harms_nobody(simulator):
    pose = random_pose(12, 0.0)
    target = targets_near(pose)
    poisoned = target.clone()
    poisoned[1] = float("nan")
    simulator.read_counters()
    states = []
    for chosen in (target, poisoned):
        simulator.set_state(ALL, pose)
        for _ in range(3):
            simulator.step(chosen)
        states.append([part.clone() for part in (*simulator.body, *simulator.dof)])
    others = torch.tensor([True, False, True, True])
    assert simulator.diverged.tolist() == [False, True, False, False]
    assert simulator.read_counters() == (1, 0, 0)
    for healthy, part in zip(*states):
        assert torch.isfinite(part).all()
        assert torch.equal(part[others], healthy[others])
    simulator.push(ALL, torch.ones(NUM_ENVS, 3))
    assert simulator.body.lin_vel[1].abs().max() == 0
    simulator.set_state(~others, pose)
    simulator.step(target)
    assert not simulator.diverged.any()
    assert simulator.read_counters() == (0, 0, 0)


@pytest.mark.parametrize("value", [float("inf"), 1e9, 1e-45])
def test_absurd_states_are_frozen_and_tiny_ones_are_not(simulator, value):
    pose = random_pose(13, 5.0)
    velocity = pose.root_lin_vel.clone()
    velocity[2, 1] = value
    simulator.set_state(ALL, pose._replace(root_lin_vel=velocity))
    simulator.step(pose.dof_pos)
    assert simulator.diverged.tolist() == [False, False, value > 1.0, False]
    assert torch.isfinite(torch.cat([part.flatten() for part in (*simulator.body, *simulator.dof)])).all()
    simulator.read_counters()


@pytest.mark.parametrize("name,size,column", [("contacts_per_env", 3, 1), ("constraints_per_env", 16, 2)])
def test_overflows_are_counted_and_named(name, size, column, caplog):
    """Both feet flat on the floor make up to 16 contacts of four rows."""
    simulator = MujocoWarpSimulator(2, PhysicsOptions(), CPU, **{name: size})
    pose, upright = random_pose(14, 0.0, num_envs=2), torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 2)
    at_rest = {field: torch.zeros_like(value) for field, value in pose._asdict().items()}
    flat = Pose(**{**at_rest, "root_quat": upright, "root_pos": torch.tensor([[0.0, 0.0, 0.92]] * 2)})
    simulator.set_state(torch.ones(2, dtype=torch.bool), flat)
    simulator.step(torch.zeros(2, NUM_DOFS))
    with caplog.at_level(logging.WARNING):
        counters = simulator.read_counters()
    assert 1 <= counters[column] <= 2
    assert f"raise {name} from {size} to more than" in caplog.text
    assert simulator.read_counters() == (0, 0, 0)
    simulator.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnGpu:
    """One captured graph must do what the kernels one by one do, and never wait for the device."""

    def test_nothing_waits_for_the_device(self):
        device = torch.device("cuda")
        simulator = MujocoWarpSimulator(NUM_ENVS, PhysicsOptions(), device)
        pose = Pose(*(part.to(device) for part in random_pose(0, 0.0)))
        mask, target, velocity = ALL.to(device), targets_near(pose).to(device), torch.ones(NUM_ENVS, 3, device=device)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(3):
                simulator.set_state(mask, pose)
                simulator.push(mask, velocity)
                simulator.step(target)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert not simulator.diverged.any()
        simulator.close()

    @pytest.mark.parametrize("height,steps,position,velocity", [(5.0, 5, 1e-4, 1e-3), (-0.004, 1, 1e-3, 0.05)])
    @pytest.mark.parametrize("side_stream", [False, True])
    def test_equals_the_cpu_backend(self, height, steps, position, velocity, side_stream):
        device, pose = torch.device("cuda"), random_pose(0, height)
        warp, reference = MujocoWarpSimulator(NUM_ENVS, PhysicsOptions(), device), MujocoCpuSimulator(NUM_ENVS, PhysicsOptions())
        reference.set_state(ALL, pose)
        stream = torch.cuda.Stream() if side_stream else torch.cuda.current_stream()
        with torch.cuda.stream(stream):
            warp.set_state(ALL.to(device), Pose(*(part.to(device) for part in pose)))
            for _ in range(steps):
                warp.step(targets_near(pose).to(device))
                reference.step(targets_near(pose))
            assert (warp.body.pos.cpu() - reference.body.pos).abs().max() < position
            assert (warp.body.lin_vel.cpu() - reference.body.lin_vel).abs().max() < velocity
            assert (warp.body.ang_vel.cpu() - reference.body.ang_vel).abs().max() < velocity
            assert (warp.dof.power.cpu() - reference.dof.power).abs().max() < 1e-2 * reference.dof.power.max() + 1.0
        warp.close()

    def test_set_state_can_be_part_of_a_recorded_graph(self):
        device = torch.device("cuda")
        simulator = MujocoWarpSimulator(NUM_ENVS, PhysicsOptions(), device)
        pose = Pose(*(part.to(device) for part in random_pose(3, 1.0)))
        mask = torch.tensor([True, False, True, False], device=device)
        simulator.set_state(mask, pose)
        torch.cuda.synchronize()
        expected = [part.clone() for part in (*simulator.body, *simulator.dof)]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            simulator.set_state(mask, pose)
        for _ in range(2):
            simulator.step(torch.zeros(NUM_ENVS, NUM_DOFS, device=device))
            graph.replay()
            for part, wanted in zip((*simulator.body, *simulator.dof), expected):
                torch.testing.assert_close(part[mask], wanted[mask], atol=1e-6, rtol=0)
        simulator.close()

    def test_diverged_rows_are_frozen_in_the_graph(self):
        device = torch.device("cuda")
        simulator = MujocoWarpSimulator(NUM_ENVS, PhysicsOptions(), device)
        target = torch.zeros(NUM_ENVS, NUM_DOFS, device=device)
        target[1] = float("nan")
        for _ in range(3):
            simulator.step(target)
        assert simulator.diverged.tolist() == [False, True, False, False]
        assert simulator.read_counters().diverged == 1
        assert torch.isfinite(simulator.body.pos).all()
        simulator.close()

"""What every physics backend promises (the card in puffer_phc/sim/simulator.py), tested on each backend that runs here."""

import math

import pytest
import torch
from stand_in import use_stand_in

from puffer_phc import rotations
from puffer_phc.humanoid.kinematics import forward_kinematics, local_quats_from_dofs, lowest_point
from puffer_phc.humanoid.mjcf import STANDING_HEIGHT, PhysicsOptions
from puffer_phc.humanoid.skeleton import dof_ids
from puffer_phc.sim.pd import drive_torque
from puffer_phc.state import Pose

N, D = 4, 69
OPTIONS = PhysicsOptions()
ALL = torch.ones(N, dtype=torch.bool)
ROW_1 = torch.tensor([False, True, False, False])


def make_mujoco_cpu(options):
    pytest.importorskip("mujoco.batch", reason="backend mujoco_cpu needs MuJoCo 3.17 or newer")
    from puffer_phc.sim.mujoco_cpu import MujocoCpuSimulator

    return MujocoCpuSimulator(N, options)


def make_mujoco_warp(options):
    pytest.importorskip("mujoco_warp", reason="backend mujoco_warp needs mujoco-warp")
    pytest.importorskip("puffer_phc.sim.mujoco_warp", reason="backend mujoco_warp is not there")
    from puffer_phc.sim.mujoco_warp import MujocoWarpSimulator

    return MujocoWarpSimulator(N, options, torch.device("cpu"))


def make_isaac_gym(options):
    use_stand_in()
    from puffer_phc.sim.isaac_gym import IsaacGymSimulator

    return IsaacGymSimulator(N, options, torch.device("cpu"))


BACKENDS = {"isaac_gym": make_isaac_gym, "mujoco_cpu": make_mujoco_cpu, "mujoco_warp": make_mujoco_warp}


@pytest.fixture(scope="module")
def shared():
    """One simulator a backend, made when it is first needed: building Warp's takes seconds."""
    simulators = {}
    yield simulators
    for simulator in simulators.values():
        simulator.close()
        simulator.close()


@pytest.fixture(params=sorted(BACKENDS))
def backend(request):
    return request.param


@pytest.fixture
def simulator(backend, shared):
    """The backend's simulator, standing in the zero pose with all counters read. Isaac Gym's is made anew: a process has only one."""
    if backend == "isaac_gym":
        simulator = make_isaac_gym(OPTIONS)
    else:
        if backend not in shared:
            shared[backend] = BACKENDS[backend](OPTIONS)
        simulator = shared[backend]
    simulator.set_state(ALL, standing_pose())
    simulator.read_counters()
    yield simulator
    if backend == "isaac_gym":
        simulator.close()
        simulator.close()


def standing_pose():
    root_pos = torch.zeros(N, 3)
    root_pos[:, 2] = STANDING_HEIGHT
    root_quat = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(N, 1)
    return Pose(root_pos, root_quat, torch.zeros(N, 3), torch.zeros(N, 3), torch.zeros(N, D), torch.zeros(N, D))


def moving_pose(seed=0, height=3.0):
    """In the air, with everything bent, tilted and moving."""
    generator = torch.Generator().manual_seed(seed)

    def normal(size, scale):
        return scale * torch.randn(N, size, generator=generator)

    root_pos = normal(3, 0.5) + torch.tensor([0.0, 0.0, height])
    return Pose(root_pos, rotations.normalize(normal(4, 1.0)), normal(3, 1.0), normal(3, 2.0), normal(D, 0.3), normal(D, 1.0))


def copy_states(simulator):
    return [tensor.clone() for tensor in (*simulator.body, *simulator.dof)]


def angle_between(a, b):
    return rotations.angle(rotations.multiply(rotations.conjugate(a), b))


def kinematics(pose):
    return forward_kinematics(pose.root_pos, local_quats_from_dofs(pose.root_quat, pose.dof_pos))


def test_shapes_and_types(simulator):
    assert simulator.num_envs == N
    assert math.isclose(simulator.control_dt, 1.0 / 30.0)
    shapes = {"pos": (N, 24, 3), "quat": (N, 24, 4), "lin_vel": (N, 24, 3), "ang_vel": (N, 24, 3)}
    assert {name: tuple(tensor.shape) for name, tensor in simulator.body._asdict().items()} == shapes
    for tensor in (*simulator.body, *simulator.dof):
        assert tensor.dtype == torch.float32 and tensor.device == simulator.device
    assert all(tensor.shape == (N, D) for tensor in simulator.dof)
    assert simulator.diverged.shape == (N,) and simulator.diverged.dtype == torch.bool
    assert simulator.gains.stiffness.shape == simulator.gains.damping.shape == (D,)


def test_states_are_written_in_place(simulator):
    tensors = (*simulator.body, *simulator.dof, simulator.diverged)
    addresses = [tensor.data_ptr() for tensor in tensors]
    before = copy_states(simulator)
    simulator.set_state(ALL, moving_pose())
    simulator.step(torch.zeros(N, D))
    simulator.restore(simulator.snapshot())
    after = (*simulator.body, *simulator.dof, simulator.diverged)
    assert all(one is other for one, other in zip(tensors, after))
    assert [tensor.data_ptr() for tensor in tensors] == addresses
    assert not any(torch.equal(one, other) for one, other in zip(before, tensors))


def test_set_state_is_seen_at_once(simulator):
    pose = moving_pose()
    simulator.set_state(ALL, pose)
    body, dof = simulator.body, simulator.dof
    positions, quats = kinematics(pose)
    torch.testing.assert_close(body.pos, positions, atol=1e-5, rtol=0.0)
    assert angle_between(body.quat, quats).max() < 1e-3
    torch.testing.assert_close(body.lin_vel[:, 0], pose.root_lin_vel, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(body.ang_vel[:, 0], pose.root_ang_vel, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(dof.pos, pose.dof_pos, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(dof.vel, pose.dof_vel, atol=1e-5, rtol=0.0)


def test_velocities_are_derivatives_of_positions(simulator):
    """Every body's world velocities against central differences of kinematics, joints turning in the child's frame."""
    pose = Pose(*(values.double() for values in moving_pose(3)))
    simulator.set_state(ALL, Pose(*(values.float() for values in pose)))
    dt = 1e-5

    def at(time):
        joints = rotations.multiply(
            rotations.from_rotation_vector(pose.dof_pos.unflatten(-1, (23, 3))),
            rotations.from_rotation_vector(time * pose.dof_vel.unflatten(-1, (23, 3))),
        )
        root = rotations.multiply(rotations.from_rotation_vector(time * pose.root_ang_vel), pose.root_quat)
        return forward_kinematics(pose.root_pos + time * pose.root_lin_vel, torch.cat((root.unsqueeze(1), joints), dim=1))

    (before, quats_before), (after, quats_after) = at(-dt), at(dt)
    turned = rotations.to_rotation_vector(rotations.multiply(quats_after, rotations.conjugate(quats_before)))
    torch.testing.assert_close(simulator.body.lin_vel.double(), (after - before) / (2 * dt), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(simulator.body.ang_vel.double(), turned / (2 * dt), atol=1e-4, rtol=1e-4)


def test_set_state_leaves_other_rows_alone(simulator):
    simulator.set_state(ALL, moving_pose())
    simulator.step(torch.zeros(N, D))
    before = copy_states(simulator)
    simulator.set_state(ROW_1, moving_pose(5))
    for one, other in zip(before, (*simulator.body, *simulator.dof)):
        assert torch.equal(one[~ROW_1], other[~ROW_1])
        assert not torch.equal(one[ROW_1], other[ROW_1])
    simulator.set_state(torch.zeros(N, dtype=torch.bool), moving_pose(6))
    assert torch.equal(simulator.dof.pos[~ROW_1], before[4][~ROW_1])


def test_after_a_step_all_states_describe_one_instant(simulator):
    """Fast motion: MuJoCo's own body positions are centimetres behind its joint positions after a step."""
    pose = moving_pose(1)
    simulator.set_state(ALL, pose._replace(root_lin_vel=3.0 * pose.root_lin_vel, dof_vel=3.0 * pose.dof_vel))
    for _ in range(3):
        simulator.step(pose.dof_pos)
        body = simulator.body
        positions, quats = forward_kinematics(body.pos[:, 0], local_quats_from_dofs(body.quat[:, 0], simulator.dof.pos))
        torch.testing.assert_close(body.pos, positions, atol=2e-5, rtol=0.0)
        assert angle_between(body.quat, quats).max() < 2e-3


def test_free_fall(simulator):
    simulator.set_state(ALL, standing_pose()._replace(root_pos=torch.tensor([0.0, 0.0, 5.0]).repeat(N, 1)))
    for _ in range(10):
        simulator.step(torch.zeros(N, D))
    torch.testing.assert_close(simulator.body.lin_vel[:, 0, 2], torch.full((N,), -9.81 / 3.0), rtol=1e-2, atol=0.0)
    fallen = 5.0 - simulator.body.pos[:, 0, 2]
    assert (fallen - 0.5 * 9.81 / 9.0).abs().max() < 0.05


def test_the_zero_pose_stays_off_the_floors_inside(simulator):
    for _ in range(20):
        simulator.step(torch.zeros(N, D))
    assert lowest_point(simulator.body.pos, simulator.body.quat).amin(-1).min() > -5e-3
    assert simulator.body.pos[:, 0, 2].min() > 0.85
    assert not simulator.diverged.any()


def test_joints_reach_rotation_vectors(simulator):
    """The drives hold an oblique rotation vector: three components of one rotation, not three angles in turn."""
    simulator.set_state(ALL, standing_pose()._replace(root_pos=torch.tensor([0.0, 0.0, 50.0]).repeat(N, 1)))
    target = torch.zeros(N, D)
    target[:, dof_ids(("L_Shoulder", "R_Elbow"))] = torch.tensor([0.6, -0.8, 0.5, -0.3, 0.2, 0.9])
    for _ in range(40):
        simulator.step(target)
    torch.testing.assert_close(simulator.dof.pos, target, atol=0.03, rtol=0.0)


def test_torque_and_power_are_those_of_the_drive(simulator):
    simulator.set_state(ALL, moving_pose(2))
    assert (simulator.dof.torque == 0.0).all() and (simulator.dof.power == 0.0).all()
    target = simulator.dof.pos + 0.3
    simulator.step(target)
    dof = simulator.dof
    torch.testing.assert_close(dof.torque, drive_torque(target, dof.pos, dof.vel, simulator.gains), atol=1e-1, rtol=1e-4)
    assert dof.torque.abs().max() > 10.0
    assert (dof.power >= 0.0).all() and dof.power.max() > 10.0


def test_power_is_the_mean_of_the_substeps(simulator, backend):
    """Two steps of half the length against one: their final torques times velocities are the two terms of the mean."""
    pose = moving_pose(2)
    target = pose.dof_pos + 0.2
    simulator.set_state(ALL, pose)
    simulator.step(target)
    power = simulator.dof.power.clone()
    if backend == "isaac_gym":
        simulator.close()
    single = BACKENDS[backend](PhysicsOptions(substeps=1))
    single.set_state(ALL, pose)
    powers = []
    for _ in range(2):
        single.step(target)
        powers.append((single.dof.torque * single.dof.vel).abs())
        torch.testing.assert_close(single.dof.power, powers[-1], atol=1e-2, rtol=1e-3)
    torch.testing.assert_close(power, (powers[0] + powers[1]) / 2, atol=1e-1, rtol=1e-3)
    single.close()


def test_a_push_moves_the_root(simulator):
    before = copy_states(simulator)
    velocity = torch.tensor([1.0, -2.0, 0.5]).repeat(N, 1)
    simulator.push(ROW_1, velocity)
    torch.testing.assert_close(simulator.body.lin_vel[1], before[2][1] + velocity[1], atol=1e-5, rtol=0.0)
    for one, other in zip(before, (*simulator.body, *simulator.dof)):
        assert torch.equal(one[~ROW_1], other[~ROW_1])
    simulator.step(torch.zeros(N, D))
    assert simulator.body.pos[1, 0, 1] < -0.02 < simulator.body.pos[0, 0, 1]


def contact_history(simulator, seed=0, steps=6):
    """Drop bent humanoids on the floor, so that the solver's warm starts matter."""
    pose = moving_pose(seed, height=1.0)
    simulator.set_state(ALL, pose)
    for _ in range(steps):
        simulator.step(0.5 * pose.dof_pos)


def test_a_snapshot_continues_bit_for_bit(simulator):
    contact_history(simulator)
    snapshot, shown = simulator.snapshot(), copy_states(simulator)
    futures = []
    for _ in range(2):
        for _ in range(3):
            simulator.step(torch.full((N, D), 0.1))
        futures.append(copy_states(simulator))
        contact_history(simulator, seed=9)
        simulator.restore(snapshot)
        assert all(torch.equal(one, other) for one, other in zip(shown, copy_states(simulator)))
    assert all(torch.equal(one, other) for one, other in zip(*futures))


def test_set_state_clears_warm_starts(simulator):
    """The same pose moves on equally whatever happened in its row before."""
    futures = []
    for seed in (0, 9):
        contact_history(simulator, seed)
        simulator.set_state(ALL, standing_pose())
        for _ in range(2):
            simulator.step(torch.full((N, D), 0.05))
        futures.append(copy_states(simulator))
    assert all(torch.equal(one, other) for one, other in zip(*futures))


@pytest.mark.parametrize("fault", ["target", "velocity", "position"])
def test_a_diverged_row_is_frozen_counted_and_harms_no_other(simulator, fault):
    pose = moving_pose(4, height=1.0)
    faulty_target = pose.dof_pos.clone()
    faulty = pose
    if fault == "target":
        faulty_target[1, 7] = math.nan
    elif fault == "velocity":
        faulty = pose._replace(dof_vel=pose.dof_vel + 1e6 * ROW_1[:, None])
    else:
        faulty = pose._replace(root_pos=torch.where(ROW_1[:, None], torch.full((N, 3), math.inf), pose.root_pos))
    runs = []
    for first_pose, target in ((pose, pose.dof_pos), (faulty, faulty_target)):
        simulator.set_state(ALL, first_pose)
        for _ in range(3):
            simulator.step(target)
        runs.append(copy_states(simulator))
    assert torch.equal(simulator.diverged, ROW_1)
    assert simulator.read_counters().diverged == 1
    assert simulator.read_counters() == (0, 0, 0)
    for healthy, found in zip(*runs):
        assert torch.isfinite(found).all()
        assert torch.equal(healthy[~ROW_1], found[~ROW_1])
    simulator.step(pose.dof_pos)
    for frozen, found in zip(runs[1], (*simulator.body, *simulator.dof)):
        assert torch.equal(frozen[ROW_1], found[ROW_1])
    simulator.set_state(ROW_1, pose)
    assert not simulator.diverged.any()
    simulator.step(pose.dof_pos)
    assert not simulator.diverged.any() and simulator.read_counters().diverged == 0


def test_a_row_may_diverge_again(simulator):
    for _ in range(2):
        simulator.step(torch.full((N, D), math.nan))
        assert simulator.diverged.all()
        simulator.set_state(ALL, standing_pose())
    assert simulator.read_counters().diverged == 2 * N


def test_a_snapshot_of_another_size_is_refused(simulator):
    from puffer_phc.errors import PhcError

    smaller = {
        name: value[:2] if isinstance(value, torch.Tensor) and value.dim() else value for name, value in simulator.snapshot().items()
    }
    with pytest.raises(PhcError):
        simulator.restore(smaller)

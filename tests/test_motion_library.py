"""Look-ups against the frames, analytic motions and MuJoCo."""

import numpy as np
import pytest
import torch

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics, local_quats_from_dofs, lowest_point
from puffer_phc.humanoid.skeleton import NUM_BODIES, NUM_DOFS
from puffer_phc.motion.file import Clip
from puffer_phc.motion.floor import floor_height
from puffer_phc.motion.frame_rate import FPS, resample
from puffer_phc.motion.library import MotionLibrary

CPU = torch.device("cpu")


def still(name, frames, height=5.0, fps=FPS):
    quats = np.tile(np.array([1, 0, 0, 0], "f4"), (frames, NUM_BODIES, 1))
    return Clip(name, np.tile(np.array([1.0, 2.0, height], "f4"), (frames, 1)), quats, fps, "", "")


def random_clip(name, frames, seed, fps=FPS):
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(frames)[:, None, None] / fps
    amplitude, rate, phase = torch.randn(3, NUM_BODIES, 3, generator=generator)
    quats = rotations.from_rotation_vector(0.6 * amplitude * (2.0 * rate * time + phase).sin())
    flips = torch.where(torch.rand(frames, NUM_BODIES, 1, generator=generator) > 0.5, 1.0, -1.0)
    root_pos = torch.cat((time[:, 0].sin(), time[:, 0], 1.0 + 0.1 * time[:, 0].cos()), dim=-1)
    return Clip(name, root_pos.numpy(), (quats * flips).numpy(), fps, "", "")


CLIPS = [random_clip("a", 40, 0), random_clip("b", 2, 1), random_clip("c", 301, 2), random_clip("d", 90, 3)]


@pytest.fixture(scope="module")
def library():
    return MotionLibrary(CLIPS, CPU)


def everywhere(library, clip):
    """All frame times of a clip."""
    frames = int(library.num_frames[clip])
    return torch.full((frames,), clip), torch.arange(frames) * torch.tensor(1.0 / 30.0)


def test_table(library):
    assert library.names == ["a", "b", "c", "d"]
    assert library.num_clips == 4
    assert library.num_frames.tolist() == [40, 2, 301, 90]
    torch.testing.assert_close(library.durations, torch.tensor([39, 1, 300, 89]) / 30.0)


@pytest.mark.parametrize("clip", range(4))
def test_times_of_frames_return_the_frames_themselves(library, clip):
    ids, times = everywhere(library, clip)
    for shift in (0.0, 1e-5, -1e-5):
        found = library.at(ids, times + shift)
        _, quats = forward_kinematics(torch.from_numpy(CLIPS[clip].root_pos), torch.from_numpy(CLIPS[clip].local_quats))
        assert torch.equal(found.body.quat, quats)
        torch.testing.assert_close(found.body.pos[:, 0, :2], torch.from_numpy(CLIPS[clip].root_pos[:, :2]), atol=0, rtol=0)


@pytest.mark.parametrize("clip", range(4))
def test_nearest_is_the_same_where_times_fall_on_frames(library, clip):
    ids, times = everywhere(library, clip)
    ids, times = torch.cat((ids, torch.full((3,), clip))), torch.cat((times, times[-1] + torch.tensor([1.0, 2.0, 90.0]) / 30.0))
    exact, found = library.at(ids, times), library.nearest(ids, times)
    assert all(torch.equal(a, b) for a, b in zip(exact.body, found.body))
    assert torch.equal(exact.dof_pos, found.dof_pos)
    assert torch.equal(exact.dof_vel, found.dof_vel)
    assert torch.equal(exact.root_velocity, found.root_velocity)
    assert torch.equal(exact.joint_velocity, found.joint_velocity)
    assert found.body.lin_vel[-4].any()
    assert not found.body.lin_vel[-3:].any()
    shifted = library.nearest(ids[:-3], times[:-3] + 0.4 / 30.0)
    assert torch.equal(shifted.body.quat, found.body.quat[:-3])


def test_step_times_of_a_long_clip_fall_on_frames():
    frames = 9 * 60 * 30
    long = MotionLibrary(
        [still("a", 2), still("b", frames)._replace(root_pos=np.linspace(0, 100, 3 * frames, dtype="f4").reshape(-1, 3))], CPU
    )
    start, steps = torch.tensor(7.0 / 30.0), torch.arange(frames - 7)
    found = long.at(torch.ones_like(steps), start + steps * (1.0 / 30.0))
    assert torch.equal(found.body.pos[:, 0, 0], torch.from_numpy(np.linspace(0, 100, 3 * frames, dtype="f4").reshape(-1, 3)[7:, 0]))


def test_between_frames_positions_are_linear_and_rotations_spherical(library):
    ids, times = everywhere(library, 2)
    ids, times = ids[:-1], times[:-1]
    for fraction in (0.1, 0.5, 0.9):
        before, after, found = library.at(ids, times), library.at(ids, times + 1 / FPS), library.at(ids, times + fraction / FPS)
        for name in ("pos", "lin_vel", "ang_vel"):
            a, b = getattr(before.body, name), getattr(after.body, name)
            torch.testing.assert_close(getattr(found.body, name), a + (b - a) * fraction, atol=2e-4, rtol=1e-4)
        whole = rotations.multiply(after.body.quat, rotations.conjugate(before.body.quat))
        part = rotations.multiply(found.body.quat, rotations.conjugate(before.body.quat))
        torch.testing.assert_close(rotations.to_rotation_vector(part), fraction * rotations.to_rotation_vector(whole), atol=2e-5, rtol=1e-3)


def test_joint_coordinates_give_the_body_rotations(library):
    ids, times = everywhere(library, 3)
    found = library.at(ids, times)
    assert found.dof_pos.shape == found.dof_vel.shape == (90, NUM_DOFS)
    pos, quats = forward_kinematics(found.body.pos[:, 0], local_quats_from_dofs(found.body.quat[:, 0], found.dof_pos))
    assert rotations.angle(rotations.multiply(quats, rotations.conjugate(found.body.quat))).max() < 2e-5
    torch.testing.assert_close(pos, found.body.pos, atol=1e-5, rtol=0)


def test_beyond_the_ends(library):
    ids = torch.arange(4)
    ends = library.durations
    last, over, before = library.at(ids, ends), library.at(ids, ends + 1.0), library.at(ids, ends - 1e6)
    assert torch.equal(over.body.pos, last.body.pos)
    assert torch.equal(over.body.quat, last.body.quat)
    assert torch.equal(over.dof_pos, last.dof_pos)
    assert last.body.lin_vel.abs().amin(-1).amin(-1).gt(0).all()
    for speed in (over.body.lin_vel, over.body.ang_vel, over.dof_vel, over.root_velocity, over.joint_velocity):
        assert not speed.any()
    assert torch.equal(before.body.pos, library.at(ids, torch.zeros(4)).body.pos)


def test_velocities_are_those_of_the_motion():
    frames = 120
    turn = rotations.from_rotation_vector(torch.arange(frames)[:, None] / FPS * torch.tensor([0.0, 0.0, 3.0]))
    clip = still("a", frames)
    clip.local_quats[:, 0] = turn.numpy()
    clip.local_quats[:, 16] = rotations.from_rotation_vector(torch.arange(frames)[:, None] / FPS * torch.tensor([-2.0, 0.0, 0.0])).numpy()
    clip.root_pos[:, 0] = np.arange(frames) / FPS * 1.5
    library = MotionLibrary([clip], CPU)
    ids, times = everywhere(library, 0)
    found = library.at(ids, times)
    torch.testing.assert_close(found.body.ang_vel[:, :16], torch.tensor([0.0, 0.0, 3.0]).expand(frames, 16, 3), atol=2e-4, rtol=0)
    torch.testing.assert_close(found.body.lin_vel[:, 0], torch.tensor([1.5, 0.0, 0.0]).expand(frames, 3), atol=2e-4, rtol=0)
    elbow = found.dof_vel[:, 45:48]
    torch.testing.assert_close(elbow, torch.tensor([-2.0, 0.0, 0.0]).expand(frames, 3), atol=2e-4, rtol=0)
    others = torch.cat((found.dof_vel[:, :45], found.dof_vel[:, 48:]), dim=-1)
    assert others.abs().max() < 1e-4


def test_a_humanoid_is_placed_with_the_take_off_speed_of_a_jump_not_with_a_smoothed_one():
    seconds = (np.arange(60) - 30) / FPS
    clip = still("jump", 60)
    clip.root_pos[:, 2] = 5.0 + np.maximum(0.0, 3.0 * seconds - 0.5 * 9.81 * seconds**2)
    clip.local_quats[:, 16] = rotations.from_rotation_vector(
        torch.tensor(np.maximum(0.0, seconds))[:, None] * torch.tensor([-4.0, 0, 0])
    ).numpy()
    library = MotionLibrary([clip], CPU)
    after_take_off = library.at(torch.tensor([0]), torch.tensor([32 / FPS]))
    expected = 3.0 - 9.81 * 2 / FPS
    pose = after_take_off.pose()
    assert pose.root_lin_vel[0, 2].item() == pytest.approx(expected, abs=1e-3)
    assert pose.dof_vel[0, 45].item() == pytest.approx(-4.0, abs=1e-3)
    assert after_take_off.body.lin_vel[0, 0, 2] < 0.9 * expected
    assert after_take_off.dof_vel[0, 45] > -3.6


def test_lowest_points_rest_on_the_floor(library):
    for clip in range(4):
        ids, times = everywhere(library, clip)
        clearance = library.clearance(ids, times)
        body = library.at(ids, times).body
        torch.testing.assert_close(clearance, lowest_point(body.pos, body.quat).amin(-1), atol=1e-6, rtol=0)
        assert floor_height(clearance).abs() < 1e-6
        assert clearance.median() > -1e-6


def test_a_runner_who_flies_most_of_the_time_keeps_his_feet_out_of_the_floor():
    clip = still("run", 100)
    clip.root_pos[:, 2] += np.where(np.arange(100) % 10 < 4, 0.0, 0.09)
    library = MotionLibrary([clip], CPU)
    clearance = library.clearance(*everywhere(library, 0))
    assert clearance.min().abs() < 1e-6
    assert clearance.median().item() == pytest.approx(0.09, abs=1e-6)


def test_standing_still_stands_on_the_floor():
    library = MotionLibrary([still("a", 3, height=-2.0)], CPU)
    assert library.clearance(torch.tensor([0]), torch.tensor([0.01])).abs() < 1e-6
    assert 0.85 < library.at(torch.tensor([0]), torch.tensor([0.0])).body.pos[0, 0, 2] < 1.0


@pytest.mark.parametrize("fps", [24.0, 59.94, 60.0, 100.0, 120.0, 250.0])
def test_other_frame_rates_are_resampled_exactly_in_time(fps):
    duration = 3.0
    clip = random_clip("a", round(duration * fps) + 1, 5, fps)
    there = resample(clip, FPS)
    assert there.fps == FPS
    assert abs(there.duration - clip.duration) <= 0.5 / FPS + 1e-9
    exact = random_clip("a", there.num_frames, 5, FPS)
    np.testing.assert_allclose(there.root_pos, exact.root_pos, atol=2e-3)
    angle = rotations.angle(
        rotations.multiply(torch.from_numpy(there.local_quats), rotations.conjugate(torch.from_numpy(exact.local_quats)))
    )
    assert angle.max() < 0.02
    library = MotionLibrary([clip], CPU)
    assert library.num_frames.tolist() == [there.num_frames]


def test_grouping_does_not_change_a_clip(monkeypatch, library):
    monkeypatch.setattr("puffer_phc.motion.library._CHUNK_FRAMES", 50)
    other = MotionLibrary(CLIPS, CPU)
    ids, times = torch.tensor([0, 1, 2, 2, 3]), torch.tensor([0.5, 0.01, 3.3, 9.0, 2.0])
    for a, b in zip(library.at(ids, times).body, other.at(ids, times).body):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_compiles_as_one_graph(library):
    ids, times = torch.tensor([0, 1, 2]), torch.tensor([0.5, 0.01, 3.3])
    for look_up in (library.at, library.nearest):
        compiled = torch.compile(look_up, fullgraph=True, backend="eager")
        for a, b in zip(look_up(ids, times).body, compiled(ids, times).body):
            torch.testing.assert_close(a, b)
    compiled = torch.compile(library.clearance, fullgraph=True, backend="eager")
    torch.testing.assert_close(library.clearance(ids, times), compiled(ids, times))


def test_pose_agrees_with_mujoco(library):
    mujoco = pytest.importorskip("mujoco", minversion="3.17")
    from puffer_phc.humanoid.mjcf import PhysicsOptions, build_mjcf

    model = mujoco.MjModel.from_xml_string(build_mjcf(PhysicsOptions()))
    state = mujoco.MjData(model)
    reference = library.at(torch.tensor([2]), torch.tensor([1.0]))
    pose = reference.pose()
    state.qpos[:3], state.qpos[3:7] = pose.root_pos[0], pose.root_quat[0]
    state.qpos[7:] = rotations.from_rotation_vector(pose.dof_pos[0].view(-1, 3)).flatten()
    mujoco.mj_forward(model, state)
    np.testing.assert_allclose(state.xpos[1:], reference.body.pos[0].numpy(), atol=1e-5)


def test_no_clips():
    with pytest.raises(MotionFileError, match="at least one clip"):
        MotionLibrary([], CPU)

import math

import pytest
import torch
from mocap_files import amc_frame, squat_frames, write_asf_amc

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics, lowest_point
from puffer_phc.humanoid.skeleton import BODY_NAMES, OFFSETS, body_ids
from puffer_phc.motion.asf_amc import load_amc
from puffer_phc.motion.cleaning import LIMBS, mend_hands, steady_twist, trim_ends
from puffer_phc.motion.legs import LEGS, frame, from_axes, solve_leg, unit
from puffer_phc.motion.performer import Performer, measure_performer
from puffer_phc.motion.recording import Recording, joinable
from puffer_phc.motion.resample import continuous, resample, smooth_rotations
from puffer_phc.motion.retarget import retarget, retarget_all
from puffer_phc.motion.timeline import Timeline

BODY = {name: index for index, name in enumerate(BODY_NAMES)}


@pytest.fixture(scope="module")
def squat(tmp_path_factory):
    recording = load_amc(write_asf_amc(tmp_path_factory.mktemp("squat"), squat_frames()))
    return recording, retarget(recording, measure_performer([recording]))


def pose(clip):
    return forward_kinematics(torch.from_numpy(clip.root_pos), torch.from_numpy(clip.local_quats))


def test_clip_keeps_duration_and_is_normal(squat):
    recording, clip = squat
    assert clip.fps == 30.0
    assert clip.duration == pytest.approx((len(recording.positions) - 1) / recording.fps, abs=0.5 / 30.0)
    assert torch.allclose(torch.from_numpy(clip.local_quats).norm(dim=-1), torch.ones(clip.num_frames, len(BODY_NAMES)), atol=1e-5)


def test_feet_stay_flat_on_the_floor(squat):
    positions, quats = pose(squat[1])
    lowest = lowest_point(positions, quats)
    for leg in LEGS:
        assert lowest[:, leg.ankle].abs().max() < 0.012
        up = rotations.rotate(quats[:, leg.ankle], torch.tensor([0.0, 0.0, 1.0]))
        assert math.degrees(math.acos(float(up[:, 2].min()))) < 5.0
        assert (positions[:, leg.ankle, :2] - positions[0, leg.ankle, :2]).norm(dim=-1).max() < 0.01


def test_knees_bend_and_straighten_with_the_performer(squat):
    local = torch.from_numpy(squat[1].local_quats)
    for leg in LEGS:
        knee = rotations.to_rotation_vector(local[:, leg.knee])
        assert knee[:, [0, 2]].abs().max() < 1e-4  # a pure hinge
        assert math.degrees(knee[:, 1].max()) > 35.0
        assert math.degrees(knee[0, 1]) < 20.0
    assert squat[1].root_pos[:, 2].min() < squat[1].root_pos[0, 2] - 0.03


def test_motion_is_as_smooth_as_the_performance(squat):
    local = torch.from_numpy(squat[1].local_quats)
    turns = rotations.to_rotation_vector(rotations.multiply(rotations.conjugate(local[:-1]), local[1:])) * 30.0
    assert turns.norm(dim=-1).max() < 8.0
    assert (turns[1:] - turns[:-1]).norm(dim=-1).max() < 2.0


def test_heading_and_place_do_not_matter(tmp_path, squat):
    turned = []
    for text in squat_frames():
        lines = text.splitlines()
        words = lines[1].split()
        lines[1] = " ".join(["root", "20.0", words[2], "-30.0", words[4], "90.0", words[6]])
        turned.append("\n".join(lines))
    recording = load_amc(write_asf_amc(tmp_path, turned))
    clip = retarget(recording, measure_performer([recording]))
    assert abs(torch.from_numpy(clip.local_quats[:, 1:]) - torch.from_numpy(squat[1].local_quats[:, 1:])).max() < 2e-3
    assert float(rotations.heading_angle(torch.from_numpy(clip.local_quats[0, 0]))) == pytest.approx(math.pi / 2.0, abs=1e-3)


def test_scale_puts_a_straight_leg_on_a_straight_leg(squat):
    scale = measure_performer([squat[0]]).scale
    length = sum(float(torch.as_tensor(OFFSETS[body]).norm()) for body in (LEGS[0].knee, LEGS[0].ankle))
    assert 0.97 < 0.83 * scale / length < 1.05


@pytest.mark.parametrize("leg", LEGS)
def test_closed_form_leg_reaches_its_target_with_its_hinge(leg):
    generator = torch.Generator().manual_seed(3)
    reach = unit(torch.randn(200, 3, generator=generator)) * (0.35 + 0.38 * torch.rand(200, 1, generator=generator))
    hinge = unit(torch.randn(200, 3, generator=generator))
    hinge = unit(hinge - 0.98 * (hinge * unit(reach)).sum(-1, keepdim=True) * unit(reach))
    thigh, shin = solve_leg(torch.zeros(200, 3), reach, hinge, leg)
    knee = rotations.rotate(thigh, torch.as_tensor(OFFSETS[leg.knee], dtype=torch.float32).expand(200, 3))
    ankle = knee + rotations.rotate(shin, torch.as_tensor(OFFSETS[leg.ankle], dtype=torch.float32).expand(200, 3))
    assert (ankle - reach).norm(dim=-1).max() < 1e-4
    bend = rotations.to_rotation_vector(rotations.multiply(rotations.conjugate(thigh), shin))
    assert bend[:, 1].min() > -0.2 and bend[:, [0, 2]].abs().max() < 1e-3


def test_frame_takes_x_to_its_first_and_y_towards_its_second_axis():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(100, 3, generator=generator), torch.randn(100, 3, generator=generator)
    quat = frame(first, second)
    assert torch.allclose(rotations.rotate(quat, torch.tensor([1.0, 0.0, 0.0])), unit(first), atol=1e-5)
    assert ((rotations.rotate(quat, torch.tensor([0.0, 1.0, 0.0])) * second).sum(-1) > 0).all()
    matrix = rotations.to_matrix(quat)
    assert torch.allclose(from_axes(*matrix.unbind(-1)).mul(quat).sum(-1).abs(), torch.ones(100), atol=1e-5)


def standing(frames=240, fps=120.0):
    rest = forward_kinematics(torch.zeros(3), torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(BODY_NAMES), 4))[0]
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(frames, len(BODY_NAMES), 1)
    return Recording("standing", rest.repeat(frames, 1, 1) + torch.tensor([0.0, 0.0, 0.9]), quats, rest, fps, "one", "test")


def test_thigh_that_flips_about_its_length_is_turned_back():
    recording = standing()
    limb = LIMBS[0]
    bone = unit(recording.rest[limb.lower] - recording.rest[limb.upper])
    quats = recording.quats.clone()
    quats[80:110, limb.upper] = rotations.from_rotation_vector(math.pi * bone)
    mended = steady_twist(recording._replace(quats=quats), limb).quats[:, limb.upper]
    assert math.degrees(float(rotations.angle(mended).max())) < 1.0


def test_hand_that_points_back_is_turned_round_and_others_are_left():
    recording = standing()
    wrist = BODY["L_Wrist"]
    quats = recording.quats.clone()
    quats[:, wrist] = rotations.from_rotation_vector(torch.tensor([0.0, 0.0, 0.4]))
    expected = quats.clone()
    quats[100:130, wrist] = rotations.multiply(quats[100:130, wrist], torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(30, 4))
    mended = mend_hands(recording._replace(quats=quats)).quats
    error = rotations.angle(rotations.multiply(rotations.conjugate(mended[:, wrist]), expected[:, wrist]))
    assert math.degrees(float(error.max())) < 1.0


def test_pose_that_does_not_belong_to_the_clip_is_cut_off():
    recording = standing()
    positions = recording.positions.clone()
    positions[:3, :, 2] -= 0.9
    assert len(trim_ends(recording._replace(positions=positions)).positions) == 237
    assert len(trim_ends(recording).positions) == 240


@pytest.mark.parametrize("fps", [24.0, 30.0, 59.94, 60.0, 100.0, 120.0, 250.0])
def test_resampling_is_exact_in_time(fps):
    seconds = 2.0
    frames = int(seconds * fps) + 1
    times = torch.arange(frames) / fps
    recording = standing(frames, fps)
    positions = recording.positions + (torch.sin(times) * torch.tensor([[1.0], [0.0], [0.0]])).T[:, None]
    turn = rotations.from_rotation_vector(times[:, None] * torch.tensor([0.0, 0.0, 1.5]))
    quats = turn[:, None].expand(-1, len(BODY_NAMES), 4).clone()
    quats[1::2] *= -1.0  # the same rotations
    result = resample(recording._replace(positions=positions, quats=quats))
    expected = torch.arange(len(result.positions)) / 30.0
    assert abs((len(result.positions) - 1) / 30.0 - (frames - 1) / fps) <= 1.0 / 30.0
    assert (result.positions[:, 0, 0] - recording.positions[0, 0, 0] - torch.sin(expected)).abs().max() < 1e-3
    heading = rotations.heading_angle(result.quats[:, 0])
    assert (torch.sin(heading - 1.5 * expected)).abs().max() < 1e-3


def test_continuous_changes_signs_only():
    quats = torch.randn(50, 3, 4, generator=torch.Generator().manual_seed(1))
    result = continuous(quats)
    assert ((result[1:] * result[:-1]).sum(-1) >= 0).all()
    assert torch.equal(result.abs(), quats.abs())


def test_standing_performer_stands_straight(tmp_path):
    arms = {"lhumerus": (0.0, 0.0, 75.0), "rhumerus": (0.0, 0.0, -75.0)}
    recording = load_amc(write_asf_amc(tmp_path, [amc_frame(number, (0.0, 1.0, 0.0, 0.0, 0.0, 0.0), **arms) for number in range(1, 61)]))
    clip = retarget(recording, measure_performer([recording]))
    positions, quats = pose(clip)
    head, pelvis = positions[0, BODY["Head"]], positions[0, 0]
    assert (head - pelvis)[:2].norm() < 0.1
    trunk = rotations.angle(torch.from_numpy(clip.local_quats[0, body_ids(("Torso", "Spine", "Chest"))]))
    assert math.degrees(float(trunk.max())) < 30.0
    assert positions.std(0).max() < 1e-4
    assert lowest_point(positions, quats).amin(-1).abs().max() < 0.01


@pytest.mark.parametrize("frames", [12, 200])
def test_filtering_keeps_the_speed_of_uniform_motion_up_to_both_ends(frames):
    """Held ends would make a runner start and arrive at four fifths of his speed."""
    times = torch.arange(frames, dtype=torch.float64) / 120.0
    positions = torch.stack((4.0 * times, -1.5 * times, 1.0 + 0.0 * times), dim=-1)[:, None]
    turns = rotations.from_rotation_vector(torch.stack((0.0 * times, 0.0 * times, 3.0 * times), dim=-1))[:, None]
    timeline = Timeline((frames,), 120.0)
    assert torch.allclose(timeline.smooth_moving(positions, 2.4), positions, atol=1e-12)
    error = rotations.multiply(rotations.conjugate(smooth_rotations(turns, 2.4, timeline)), turns)
    assert rotations.angle(error).max() < 2e-3


def test_takes_worked_on_together_become_what_they_become_alone(tmp_path):
    takes = [
        load_amc(write_asf_amc(tmp_path, squat_frames(count, depth), stem))
        for stem, count, depth in (("77_01", 121, 25.0), ("77_02", 61, 10.0))
    ]
    takes[1] = takes[1]._replace(positions=takes[1].positions + torch.tensor([0.5, 0.0, 0.3]))
    performer = measure_performer(takes)
    for alone, together in zip((retarget(take, performer) for take in takes), retarget_all(takes, performer)):
        assert together.name == alone.name and together.num_frames == alone.num_frames
        assert abs(together.root_pos - alone.root_pos).max() < 1e-4
        assert abs(together.local_quats - alone.local_quats).max() < 1e-4


def test_take_that_is_too_short_is_named():
    with pytest.raises(MotionFileError, match="standing"):
        retarget(standing(4, 120.0), Performer(1.0, 0.0))


def test_only_takes_of_one_rate_and_rest_pose_are_joined():
    first = standing(50)
    others = [first, first._replace(fps=60.0), first._replace(rest=first.rest * 1.1), first._replace(skeleton="two"), first]
    assert [len(group) for group in joinable([first, *others], 10_000)] == [2, 1, 1, 1, 1]
    assert [len(group) for group in joinable([first] * 5, 100)] == [2, 2, 1]

"""DeepMimic files: axes and signs against known poses, closed cycles, refusal of damaged files."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics, lowest_point
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.motion.deepmimic import import_deepmimic
from puffer_phc.motion.deepmimic_body import size_ratio
from puffer_phc.motion.file import load_motion_file

ROOT = Path(__file__).parents[1]
STANDING = 0.8814
IDENTITY = [1.0, 0.0, 0.0, 0.0]
COLUMNS = {
    "R_hip": 16,
    "R_knee": 20,
    "R_ankle": 21,
    "R_shoulder": 25,
    "R_elbow": 29,
    "L_hip": 30,
    "L_knee": 34,
    "L_shoulder": 39,
    "L_elbow": 43,
}


def frame(pos=(0.0, STANDING, 0.0), root=IDENTITY, seconds=1 / 30, **joints):
    """A key frame, standing with hanging arms but for the ``joints`` given."""
    leg = [*IDENTITY, 0.0, *IDENTITY, *IDENTITY, 0.0]
    row = [seconds, *pos, *root, *IDENTITY, *IDENTITY, *leg, *leg]
    for name, value in joints.items():
        value = np.atleast_1d(value).tolist()
        row[COLUMNS[name] : COLUMNS[name] + len(value)] = value
    return row


def write(path, frames, loop="none"):
    path.write_text(json.dumps({"Loop": loop, "Frames": frames}))
    return path


def positions(clip):
    """Body positions of the middle frame by name."""
    pos, _ = forward_kinematics(torch.from_numpy(clip.root_pos), torch.from_numpy(clip.local_quats))
    return dict(zip(BODY_NAMES, pos[len(pos) // 2].numpy()))


def pose(tmp_path, **joints):
    return positions(import_deepmimic(write(tmp_path / "pose.txt", [frame(**joints) for _ in range(9)])))


def about_z(degrees):
    """A rotation about their z, which points right."""
    return [math.cos(math.radians(degrees) / 2), 0.0, 0.0, math.sin(math.radians(degrees) / 2)]


def test_standing_stands_upright_with_flat_feet_and_hanging_arms(tmp_path):
    found = pose(tmp_path)
    assert 0.85 < found["Pelvis"][2] < 0.96
    assert found["Head"][2] > 1.4
    assert found["L_Ankle"][1] > 0.05 > -0.05 > found["R_Ankle"][1]
    for side in "LR":
        assert 0.06 < found[f"{side}_Ankle"][2] < 0.075
        assert found[f"{side}_Toe"][0] > found[f"{side}_Ankle"][0] + 0.1
        assert found[f"{side}_Wrist"][2] < found[f"{side}_Elbow"][2] - 0.23 < found[f"{side}_Shoulder"][2] - 0.45
        assert abs(found[f"{side}_Toe"][2] - found[f"{side}_Ankle"][2]) < 0.06


def test_knees_bend_backwards_and_elbows_forwards(tmp_path):
    straight, bent = pose(tmp_path), pose(tmp_path, L_knee=-1.2, R_elbow=1.2)
    assert bent["L_Ankle"][0] < straight["L_Ankle"][0] - 0.25
    assert abs(bent["L_Knee"] - straight["L_Knee"]).max() < 0.05
    assert bent["R_Wrist"][0] > straight["R_Wrist"][0] + 0.2
    assert bent["R_Wrist"][2] > straight["R_Wrist"][2] + 0.1
    assert abs(bent["L_Wrist"] - straight["L_Wrist"]).max() < 1e-3


def test_a_raised_thigh_points_forward(tmp_path):
    found = pose(tmp_path, R_hip=about_z(90), R_knee=-math.pi / 2)
    assert found["R_Knee"][0] > found["R_Hip"][0] + 0.3
    assert found["R_Ankle"][2] < found["R_Knee"][2] - 0.3


def test_an_arm_raised_sideways_goes_to_its_own_side(tmp_path):
    half = math.sqrt(0.5)
    found = pose(tmp_path, L_shoulder=[half, half, 0.0, 0.0], R_shoulder=[half, -half, 0.0, 0.0])
    for side, sign in (("L", 1.0), ("R", -1.0)):
        reach = found[f"{side}_Wrist"] - found[f"{side}_Shoulder"]
        assert abs(reach[0]) < 1e-3
        assert reach[1] * sign == pytest.approx(np.linalg.norm(reach), abs=1e-3)


def test_heading_and_travel_keep_their_sense(tmp_path):
    quarter_left = [math.cos(math.pi / 4), 0.0, math.sin(math.pi / 4), 0.0]
    frames = [frame(pos=(0.0, STANDING, -0.05 * k), root=quarter_left) for k in range(20)]
    clip = import_deepmimic(write(tmp_path / "step.txt", frames))
    assert clip.root_pos[-1, 1] - clip.root_pos[0, 1] == pytest.approx(0.95 * size_ratio(), abs=1e-4)
    assert abs(clip.root_pos[:, 0] - clip.root_pos[0, 0]).max() < 1e-4
    found = positions(clip)
    assert found["L_Toe"][1] > found["L_Ankle"][1] + 0.1


def test_key_frames_of_any_rate_keep_their_time(tmp_path):
    frames = [frame(pos=(0.1 * k, STANDING, 0.0), seconds=0.0625) for k in range(17)]
    clip = import_deepmimic(write(tmp_path / "slow.txt", frames))
    assert clip.num_frames == 31
    np.testing.assert_allclose(np.diff(clip.root_pos[:, 0]), 0.1 / 0.0625 / 30 * size_ratio(), atol=1e-5)


def test_cycles_are_closed_and_go_on(tmp_path):
    angles = np.linspace(0.0, 2 * np.pi, 31)
    frames = [
        frame(pos=(0.04 * k, STANDING - 0.02 * k / 30, 0.0), L_hip=about_z(20 * math.sin(a) + 10 * k / 30), L_knee=-0.4 - 0.3 * math.cos(a))
        for k, a in enumerate(angles)
    ]
    clip = import_deepmimic(write(tmp_path / "humanoid3d_walk.txt", frames, "wrap"))
    assert clip.duration >= 5.0
    travel = clip.root_pos[30:] - clip.root_pos[:-30]
    np.testing.assert_allclose(travel[10:-10, 0], 1.2 * size_ratio(), atol=1e-4)
    np.testing.assert_allclose(travel[10:-10, 1:], 0.0, atol=1e-4)
    quats = torch.from_numpy(clip.local_quats)
    again = rotations.angle(rotations.multiply(quats[40:-10], rotations.conjugate(quats[10:-40])))
    assert again.max() < 2e-3
    steps = rotations.angle(rotations.multiply(quats[1:], rotations.conjugate(quats[:-1])))
    assert steps.max() < 0.2


def test_only_locomotion_is_repeated(tmp_path):
    frames = [frame(pos=(0.01 * k, STANDING, 0.0)) for k in range(31)]
    assert import_deepmimic(write(tmp_path / "humanoid3d_backflip.txt", frames, "wrap")).num_frames == 31
    assert import_deepmimic(write(tmp_path / "humanoid3d_walk.txt", frames, "none")).num_frames == 31


def test_a_jump_of_a_joint_is_spread(tmp_path):
    frames = [frame(L_shoulder=about_z(0.5 * k + (30 if k > 30 else 0))) for k in range(61)]
    clip = import_deepmimic(write(tmp_path / "jump.txt", frames))
    quats = torch.from_numpy(clip.local_quats)
    assert rotations.angle(rotations.multiply(quats[1:], rotations.conjugate(quats[:-1]))).max() < math.radians(6)


def test_toes_bend_on_the_floor(tmp_path):
    frames = [frame(pos=(0.0, STANDING + 0.02, 0.0), R_hip=about_z(10), R_knee=-0.3, R_ankle=about_z(-35)) for _ in range(9)]
    clip = import_deepmimic(write(tmp_path / "tiptoe.txt", frames))
    pos, quats = forward_kinematics(torch.from_numpy(clip.root_pos), torch.from_numpy(clip.local_quats))
    assert lowest_point(pos, quats).min() > -0.005
    toe = torch.from_numpy(clip.local_quats[:, BODY_NAMES.index("R_Toe")])
    assert rotations.to_rotation_vector(toe)[:, 1].max() < -0.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a DeepMimic motion"),
        ("[1, 2]", "is not a DeepMimic motion"),
        ('{"Loop": "none"}', "is not a DeepMimic motion"),
        ('{"Frames": [[1, 2], [3]]}', "is not a DeepMimic motion"),
        ('{"Frames": [[1, 2], [3, 4]]}', r"key frames have shape \(2, 2\), expected \(2 or more, 44\)"),
        (json.dumps({"Frames": [frame()]}), r"key frames have shape \(1, 44\)"),
        (json.dumps({"Frames": [frame(seconds=0.0), frame()]}), "lasts no time"),
        (json.dumps({"Frames": [frame(pos=(0.0, math.nan, 0.0)), frame()]}), "not finite"),
        (json.dumps({"Frames": [frame(root=[0.0] * 4), frame()]}), "no rotation"),
    ],
)
def test_damaged_files_are_named(tmp_path, text, message):
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(MotionFileError, match=message) as caught:
        import_deepmimic(path)
    assert str(path) in str(caught.value)


def test_script_converts_a_folder(tmp_path):
    write(tmp_path / "humanoid3d_stand.txt", [frame() for _ in range(5)])
    command = [sys.executable, str(ROOT / "scripts" / "convert_deepmimic_data.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, str(tmp_path / "out.npz"), str(tmp_path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert [clip.name for clip in load_motion_file(tmp_path / "out.npz")] == ["stand"]
    missing = [str(tmp_path / "b.npz"), str(tmp_path / "nothing.txt")]
    failed = subprocess.run([*command, *missing], capture_output=True, text=True, env=environment)
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "b.npz").exists()

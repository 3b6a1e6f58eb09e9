import math

import pytest
import torch
from mocap_files import amc_frame, amc_text, asf_text, squat_frames, write_asf_amc

from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.motion.asf import read_asf
from puffer_phc.motion.asf_amc import load_amc

BODY = {name: index for index, name in enumerate(BODY_NAMES)}


def load(tmp_path, frames):
    return load_amc(write_asf_amc(tmp_path, frames))


def test_rest_pose_is_a_t_pose_in_our_axes_and_metres(tmp_path):
    recording = load(tmp_path, [amc_frame(1), amc_frame(2)])
    left_wrist, right_wrist = recording.rest[BODY["L_Wrist"]], recording.rest[BODY["R_Wrist"]]
    assert left_wrist[1] > 0.5 and torch.allclose(left_wrist * torch.tensor([1.0, -1.0, 1.0]), right_wrist, atol=1e-6)
    thigh = recording.rest[BODY["L_Knee"]] - recording.rest[BODY["L_Hip"]]
    assert thigh.norm() == pytest.approx(0.41, abs=1e-5)
    assert math.degrees(math.atan2(thigh[1], -thigh[2])) == pytest.approx(20.0, abs=1e-3)


def test_root_and_hinges_move_the_joints_they_should(tmp_path):
    standing = amc_frame(1, (0.1, 0.95, 0.3, 0.0, 0.0, 0.0))
    kneeling = amc_frame(2, (0.1, 0.95, 0.3, 0.0, 90.0, 0.0), ltibia=(90.0,))
    recording = load(tmp_path, [standing, kneeling])
    first, second = recording.positions
    assert torch.allclose(first[0], torch.tensor([0.3, 0.1, 0.95]), atol=1e-5)
    shin = first[BODY["L_Ankle"]] - first[BODY["L_Knee"]]
    assert torch.allclose(shin, torch.tensor([0.0, 0.0, -0.42]), atol=1e-4)
    # A quarter turn about the vertical makes forward (x) left (y); the bent shin points backwards, now to the right.
    bent = second[BODY["L_Ankle"]] - second[BODY["L_Knee"]]
    assert torch.allclose(bent, torch.tensor([0.0, -0.42, 0.0]), atol=1e-4)
    right = second[BODY["R_Ankle"]] - second[BODY["R_Knee"]]
    assert torch.allclose(right, torch.tensor([0.0, 0.0, -0.42]), atol=1e-4)


def test_radians_and_degrees_say_the_same(tmp_path):
    degrees = load(tmp_path / "a", squat_frames(20))
    path = write_asf_amc(tmp_path / "b", squat_frames(20))
    lines = []
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) > 1 and words[0] != "root" and line[0] not in "#:":
            line = " ".join([words[0], *(str(math.radians(float(word))) for word in words[1:])])
        elif words and words[0] == "root":
            line = " ".join([*words[:4], *(str(math.radians(float(word))) for word in words[4:])])
        lines.append(line.replace(":DEGREES", ":RADIANS"))
    path.write_text("\n".join(lines) + "\n")
    assert torch.allclose(degrees.positions, load_amc(path).positions, atol=1e-4)


def test_windows_line_ends_and_comments(tmp_path):
    path = write_asf_amc(tmp_path, squat_frames(10))
    expected = load_amc(path).positions
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert torch.equal(load_amc(path).positions, expected)


def test_last_frame_that_is_cut_off_is_left_out(tmp_path):
    path = write_asf_amc(tmp_path, squat_frames(10))
    path.write_text("\n".join(path.read_text().splitlines()[:-5]) + "\n")
    assert len(load_amc(path).positions) == 9


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: "", "no frames"),
        (lambda text: text.replace("lfemur", "lfemurr"), "lfemurr"),
        (lambda text: text.replace("ltibia 0.000000", "ltibia oops", 1), "ltibia"),
        (lambda text: text.replace("ltibia 0.000000", "ltibia nan", 1), "finite|ltibia"),
        (lambda text: text.replace("ltibia 0.000000", "ltibia 0 0", 1), "ltibia"),
    ],
)
def test_damaged_motion_is_named(tmp_path, spoil, message):
    path = write_asf_amc(tmp_path, [amc_frame(number) for number in range(1, 6)])
    path.write_text(spoil(path.read_text()))
    with pytest.raises(MotionFileError, match=message):
        load_amc(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: "hello", "section"),
        (lambda text: text.replace("length 0.45", "length 0"), "length"),
        (lambda text: text.replace("direction 0.66", "direction x"), "direction"),
        (lambda text: text.replace("root lowerback", "nowhere lowerback"), "hang together"),
        (lambda text: text.replace("dof rx ry rz", "dof rx rq"), "rq"),
    ],
)
def test_damaged_skeleton_is_named(tmp_path, spoil, message):
    path = tmp_path / "77.asf"
    path.write_text(spoil(asf_text()))
    with pytest.raises(MotionFileError, match=message):
        read_asf(path)


def test_one_frame_and_a_wrong_unit_are_refused(tmp_path):
    with pytest.raises(MotionFileError, match="1 frame"):
        load(tmp_path / "a", [amc_frame(1)])
    path = write_asf_amc(tmp_path / "b", squat_frames(5))
    skeleton = path.with_name("77.asf")
    skeleton.write_text(skeleton.read_text().replace("length 0.45", "length 0.0045"))
    with pytest.raises(MotionFileError, match="unit"):
        load_amc(path)


def test_missing_skeleton_is_named(tmp_path):
    path = tmp_path / "77_01.amc"
    path.write_text(amc_text(squat_frames(5)))
    with pytest.raises(MotionFileError, match="no ASF skeleton"):
        load_amc(path)

import json
import math

import pytest
import torch
from mocap_files import MIXAMO_JOINTS, bvh_text

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.motion.bvh import load_bvh, read_bvh
from puffer_phc.motion.joint_map import CMU_DAZ, CMU_MOTIONBUILDER, MIXAMO, read_joint_map

BODY = {name: index for index, name in enumerate(BODY_NAMES)}
STANDING = ((0.0, 95.0, 0.0), {})


def write(tmp_path, poses, name="clip.bvh", **options):
    path = tmp_path / name
    path.write_text(bvh_text(poses, **options))
    return path


def test_built_in_maps_name_a_joint_for_every_body():
    for joint_map in (CMU_MOTIONBUILDER, CMU_DAZ, MIXAMO):
        assert set(joint_map.joints) == set(BODY_NAMES)
        assert set(joint_map.turns) <= set(BODY_NAMES)


def test_mixamo_names_are_recognised_with_their_prefix(tmp_path):
    recording = load_bvh(write(tmp_path, [STANDING] * 5))
    assert recording.fps == pytest.approx(60.0, rel=1e-4)
    assert torch.allclose(recording.positions[0, 0], torch.tensor([0.0, 0.0, 0.95]), atol=1e-6)
    left_wrist = recording.positions[0, BODY["L_Wrist"]]
    assert torch.allclose(left_wrist, torch.tensor([0.0, 0.72, 0.95 + 0.48]), atol=1e-5)
    assert torch.allclose(recording.quats[..., 0].abs(), torch.ones(5, len(BODY_NAMES)))


def test_channels_turn_in_their_order_about_turned_axes(tmp_path):
    turned = ((0.0, 95.0, 0.0), {"Hips": (90.0, 0.0, 90.0)})
    recording = load_bvh(write(tmp_path, [turned] * 2))
    # Zrotation first: its axis is forward (our x); then Xrotation about the turned left axis.
    quarter = math.pi / 2.0
    first = rotations.from_rotation_vector(torch.tensor([quarter, 0.0, 0.0]))
    second = rotations.from_rotation_vector(torch.tensor([0.0, quarter, 0.0]))
    expected = rotations.canonical(rotations.multiply(first, second))
    assert torch.allclose(rotations.canonical(recording.quats[0, 0]), expected, atol=1e-5)


def test_joint_map_file_reads_a_hierarchy_with_other_names(tmp_path):
    text = bvh_text([STANDING] * 3, prefix="")
    for joint, _, _ in sorted(MIXAMO_JOINTS, key=lambda row: -len(row[0])):
        text = text.replace(f"JOINT {joint}\n", f"JOINT my_{joint}\n").replace(f"ROOT {joint}\n", f"ROOT my_{joint}\n")
    path = tmp_path / "clip.bvh"
    path.write_text(text)
    with pytest.raises(MotionFileError, match="joint map"):
        load_bvh(path)
    fields = {"metres": 0.01, "joints": {body: f"my_{joint}" for body, joint in MIXAMO.joints.items()}}
    (tmp_path / "map.json").write_text(json.dumps(fields))
    recording = load_bvh(path, read_joint_map(tmp_path / "map.json"), fps=100.0)
    assert recording.fps == 100.0
    assert recording.positions[0, 0, 2] == pytest.approx(0.95)


def whole_map(**changes):
    """The fields of a joint map file, changed."""
    return {"joints": dict(MIXAMO.joints), "metres": 0.01, **changes}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "joints"),
        ({"joints": {"Pelvis": "Hips"}, "metres": 1.0}, "L_Hip"),
        ({"joints": dict(MIXAMO.joints), "metres": -1.0}, "metres"),
        (whole_map(scale=2.0), "scale"),
        (whole_map(metres=True), "metres"),
        (whole_map(metres=math.inf), "metres"),
        (whole_map(metres=10**400), "metres"),
        (whole_map(joints={**MIXAMO.joints, "Pelvis": ["Hips"]}), "'joints' of 'Pelvis'"),
        (whole_map(joints={**MIXAMO.joints, "Pelviss": "Hips"}), "Pelviss"),
        (whole_map(joints=["Hips"]), "'joints' must be an object"),
        (whole_map(turns=["LeftHand"]), "'turns' must be an object"),
        (whole_map(turns=None), "'turns' must be an object"),
        (whole_map(turns={"L_Hand": 3}), "'turns' of 'L_Hand'"),
        (whole_map(turns={"LeftHand": "LeftHand"}), "no body of the humanoid"),
        (whole_map(offsets=[1.0]), "'offsets' must be an object"),
        (whole_map(offsets={"Neck": "Spine1"}), "'offsets' of \"Neck\""),
        (whole_map(offsets={"Neck": ["Spine1"]}), "'offsets' of \"Neck\""),
        (whole_map(offsets={"Neck": ["Spine1", "x"]}), "'offsets' of \"Neck\""),
        (whole_map(offsets={"Neck": ["Spine1", None]}), "'offsets' of \"Neck\""),
        (whole_map(offsets={"Neck": ["Spine1", math.nan]}), "'offsets' of \"Neck\""),
        (whole_map(offsets={"Neck": [["Spine1"], 1.0]}), "'offsets' of \"Neck\""),
        (whole_map(rest_frame="first"), "rest_frame"),
        (whole_map(rest_frame=-1), "rest_frame"),
        (whole_map(skip_frames=-5), "skip_frames"),
        (whole_map(skip_frames=1.0), "skip_frames"),
        (whole_map(skip_frames=None), "skip_frames"),
        (whole_map(name=["x"]), "name"),
    ],
)
def test_bad_joint_maps_are_named(tmp_path, fields, message):
    path = tmp_path / "map.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(MotionFileError, match=message):
        read_joint_map(path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (whole_map(offsets={"Neck": ["Nobody", 1.0]}), "no joint 'Nobody'"),
        (whole_map(offsets={"Nobody": ["Neck", 1.0]}), "no joint 'Nobody'"),
        (whole_map(turns={"L_Hand": "Nobody"}), "no joint 'Nobody'"),
        (whole_map(rest_frame=3), "'rest_frame' of map 'map' is 3"),
        (whole_map(skip_frames=3), "0 frame"),
    ],
)
def test_joint_maps_that_do_not_fit_a_file_are_named(tmp_path, fields, message):
    path = write(tmp_path, [STANDING] * 3)
    (tmp_path / "map.json").write_text(json.dumps(fields))
    with pytest.raises(MotionFileError, match=message):
        load_bvh(path, read_joint_map(tmp_path / "map.json"))


def test_joint_maps_may_name_joints_with_the_prefix_of_the_file(tmp_path):
    path = write(tmp_path, [((0.0, 95.0, 0.0), {"Spine": (20.0, 0.0, 0.0)})] * 3)
    own, (joint, factor) = load_bvh(path), ("Spine1", 2.0)
    for prefix in ("", "mixamorig:"):
        joints = {body: prefix + name for body, name in MIXAMO.joints.items()}
        turns = {body: prefix + name for body, name in MIXAMO.turns.items()}
        (tmp_path / "map.json").write_text(
            json.dumps(whole_map(joints=joints, turns=turns, offsets={f"{prefix}Neck": [prefix + joint, factor]}))
        )
        recording = load_bvh(path, read_joint_map(tmp_path / "map.json"))
        assert torch.equal(recording.quats, own.quats)
        neck = BODY_NAMES.index("Neck"), BODY_NAMES.index("Chest")
        assert (recording.positions[:, neck[0]] - recording.positions[:, neck[1]]).norm(dim=-1) == pytest.approx([0.24] * 3, abs=1e-5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: "", "BVH"),
        (lambda text: text[: len(text) - 200], "cut off"),
        (lambda text: text.replace("Frame Time: 0.0166667", "Frame Time: zero"), "frame time"),
        (lambda text: text.replace("Zrotation", "Wrotation", 1), "wrotation"),
        (lambda text: text.replace("95.00000", "x", 1), "x"),
        (lambda text: text.replace("95.00000", "nan", 1), "finite"),
        (lambda text: text.replace("  }\n", "", 1), "closed|damaged|not"),
    ],
)
def test_damaged_files_are_named(tmp_path, spoil, message):
    path = write(tmp_path, [STANDING] * 4)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(MotionFileError, match=message):
        load_bvh(path)


def test_end_sites_are_joints(tmp_path):
    names = [joint.name for joint in read_bvh(write(tmp_path, [STANDING] * 2, prefix="")).joints]
    assert "Head.end" in names and len(set(names)) == len(names)

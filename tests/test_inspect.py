import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from puffer_phc import rotations
from puffer_phc.humanoid.kinematics import forward_kinematics, lowest_point
from puffer_phc.humanoid.skeleton import BODY_NAMES, GRAVITY
from puffer_phc.motion.collisions import PAIRS, self_penetration
from puffer_phc.motion.file import Clip, load_motion_file, save_motion_file
from puffer_phc.motion.inspect import OK, REJECTED, REPAIRED, SCENE, inspect_clip
from puffer_phc.motion.inspection_page import inspection_page
from puffer_phc.motion.mending import mend_joint, steps

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "inspect_motions.py"
BODY = {name: index for index, name in enumerate(BODY_NAMES)}
FRAMES = 90


def make_clip(name="clip", frames=FRAMES):
    """A humanoid that stands on the floor and sways with one arm."""
    local = np.tile(np.float32([1.0, 0.0, 0.0, 0.0]), (frames, len(BODY_NAMES), 1))
    times = torch.arange(frames) / 30.0
    swing = torch.stack((0.5 * torch.sin(2.0 * times) + 1.2, torch.zeros(frames), torch.zeros(frames)), dim=1)
    local[:, BODY["R_Shoulder"]] = rotations.from_rotation_vector(swing).numpy()
    local[:, BODY["L_Shoulder"]] = rotations.from_rotation_vector(torch.tensor([-1.2, 0.0, 0.0])).numpy()
    root = np.zeros((frames, 3), np.float32)
    positions, quats = forward_kinematics(torch.from_numpy(root), torch.from_numpy(local))
    root[:, 2] = -lowest_point(positions, quats).amin(-1).numpy()
    return Clip(name, root, local, 30.0, "test", "none")


def changed(clip, joint, frames, vector):
    local = clip.local_quats.copy()
    turn = rotations.from_rotation_vector(torch.tensor(vector))
    local[frames, BODY[joint]] = rotations.multiply(torch.from_numpy(local[frames, BODY[joint]]), turn).numpy()
    return clip._replace(local_quats=local)


def test_a_clean_clip_is_left_alone():
    clip = make_clip()
    mended, inspection = inspect_clip(clip)
    assert (inspection.verdict, inspection.reasons) == (OK, "")
    assert mended is clip
    assert inspection.sunk_share == 0.0 and inspection.longest_flight_s == 0.0
    assert inspection.seconds == pytest.approx((FRAMES - 1) / 30.0)
    assert inspection.largest_jump_deg == pytest.approx(math.degrees(1.0 / 30.0), rel=0.05)


@pytest.mark.parametrize("frames", [slice(40, 41), slice(40, 48)])
def test_spikes_and_short_flips_are_bridged(frames):
    clip = make_clip()
    mended, inspection = inspect_clip(changed(clip, "L_Elbow", frames, (0.0, 0.0, 2.5)))
    assert inspection.verdict == REPAIRED and "L_Elbow" in inspection.reasons
    turn = rotations.multiply(rotations.conjugate(torch.from_numpy(mended.local_quats)), torch.from_numpy(clip.local_quats))
    assert math.degrees(float(rotations.angle(turn).max())) < 1.0


def test_a_flip_that_stays_is_made_a_turn_of_several_frames():
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(60, 1)
    quats[30:] = rotations.from_rotation_vector(torch.tensor([0.0, 0.0, 1.5]))
    mended, replaced = mend_joint(quats, 30.0)
    assert replaced == 2
    assert math.degrees(float(rotations.angle(rotations.multiply(rotations.conjugate(mended[:-1]), mended[1:])).max())) < 45.0


def test_floor_is_moved_to_zero_and_flights_do_not_count():
    clip = make_clip()
    root = clip.root_pos.copy()
    root[:, 2] += 0.07
    root[10:22, 2] += 0.2 * np.sin(np.linspace(0.0, math.pi, 12))
    mended, inspection = inspect_clip(clip._replace(root_pos=root))
    assert inspection.verdict == REPAIRED and "floor" in inspection.reasons
    assert inspection.floor_offset_m == pytest.approx(0.07, abs=1e-3)
    assert np.allclose(mended.root_pos[30:, 2], clip.root_pos[30:, 2], atol=2e-3)


def test_a_joint_that_jumps_too_often_to_be_bridged_is_rejected():
    clip = make_clip()
    for first in range(0, FRAMES, 4):
        clip = changed(clip, "R_Elbow", slice(first, first + 1), (0.0, 0.0, 2.0))
    unmended, inspection = inspect_clip(clip)
    assert unmended is clip
    assert inspection.verdict == REJECTED and "R_Elbow jumps too often" in inspection.reasons


def test_too_short_sunk_and_too_fast_are_rejected():
    clip = make_clip()
    assert "long" in inspect_clip(make_clip(frames=6))[1].reasons
    root = clip.root_pos.copy()
    root[40:, 2] -= 0.1
    _, sunk = inspect_clip(clip._replace(root_pos=root))
    assert sunk.verdict in (REJECTED, SCENE)
    root = clip.root_pos.copy()
    root[50:, 0] += 3.0
    _, fast = inspect_clip(clip._replace(root_pos=root))
    assert fast.verdict == REJECTED and "m/s" in fast.reasons


def test_hanging_in_the_air_needs_a_scene():
    clip = make_clip(frames=150)
    root = clip.root_pos.copy()
    root[60:120, 2] += 0.5
    _, inspection = inspect_clip(clip._replace(root_pos=root))
    assert inspection.verdict == SCENE
    assert inspection.longest_flight_s == pytest.approx(2.0, abs=0.05)


def in_the_air(heights):
    """A clip whose body stands, is ``heights`` m above that for as many frames, and stands again."""
    clip = make_clip()
    root = clip.root_pos.copy()
    root[30 : 30 + len(heights), 2] += heights
    return clip._replace(root_pos=root)


def test_a_jump_is_free_and_a_run_over_an_obstacle_needs_a_scene():
    seconds = np.arange(19) / 30.0
    _, jump = inspect_clip(in_the_air(0.5 * GRAVITY * seconds * (seconds[-1] - seconds)))
    assert jump.verdict == OK and jump.longest_flight_s > 0.5
    assert jump.carried_m == pytest.approx(0.0, abs=1e-3)
    _, over = inspect_clip(in_the_air(np.full(18, 0.25)))
    assert over.verdict == SCENE and "does not fall while 25 cm above the floor" in over.reasons
    _, low = inspect_clip(in_the_air(np.full(18, 0.15)))
    assert low.verdict == OK and low.carried_m == pytest.approx(0.15, abs=1e-3)
    _, brief = inspect_clip(in_the_air(np.full(6, 0.25)))
    assert brief.verdict == OK and brief.carried_m == pytest.approx(GRAVITY * (5.0 / 30.0) ** 2 / 8.0, rel=0.05)


def test_leaning_on_nothing_needs_a_scene():
    clip = make_clip()
    local = clip.local_quats.copy()
    local[:, 0] = rotations.from_rotation_vector(torch.tensor([0.0, 0.7, 0.0])).numpy()
    for side in "LR":
        local[:, BODY[f"{side}_Ankle"]] = rotations.from_rotation_vector(torch.tensor([0.0, -0.7, 0.0])).numpy()
    root = clip.root_pos.copy()
    positions, quats = forward_kinematics(torch.from_numpy(root), torch.from_numpy(local))
    root[:, 2] -= lowest_point(positions, quats).amin(-1).numpy()
    _, inspection = inspect_clip(clip._replace(root_pos=root, local_quats=local))
    assert inspection.verdict == SCENE and "leans" in inspection.reasons


def test_self_penetration_names_the_pair():
    clip = changed(make_clip(), "L_Hip", slice(None), (-0.35, 0.0, 0.0))
    _, inspection = inspect_clip(clip)
    assert inspection.self_penetration_m > 0.02
    assert set(inspection.self_penetration_pair.split("–")) & {"R_Hip", "R_Knee", "R_Ankle"}
    assert inspect_clip(make_clip())[1].self_penetration_m < 0.02


def test_depth_is_that_of_two_capsules():
    local = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(1, len(BODY_NAMES), 1)
    positions, quats = forward_kinematics(torch.zeros(1, 3), local)
    hands = [BODY["L_Hand"], BODY["R_Hand"]]
    row = next(index for index, pair in enumerate(PAIRS.tolist()) if pair == hands)
    positions[:, hands[1]] = positions[:, hands[0]] + torch.tensor([0.0, 0.05, 0.0])
    depth, pair = self_penetration(positions, quats)
    assert int(pair[0]) == row
    assert float(depth[0]) == pytest.approx(0.0337 + 0.034 - 0.05, abs=1e-5)


def test_what_was_mended_is_still_said_of_the_mended_file(tmp_path):
    """By every later inspection, of what it mends itself, too; a file that an older version wrote does not know."""
    clip = make_clip()
    spiky = changed(clip, "L_Elbow", slice(40, 41), (0.0, 0.0, 2.5))
    mended, first = inspect_clip(spiky)
    assert mended.repairs == first.reasons == "L_Elbow: 3 frames of a flip or spike bridged"
    save_motion_file(tmp_path / "mended.npz", [mended, clip._replace(name="clean")])
    again, clean = load_motion_file(tmp_path / "mended.npz")
    assert [inspect_clip(again)[1][3:5], inspect_clip(clean)[1][3:5]] == [(REPAIRED, first.reasons), (OK, "")]
    assert inspect_clip(again)[0] is again
    raised, second = inspect_clip(again._replace(root_pos=again.root_pos + np.float32([0.0, 0.0, 0.05])))
    assert raised.repairs == second.reasons == f"{first.reasons}; floor moved by +5.0 cm"
    with np.load(tmp_path / "mended.npz") as arrays:
        np.savez(tmp_path / "old.npz", **{name: array for name, array in arrays.items() if not name.startswith("repair")})
    assert [clip.repairs for clip in load_motion_file(tmp_path / "old.npz")] == ["", ""]


def test_what_a_file_says_of_repairs_is_one_line_of_a_table():
    _, inspection = inspect_clip(make_clip()._replace(repairs="a\tb\n[red]\x1b"))
    assert (inspection.verdict, inspection.reasons) == (REPAIRED, "a_b_[red]_")


def test_page_is_one_file_with_every_clip():
    clips = [make_clip("first"), changed(make_clip("<second>"), "L_Elbow", slice(40, 41), (0.0, 0.0, 2.5))]
    inspections = [inspect_clip(clip)[1] for clip in clips]
    page = inspection_page(clips, inspections, "Two clips")
    assert page.count('class="clip"') == 2
    assert "&lt;second&gt;" in page and "<second>" not in page
    assert "http://" not in page and "src=" not in page
    assert page.index("&lt;second&gt;") < page.index("first</b>")


def run_script(monkeypatch, *arguments):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setattr(sys, "argv", ["inspect_motions.py", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    import inspect_motions

    return inspect_motions.main()


def test_script_shows_writes_and_mends(tmp_path, monkeypatch, capsys):
    spiky = changed(make_clip("[red]spiky"), "L_Elbow", slice(40, 41), (0.0, 0.0, 2.5))
    hanging = make_clip("hanging")._replace(root_pos=make_clip().root_pos + np.float32(np.linspace(0.0, 9.0, FRAMES))[:, None])
    save_motion_file(tmp_path / "clips.npz", [make_clip("clean"), spiky, hanging])
    assert run_script(monkeypatch, tmp_path / "clips.npz", "--output", tmp_path / "mended.npz") == 0
    assert "[red]spiky" in capsys.readouterr().out
    rows = [line.split("\t") for line in (tmp_path / "clips.tsv").read_text().splitlines()]
    assert [row[:4:3] for row in rows] == [["name", "verdict"], ["clean", OK], ["[red]spiky", REPAIRED], ["hanging", SCENE]]
    assert (tmp_path / "clips.html").read_text().count('class="clip"') == 3
    kept = load_motion_file(tmp_path / "mended.npz")
    assert [clip.name for clip in kept] == ["clean", "[red]spiky"]
    assert steps(torch.from_numpy(spiky.local_quats)).max() > 2.0 > 0.5 > steps(torch.from_numpy(kept[1].local_quats)).max()


@pytest.mark.parametrize("arguments", [("--html", "nowhere/a.html"), ("--tsv", "."), ("--output", "a.pkl"), ("--output", "nowhere/a.npz")])
def test_script_says_what_it_cannot_write_before_it_looks(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    save_motion_file(tmp_path / "clips.npz", [make_clip()])
    assert run_script(monkeypatch, "clips.npz", *arguments) == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and "inspecting" not in output.out
    assert [path.name for path in tmp_path.iterdir()] == ["clips.npz"]

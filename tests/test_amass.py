"""AMASS's two schemas at every frame rate against the analytic motion, and files that nobody should trust."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics
from puffer_phc.humanoid.skeleton import BODY_NAMES, OFFSETS, PARENTS, SMPL_ORDER, SMPL_PELVIS
from puffer_phc.motion.amass import Options, convert
from puffer_phc.motion.amass_selection import Selection, find_files, read_failed_keys, read_occlusions, select
from puffer_phc.motion.file import load_motion_file, save_motion_file

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "convert_amass_data.py"
RATES = (24.0, 30.0, 59.94, 100.0, 120.0, 250.0)


def pose_vectors(seconds, seed=0):
    """(F, 22, 3) rad: every joint swings by up to 40 degrees at up to 1 Hz, the root turns on; and trans (F, 3)."""
    random = np.random.default_rng(seed)
    amplitude, phase = random.uniform(-0.4, 0.4, (22, 3)), random.uniform(0, 6, (22, 3))
    rate = 2 * np.pi * random.uniform(0.2, 1.0, (22, 1))
    vectors = amplitude * np.sin(rate * seconds[:, None, None] + phase)
    upright = Rotation.from_euler("x", 90, degrees=True)
    turning = Rotation.from_euler("z", 0.8 * seconds[:, None]) * upright * Rotation.from_rotvec(0.3 * vectors[:, 0])
    vectors[:, 0] = turning.as_rotvec()
    trans = np.stack((1.2 * seconds, 0.3 * np.sin(2 * seconds), 0.95 + 0.05 * np.sin(9 * seconds)), axis=-1)
    return vectors, trans


def analytic_positions(seconds, seed=0):
    """(F, 24, 3) m in MJCF order, chained in SMPL's own rest frame (x left, y up, z forward)."""
    vectors, trans = pose_vectors(seconds, seed)
    offsets = OFFSETS[:, [1, 2, 0]]
    turns, places = {}, {}
    for body, parent in enumerate(PARENTS):
        joint = SMPL_ORDER.index(BODY_NAMES[body])
        own = Rotation.from_rotvec(vectors[:, joint]) if joint < 22 else Rotation.identity(len(seconds))
        turns[body] = own if parent < 0 else turns[parent] * own
        places[body] = trans + np.array(SMPL_PELVIS) if parent < 0 else places[parent] + turns[parent].apply(offsets[body])
    return np.stack([places[body] for body in range(24)], axis=1)


def write_smplh(path, fps, duration=4.0, seed=0, **changes):
    seconds = np.arange(round(duration * fps) + 1) / fps
    vectors, trans = pose_vectors(seconds, seed)
    poses = np.concatenate((vectors.reshape(len(seconds), -1), 0.1 * np.ones((len(seconds), 90))), axis=1)
    content = {
        "poses": poses, "trans": trans, "betas": np.zeros(16), "dmpls": np.zeros((len(seconds), 8)),
        "gender": np.array("female"), "mocap_framerate": np.array(fps),
    }  # fmt: skip
    content.update(changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in content.items() if value is not None})


def write_smplx(path, fps, duration=4.0, seed=0, with_poses=True):
    seconds = np.arange(round(duration * fps) + 1) / fps
    vectors, trans = pose_vectors(seconds, seed)
    flat = vectors.reshape(len(seconds), -1)
    content = {
        "gender": np.array("male"), "surface_model_type": np.array("smplx"), "mocap_frame_rate": np.array(fps),
        "mocap_time_length": np.array(duration), "trans": trans, "betas": np.zeros(16), "num_betas": np.array(16),
        "root_orient": flat[:, :3], "pose_body": flat[:, 3:],
        "pose_hand": np.zeros((len(seconds), 90)), "pose_jaw": np.zeros((len(seconds), 3)), "pose_eye": np.zeros((len(seconds), 6)),
        "labels_obs": np.array([["a", "b"]], dtype=object),
    }  # fmt: skip
    if with_poses:
        content["poses"] = np.concatenate((flat, np.zeros((len(seconds), 99))), axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **content)


TRAIN, PLAIN = Selection(), Options()


def converted(folder, selection=TRAIN, options=PLAIN, processes=1):
    sources, dropped = select(find_files(folder), selection)
    clips = []
    for _, part in convert(sources, options, processes):
        clips += part.clips
        dropped = dropped + part.dropped
    return {clip.name: clip for clip in clips}, {entry.name: entry for entry in dropped}


def positions(clip):
    return forward_kinematics(torch.from_numpy(clip.root_pos).double(), torch.from_numpy(clip.local_quats).double())[0].numpy()


@pytest.mark.parametrize("kind", ["poses", "stageii", "stageii without poses"])
@pytest.mark.parametrize("duration", [4.0, 3.021])
@pytest.mark.parametrize("fps", RATES)
def test_every_rate_comes_back_as_the_analytic_motion(tmp_path, fps, duration, kind):
    if kind == "poses":
        write_smplh(tmp_path / "KIT" / "3" / "walk_poses.npz", fps, duration)
    else:
        write_smplx(tmp_path / "KIT" / "3" / "walk_stageii.npz", fps, duration, with_poses=kind == "stageii")
    clips, dropped = converted(tmp_path)
    assert not dropped
    ((name, clip),) = clips.items()
    assert name == f"0-KIT_3_walk_{kind.split()[0]}"
    assert clip.fps == 30.0
    captured = round(duration * fps) / fps
    assert abs(clip.duration - captured) <= 0.5 / 30 + 1e-9
    away = np.linalg.norm(positions(clip) - analytic_positions(np.arange(clip.num_frames) / 30), axis=-1)
    assert away.max() < 2e-3


def test_a_long_clip_keeps_its_clock(tmp_path):
    write_smplh(tmp_path / "CMU" / "1" / "a_poses.npz", 59.94, 60.0)
    clip = converted(tmp_path)[0]["0-CMU_1_a_poses"]
    assert abs(clip.duration - 60.0) < 0.02
    away = np.linalg.norm(positions(clip)[-300:] - analytic_positions(np.arange(clip.num_frames) / 30)[-300:], axis=-1)
    assert away.max() < 2e-3


def tree(folder):
    for data_set in ("CMU", "BMLrub", "HumanEva", "SSM_synced", "GRAB"):
        end = "stageii" if data_set in ("BMLrub", "GRAB") else "poses"
        (write_smplx if end == "stageii" else write_smplh)(folder / data_set / "s" / f"a_{end}.npz", 30.0, 1.0)


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", {"0-CMU_s_a_poses", "0-BMLrub_s_a_stageii"}),
        ("valid", {"0-HumanEva_s_a_poses"}),
        ("test", {"0-SSM_synced_s_a_poses"}),
        ("all", {"0-CMU_s_a_poses", "0-BMLrub_s_a_stageii", "0-HumanEva_s_a_poses", "0-SSM_synced_s_a_poses", "0-GRAB_s_a_stageii"}),
    ],
)
def test_splits(tmp_path, split, expected):
    tree(tmp_path)
    clips, dropped = converted(tmp_path, Selection(split))
    assert set(clips) == expected
    assert len(clips) + len(dropped) == 5
    assert all(entry.kind == "other data set" for entry in dropped.values())


def test_occlusions_cut_or_drop(tmp_path):
    for name in ("stairs", "sits", "sits_early", "flies", "fine", "odd"):
        write_smplh(tmp_path / "CMU" / "s" / f"{name}_poses.npz", 120.0, 2.0)
    write_smplx(tmp_path / "BMLrub" / "s" / "sits_stageii.npz", 100.0, 2.0)
    issues = {
        "0-CMU_s_stairs_poses": {"issue": "stairs", "idxes": [40]},
        "0-CMU_s_sits_poses": {"issue": "sitting", "idxes": [40, 50]},
        "0-CMU_s_sits_early_poses": {"issue": "sitting", "idxes": np.array([9, 12])},
        "0-CMU_s_flies_poses": {"issue": "airborne", "idxes": np.array([25])},
        "0-CMU_s_odd_poses": {"issue": "sitting"},
        "0-BioMotionLab_NTroje_s_sits_poses": {"issue": "sitting", "idxes": [30]},
    }
    (tmp_path / "list.pkl").write_bytes(pickle.dumps(issues))
    clips, dropped = converted(tmp_path, Selection(occlusions=read_occlusions(tmp_path / "list.pkl")))
    assert {name: clip.num_frames for name, clip in clips.items()} == {
        "0-CMU_s_sits_poses": 40, "0-CMU_s_flies_poses": 25, "0-CMU_s_fine_poses": 61, "0-BMLrub_s_sits_stageii": 30,
    }  # fmt: skip
    assert set(dropped) == {"0-CMU_s_stairs_poses", "0-CMU_s_sits_early_poses", "0-CMU_s_odd_poses"}
    assert dropped["0-CMU_s_stairs_poses"].reason == "occlusion list: stairs"


@pytest.mark.parametrize("idxes", [["x"], [None], {"a": 1}, [float("nan")], [[1], [2, 3]]])
def test_occlusions_of_no_frame_are_named(tmp_path, idxes):
    (tmp_path / "list.pkl").write_bytes(pickle.dumps({"0-CMU_1_a_poses": {"issue": "sitting", "idxes": idxes}}))
    with pytest.raises(MotionFileError, match=r"list\.pkl', '0-CMU_1_a_poses': 'idxes'"):
        read_occlusions(tmp_path / "list.pkl")


@pytest.mark.parametrize(("idxes", "frames"), [(12, 12), (5.5, 5), ([], None), (None, None), ((20, 21), 20), (np.arange(30, 40), 30)])
def test_occlusions_begin_with_a_frame(tmp_path, idxes, frames):
    (tmp_path / "list.pkl").write_bytes(pickle.dumps({"0-CMU_1_a_poses": {"issue": "airborne", "idxes": idxes}}))
    assert read_occlusions(tmp_path / "list.pkl")["0-CMU_1_a_poses"].num_frames == frames


@pytest.mark.skipif(os.name != "posix", reason="file names of any bytes")
def test_files_of_any_name_become_clips(tmp_path):
    write_smplh(tmp_path / "CMU" / "1" / "a_poses.npz", 30.0, 1.0)
    content = (tmp_path / "CMU" / "1" / "a_poses.npz").read_bytes()
    for name in (b"line\nend", b"\xff", b"L" * 240):
        (tmp_path / "CMU" / "1" / os.fsdecode(name + b".npz")).write_bytes(content)
    clips = [clip for _, part in convert(select(find_files(tmp_path), Selection())[0], Options(mirror=True), 1) for clip in part.clips]
    save_motion_file(tmp_path / "out.npz", clips)
    names = {clip.name for clip in load_motion_file(tmp_path / "out.npz")}
    assert len(names) == 8 and {"0-CMU_1_line_end", "0-CMU_1__", "0-CMU_1_line_end_mirrored"} <= names


def test_failed_keys_choose(tmp_path):
    tree(tmp_path)
    (tmp_path / "failed.pkl").write_bytes(pickle.dumps({"failed_keys": np.array(["0-CMU_s_a_poses"])}))
    (tmp_path / "failed.txt").write_text("0-BioMotionLab_NTroje_s_a_poses\n\n")
    for file, name in (("failed.pkl", "0-CMU_s_a_poses"), ("failed.txt", "0-BMLrub_s_a_stageii")):
        clips, _ = converted(tmp_path, Selection(only=read_failed_keys(tmp_path / file)))
        assert list(clips) == [name]
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"keys": []}))
    with pytest.raises(MotionFileError, match="failed_keys"):
        read_failed_keys(tmp_path / "other.pkl")


def test_the_clip_with_a_broken_end_loses_two_frames(tmp_path):
    write_smplh(tmp_path / "KIT" / "442" / "PizzaDelivery02_poses.npz", 100.0, 2.0)
    write_smplh(tmp_path / "KIT" / "442" / "PizzaDelivery01_poses.npz", 100.0, 2.0)
    clips, _ = converted(tmp_path)
    assert clips["0-KIT_442_PizzaDelivery01_poses"].num_frames == 61
    assert clips["0-KIT_442_PizzaDelivery02_poses"].num_frames == 59


def test_mirror_option(tmp_path):
    write_smplh(tmp_path / "KIT" / "3" / "a_poses.npz", 100.0, 2.0)
    clips, _ = converted(tmp_path, options=Options(mirror=True))
    assert list(clips) == ["0-KIT_3_a_poses", "0-KIT_3_a_poses_mirrored"]
    np.testing.assert_array_equal(
        clips["0-KIT_3_a_poses_mirrored"].root_pos, clips["0-KIT_3_a_poses"].root_pos * np.array([1, -1, 1], "f4")
    )


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def bad_tree(folder, trace):
    """Files that must each be named, and the one that is good among them."""
    good = folder / "CMU" / "1"
    write_smplh(good / "good_poses.npz", 120.0, 2.0)
    (good / "empty_poses.npz").write_bytes(b"")
    (good / "text_poses.npz").write_text("this is not an archive")
    whole = (good / "good_poses.npz").read_bytes()
    (good / "truncated_poses.npz").write_bytes(whole[: len(whole) // 2])
    (good / "flipped_poses.npz").write_bytes(whole[:5000] + bytes(255 - byte for byte in whole[5000:5100]) + whole[5100:])
    np.savez(good / "keys_poses.npz", mocap_framerate=120.0, pose=np.zeros((20, 156)))
    write_smplh(good / "nan_poses.npz", 120.0, 2.0, trans=np.full((241, 3), np.nan))
    write_smplh(good / "one_poses.npz", 120.0, 0.0)
    write_smplh(good / "zero_rate_poses.npz", 120.0, 2.0, mocap_framerate=np.array(0.0))
    write_smplh(good / "nan_rate_poses.npz", 120.0, 2.0, mocap_framerate=np.array(np.nan))
    seconds = np.arange(241) / 120.0
    write_smplh(good / "millimetres_poses.npz", 120.0, 2.0, trans=1000.0 * pose_vectors(seconds)[1])
    write_smplh(good / "centimetres_poses.npz", 120.0, 2.0, trans=100.0 * pose_vectors(seconds)[1])
    degrees = np.degrees(np.concatenate((pose_vectors(seconds)[0].reshape(241, -1), np.zeros((241, 90))), axis=1))
    write_smplh(good / "degrees_poses.npz", 120.0, 2.0, poses=degrees)
    write_smplh(good / "narrow_poses.npz", 120.0, 2.0, poses=np.zeros((241, 60)))
    write_smplh(good / "shapes_poses.npz", 120.0, 2.0, trans=np.zeros((240, 3)))
    write_smplh(good / "words_poses.npz", 120.0, 2.0, trans=np.full((241, 3), "a"))
    hostile = np.array([[Call(os.mkdir, str(trace))]], dtype=object)
    write_smplh(good / "hostile_poses.npz", 120.0, 2.0, poses=hostile)
    (good / "pickle_poses.npz").write_bytes(pickle.dumps(Call(os.mkdir, str(trace))))
    return {f"0-CMU_1_{path.stem}" for path in good.glob("*.npz")} - {"0-CMU_1_good_poses"}


def test_bad_files_are_named_and_their_code_does_not_run(tmp_path):
    bad = bad_tree(tmp_path / "amass", tmp_path / "trace")
    clips, dropped = converted(tmp_path / "amass")
    assert list(clips) == ["0-CMU_1_good_poses"]
    assert {name for name, entry in dropped.items() if entry.kind == "unreadable"} == bad
    assert not (tmp_path / "trace").exists()
    for name, word in (("nan", "frame 0"), ("one", "1 frame"), ("millimetres", "metres"), ("degrees", "degrees"), ("keys", "pose")):
        assert word in dropped[f"0-CMU_1_{name}_poses"].reason


def test_files_without_motion_are_no_faults(tmp_path):
    write_smplh(tmp_path / "CMU" / "1" / "a_poses.npz", 120.0, 2.0)
    write_smplh(tmp_path / "CMU" / "1" / "short_poses.npz", 120.0, 0.2)
    np.savez(tmp_path / "CMU" / "1" / "shape.npz", betas=np.zeros(16), gender=np.array("male"))
    clips, dropped = converted(tmp_path)
    assert list(clips) == ["0-CMU_1_a_poses"]
    assert dropped["0-CMU_1_shape"].kind == "not a motion"
    assert dropped["0-CMU_1_short_poses"].kind == "filtered"


def test_equal_names_are_told(tmp_path):
    for part in ("a", "b"):
        write_smplh(tmp_path / part / "CMU" / "1" / "a_poses.npz", 30.0, 1.0)
    clips, dropped = converted(tmp_path)
    assert len(clips) == 1
    assert "same name" in dropped["0-CMU_1_a_poses"].reason
    clips, dropped = converted(tmp_path, Selection("all", -4))
    assert set(clips) == {"0-a_CMU_1_a_poses", "0-b_CMU_1_a_poses"}


def run(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parent.parent), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, env=environment, **options)


def test_the_script_with_two_processes(tmp_path):
    bad = bad_tree(tmp_path / "amass", tmp_path / "trace")
    for index in range(20):
        write_smplh(tmp_path / "amass" / "KIT" / "3" / f"{index}_poses.npz", 60.0, 1.0, seed=index)
    (tmp_path / "list.pkl").write_bytes(pickle.dumps({"0-KIT_3_0_poses": {"issue": "stairs"}}))
    arguments = ("--path", tmp_path / "amass", "--processes", 2, "--occulusion_file", tmp_path / "list.pkl", "--report", tmp_path / "r.tsv")
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    clips = load_motion_file(tmp_path / "amass" / "amass_train_20.npz")
    assert [clip.name for clip in clips] == sorted(["0-CMU_1_good_poses", *(f"0-KIT_3_{index}_poses" for index in range(1, 20))])
    assert f"{len(bad)} unreadable" in done.stdout
    assert all(name in done.stdout for name in bad)
    assert "occlusion list: stairs" in done.stdout
    assert len((tmp_path / "r.tsv").read_text().splitlines()) == len(bad) + 1
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--path", "missing"), "not a folder"),
        (("--path", "."), "no .npz files"),
        (("--path", "amass", "--output", "a.pkl"), "ends in .npz"),
        (("--path", "amass", "--floor", "mesh", "--body-model", "none.pkl"), "does not exist"),
        (("--path", "amass", "--split", "test"), "could be converted"),
        (("--path", "amass", "--failed-keys", "none.txt"), "cannot be read"),
        (("--path", "amass", "--name-offset", "2"), "must be negative"),
    ],
)
def test_mistakes_end_with_one_line(tmp_path, arguments, text, capsys, monkeypatch):
    if "amass" in arguments:
        write_smplh(tmp_path / "amass" / "CMU" / "1" / "a_poses.npz", 30.0, 1.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setattr(sys, "argv", ["convert_amass_data.py", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    import convert_amass_data

    assert convert_amass_data.main() == 2
    error = capsys.readouterr().err
    assert text in error.splitlines()[-1]
    assert error.splitlines()[-1].startswith("puffer-phc: ")
    assert not list(tmp_path.rglob("*.part"))

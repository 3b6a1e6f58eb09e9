"""Original-style pickles: what honest ones hold comes back, and what hostile ones ask for does not happen."""

import bz2
import gzip
import lzma
import os
import pickle
import zlib

import joblib
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics
from puffer_phc.motion.file import load_motion_file
from puffer_phc.motion.plain_pickle import load_plain_pickle


def motion(frames=7, seed=0):
    rng = np.random.default_rng(seed)
    quats = Rotation.from_quat(rng.normal(size=(frames * 24, 4))).as_quat().reshape(frames, 24, 4)
    return {
        "root_trans_offset": torch.from_numpy(rng.normal(size=(frames, 3))),
        "pose_aa": rng.normal(size=(frames, 72)),
        "pose_quat_global": quats,
        "beta": np.zeros(16),
        "gender": "neutral",
        "fps": 30,
    }


def check(path, original):
    (clip,) = load_motion_file(path)
    assert clip.name == "0-a_poses"
    assert clip.fps == 30
    np.testing.assert_allclose(clip.root_pos, original["root_trans_offset"].numpy(), atol=1e-6)
    _, quats = forward_kinematics(torch.from_numpy(clip.root_pos), torch.from_numpy(clip.local_quats))
    expected = Rotation.from_quat(original["pose_quat_global"].reshape(-1, 4))
    found = Rotation.from_quat(quats.numpy()[..., [1, 2, 3, 0]].reshape(-1, 4))
    assert (expected.inv() * found).magnitude().max() < 1e-5


@pytest.mark.parametrize("compress", [0, True, 9, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_joblib_files_of_any_compression(tmp_path, compress):
    original = motion()
    original["pose_quat_global"] = np.asfortranarray(original["pose_quat_global"])
    joblib.dump({"0-a_poses": original}, str(tmp_path / "a.pkl"), compress=compress)
    check(tmp_path / "a.pkl", original)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_pickles(tmp_path, protocol):
    original = motion()
    original["fps"] = np.int64(30)
    original["again"] = original["pose_quat_global"]
    if protocol == 5:
        original["pose_quat_global"] = original["pose_quat_global"][:, ::1].copy()
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"0-a_poses": original}, protocol=min(protocol, 4)))
    check(tmp_path / "a.pkl", original)


def test_folder_of_single_motions(tmp_path):
    for number in range(3):
        joblib.dump({f"clip{number}": motion(5 + number, number)}, str(tmp_path / f"clip{number}.pkl"), compress=True)
    clips = load_motion_file(tmp_path)
    assert [(clip.name, clip.num_frames) for clip in clips] == [("clip0", 5), ("clip1", 6), ("clip2", 7)]


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Storage:
    """Pickles as a tensor storage whose bytes are a hostile pickle of their own."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.data,)


@pytest.mark.parametrize("wrap", [bytes, zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_code_in_a_pickle_does_not_run(tmp_path, wrap):
    trace = tmp_path / "trace"
    hostile = pickle.dumps({"a": Call(os.mkdir, str(trace))})
    (tmp_path / "a.pkl").write_bytes(wrap(hostile))
    with pytest.raises(MotionFileError, match=r"mkdir.*not run"):
        load_motion_file(tmp_path / "a.pkl")
    assert not trace.exists()


@pytest.mark.parametrize(
    "call", [(eval, "1"), (getattr, dict, "get"), (np.load, "a"), (torch.load, "a"), (np.ndarray, (1,), "O", b"x" * 8)]
)
def test_other_functions_are_refused(tmp_path, call):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": Call(*call)}))
    with pytest.raises(MotionFileError):
        load_motion_file(tmp_path / "a.pkl")


def test_code_in_a_tensor_storage_does_not_run(tmp_path):
    trace = tmp_path / "trace"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": Storage(pickle.dumps(Call(os.mkdir, str(trace))))}))
    with pytest.raises(MotionFileError):
        load_motion_file(tmp_path / "a.pkl")
    assert not trace.exists()


def test_attributes_of_admitted_names_cannot_be_changed(tmp_path):
    hostile = b"\x80\x02cnumpy\nndarray\nN}X\x05\x00\x00\x00valueK\x01s\x86b."
    (tmp_path / "a.pkl").write_bytes(hostile)
    with pytest.raises(MotionFileError, match="changes an object"):
        load_plain_pickle(tmp_path / "a.pkl")


def test_arrays_of_objects_are_refused(tmp_path):
    content = motion()
    content["pose_quat_global"] = np.array([[1, 2], [3, None]], dtype=object)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": content}))
    with pytest.raises(MotionFileError):
        load_motion_file(tmp_path / "a.pkl")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, share):
    joblib.dump({"a": motion(50)}, str(tmp_path / "a.pkl"), compress=True)
    whole = (tmp_path / "a.pkl").read_bytes()
    (tmp_path / "a.pkl").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(MotionFileError, match=r"a\.pkl"):
        load_motion_file(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("root_trans_offset"), "clip 'a' has no 'root_trans_offset'"),
        (lambda m: m.pop("pose_quat_global"), "clip 'a' has no 'pose_quat_global'"),
        (lambda m: m.update(pose_quat_global=m["pose_quat_global"][:, :22]), "22 bodies, this humanoid has 24"),
        (lambda m: m.update(pose_quat_global=m["pose_quat_global"] * np.nan), "clip 'a': joint rotation is not finite at frame 0"),
        (lambda m: m.update(root_trans_offset=m["root_trans_offset"][:-1]), "shape"),
        (lambda m: m.update(fps="fast"), "does not hold numbers"),
    ],
)
def test_unfit_motions_are_named(tmp_path, change, message):
    content = motion()
    change(content)
    joblib.dump({"a": content}, str(tmp_path / "a.pkl"), compress=True)
    with pytest.raises(MotionFileError, match=message):
        load_motion_file(tmp_path / "a.pkl")


def test_folder_without_motions(tmp_path):
    with pytest.raises(MotionFileError, match=r"no \.pkl"):
        load_motion_file(tmp_path)

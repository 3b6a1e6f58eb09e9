"""The motion file: what is saved comes back, and what does not fit is named in one line."""

import io
import zipfile

import numpy as np
import pytest

from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.motion.file import Clip, load_motion_file, save_motion_file


def clip(name="walk", frames=5, seed=0, fps=30.0):
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(frames, 24, 4))
    quats /= np.linalg.norm(quats, axis=-1, keepdims=True)
    return Clip(name, rng.normal(size=(frames, 3)).astype("f4"), quats.astype("f4"), fps, f"source of {name}", "free")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "motions.npz"


def arrays_of(path):
    with np.load(str(path), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def rejected(path, message):
    with pytest.raises(MotionFileError, match=message) as caught:
        load_motion_file(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_saved_comes_back(path):
    clips = [clip("walk", 5, 0), clip("Überschlag", 2, 1, 59.94), clip("b", 9, 2)]
    save_motion_file(path, clips)
    loaded = load_motion_file(path)
    assert [(c.name, c.fps, c.source, c.licence) for c in loaded] == [(c.name, c.fps, c.source, c.licence) for c in clips]
    for before, after in zip(clips, loaded):
        np.testing.assert_array_equal(before.root_pos, after.root_pos)
        np.testing.assert_allclose(before.local_quats, after.local_quats, atol=1e-7)
        assert after.root_pos.dtype == after.local_quats.dtype == np.float32
    assert loaded[1].duration == pytest.approx(1 / 59.94)


def test_slightly_long_quaternions_are_normalised(path):
    odd = clip()
    save_motion_file(path, [odd._replace(local_quats=odd.local_quats * 1.0005)])
    (loaded,) = load_motion_file(path)
    np.testing.assert_allclose(np.linalg.norm(loaded.local_quats, axis=-1), 1.0, atol=1e-6)


def test_no_pickle_is_ever_opened(path):
    save_motion_file(path, [clip()])
    arrays = arrays_of(path)
    arrays["names"] = np.array(["walk"], dtype=object)
    np.savez(str(path), **arrays)
    rejected(path, "array 'names' holds object")


def test_wrong_skeleton_is_named(path):
    save_motion_file(path, [clip("05_06")])
    arrays = arrays_of(path)
    arrays["local_quats"] = arrays["local_quats"][:, :22]
    np.savez(str(path), **arrays)
    rejected(path, r"clip '05_06': joint rotations have 22 bodies, this humanoid has 24 \(Pelvis … R_Hand\)")


def second_clip(key, frame, value):
    def change(arrays):
        arrays[key][5 + frame].flat[1] = value

    return change


def with_array(key, value):
    return lambda arrays: arrays.update({key: np.array(value)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (second_clip("root_pos", 2, np.nan), "clip 'b': root position is not finite at frame 2"),
        (second_clip("root_pos", 1, 1e6), "clip 'b': root is 1e[+]06 m from the origin"),
        (second_clip("local_quats", 3, np.inf), "clip 'b': joint rotation is not finite at frame 3"),
        (second_clip("local_quats", 0, 3.0), "clip 'b': quaternion length differs from 1 by .* at frame 0"),
        (with_array("lengths", [5, 5]), "10 frames by 'lengths', but 11 are stored"),
        (with_array("lengths", [12, -1]), r"clip 'b': has -1 frame\(s\)"),
        (with_array("lengths", [10, 1]), r"clip 'b': has 1 frame\(s\), a motion needs at least 2"),
        (with_array("lengths", [2**62, 2**62]), "frames by 'lengths'"),
        (with_array("names", ["a", "a"]), "2 clips have the name 'a'"),
        (with_array("names", np.zeros(0, "U1")), "has no clips"),
        (with_array("fps", [30.0, 0.0]), "clip 'b': has 0 frames per second"),
        (with_array("fps", [30.0, np.nan]), "clip 'b': has nan frames per second"),
        (with_array("fps", [30.0]), "array 'fps' has shape"),
        (with_array("version", 2), "schema version is 2, this program reads version 1"),
        (with_array("schema", "photographs"), "schema is 'photographs'"),
        (with_array("body_names", BODY_NAMES[::-1]), "bodies are R_Hand"),
        (with_array("source_ids", [0, 7]), "'source_ids' points outside 'sources'"),
        (with_array("repair_ids", [0, -1]), "'repair_ids' points outside 'repairs'"),
        (with_array("repair_ids", [0]), "array 'repair_ids' has shape"),
        (lambda arrays: arrays.pop("repairs"), "has no array 'repairs'"),
        (with_array("root_pos", np.zeros((4, 3))), "root positions have shape"),
        (with_array("local_quats", np.zeros((11, 24))), "joint rotations have shape"),
        (lambda arrays: arrays.pop("lengths"), "has no array 'lengths'"),
    ],
)
def test_unfit_files_are_named(path, change, message):
    save_motion_file(path, [clip("a", 5), clip("b", 6, 1)])
    arrays = arrays_of(path)
    change(arrays)
    np.savez(str(path), **arrays)
    rejected(path, message)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 0.99])
def test_truncated_files(path, share):
    save_motion_file(path, [clip(frames=200)])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    rejected(path, "damaged or not a motion file")


def test_flipped_bytes(path):
    save_motion_file(path, [clip(frames=200)])
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(whole))
    rejected(path, "damaged or not a motion file")


def test_header_that_claims_too_much_takes_no_memory(path):
    save_motion_file(path, [clip()])
    arrays = arrays_of(path)
    with zipfile.ZipFile(str(path), "w") as archive:
        for key, array in arrays.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, array)
            data = stream.getvalue()
            if key == "root_pos":
                header = io.BytesIO()
                np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)})
                data = header.getvalue() + array.tobytes()
            archive.writestr(key + ".npy", data)
    rejected(path, "array 'root_pos' claims shape")


def test_missing_file(path):
    rejected(path, "does not exist")


def test_saving_unfit_clips_leaves_nothing(path):
    bad = clip()
    bad.root_pos[2] = np.nan
    with pytest.raises(MotionFileError, match="not finite at frame 2"):
        save_motion_file(path, [clip("a"), bad._replace(name="b")])
    with pytest.raises(MotionFileError, match="22 bodies"):
        save_motion_file(path, [bad._replace(local_quats=bad.local_quats[:, :22])])
    with pytest.raises(MotionFileError, match="no clips"):
        save_motion_file(path, [])
    assert list(path.parent.iterdir()) == []


def test_saving_where_one_cannot(tmp_path):
    with pytest.raises(MotionFileError, match="cannot be written"):
        save_motion_file(tmp_path / "missing" / "motions.npz", [clip()])
    with pytest.raises(MotionFileError, match=r"ends in \.npz"):
        save_motion_file(tmp_path / "motions.txt", [clip()])


def test_saving_over_a_file_replaces_it(path):
    save_motion_file(path, [clip("a")])
    save_motion_file(path, [clip("b")])
    assert [c.name for c in load_motion_file(path)] == ["b"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("field", ["source", "licence"])
def test_nothing_is_saved_that_could_not_be_loaded(path, field):
    with pytest.raises(MotionFileError, match="characters that there are not"):
        save_motion_file(path, [clip()._replace(**{field: "read from \udcff.bvh"})])
    assert not path.exists()

"""A made-up body in the form of the published SMPL pickles: Python 2's opcodes, chumpy's and SciPy's objects."""

import os
import pickle
import struct
import subprocess
import sys
import types
from typing import ClassVar

import numpy as np
import pytest
import torch
from synthetic_motion import swaying_clip

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics
from puffer_phc.humanoid.skeleton import BODY_NAMES, OFFSETS, PARENTS, SMPL_ORDER, SMPL_PELVIS
from puffer_phc.motion.amass import Options
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.smpl_model import LARGEST_MODEL, load_smpl_model, smpl_rotations


class PythonTwoPickler(pickle._Pickler):
    """Writes texts and bytes as Python 2's str, whose opcode no longer tells them apart."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_text(self, value):
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = save_text
    dispatch[bytes] = save_text


def write_python_two(path, content):
    with path.open("wb") as stream:
        PythonTwoPickler(stream, protocol=2, fix_imports=True).dump(content)


def joints_and_vertices():
    """Joints (24, 3) in SMPL's order and rest axes (y up), and six vertices around each."""
    places = np.zeros((24, 3))
    for body, parent in enumerate(PARENTS):
        places[body] = np.array(SMPL_PELVIS) if parent < 0 else places[parent] + OFFSETS[body][[1, 2, 0]]
    joints = places[[BODY_NAMES.index(name) for name in SMPL_ORDER]]
    around = 0.05 * np.concatenate((np.eye(3), -np.eye(3)))
    return joints, (joints[:, None] + around).reshape(-1, 3)


@pytest.fixture
def chumpy_module(monkeypatch):
    """Classes named as chumpy's, which exist while a pickle is written and not while it is read."""
    module, reordering = types.ModuleType("chumpy.ch"), types.ModuleType("chumpy.reordering")

    class Ch:
        pass

    class Select(Ch):
        pass

    Ch.__module__, Select.__module__ = "chumpy.ch", "chumpy.reordering"
    Ch.__qualname__, Select.__qualname__ = "Ch", "Select"
    module.Ch, reordering.Select = Ch, Select
    for name, value in (("chumpy", types.ModuleType("chumpy")), ("chumpy.ch", module), ("chumpy.reordering", reordering)):
        monkeypatch.setitem(sys.modules, name, value)
    return module


def chumpy(value):
    made = sys.modules["chumpy.ch"].Ch()
    made.__dict__.update({"x": value, "_dirty_vars": set(), "_status": "new", "_itr": None})
    return made


def selection(value):
    """Chumpy's form of taking some entries out of a larger array."""
    made = sys.modules["chumpy.reordering"].Select()
    larger = np.concatenate((value.reshape(-1), np.full(7, 9.0)))[::-1].copy()
    idxs = len(larger) - 1 - np.arange(value.size)
    made.__dict__.update({"a": chumpy(larger), "idxs": idxs, "preferred_shape": value.shape})
    return made


def body(bend=0.0):
    """A model's content: every vertex bound to its joint alone; with ``bend`` the pose moves vertices too."""
    joints, vertices = joints_and_vertices()
    weights = np.repeat(np.eye(24), 6, axis=0)
    regressor = np.repeat(np.eye(24), 6, axis=1) / 6.0
    parents = [4294967295, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
    directions = bend * np.random.default_rng(0).normal(size=(len(vertices), 3, 207))
    return {
        "v_template": vertices, "weights": weights, "posedirs": directions, "J_regressor": regressor, "J": joints,
        "kintree_table": np.array([parents, range(24)], dtype=np.uint32), "bs_style": "lbs", "bs_type": "lrotmin",
        "f": np.zeros((12, 3), dtype=np.uint32),
    }  # fmt: skip


def published(path, bend=0.0):
    """The body as the published pickles hold it."""
    scipy_sparse = pytest.importorskip("scipy.sparse")
    content = body(bend)
    content["v_template"] = chumpy(content["v_template"])
    content["weights"] = selection(content["weights"])
    content["posedirs"] = chumpy(content["posedirs"])
    content["shapedirs"] = selection(np.zeros((144, 3, 10)))
    content["J_regressor"] = scipy_sparse.csc_matrix(content["J_regressor"])
    write_python_two(path, content)


def analytic_lowest(clip):
    """(F,) m, the lowest of the vertices that ride on the bodies of the humanoid."""
    positions, quats = forward_kinematics(torch.from_numpy(clip.root_pos).double(), torch.from_numpy(clip.local_quats).double())
    around = torch.from_numpy(0.05 * np.concatenate((np.eye(3), -np.eye(3))))
    vertices = positions[:, :, None] + rotations.rotate(quats[:, :, None], around)
    return vertices[..., 2].amin((1, 2)).numpy()


def test_rotations_of_smpl_are_those_of_the_humanoid_with_axes_renamed():
    quats = np.zeros((1, 24, 4))
    quats[..., 0] = 1.0
    upright = smpl_rotations(quats)
    np.testing.assert_allclose(upright[0, 0], [0.5, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(upright[0, 1:], quats[0, 1:])
    quats[0, BODY_NAMES.index("L_Knee")] = [np.cos(0.4), 0.0, np.sin(0.4), 0.0]
    knee = smpl_rotations(quats)[0, SMPL_ORDER.index("L_Knee")]
    np.testing.assert_allclose(knee, [np.cos(0.4), np.sin(0.4), 0.0, 0.0])


def test_the_skin_rides_on_the_bones(tmp_path, chumpy_module, monkeypatch):
    published(tmp_path / "SMPL_NEUTRAL.pkl")
    for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.delitem(sys.modules, name)
    model = load_smpl_model(tmp_path / "SMPL_NEUTRAL.pkl")
    clip = swaying_clip(30, 4)
    posed = model.posed(smpl_rotations(clip.local_quats))
    lowest = clip.root_pos[:, 2] + posed[..., 2].min(1)
    np.testing.assert_allclose(lowest, analytic_lowest(clip), atol=1e-5)
    assert abs(model.floor(clip) - np.median(lowest)) < 1e-6


def test_pose_directions_move_the_skin_by_what_the_joints_turn(tmp_path, chumpy_module):
    published(tmp_path / "a.pkl", bend=0.01)
    model = load_smpl_model(tmp_path / "a.pkl")
    rest = np.zeros((2, 24, 4))
    rest[..., 0] = 1.0
    rest[1, 5] = [0.0, 1.0, 0.0, 0.0]
    posed = model.posed(rest)
    _, vertices = joints_and_vertices()
    np.testing.assert_allclose(posed[0], vertices - np.array(SMPL_PELVIS), atol=1e-6)
    turned = np.diag([0.0, -2.0, -2.0]).reshape(-1)
    moved = body(0.01)["posedirs"][:, :, 9 * 4 : 9 * 5] @ turned
    others = np.repeat(np.arange(24) != 5, 6) & np.repeat(~np.isin(np.arange(24), [8, 11]), 6)
    np.testing.assert_allclose((posed[1] - posed[0])[others], moved[others], atol=1e-6)


def test_the_installed_packages_are_not_imported(tmp_path, chumpy_module):
    published(tmp_path / "a.pkl")
    code = (
        "import sys; from puffer_phc.motion.smpl_model import load_smpl_model; before = set(sys.modules);"
        f"load_smpl_model({str(tmp_path / 'a.pkl')!r}); later = set(sys.modules) - before;"
        "print(sorted(name for name in later if name.startswith(('chumpy', 'scipy'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plain_arrays_and_joints_without_a_regressor(tmp_path):
    content = body()
    del content["J_regressor"]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    clip = swaying_clip(10, 1)
    assert abs(load_smpl_model(tmp_path / "a.pkl").floor(clip) - np.median(analytic_lowest(clip))) < 1e-5


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def raw(function_line, argument):
    """A protocol 0 pickle that calls a global with a text."""
    return f"c{function_line}\n(S'{argument}'\ntR.".encode()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_model_does_not_run(tmp_path, protocol):
    trace = tmp_path / "trace"
    content = {**body(), "v_template": Call(os.mkdir, str(trace))}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(MotionFileError, match=r"mkdir.*not run"):
        load_smpl_model(tmp_path / "a.pkl")
    assert not trace.exists()


@pytest.mark.parametrize(
    "line", ["os\nsystem", "posix\nsystem", "subprocess\ncall", "__builtin__\neval", "builtins\ngetattr", "copy_reg\n__newobj__"]
)
def test_other_names_are_refused(tmp_path, line):
    (tmp_path / "a.pkl").write_bytes(raw(line, f"touch {tmp_path}/trace"))
    with pytest.raises(MotionFileError, match="not run"):
        load_smpl_model(tmp_path / "a.pkl")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("line", ["scipy._lib._testutils\nPytestTester", "chumpy.utils\nrow", "scipy\nos.system"])
def test_functions_of_bag_packages_are_bags_that_do_nothing(tmp_path, line):
    (tmp_path / "a.pkl").write_bytes(raw(line, f"touch {tmp_path}/trace"))
    with pytest.raises(MotionFileError, match="not a dictionary"):
        load_smpl_model(tmp_path / "a.pkl")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("state", [b"}S'attributes'\nK\x01sb.", b"}S'__class__'\nK\x01sb."])
def test_attributes_of_other_objects_cannot_be_set(tmp_path, state):
    (tmp_path / "a.pkl").write_bytes(b"c__builtin__\nset\n" + state)
    with pytest.raises(MotionFileError, match="changes an object"):
        load_smpl_model(tmp_path / "a.pkl")


def changed(**changes):
    return {key: value for key, value in {**body(), **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (changed(v_template=None), "no v_template"),
        (changed(J=None, J_regressor=None), "J or J_regressor"),
        (changed(weights=np.eye(24)), "weights has shape"),
        (changed(posedirs=np.zeros((144, 3, 459))), "posedirs has shape"),
        (changed(v_template=np.full((144, 3), np.nan)), "finite"),
        (changed(kintree_table=np.array([[0] * 24, list(range(24))])), "hang together"),
        (changed(v_template="a text"), "v_template is not an array"),
        ([1, 2], "not a dictionary"),
    ],
)
def test_other_models_are_named(tmp_path, content, text):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(MotionFileError, match=text):
        load_smpl_model(tmp_path / "a.pkl")


@pytest.mark.parametrize("data", [b"", b"nonsense", pickle.dumps(body())[:5000]])
def test_damaged_files(tmp_path, data):
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(MotionFileError, match=r"damaged or not a pickle|exhausted"):
        load_smpl_model(tmp_path / "a.pkl")


def test_a_file_of_absurd_size_is_not_read(tmp_path):
    with (tmp_path / "a.pkl").open("wb") as stream:
        stream.truncate(LARGEST_MODEL + 1)
    with pytest.raises(MotionFileError, match="far more"):
        load_smpl_model(tmp_path / "a.pkl")


def test_conversion_with_a_mesh_floor_keeps_it_in_the_library(tmp_path):
    from test_amass import converted, write_smplh

    (tmp_path / "model.pkl").write_bytes(pickle.dumps(body()))
    write_smplh(tmp_path / "amass" / "CMU" / "1" / "a_poses.npz", 120.0, 1.5)
    clips, _ = converted(tmp_path / "amass", options=Options(body_model=tmp_path / "model.pkl"))
    clip = clips["0-CMU_1_a_poses"]
    assert abs(np.median(analytic_lowest(clip))) < 2e-3
    ids, times = torch.zeros(clip.num_frames, dtype=torch.long), torch.arange(clip.num_frames) / 30.0
    as_stored = MotionLibrary([clip], torch.device("cpu"), sets_floor=False).at(ids, times).body.pos[:, 0]
    np.testing.assert_allclose(as_stored.numpy(), clip.root_pos, atol=1e-6)
    moved = MotionLibrary([clip], torch.device("cpu")).at(ids, times).body.pos[:, 0] - as_stored
    assert moved[:, 2].abs().min() > 1e-3

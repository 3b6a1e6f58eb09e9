"""Files made to hang, to fill the memory or to run code: refused in one line, at once, and nothing of the kind happens."""

import gzip
import io
import json
import pickle
import pickletools
import random
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import pytest
import torch
from fuzzing import MisbehavedError, Watch, fuzz, parsers
from mocap_files import amc_frame, amc_text, asf_text, bvh_text
from synthetic_motion import swaying_clip

from puffer_phc.errors import CheckpointError, ConfigError, MotionFileError, PhcError
from puffer_phc.learn.checkpoint import load_checkpoint
from puffer_phc.learn.run_folder import load_newest
from puffer_phc.motion.amass import read_capture
from puffer_phc.motion.asf import read_asf
from puffer_phc.motion.asf_amc import load_amc
from puffer_phc.motion.bvh import load_bvh, read_bvh
from puffer_phc.motion.deepmimic import import_deepmimic
from puffer_phc.motion.file import Clip, check_clips, load_motion_file, save_motion_file
from puffer_phc.motion.inspect import inspect_clips
from puffer_phc.motion.inspection_page import inspection_page
from puffer_phc.options import parse_options

LIMIT_BYTES = 64 << 20
"""Python's and numpy's memory while a small hostile file is refused."""

TASTE = 60
"""Mutated inputs for each parser."""


def refused(read: Callable[[Path], Any], path: Path) -> str:
    """The message of the refusal, which takes little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(MotionFileError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < LIMIT_BYTES
    finally:
        tracemalloc.stop()
    return str(caught.value)


def npy(header: str, data: bytes = b"") -> bytes:
    """A .npy file with any header."""
    padded = header.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + data


def archive(path: Path, members: Dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as stream:
        for name, content in members.items():
            stream.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1000000, -1000000)}",
        "{'descr': '<U1000000000', 'fortran_order': False, 'shape': ()}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '|V0', 'fortran_order': False, 'shape': (1000000000000,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (((((((((((((",
        "__import__('os').system('touch went-off')",
    ],
)
def test_headers_that_claim_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    monkeypatch.chdir(tmp_path)
    bad = npy(header, b"\x00" * 1000)
    names = ("schema", "version", "body_names", "names", "lengths", "fps", "sources", "source_ids", "licences", "licence_ids")
    names += ("repairs", "repair_ids")
    path = archive(tmp_path / "bad.npz", dict.fromkeys((*names, "root_pos", "local_quats", "trans", "poses", "mocap_framerate"), bad))
    assert "damaged" in refused(load_motion_file, path) or "claims" in refused(load_motion_file, path)
    refused(read_capture, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.npz"]


def test_an_archive_that_unpacks_to_a_thousand_times_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puffer_phc.motion.array_archive.UNPACKED_BYTES", 1 << 20)
    zeros = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10000000,)}", bytes(40_000_000))
    path = archive(tmp_path / "bomb.npz", dict.fromkeys(("schema", "trans", "poses", "mocap_framerate"), zeros), zipfile.ZIP_DEFLATED)
    del zeros
    assert "unpacks to 40000128 bytes" in refused(load_motion_file, path)
    assert "unpacks to 40000128 bytes" in refused(read_capture, path)


def test_packed_pickles_that_unpack_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("puffer_phc.motion.plain_pickle.UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "bomb.pkl"
    with gzip.open(path, "wb") as stream:
        pickle.dump({"walk": bytes(40_000_000)}, stream)
    assert "unpacks to more than any motion" in refused(load_motion_file, path)


def nested(depth: int, kind: type) -> Any:
    """Two to the power of ``depth`` elements in a few hundred bytes."""
    value: Any = kind((1.0, 2.0))
    for _ in range(depth):
        value = kind((value, value))
    return value


def hostile_pickles() -> Dict[str, Any]:
    array = np.zeros((3, 24, 4))
    return {
        "lists of lists of lists": {"walk": {"root_trans_offset": nested(40, list), "pose_quat_global": array}},
        "a text for an array": {"walk": {"root_trans_offset": "x" * 100, "pose_quat_global": array}},
        "a frame rate beyond all numbers": {"walk": {"root_trans_offset": np.zeros((3, 3)), "pose_quat_global": array, "fps": 10**400}},
        "a number for a name": {10**6000: {"root_trans_offset": np.zeros((3, 3)), "pose_quat_global": array}},
        "a tensor of one number": {"walk": {"root_trans_offset": torch.zeros(1).expand(10**9, 3), "pose_quat_global": array}},
        "a set": {"walk": {1, 2}},
        "code": {"walk": Path("x")},
    }


@pytest.mark.parametrize("case", sorted(hostile_pickles()))
def test_pickles_of_what_no_motion_has(tmp_path: Path, case: str) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(pickle.dumps(hostile_pickles()[case], protocol=2))
    refused(load_motion_file, path)


def test_a_key_that_takes_forever_to_compare(tmp_path: Path) -> None:
    """The pickle is written by hand: no Python could make the dictionary."""
    tuples = pickle.dumps(nested(40, tuple), protocol=2)
    path = tmp_path / "bad.pkl"
    for end in (b"N\x73.", b"Nu."):
        path.write_bytes(b"\x80\x02}" + (b"(" if end == b"Nu." else b"") + tuples[2:-1] + end)
        pickletools.dis(path.read_bytes(), io.StringIO())
        assert "key" in refused(load_motion_file, path)


@pytest.mark.parametrize("call", [b"cos\nsystem\n(S'touch went-off'\ntR.", b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR."])
def test_pickles_that_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pkl").write_bytes(call)
    assert "was not run" in refused(load_motion_file, tmp_path / "bad.pkl")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.pkl"]


def test_bvh_of_a_billion_frames(tmp_path: Path) -> None:
    path = tmp_path / "bad.bvh"
    good = bvh_text([((0.0, 95.0, 0.0), {}) for _ in range(3)])
    path.write_text(good.replace("Frames: 3", "Frames: 999999999"))
    assert "999999999 frames" in refused(load_bvh, path)
    path.write_text(good.replace("Frames: 3", "Frames: " + "9" * 5000))
    assert "'Frames:'" in refused(load_bvh, path)
    path.write_text("HIERARCHY ROOT Hips { OFFSET 0 0 0 }\nMOTION\nFrames: 999999999\nFrame Time: 0.01\n")
    assert "no joint has a channel" in refused(read_bvh, path)
    path.write_text("HIERARCHY " + "ROOT a { OFFSET 0 0 0 } " * 20_000 + "\nMOTION\nFrames: 1\nFrame Time: 0.01\n")
    assert "20000 joints" in refused(read_bvh, path)


def test_bvh_of_empty_lines_only_takes_no_time(tmp_path: Path) -> None:
    path = tmp_path / "bad.bvh"
    path.write_text("HIERARCHY" + "\n \t" * 300_000)
    assert "no MOTION" in refused(read_bvh, path)


def test_amc_of_frames_that_are_all_cut_off(tmp_path: Path) -> None:
    (tmp_path / "good.asf").write_text(asf_text())
    path = tmp_path / "bad.amc"
    path.write_text(amc_text([amc_frame(1), *(f"{number}\nroot 0 0 0 0 0 0" for number in range(2, 5000))]))
    refused(lambda amc: load_amc(amc, tmp_path / "good.asf"), path)


def test_asf_of_a_chain_of_bones(tmp_path: Path) -> None:
    path = tmp_path / "bad.asf"
    bones = "".join(f"begin\nname b{i}\ndirection 0 0 1\nlength 1\naxis 0 0 0 XYZ\nend\n" for i in range(3000))
    chain = "".join(f"b{i} b{i - 1}\n" for i in range(1, 3000)) + "root b2999\n"
    path.write_text(f":units\nlength 1\n:root\norder TX\n:bonedata\n{bones}:hierarchy\nbegin\n{chain}end\n")
    assert "3000 bones" in refused(read_asf, path)


@pytest.mark.parametrize("seconds", [1e300, 1e7, 1e-300, 10**400])
def test_deepmimic_of_all_time(tmp_path: Path, seconds: float) -> None:
    pose = [0.0, 0.9, 0.0] + [1.0, 0.0, 0.0, 0.0] * 4 + [0.1] + [1.0, 0.0, 0.0, 0.0] * 2 + [0.1] + [1.0, 0.0, 0.0, 0.0]
    pose += [0.1] + [1.0, 0.0, 0.0, 0.0] * 2 + [0.1]
    path = tmp_path / "humanoid3d_walk.txt"
    path.write_text(json.dumps({"Loop": "wrap", "Frames": [[0.1, *pose], [0.1, *pose]]}))
    import_deepmimic(path)
    path.write_text(json.dumps({"Loop": "wrap", "Frames": [[seconds, *pose], [0.1, *pose]]}))
    refused(import_deepmimic, path)


@pytest.mark.parametrize("place", [0, 2, 4, 19])
def test_deepmimic_of_all_space(tmp_path: Path, place: int) -> None:
    """Numbers that are finite, and whose differences are not: of a position, a quaternion and an angle."""
    pose = [0.0, 0.9, 0.0] + [1.0, 0.0, 0.0, 0.0] * 4 + [0.1] + [1.0, 0.0, 0.0, 0.0] * 2 + [0.1] + [1.0, 0.0, 0.0, 0.0]
    pose += [0.1] + [1.0, 0.0, 0.0, 0.0] * 2 + [0.1]
    path = tmp_path / "humanoid3d_walk.txt"
    frames = [[0.1, *pose] for _ in range(4)]
    path.write_text(json.dumps({"Loop": "wrap", "Frames": frames}))
    import_deepmimic(path)
    for frame, value in zip(frames, (-1e308, 1e308, -1e308, 1e308)):
        frame[1 + place] = value
    path.write_text(json.dumps({"Loop": "wrap", "Frames": frames}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "1e+308; metres, quaternions and radians expected" in refused(import_deepmimic, path)


def test_json_as_deep_as_it_is_long(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_text('{"Frames": ' + "[" * 100_000)
    refused(import_deepmimic, path)


@pytest.mark.parametrize("code", [0x110000, 0xD800, 0xFFFFFFFF])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("array", ["names", "sources", "schema"])
def test_texts_of_characters_that_there_are_not(tmp_path: Path, array: str, order: str, code: int) -> None:
    path = tmp_path / "motion.npz"
    save_motion_file(path, [swaying_clip(5)])
    with np.load(path) as archive:
        arrays = dict(archive)
    text = np.atleast_1d(arrays[array]).astype(arrays[array].dtype.newbyteorder(order))
    arrays[array] = text.reshape(arrays[array].shape)
    np.savez(path, **arrays)
    load_motion_file(path)
    text.view(f"{order}u4")[0] = code
    np.savez(path, **arrays)
    refused(load_motion_file, path)


@pytest.mark.parametrize(
    "name", ["../../escape", "/tmp/escape", "..", "a/b", "a\\\\b", "con\x00sole", "tab\tle", "\x1b]0;title\x07", "", "x" * 201]
)
def test_names_of_clips_that_are_more_than_names(tmp_path: Path, name: str) -> None:
    """In paths, tables and terminals."""
    clip = standing(name)
    with pytest.raises(MotionFileError, match="not a plain name"):
        save_motion_file(tmp_path / "clips.npz", [clip])
    motions = {name: {"root_trans_offset": clip.root_pos, "pose_quat_global": clip.local_quats[..., [1, 2, 3, 0]]}}
    (tmp_path / "clips.pkl").write_bytes(pickle.dumps(motions, protocol=2))
    assert "not a plain name" in refused(load_motion_file, tmp_path / "clips.pkl")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a&b", '"quoted"', "-rf", "$(touch went-off)", "%s{0}", "[red]"])
def test_names_of_clips_are_shown_as_they_are(tmp_path: Path, name: str) -> None:
    if not set(name) & set("/"):
        check_clips([standing(name)], "clips")
    pairs = inspect_clips([standing(name)])
    page = inspection_page([clip for clip, _ in pairs], [inspection for _, inspection in pairs], name)
    assert page.count("<script>") == inspection_page([], [], "Clips").count("<script>")


def standing(name: str) -> Clip:
    """A humanoid that stands still."""
    quats, root = np.tile(np.float32([1, 0, 0, 0]), (40, 24, 1)), np.tile(np.float32([0.0, 0.0, 0.9]), (40, 1))
    return Clip(name, root, quats, 30.0, "source", "licence")


@pytest.mark.parametrize(
    "text",
    ["[env]\nnum_envs = " + "9" * 5000, "[env]\nnum_envs = 1\x00", "[" * 5000, "\x00\xff", "[env]\nkp_scale = 1e999", "[train]\nseed = -1"],
)
def test_ini_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.ini"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(ConfigError):
        parse_options(["--config", str(path)])


FUZZED = ["motion", "legacy", "deepmimic", "bvh", "joint_map", "index", "asf", "amc", "amass", "occlusions"]
FUZZED += ["checkpoint", "ini", "command_line"]


@pytest.mark.parametrize("name", FUZZED)
def test_mutated_input(tmp_path: Path, name: str, watch: Watch) -> None:
    """A taste of what ``python tests/fuzzing.py 10000`` does, with other inputs each time; a failure says how to repeat it."""
    seed = random.randrange(1 << 30)
    outcome = fuzz(name, parsers(tmp_path)[name], TASTE, tmp_path, watch, seed)
    assert outcome["failures"] == {}, f"python tests/fuzzing.py {TASTE} {name} --seed {seed}: {outcome}"


def test_a_seed_repeats_its_inputs(tmp_path: Path, watch: Watch) -> None:
    def fed(name: str, seed: int) -> List[bytes]:
        inputs: List[bytes] = []
        parser = parsers(tmp_path)[name]
        outcome = fuzz(
            name, parser._replace(read=lambda path: inputs.append(path.read_bytes()) or parser.read(path)), TASTE, tmp_path, watch, seed
        )
        assert outcome["seed"] == seed
        return inputs

    once = fed("motion", 3)
    fed("deepmimic", 3)
    assert fed("motion", 3) == once != fed("motion", 4)


def test_time_of_the_processor_is_what_is_limited(tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzzing.LIMIT_SECONDS", 0.1)
    watch.run(lambda _: time.sleep(0.3), tmp_path)
    with pytest.raises(MisbehavedError, match="of the processor"):
        watch.run(lambda _: [None for _ in iter(int, 1)], tmp_path)
    monkeypatch.setattr("fuzzing.LIMIT_WAITING_SECONDS", 0.1)
    with pytest.raises(MisbehavedError, match=r"longer than 0\.1 s$"):
        watch.run(lambda _: time.sleep(60.0), tmp_path)


def test_every_parser_is_fuzzed(tmp_path: Path) -> None:
    assert sorted(parsers(tmp_path)) == sorted(FUZZED)


@pytest.fixture(scope="module")
def watch() -> Watch:
    return Watch()


def test_the_watch_notices() -> None:
    """The tests above could not fail otherwise."""
    import os

    watch = Watch()
    for bad in (lambda _: os.system("true"), lambda _: Path("went-off").write_text("x"), lambda _: [][0]):
        with pytest.raises(Exception, match=r"os\.system|open|range"):
            watch.run(bad, Path())
    watch.run(lambda _: (_ for _ in ()).throw(PhcError("ours")), Path())


@pytest.mark.parametrize("name", ["x" * 5000, "zero\x00byte"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    for read in (load_checkpoint, load_newest):
        with pytest.raises(CheckpointError, match="does not exist"):
            read(tmp_path / name)
    with pytest.raises(MotionFileError, match="does not exist"):
        load_motion_file(tmp_path / name)
    with pytest.raises(ConfigError, match="can't be read"):
        parse_options(["--config", name])

"""The manifest of the CMU clips is sound, and files are found by name and judged by content, wherever they lie."""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mocap_files import squat_frames, write_asf_amc

from puffer_phc.errors import MotionFileError
from puffer_phc.motion.convert import Options, convert_job
from puffer_phc.motion.manifest import (
    DIFFERENT,
    HELD_OUT,
    LINE_ENDS,
    MISSING,
    NEEDS_SCENE,
    OTHER_FORMAT,
    REJECTED,
    ROLES,
    SAME,
    TRAIN,
    Entry,
    digest,
    find_entries,
    manifest_jobs,
    read_manifest,
    write_manifest,
)

REPOSITORY = Path(__file__).resolve().parents[1]
ENTRIES = read_manifest(REPOSITORY / "sample_data" / "cmu_manifest.csv")


def test_counts_are_those_of_the_documents():
    counts = Counter(entry.role for entry in ENTRIES)
    assert set(counts) == set(ROLES)
    formats = Counter(entry.format for entry in ENTRIES)
    text = " ".join((REPOSITORY / "docs" / "motion.md").read_text(encoding="utf-8").split())
    bvh = formats["bvh_daz"] + formats["bvh_mb"]
    assert f"({len(ENTRIES)} clips: {formats['asfamc']} ASF/AMC, {bvh} BVH)" in text
    assert f"{counts[NEEDS_SCENE]} of them marked as needing" in text
    assert f"{counts[TRAIN]} for training, {counts[HELD_OUT]} held out" in text
    assert f"{counts[TRAIN] + counts[HELD_OUT]} are accepted" in text
    rejected = [entry.clip for entry in ENTRIES if entry.role == REJECTED]
    assert len(rejected) == 8 and all(clip in text for clip in rejected)


def test_whole_subjects_are_held_out():
    held_out = {entry.clip.split("_")[0] for entry in ENTRIES if entry.role == HELD_OUT}
    assert held_out == {"07", "60"}
    assert not any(entry.clip.split("_")[0] in held_out for entry in ENTRIES if entry.role == TRAIN)


def test_reasons_are_given_where_clips_are_left_out():
    for entry in ENTRIES:
        assert bool(entry.reason) == (entry.role in (NEEDS_SCENE, REJECTED)), entry.clip


def test_files_and_addresses_belong_to_the_clip():
    for entry in ENTRIES:
        subject, trial = entry.clip.split("_")
        assert Path(entry.file).stem == entry.clip and Path(entry.file).suffix == (".amc" if entry.format == "asfamc" else ".bvh")
        assert bool(entry.skeleton) == (entry.format == "asfamc") == (not entry.release)
        assert entry.fps == (60.0 if subject in ("60", "61") else 120.0)
        if subject == "x":
            assert not entry.address and not entry.skeleton_address and "unknown" in entry.note
        else:
            assert re.fullmatch(r"\d\d+", subject) and re.fullmatch(r"\d\d", trial)
            assert entry.address == f"http://mocap.cs.cmu.edu/subjects/{subject}/{entry.clip}.amc"
            assert entry.skeleton_address == f"http://mocap.cs.cmu.edu/subjects/{subject}/{subject}.asf"


def test_no_two_clips_are_the_same_file_and_a_skeleton_has_one_content():
    assert len({entry.sha256_lf for entry in ENTRIES}) == len(ENTRIES)
    skeletons = {(entry.skeleton, entry.skeleton_sha256) for entry in ENTRIES if entry.skeleton}
    assert len(skeletons) == len(dict(skeletons))


def entry_of(amc, role=TRAIN, fps=120.0):
    subject = amc.stem.split("_")[0]
    skeleton = amc.with_name(f"{subject}.asf")
    own, theirs = digest(amc), digest(skeleton)
    address = f"http://mocap.cs.cmu.edu/subjects/{subject}/"
    return Entry(
        *(amc.stem, role, "", "squat", "", "asfamc", amc.name, *own, skeleton.name, *theirs, fps),
        *(f"{address}{amc.name}", f"{address}{skeleton.name}", ""),
    )


@pytest.fixture
def folder(tmp_path):
    write_asf_amc(tmp_path / "files", squat_frames(), "77_01")
    write_asf_amc(tmp_path / "files", squat_frames(61, depth=40.0), "77_02")
    return tmp_path / "files"


@pytest.fixture
def entries(folder):
    return [entry_of(folder / name) for name in ("77_01.amc", "77_02.amc")]


def test_what_is_written_is_read(tmp_path, entries):
    path = tmp_path / "manifest.csv"
    awkward = entries[1]._replace(note='commas, "quotes" and ü', fps=59.94)
    write_manifest(path, [awkward, entries[0]])
    assert read_manifest(path) == [entries[0], awkward]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"role": "spare"}, "line 2: role is 'spare'; there are train"),
        ({"sha256": "0" * 63}, "line 2: a hash is not 64"),
        ({"skeleton_sha256_lf": ""}, "line 2: a hash is not 64"),
        ({"fps": 0.0}, "line 2: fps is '0'"),
        ({"fps": float("nan")}, "line 2: fps is 'nan'"),
        ({"clip": "77_02"}, "clip '77_02' has two rows"),
    ],
)
def test_rows_that_contradict_themselves_are_named(tmp_path, entries, change, message):
    write_manifest(tmp_path / "manifest.csv", [entries[0]._replace(**change), entries[1]])
    with pytest.raises(MotionFileError, match=re.escape(message)):
        read_manifest(tmp_path / "manifest.csv")


@pytest.mark.parametrize("content", [b"", b"clip,role\n77_01,train\n", b"\xff\xfe\x00", b",".join(b"x" for _ in range(99))])
def test_files_that_are_no_manifest(tmp_path, content):
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(MotionFileError, match="manifest"):
        read_manifest(tmp_path / "manifest.csv")
    with pytest.raises(MotionFileError, match="can't be read"):
        read_manifest(tmp_path / "nowhere.csv")


def states(entries, folder):
    return [one.state for one in find_entries(entries, folder)]


def test_files_are_judged_by_content(folder, entries):
    assert states(entries, folder) == [SAME, SAME]
    (folder / "77_01.amc").write_bytes((folder / "77_01.amc").read_bytes().replace(b"\n", b"\r\n"))
    (folder / "77_02.amc").write_text((folder / "77_02.amc").read_text() + "\n")
    assert states(entries, folder) == [LINE_ENDS, DIFFERENT]
    (folder / "77_02.amc").unlink()
    assert states(entries, folder) == [LINE_ENDS, MISSING]
    (folder / "77.asf").write_text("another skeleton")
    assert states(entries, folder) == [DIFFERENT, MISSING]
    (folder / "77.asf").unlink()
    assert states(entries, folder) == [MISSING, MISSING]


def test_the_right_one_of_several_files_of_a_name_is_taken(folder, entries):
    for place in ("a", "z"):
        (folder / place).mkdir()
        (folder / place / "77_01.amc").write_text("of another release")
        (folder / place / "77.asf").write_text("of another release")
    first = find_entries(entries, folder)[0]
    assert first == (entries[0], SAME, folder / "77_01.amc", folder / "77.asf")


def test_folders_that_are_none(folder, entries):
    for path in (folder / "nowhere", folder / "77.asf"):
        with pytest.raises(MotionFileError, match="is not a folder"):
            find_entries(entries, path)


def as_bvh(entry):
    """The entry as if a BVH conversion of the trial had been used."""
    hashes = {"sha256": "0" * 64, "sha256_lf": "1" * 64, "skeleton": "", "skeleton_sha256": "", "skeleton_sha256_lf": ""}
    return entry._replace(format="bvh_daz", file=f"{entry.clip}.bvh", release="https://example.org", **hashes)


def test_cmus_own_file_stands_in_for_a_conversion_of_it(folder, entries):
    bvh = [as_bvh(entry) for entry in entries]
    found = find_entries(bvh, folder)
    assert [one.state for one in found] == [OTHER_FORMAT, OTHER_FORMAT]
    (job,) = manifest_jobs(found)
    assert [(source.name, source.path.name, source.skeleton.name) for source in job] == [
        ("77_01", "77_01.amc", "77.asf"),
        ("77_02", "77_02.amc", "77.asf"),
    ]
    assert [clip.num_frames for clip in convert_job(job, Options()).clips] == [31, 16]
    (folder / "77_01.bvh").write_text("not the file of the manifest")
    assert states(bvh, folder) == [OTHER_FORMAT, OTHER_FORMAT]
    (folder / "77.asf").unlink()
    assert states(bvh, folder) == [DIFFERENT, MISSING]


def test_folders_make_no_difference_to_a_conversion(folder, entries, tmp_path):
    """Performers are measured on all of their clips even where these lie apart, each with its copy of the skeleton."""
    apart = tmp_path / "apart"
    for entry in entries:
        (apart / entry.clip / "deep").mkdir(parents=True)
        shutil.copy(folder / entry.file, apart / entry.clip)
        shutil.copy(folder / entry.skeleton, apart / entry.clip / "deep")
    converted = []
    for place in (folder, apart):
        (job,) = manifest_jobs(find_entries(entries, place))
        converted.append(convert_job(job, Options()).clips)
    for one, other in zip(*converted):
        assert one.name == other.name
        np.testing.assert_array_equal(one.root_pos, other.root_pos)
        np.testing.assert_array_equal(one.local_quats, other.local_quats)


def test_rates_are_the_manifests_and_scenes_are_left_out(folder, entries):
    slow = [entries[0]._replace(fps=60.0), entries[1]._replace(role=NEEDS_SCENE)]
    (job,) = manifest_jobs(find_entries(slow, folder))
    (clip,) = convert_job(job, Options()).clips
    assert clip.name == "77_01"
    assert clip.duration == pytest.approx(2.0, abs=0.04)

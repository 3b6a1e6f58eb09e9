import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mocap_files import amc_frame, amc_text, asf_text, bvh_text, real_archive, squat_frames, write_asf_amc

from puffer_phc.errors import MotionFileError
from puffer_phc.motion import convert as conversion
from puffer_phc.motion.convert import CMU_LICENCE, Options, convert, convert_job, find_sources, load_recording, look_through, make_jobs
from puffer_phc.motion.file import load_motion_file

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "convert_mocap_data.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}


@pytest.fixture
def folder(tmp_path):
    """Good files of three kinds of trouble and bad ones."""
    write_asf_amc(tmp_path / "77", squat_frames(), "77_01")
    write_asf_amc(tmp_path / "77", squat_frames(61), "77_02")
    write_asf_amc(tmp_path / "77", [amc_frame(1)], "77_03")
    (tmp_path / "77" / "77_04.amc").write_text("")
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "lost_01.amc").write_text("1\nroot 0 0 0 0 0 0\n")
    (tmp_path / "stand.bvh").write_text(bvh_text([((0.0, 95.0, 0.0), {})] * 90))
    (tmp_path / "broken.bvh").write_bytes(b"\x80\x04\x95\x00cos\nsystem\n")
    (tmp_path / "notes.txt").write_text("not a motion")
    return tmp_path


def convert_all(path, **options):
    return [part for _, part in convert(make_jobs(find_sources(path)), Options(**options), processes=1)]


def test_good_files_are_converted_and_bad_ones_named(folder):
    parts = convert_all(folder)
    clips = {clip.name for part in parts for clip in part.clips}
    dropped = {entry.name: entry for part in parts for entry in part.dropped}
    assert clips == {"77_01", "77_02", "stand"}
    assert set(dropped) == {"77_03", "77_04", "lost_01", "broken", "notes"}
    assert all(entry.kind == "unreadable" and entry.reason for entry in dropped.values())
    assert "1 frame" in dropped["77_03"].reason and "no ASF skeleton" in dropped["lost_01"].reason


def write_stand(path):
    path.write_text(bvh_text([((0.0, 95.0, 0.0), {})] * 90, fps=120.0))
    return path


def test_only_files_named_as_cmus_are_said_to_be_under_its_licence(tmp_path):
    cmu, own = write_stand(tmp_path / "35_01.bvh"), write_stand(tmp_path / "dance.bvh")
    write_asf_amc(tmp_path / "77", squat_frames(), "77_01")
    clips = [clip for part in convert_all(tmp_path) for clip in part.clips]
    assert {clip.name: clip.licence for clip in clips} == {cmu.stem: CMU_LICENCE, own.stem: "", "77_01": CMU_LICENCE}


def test_a_licence_that_is_given_is_that_of_every_clip(tmp_path):
    write_stand(tmp_path / "35_01.bvh")
    identity = [1.0, 0.0, 0.0, 0.0]
    leg = [*identity, 0.0, *identity, *identity, 0.0]
    frame = [1 / 30, 0.0, 0.8814, 0.0, *identity, *identity, *identity, *leg, *leg]
    (tmp_path / "humanoid3d_stand.txt").write_text(json.dumps({"Loop": "none", "Frames": [frame] * 9}))
    clips = [clip for part in convert_all(tmp_path, licence="CC0", keep_all=True) for clip in part.clips]
    assert [clip.licence for clip in clips] == ["CC0", "CC0"]


def test_only_subjects_of_cmu_are_slow_whatever_their_files_say(tmp_path):
    """A file of somebody else's that begins with the same number keeps its rate."""
    slow, own = find_sources(write_stand(tmp_path / "60_01.bvh")), find_sources(write_stand(tmp_path / "60_beats.bvh"))
    assert load_recording(slow[0], Options()).fps == 60.0
    assert load_recording(own[0], Options()).fps == pytest.approx(120.0, rel=1e-3)


def test_index_gives_rates_and_marks_scenes(folder):
    with (folder / "index.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("clip", "file", "skeleton", "fps", "likely_scene_or_object"))
        rows.writerow(("77_01", "77/77_01.amc", "77/77.asf", "60", ""))
        rows.writerow(("77_02", "77/77_02.amc", "77/77.asf", "120", "yes"))
    parts = convert_all(folder / "77")
    assert [part.clips for part in parts if part.clips] != []
    parts = convert_all(folder)
    clips = {clip.name: clip for part in parts for clip in part.clips}
    assert clips["77_01"].duration == pytest.approx(2.0, abs=0.04)
    assert "77_02" not in clips
    assert any(entry.kind == "needs a scene" for part in parts for entry in part.dropped if entry.name == "77_02")
    assert any(clip.name == "77_02" for part in convert_all(folder, keep_all=True) for clip in part.clips)


def test_rate_of_the_command_line_wins(folder):
    clips = {clip.name: clip for part in convert_all(folder, fps=30.0) for clip in part.clips}
    assert clips["77_01"].num_frames == 121


def test_names_are_unique(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "stand.bvh").write_text(bvh_text([((0.0, 95.0, 0.0), {})] * 3))
    assert [source.name for source in find_sources(tmp_path)] == ["a_stand", "b_stand"]


def test_an_index_above_a_single_file_counts(folder):
    (folder / "index.csv").write_text("file,fps\n77/77_01.amc,60\n")
    (source,) = find_sources(folder / "77" / "77_01.amc")
    assert source.fps == 60.0
    assert [source.fps for source in find_sources(folder / "77")] == [60.0, None, None, None]
    (folder / "77" / "index.csv").write_text("file,fps\n77_01.amc,30\n")
    assert find_sources(folder / "77" / "77_01.amc")[0].fps == 30.0


@pytest.mark.parametrize("index", [b"file,fps\nzero\x00byte.amc,60\n", b"file,fps\na.amc," + b"9" * 200_000, b'file\n"' + b"x" * 200_000])
def test_an_index_that_is_no_table_is_named(folder, index):
    (folder / "index.csv").write_bytes(index)
    with pytest.raises(MotionFileError, match=r"index.csv' is not a table"):
        find_sources(folder)


@pytest.mark.parametrize("fps", ["inf", "1e-9", "2000", "0.5"])
def test_rates_that_no_motion_has_spoil_only_their_files(folder, fps):
    (folder / "index.csv").write_text(f"file,fps\n77/77_01.amc,{fps}\n")
    parts = convert_all(folder)
    assert {clip.name for part in parts for clip in part.clips} == {"77_02", "stand"}
    assert "frames per second" in next(entry.reason for part in parts for entry in part.dropped if entry.name == "77_01")


@pytest.mark.skipif(os.name != "posix", reason="file names of any bytes")
def test_files_of_any_name_become_clips(tmp_path):
    """One name that no clip may have, and a conversion of hours could not be saved."""
    (tmp_path / "in").mkdir()
    text = bvh_text([((0.0, 95.0, 0.0), {})] * 40).encode()
    names = [b"line\nend", b"\xff\xfe", b"back\\slash", b"esc\x1b[31m", b"L" * 240, b"L" * 239 + b"M", b"\xe3\x80\x80wide", b"..", b"plain"]
    for name in names:
        (tmp_path / "in" / os.fsdecode(name + b".bvh")).write_bytes(text)
    (tmp_path / "in" / os.fsdecode(b"bad\xff\t\n.bvh")).write_bytes(b"")
    arguments = (tmp_path / "in", tmp_path / "out.npz", "--processes", "1", "--report", tmp_path / "left.tsv")
    result = run(*arguments)
    assert result.returncode == 0, result.stderr
    clips = [clip.name for clip in load_motion_file(tmp_path / "out.npz")]
    assert len(set(clips)) == len(names) and {"line_end", "__", "back_slash", "esc_[31m", "_wide", "plain"} <= set(clips)
    assert (tmp_path / "left.tsv").read_text().splitlines()[0].startswith("bad___\tunreadable\t")


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--fps", "0"), "--fps is 0"),
        (("--fps", "inf"), "--fps is inf"),
        (("--report", "nowhere/left.tsv"), "does not exist"),
        (("--report", "."), "it is a folder"),
        (("--processes", "0"), "--processes is 0"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stand.bvh").write_text(bvh_text([((0.0, 95.0, 0.0), {})] * 40))
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setattr(sys, "argv", ["convert_mocap_data.py", "stand.bvh", "out.npz", *arguments])
    import convert_mocap_data

    assert convert_mocap_data.main() == 2
    output = capsys.readouterr()
    assert text in output.err and output.err.count("\n") == 1 and "converting" not in output.out
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("stage", ["measure_performer", "retarget_all", "inspect_clips"])
def test_a_clip_that_ends_a_stage_in_an_error_is_named_and_the_others_stay(folder, monkeypatch, stage):
    work = getattr(conversion, stage)

    def breaks(parts, *rest):
        if any(part.name == "77_02" for part in parts):
            raise ZeroDivisionError("nobody has thought of it")
        return work(parts, *rest)

    monkeypatch.setattr(conversion, stage, breaks)
    parts = convert_all(folder)
    dropped = {entry.name: entry.reason for part in parts for entry in part.dropped}
    assert "nobody has thought of it" in dropped["77_02"]
    kept = {clip.name for part in parts for clip in part.clips}
    assert kept == ({"stand"} if stage == "measure_performer" else {"77_01", "stand"})


def test_nothing_to_convert_is_an_error(tmp_path):
    with pytest.raises(MotionFileError, match="no motion files"):
        find_sources(tmp_path)
    for name in ("nowhere", "x" * 5000, "zero\x00byte"):
        with pytest.raises(MotionFileError, match="does not exist"):
            find_sources(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.bvh")
    with pytest.raises(MotionFileError, match="neither a file nor a folder"):
        find_sources(tmp_path / "pipe.bvh")


def test_script_writes_the_file_and_tells_what_was_left_out(folder, tmp_path):
    output = tmp_path / "out.npz"
    report = tmp_path / "dropped.tsv"
    command = [sys.executable, str(SCRIPT), str(folder), str(output), "--processes", "2", "--report", str(report)]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert result.returncode == 0, result.stderr
    assert [clip.name for clip in load_motion_file(output)] == ["77_01", "77_02", "stand"]
    assert "5 left out" in result.stdout and "lost_01" in result.stdout
    assert len(report.read_text().splitlines()) == 5


def test_script_ends_with_one_line_on_a_missing_folder(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path / "nowhere"), str(tmp_path / "out.npz")]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)
    assert result.returncode == 2
    assert "does not exist" in result.stderr and result.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory):
    """A few real clips."""
    archive = real_archive("cmu_train.tar.zst")
    if shutil.which("tar") is None or shutil.which("zstd") is None:
        pytest.skip("tar or zstd is not installed")
    folder = tmp_path_factory.mktemp("cmu")
    wanted = ["index.csv"] + [f"asfamc/{name}" for name in ("16/16.asf", "16/16_15.amc", "16/16_01.amc", "05/05.asf", "05/05_06.amc")]
    names = subprocess.run(["tar", "--zstd", "-tf", str(archive)], capture_output=True, text=True, check=True).stdout.split()
    members = [name for name in names if any(name.endswith(one) for one in wanted)]
    subprocess.run(["tar", "--zstd", "-xf", str(archive), "-C", str(folder), *members], check=True)
    return folder


def test_real_clips_are_accepted_fast_and_on_the_floor(real_folder):
    sources = find_sources(real_folder)
    convert_job(sources[:1], Options())
    begin = time.process_time()
    (clips, _), inspections = look_through(sources, Options())
    elapsed = time.process_time() - begin
    assert {clip.name for clip in clips} == {"16_15", "16_01", "05_06"}
    seconds = sum(clip.duration for clip in clips)
    assert seconds / elapsed > 10.0  # a tenth of what a quiet machine does
    for inspection in inspections:
        assert inspection.largest_jump_deg < 60.0
        assert inspection.sunk_share < 0.1
    walk = next(clip for clip in clips if clip.name == "16_15")
    assert 0.85 < float(np.median(walk.root_pos[:, 2])) < 1.0


def bad_files(folder):
    """One file for each fault, in each format; their names."""
    still = [((0.0, 95.0, 0.0), {})] * 30
    walk = bvh_text(still)
    place = walk.index("Frame Time")
    frames = walk[walk.index("\n", place) + 1 :]
    texts = {
        "empty.bvh": "",
        "keys.bvh": walk.replace("LeftUpLeg", "Something"),
        "nan.bvh": walk.replace(frames, frames.replace("95.0", "nan", 1)),
        "one.bvh": bvh_text(still[:1]),
        "metres.bvh": re.sub(
            r"OFFSET (\S+) (\S+) (\S+)", lambda found: "OFFSET " + " ".join(str(float(one) / 100) for one in found.groups()), walk
        ),
        "empty.txt": "",
        "keys.txt": '{"Loop": "none"}',
        "nan.txt": '{"Loop": "none", "Frames": [[NaN, 0, 0], [0.1, 0, 0]]}',
        "pickle.txt": "cos\nsystem\n(S'touch trace'\ntR.",
        "empty.amc": "",
        "keys.amc": "1\nnose 1 2 3\n",
        "nan.amc": amc_text([amc_frame(1, (0.0, math.nan, 0.0, 0.0, 0.0, 0.0)), amc_frame(2)]),
        "one.amc": amc_text([amc_frame(1)]),
    }
    folder.mkdir()
    (folder / "bad.asf").write_text(asf_text())
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {name.replace(".", "_") for name in texts}  # as clips are called where two files have one stem


def test_every_bad_file_is_named_and_the_good_one_is_kept(tmp_path):
    names = bad_files(tmp_path / "bad")
    (tmp_path / "bad" / "good.bvh").write_text(bvh_text([((0.0, 95.0, 0.0), {})] * 40))
    parts = [part for _, part in convert(make_jobs(find_sources(tmp_path / "bad")), Options(), 1)]
    assert [clip.name for part in parts for clip in part.clips] == ["good_bvh"]
    dropped = {entry.name: entry for part in parts for entry in part.dropped}
    assert set(dropped) == names
    assert all(entry.kind == "unreadable" and entry.reason for entry in dropped.values())
    assert not any("Error:" in entry.reason for entry in dropped.values())
    assert not (tmp_path / "trace").exists()

"""From a folder of files to figures by command, on a small folder of our own and, where it is, on CMU's."""

import contextlib
import csv
import dataclasses
import importlib
import io
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from mocap_files import amc_frame, bvh_text, real_archive, squat_frames, write_asf_amc
from synthetic_motion import swaying_clip

from puffer_phc import build
from puffer_phc.commands import reproduction
from puffer_phc.config import Config, PolicyConfig
from puffer_phc.errors import CheckpointError
from puffer_phc.learn.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from puffer_phc.motion.file import load_motion_file, save_motion_file
from puffer_phc.motion.manifest import HELD_OUT, MISSING, NEEDS_SCENE, REJECTED, SAME, TRAIN, digest, find_entries, read_manifest
from puffer_phc.options import dotted, parse_options
from puffer_phc.resolve import resolve

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = REPOSITORY / "scripts" / "reproduce_cmu.py"
RESULTS = REPOSITORY / "sample_data" / "cmu_results.json"
MANIFEST = REPOSITORY / "sample_data" / "cmu_manifest.csv"


def load_script():
    """The script as a module."""
    with mock.patch.object(sys, "path", [str(SCRIPT.parent), *sys.path]):
        return importlib.import_module(SCRIPT.stem)


def reproduce(*words, code=0):
    """The output of the script, which must end with the exit code ``code``."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", [str(SCRIPT), *map(str, words)]))
        stack.enter_context(mock.patch.dict(os.environ, {"COLUMNS": "200"}))
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(errors))
        assert load_script().main() == code, output.getvalue() + errors.getvalue()
    if code:
        assert errors.getvalue().count("\n") <= 1
    return output.getvalue() + errors.getvalue()


def floating_frames():
    """A performer who stands, rises by two metres, and stays there."""
    rise = [min(max((number - 120) / 240, 0.0), 1.0) for number in range(720)]
    return [amc_frame(number + 1, (0.0, 1.0 + 1.0 - math.cos(math.pi * share), 0.0, 0.0, 0.0, 0.0)) for number, share in enumerate(rise)]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with files, their manifest, and what was made of them."""
    work = tmp_path_factory.mktemp("reproduce")
    files = work / "files"
    write_asf_amc(files, squat_frames(), "77_01")
    write_asf_amc(files, squat_frames(61), "77_02")
    write_asf_amc(files, floating_frames(), "77_03")
    write_asf_amc(files, squat_frames(), "07_01")
    (files / "60_01.bvh").write_text(bvh_text([((0.0, 95.0, 0.0), {})] * 90))
    rows = [("clip", "file", "skeleton", "fps", "format", "category", "description", "note", "likely_scene_or_object")]
    rows += [("77_01", "77_01.amc", "77.asf", 120, "asfamc", "squat", "squat", "", "")]
    rows += [("77_02", "77_02.amc", "77.asf", 120, "asfamc", "squat", "squat on a chair", "", "yes")]
    rows += [("77_03", "77_03.amc", "77.asf", 120, "asfamc", "fly", "fly", "", "")]
    rows += [("07_01", "07_01.amc", "07.asf", 60, "asfamc", "squat", "squat slowly", "", "")]
    rows += [("60_01", "60_01.bvh", "", 60, "bvh_daz", "stand", "stand", "id inferred from file order", "")]
    with (files / "index.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    reproduce("manifest", files, "--output", work / "manifest.csv", "--processes", 1)
    (files / "index.csv").unlink()
    shown = reproduce(*prepare_words(work, files, work / "out"), "--publish")
    (work / "shown.txt").write_text(shown)
    return work


def prepare_words(work, files, out):
    return ["prepare", files, out, "--manifest", work / "manifest.csv", "--results", work / "results.json", "--processes", 1]


def test_the_manifest_says_what_becomes_of_each_clip(work):
    entries = {entry.clip: entry for entry in read_manifest(work / "manifest.csv")}
    assert {clip: entry.role for clip, entry in entries.items()} == {
        "07_01": HELD_OUT,
        "60_01": HELD_OUT,
        "77_01": TRAIN,
        "77_02": NEEDS_SCENE,
        "77_03": REJECTED,
    }
    assert entries["77_02"].reason == "marked by hand: squat on a chair"
    assert "off the floor" in entries["77_03"].reason
    assert "inferred" in entries["60_01"].note and "daz" in entries["60_01"].release
    assert entries["77_01"].address == "http://mocap.cs.cmu.edu/subjects/77/77_01.amc"
    assert str(work) not in (work / "manifest.csv").read_text()


def test_clips_are_converted_at_the_manifests_rates_and_sorted_into_two_files(work):
    (train,) = load_motion_file(work / "out" / "cmu_train.npz")
    held_out = load_motion_file(work / "out" / "cmu_held_out.npz")
    assert train.name == "77_01" and train.num_frames == 31
    assert [(clip.name, clip.num_frames) for clip in held_out] == [("07_01", 61), ("60_01", 45)]


def test_figures_of_the_conversion_stand_beside_the_published_ones(work):
    shown = (work / "shown.txt").read_text()
    assert "5 clips: 5 same" in shown
    assert "left out: 77_03" in shown and "unlike ours" not in shown
    published = json.loads((work / "results.json").read_text())["conversion"]
    assert published["clips"] == 3 and published["frames"] == 31 + 61 + 45
    assert published["date"] and published["commit"]
    figure = published["figures"]["mean distance of 16 joints, ASF/AMC (cm)"]
    assert figure["clips"] == 2 and 0.0 < figure["median"] <= figure["p90"] <= figure["maximum"] < 10.0


def test_missing_and_different_files_end_the_preparation(work, tmp_path):
    files = tmp_path / "files"
    shutil.copytree(work / "files", files)
    (files / "60_01.bvh").unlink()
    (files / "07_01.amc").write_text((files / "77_02.amc").read_text())
    manifest = work / "manifest.csv"
    checked = reproduce("check", files, "--manifest", manifest, code=2)
    assert "missing: 60_01 (60_01.bvh); http://mocap.cs.cmu.edu/subjects/60/60_01.amc" in checked
    assert "different: 07_01 (07_01.amc on 07.asf); http" in checked
    assert "5 clips: 3 same, 1 different, 1 missing" in checked
    refused = reproduce(*prepare_words(work, files, tmp_path / "out"), code=2)
    assert "2 of 5 clips are missing or differ" in refused and "--partial" in refused
    shown = reproduce(*prepare_words(work, files, tmp_path / "out"), "--partial")
    (clip,) = load_motion_file(tmp_path / "out" / "cmu_held_out.npz")
    assert clip.name == "07_01" and clip.num_frames == 31
    row = next(line for line in shown.splitlines() if "│ clips " in line)
    assert [cell.strip() for cell in row.split("│")[1:4]] == ["clips", "3", "2"]


def test_cmus_file_stands_in_for_a_bvh_with_a_note(work, tmp_path):
    files = tmp_path / "files"
    shutil.copytree(work / "files", files)
    (files / "60_01.bvh").unlink()
    write_asf_amc(files / "subjects" / "60", squat_frames(), "60_01")
    checked = reproduce("check", files, "--manifest", work / "manifest.csv")
    assert "5 clips: 4 same, 1 AMC for BVH" in checked
    assert "figures may differ slightly" in checked and "guessed" in checked


@pytest.fixture(scope="module")
def checkpoint(work):
    """A small untrained policy."""
    config = Config(policy=PolicyConfig(layer_sizes=(16,), hidden_size=16))
    config = resolve(config, torch.device("cpu"))
    policy = build.make_policy(config, 934, 57, torch.device("cpu"))
    save_checkpoint(work / "policy.pt", Checkpoint(dataclasses.asdict(config), policy.state_dict(), 934, 57, None))
    return work / "policy.pt"


def test_a_policy_is_evaluated_on_both_sets(work, checkpoint):
    words = ["evaluate", work / "out", "-c", checkpoint, "--results", work / "results.json", "--backend", "mujoco_cpu", "--num-envs", 2]
    reproduce(*words, "--publish", "--trained-by", "python train.py -m {out}/cmu_train.npz", "python train.py -c latest.pt")
    results = json.loads((work / "results.json").read_text())
    assert results["conversion"]["clips"] == 3
    assert results["training"]["commands"] == ["python train.py -m {out}/cmu_train.npz", "python train.py -c latest.pt"]
    published = results["evaluation"]
    assert published["backend"] == "mujoco_cpu"
    assert published["train"]["clips"] == 1 and published["held_out"]["clips"] == 2
    assert 0.0 <= published["held_out"]["eval/success_rate_strict"] <= published["held_out"]["eval/success_rate_relaxed"] <= 1.0
    (tsv,) = (work / "out" / "held_out").glob("results_by_motion_*.tsv")
    assert len(tsv.read_text().splitlines()) == 3
    run = work / "run"
    run.mkdir()
    shutil.copyfile(checkpoint, run / "latest.pt")
    shown = reproduce(*(run if word is checkpoint else word for word in words))
    row = next(line for line in shown.splitlines() if "relaxed success" in line)
    cells = [cell.strip() for cell in row.split("│")[1:-1]]
    assert cells[2] == cells[3] == f"{100.0 * published['train']['eval/success_rate_relaxed']:.1f} %"
    assert "is not the policy" not in shown
    results["evaluation"]["checkpoint_sha256"] = "0" * 64
    other = work / "other.json"
    other.write_text(json.dumps(results))
    words[words.index(work / "results.json")] = other
    assert "is not the policy of the published figures" in reproduce(*words)


def test_training_commands_are_printed_and_run(work, tmp_path):
    results, ran = tmp_path / "results.json", tmp_path / "ran"
    commands = [f"touch {ran}", "false {out}/cmu_train.npz", "touch never"]
    results.write_text(json.dumps({"training": {"commands": commands}}))
    out = (work / "out").resolve()
    assert reproduce("train", out, "--results", results).splitlines() == [f"touch {ran}", f"false {out}/cmu_train.npz", "touch never"]
    assert not ran.exists()
    assert reproduce("train", out, "--results", results, "--run", code=1).splitlines() == [f"touch {ran}", f"false {out}/cmu_train.npz"]
    assert ran.exists()


def test_the_script_runs_by_itself():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(SCRIPT), "check", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == "puffer-phc: 'nowhere' is not a folder"


def test_the_shipped_policy_is_the_published_one():
    checkpoint, results = REPOSITORY / "sample_data" / "cmu_generalist.pt", json.loads(RESULTS.read_text(encoding="utf-8"))
    assert results["evaluation"]["checkpoint_sha256"] == digest(checkpoint).whole
    entries = read_manifest(MANIFEST)
    for role in (TRAIN, HELD_OUT):
        assert results["evaluation"][role]["clips"] == sum(entry.role == role for entry in entries)
    words = shlex.split(results["training"]["commands"][-1].partition("scripts/train.py")[2])
    said = dotted(parse_options([*words[: words.index("-c")], *words[words.index("-c") + 2 :]] if "-c" in words else words).sections())
    trained = load_checkpoint(checkpoint).config
    for name, value in said.items():
        section, _, key = name.partition(".")
        if section in ("policy", "env") and value is not None and key not in ("motion_file", "backend", "num_envs"):
            assert trained[section][key] == value or list(trained[section][key]) == list(value), name


def test_published_figures_of_the_conversion_are_of_all_accepted_clips():
    conversion = json.loads(RESULTS.read_text(encoding="utf-8"))["conversion"]
    assert conversion["clips"] == sum(entry.role in (TRAIN, HELD_OUT) for entry in read_manifest(MANIFEST))
    table = (REPOSITORY / "docs" / "motion.md").read_text(encoding="utf-8")
    for figure in conversion["figures"].values():
        values = (figure["median"], figure["p90"])
        assert "| " + " | ".join(f"{value:.{figure['digits']}f}" for value in values) in table


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "{tmp}/nowhere"], "is not a folder"),
        (["check", "{tmp}", "--manifest", "{tmp}/none.csv"], "can't be read"),
        (["prepare", "{tmp}", "{tmp}/out"], "are missing or differ"),
        (["prepare", "{tmp}", "{tmp}/out", "--partial"], "has no file of the manifest"),
        (["prepare", "{tmp}", "{tmp}/out", "--results", "{tmp}/broken.json"], "can't be read"),
        (["prepare", "{tmp}", "{tmp}/out", "--processes", "0"], "--processes is 0"),
        (["prepare", "{tmp}", "{tmp}/broken.json"], "is not a folder"),
        (["prepare", "{tmp}", "{tmp}/out", "--results", "{tmp}/none/results.json", "--publish"], "does not exist"),
        (["evaluate", "{tmp}/nowhere"], "motion file '{tmp}/nowhere/cmu_train.npz' does not exist; prepare writes it"),
        (["evaluate", "{half}"], "motion file '{half}/cmu_held_out.npz' does not exist"),
        (["evaluate", "{half}", "--results", "{tmp}/broken.json"], "can't be read"),
        (["evaluate", "{half}", "--results", "{tmp}/summary.json"], "holds no published figures"),
        (["evaluate", "{half}", "-c", "{tmp}/none.pt"], "none.pt' does not exist"),
        (["evaluate", "{half}", "-c", "{tmp}"], "holds neither a checkpoint"),
        (["train", "{tmp}", "--results", "{tmp}/none.json"], "names no training command"),
        (["train", "{tmp}", "--results", "{tmp}/broken.json"], "can't be read"),
        (["manifest", "{tmp}"], "no motion files"),
        (["manifest", "{tmp}", "--output", "{tmp}/none/manifest.csv"], "does not exist"),
    ],
)
def test_errors_are_one_line_before_the_work_and_leave_nothing(tmp_path, words, message):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "summary.json").write_text('{"eval/success_rate": 1.0}')
    half = tmp_path / "half"
    half.mkdir()
    save_motion_file(half / "cmu_train.npz", [swaying_clip(40)])
    before = sorted(tmp_path.rglob("*"))
    assert message.format(tmp=tmp_path, half=half) in reproduce(*[word.format(tmp=tmp_path, half=half) for word in words], code=2)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_policy_that_is_not_shipped_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction, "CHECKPOINT", tmp_path / "ours.pt")
    with pytest.raises(CheckpointError, match="lies in this version; name yours with -c"):
        reproduction.evaluate(tmp_path, tmp_path / "ours.pt")
    with pytest.raises(CheckpointError, match=r"'.*theirs\.pt' does not exist"):
        reproduction.evaluate(tmp_path, tmp_path / "theirs.pt")


def test_cmus_own_files_are_those_of_the_manifest(tmp_path):
    """All files where CMU_FOLDER names a folder with them, else some from the archive beside the repository."""
    entries = read_manifest(MANIFEST)
    if "CMU_FOLDER" in os.environ:
        assert {one.state for one in find_entries(entries, Path(os.environ["CMU_FOLDER"]))} == {SAME}
        return
    archive = real_archive("cmu_train.tar.zst")
    if shutil.which("tar") is None or shutil.which("zstd") is None:
        pytest.skip("tar or zstd is not installed")
    members = ["./asfamc/05/05.asf", "./asfamc/05/05_06.amc", "./bvh_mb/27/27_01.bvh", "./bvh_daz/60/60_03.bvh"]
    subprocess.run(["tar", "--zstd", "-xf", str(archive), "-C", str(tmp_path), *members], check=True)
    found = {one.entry.clip: one.state for one in find_entries(entries, tmp_path)}
    assert {clip for clip, state in found.items() if state == SAME} == {"05_06", "27_01", "60_03"}
    assert set(found.values()) == {SAME, MISSING}

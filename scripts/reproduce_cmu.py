"""Our figures on CMU's motions, repeated from the original files: each step is a command.

    python scripts/reproduce_cmu.py check DATA/cmu             # are these the files that we used?
    python scripts/reproduce_cmu.py prepare DATA/cmu OUT       # OUT/cmu_train.npz and OUT/cmu_held_out.npz, and how exact they are
    python scripts/reproduce_cmu.py evaluate OUT               # the shipped policy on both, beside the published figures
    python scripts/reproduce_cmu.py train OUT                  # the commands that trained it

DATA/cmu is any folder with the files that sample_data/cmu_manifest.csv names, however they lie in it; it holds their addresses. The
published figures are in sample_data/cmu_results.json. `manifest` makes the manifest, and `--publish` notes figures as published: both are
for the maintainers.
"""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import torch
import tyro
from rich.console import Console
from rich.table import Table
from typing_extensions import Annotated

from puffer_phc.command_line import run_main, say
from puffer_phc.commands.converting import collect
from puffer_phc.commands.evaluate import evaluated
from puffer_phc.errors import ConfigError, MotionFileError
from puffer_phc.evaluate.tables import write_results
from puffer_phc.files import make_folder, write_whole
from puffer_phc.motion.conversion import Converted, Dropped
from puffer_phc.motion.convert import SLOW_CMU_SUBJECTS, Options, Source, convert, find_sources, index_rows
from puffer_phc.motion.fidelity import Figure, Measured, figures, measure_job
from puffer_phc.motion.file import Clip, save_motion_file
from puffer_phc.motion.manifest import (
    DIFFERENT,
    HELD_OUT,
    MISSING,
    NEEDS_SCENE,
    OTHER_FORMAT,
    REJECTED,
    ROLES,
    STATES,
    TRAIN,
    USABLE,
    Digest,
    Entry,
    Found,
    digest,
    find_entries,
    manifest_jobs,
    read_manifest,
    write_manifest,
)
from puffer_phc.options import parse_options
from puffer_phc.resources import resource_root

SAMPLE_DATA = resource_root() / "sample_data"
MANIFEST = SAMPLE_DATA / "cmu_manifest.csv"
RESULTS = SAMPLE_DATA / "cmu_results.json"
CHECKPOINT = SAMPLE_DATA / "cmu_generalist.pt"

HELD_OUT_SUBJECTS = ("07", "60")
"""Chosen before the first training and never trained on: one who walks and one who dances."""

KNEE_SUBJECTS = ("16",)
"""Performers whose knees are reported."""

CMU_FILES = "http://mocap.cs.cmu.edu/subjects"
RELEASES = {
    "bvh_daz": "https://sites.google.com/a/cgspeed.com/cgspeed/motion-capture/daz-friendly-release",
    "bvh_mb": "https://sites.google.com/a/cgspeed.com/cgspeed/motion-capture/cmu-bvh-conversion",
}
"""Where B. Hahne's conversions of CMU's files are published."""

FIGURES = (
    ("strict success", "eval/success_rate_strict", "%"),
    ("relaxed success", "eval/success_rate_relaxed", "%"),
    ("G-MPJPE, successes", "eval/mpjpe_succ", "mm"),
    ("acceleration error, successes", "eval/accel_dist", "mm/frame²"),
)
"""What is published of an evaluation: label, key of the summary, unit."""

SETS = {TRAIN: "cmu_train.npz", HELD_OUT: "cmu_held_out.npz"}
"""The motion file of each role that has one."""

Folder = Annotated[Path, tyro.conf.Positional]
Results = Dict[str, Any]


def check(folder: Folder, manifest: Path = MANIFEST) -> int:
    """Say which files of the manifest a folder has, and whether they are the ones that we used.

    Args:
        folder: A folder with CMU's files, however they lie in it.
        manifest: The table of files.
    """
    found = find_entries(read_manifest(manifest), folder)
    report(found)
    return 0 if all(one.state in USABLE for one in found) else 2


def prepare(
    folder: Folder,
    out: Folder,
    manifest: Path = MANIFEST,
    results: Path = RESULTS,
    processes: int = os.cpu_count() or 1,
    partial: bool = False,
    publish: bool = False,
) -> int:
    """Convert CMU's files to the motion files that we train on and that we hold out, and measure how exact they are.

    Args:
        folder: A folder with CMU's files, however they lie in it.
        out: The folder to write to.
        manifest: The table of files.
        results: The published figures.
        processes: Worker processes.
        partial: Go on although files are missing or differ. Figures will differ, too.
        publish: Note the figures as published.
    """
    make_folder(out)
    found = find_entries(read_manifest(manifest), folder)
    report(found)
    unusable = [one for one in found if one.state not in USABLE]
    if unusable and not partial:
        raise MotionFileError(f"{len(unusable)} of {len(found)} clips are missing or differ in '{folder}'; --partial goes on without them")
    jobs = manifest_jobs(found)
    if not jobs:
        raise MotionFileError(f"'{folder}' has no file of the manifest")
    converted = convert_all(jobs, processes)
    report_dropped(converted.dropped, found)
    clips = {clip.name: clip for clip in converted.clips}
    for role in SETS:
        save_set(out / SETS[role], [clips[one.entry.clip] for one in found if one.entry.role == role and one.entry.clip in clips])
    measured = [one for job in jobs for one in measure_job(job, clips)]
    own = conversion_figures(converted.clips, measured)
    show_conversion(own, read_results(results).get("conversion", {}))
    if publish:
        publish_section(results, "conversion", own)
    return 0


def evaluate(
    out: Folder,
    checkpoint: Annotated[Path, tyro.conf.arg(aliases=["-c"])] = CHECKPOINT,
    results: Path = RESULTS,
    backend: str = "auto",
    num_envs: int = 0,
    publish: bool = False,
    trained_by: Tuple[str, ...] = (),
) -> int:
    """Evaluate a policy on the clips that it was trained on and on those of people it has never seen.

    Args:
        out: The folder that `prepare` wrote to; the tables by motion go there, too.
        checkpoint: The policy; ours unless given.
        results: The published figures.
        backend: Physics engine, as --env.backend of scripts/train.py.
        num_envs: Clips played at a time, as --eval.num_envs; 0 is automatic.
        publish: Note the figures as published.
        trained_by: With --publish: the commands that trained the policy, {out} in place of the folder.
    """
    own: Results = {}
    for role, name in SETS.items():
        words = ["--mode", "eval", "-c", str(checkpoint), "-m", str(out / name), "--env.backend", backend]
        words += ["--eval.num_envs", str(num_envs)] if num_envs else []
        own.update(evaluate_set(words, out / role, role))
    own["checkpoint_sha256"] = digest(checkpoint).whole
    published = read_results(results).get("evaluation", {})
    if published and published["checkpoint_sha256"] != own["checkpoint_sha256"]:
        say(f"'{checkpoint}' is not the policy of the published figures")
    show_evaluation(own, published)
    if publish:
        publish_section(results, "evaluation", own)
    if publish and trained_by:
        publish_section(results, "training", {"commands": trained_by})
    return 0


def train(out: Folder, results: Path = RESULTS, run: bool = False) -> int:
    """Print the commands that trained the published policy, with the paths of the reader's own files.

    Args:
        out: The folder that `prepare` wrote to.
        results: The published figures.
        run: Run the commands, one after the other, until one fails.
    """
    commands = read_results(results).get("training", {}).get("commands", [])
    if not commands:
        raise ConfigError(f"'{results}' names no training command")
    for command in commands:
        words = [word.replace("{out}", str(out.resolve())) for word in shlex.split(command)]
        say(" ".join(shlex.quote(word) for word in words))
        code = run_command(words) if run else 0
        if code:
            return code
    return 0


def run_command(words: Sequence[str]) -> int:
    """Run a command of the published ones in the repository, by this Python; returns its exit code."""
    program = [sys.executable] if words[0] == "python" else [words[0]]
    try:
        return subprocess.run([*program, *words[1:]], cwd=str(resource_root()), check=False).returncode
    except OSError as error:
        raise ConfigError(f"'{words[0]}' can't be run: {error.strerror}") from error


def make_manifest(folder: Folder, output: Path = MANIFEST, processes: int = os.cpu_count() or 1) -> int:
    """Write the manifest of a folder in which an index.csv describes the files. Clips are converted to see which are rejected.

    Args:
        folder: The folder with the files and the index.
        output: The table to write.
        processes: Worker processes.
    """
    rows = index_rows(folder)
    entries = [describe(source, rows.get(source.path.resolve(), {})) for source in find_sources(folder)]
    found = find_entries(entries, folder)
    dropped = {one.name: one for one in convert_all(manifest_jobs(found), processes).dropped}
    entries = [with_verdict(entry, dropped.get(entry.clip)) for entry in entries]
    write_manifest(output, entries)
    counts = Counter(entry.role for entry in entries)
    say(f"{len(entries)} clips: " + ", ".join(f"{counts[role]} {role}" for role in ROLES))
    return 0


def describe(source: Source, row: Dict[str, str]) -> Entry:
    """What is known of a file before its conversion; its row of the index gives format, category, scene and what was guessed."""
    if not row or source.fps is None:
        raise MotionFileError(f"'{source.path}': no row with a frame rate in an index.csv above it")
    subject = source.name.split("_")[0]
    is_known = re.fullmatch(r"\d+_\d+", source.name) is not None
    own, skeleton = digest(source.path), digest(source.skeleton) if source.skeleton else Digest("", "")
    return Entry(
        clip=source.name,
        role=NEEDS_SCENE if source.needs_scene else HELD_OUT if subject in HELD_OUT_SUBJECTS else TRAIN,
        reason=f"marked by hand: {row['description']}" if source.needs_scene else "",
        category=source.category,
        note=note(source.name, is_known, row),
        format=row["format"],
        file=source.path.name,
        sha256=own.whole,
        sha256_lf=own.text,
        skeleton=source.skeleton.name if source.skeleton else "",
        skeleton_sha256=skeleton.whole,
        skeleton_sha256_lf=skeleton.text,
        fps=source.fps,
        address=f"{CMU_FILES}/{subject}/{source.name}.amc" if is_known else "",
        skeleton_address=f"{CMU_FILES}/{subject}/{subject}.asf" if is_known else "",
        release=RELEASES.get(row["format"], ""),
    )


def note(name: str, is_known: bool, row: Dict[str, str]) -> str:
    """What a reader should know of the file of clip ``name``."""
    if not is_known:
        return f"subject and trial unknown: {row['description']}"
    if name.split("_")[0] in SLOW_CMU_SUBJECTS and "inferred" in row.get("note", ""):
        return "trial number inferred from the order of files; 60 Hz whatever the file says"
    return ""


def with_verdict(entry: Entry, dropped: "Dropped | None") -> Entry:
    """The entry, as rejected where its clip was dropped."""
    if dropped is None or entry.role == NEEDS_SCENE:
        return entry
    return entry._replace(role=REJECTED, reason=f"{dropped.kind}: {dropped.reason}")


def convert_all(jobs: Sequence[Sequence[Source]], processes: int) -> Converted:
    """What comes of all jobs, with a progress bar."""
    return collect(convert(jobs, Options(), processes), sum(len(job) for job in jobs), Console())


def save_set(path: Path, clips: Sequence[Clip]) -> None:
    """Write a motion file of ``clips``; none where there are none, and no old one either."""
    if clips:
        save_motion_file(path, sorted(clips, key=lambda clip: clip.name))
        say(f"wrote {path}: {len(clips)} clips, {sum(clip.num_frames for clip in clips)} frames")
    elif path.exists():
        path.unlink()


def report(found: Sequence[Found]) -> None:
    """What a folder has of the manifest: counts, and each clip that is not as it was."""
    for line in report_lines(found):
        say(line)


def report_lines(found: Sequence[Found]) -> Iterator[str]:
    """One line each."""
    for state in (DIFFERENT, MISSING):
        for one in found:
            if one.state == state:
                where = one.entry.address or one.entry.note
                yield f"{state}: {one.entry.clip} ({one.entry.file}{' on ' + one.entry.skeleton if one.entry.skeleton else ''}); {where}"
    counts = Counter(one.state for one in found)
    yield f"{len(found)} clips: " + ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    if counts[OTHER_FORMAT]:
        yield (
            f"{counts[OTHER_FORMAT]} clips come from CMU's AMC files where we used B. Hahne's BVH conversion of them: "
            "figures may differ slightly from ours"
        )
        guessed = [one.entry.clip for one in found if one.state == OTHER_FORMAT and one.entry.note]
        if guessed:
            yield f"of these, the trial numbers of {len(guessed)} were guessed, so that they may be other trials: {' '.join(guessed)}"


def report_dropped(dropped: Sequence[Dropped], found: Sequence[Found]) -> None:
    """Say what the inspection left out, and where it decided otherwise than in the manifest."""
    left_out = {one.name: one for one in dropped}
    for one in sorted(dropped):
        say(f"left out: {one.name}, {one.kind}: {one.reason}")
    converted = [one.entry for one in found if one.path is not None and one.entry.role != NEEDS_SCENE]
    for entry in converted:
        if (entry.role == REJECTED) != (entry.clip in left_out):
            say(f"unlike ours: {entry.clip} was {'kept' if entry.role == REJECTED else 'left out'} here; the manifest says {entry.role}")


def conversion_figures(clips: Sequence[Clip], measured: Sequence[Measured]) -> Results:
    """The figures of a conversion as they are published."""
    return {
        "clips": len(clips),
        "frames": sum(clip.num_frames for clip in clips),
        "hours": round(sum(clip.duration for clip in clips) / 3600.0, 3),
        "figures": {figure.label: published_figure(figure) for figure in figures(measured, KNEE_SUBJECTS)},
    }


def published_figure(figure: Figure) -> Results:
    """A figure as it is published, under its label."""
    values = {name: round(getattr(figure, name), 4) for name in ("median", "p90", "maximum")}
    return {"clips": figure.clips, **values, "digits": figure.digits}


def show_conversion(own: Results, published: Results) -> None:
    """The reader's figures of the conversion beside the published ones."""
    table = Table("figure: median, p90, maximum", "published", "here", title="Converted clips against their originals")
    for name in ("clips", "frames", "hours"):
        table.add_row(name, str(published.get(name, "–")), str(own[name]))
    for label, figure in own["figures"].items():
        table.add_row(label, *(spread(one) for one in (published.get("figures", {}).get(label), figure)))
    Console().print(table)


def spread(figure: "Dict[str, Any] | None") -> str:
    """Median, 90th percentile and maximum as text."""
    if figure is None:
        return "–"
    return ", ".join(f"{figure[name]:.{figure['digits']}f}" for name in ("median", "p90", "maximum"))


def evaluate_set(words: List[str], folder: Path, role: str) -> Results:
    """The published figures of one set, evaluated by the command line ``words`` of scripts/train.py; tables go to ``folder``."""
    arguments = parse_options(words)
    make_folder(folder)
    session, result, *_ = evaluated(arguments)
    write_results(result, folder)
    summary = result.summary()
    values = {key: None if summary[key] != summary[key] else round(summary[key], 4) for _, key, _ in FIGURES}
    device = torch.cuda.get_device_name(session.device) if session.device.type == "cuda" else f"CPU ({platform.machine()})"
    return {role: {"clips": len(result.names), **values}, "backend": session.config.env.backend, "device": device}


def show_evaluation(own: Results, published: Results) -> None:
    """The reader's figures of the policy beside the published ones."""
    title = f"{own['backend']} on {own['device']}" + (f", published: {published['backend']} on {published['device']}" if published else "")
    table = Table("clips", "figure", "published", "here", title=title)
    for role in SETS:
        theirs = published.get(role, {})
        table.add_row(role, "clips", str(theirs.get("clips", "–")), str(own[role]["clips"]))
        for label, key, unit in FIGURES:
            table.add_row("", label, *(with_unit(one.get(key), unit) for one in (theirs, own[role])))
    Console().print(table)


def with_unit(value: "float | None", unit: str) -> str:
    """A figure as text."""
    if value is None:
        return "–"
    return f"{100.0 * value:.1f} %" if unit == "%" else f"{value:.1f} {unit}"


def read_results(path: Path) -> Results:
    """The published figures, by section; empty where there are none yet. Raises ConfigError for a file that is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"published figures '{path}' can't be read: {error}") from error


def publish_section(path: Path, section: str, figures: Results) -> None:
    """Note ``figures`` as published, with date and commit."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=str(resource_root()), capture_output=True, text=True, check=False
    )
    stamp = {"date": date.today().isoformat(), "commit": described.stdout.strip()}
    write_whole(path, json.dumps({**read_results(path), section: {**stamp, **figures}}, indent=2, ensure_ascii=False) + "\n")
    say(f"noted in {path}")


COMMANDS = {"check": check, "prepare": prepare, "evaluate": evaluate, "train": train, "manifest": make_manifest}


def main() -> int:
    """Parse the command line and run its command."""
    return run_main(lambda: tyro.extras.subcommand_cli_from_dict(COMMANDS, description=__doc__))


if __name__ == "__main__":
    sys.exit(main())

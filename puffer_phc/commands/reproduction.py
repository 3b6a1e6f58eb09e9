"""Our figures on CMU's motions, repeated from the original files, step by step; scripts/reproduce_cmu.py is its command line."""

import os
import platform
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Iterable, List, Sequence, Tuple

import torch
import tyro
from typing_extensions import Annotated

from puffer_phc.command_line import Aside, say
from puffer_phc.commands.converting import check_request, collect
from puffer_phc.commands.published import (
    Results,
    conversion_figures,
    evaluation_figures,
    publish_figures,
    read_results,
    show_conversion,
    show_evaluation,
)
from puffer_phc.commands.session import evaluated, needed_checkpoint, open_session
from puffer_phc.errors import CheckpointError, ConfigError, MotionFileError
from puffer_phc.evaluate.tables import write_results
from puffer_phc.files import check_writable, check_writable_file, is_there, make_folder
from puffer_phc.motion.cmu import describe, with_verdict
from puffer_phc.motion.conversion import Converted
from puffer_phc.motion.convert import CMU_LICENCE, Options, Source, convert, find_sources, index_rows
from puffer_phc.motion.fidelity import measure_job
from puffer_phc.motion.file import Clip, save_motion_file
from puffer_phc.motion.manifest import (
    HELD_OUT,
    ROLES,
    TRAIN,
    USABLE,
    account,
    digest,
    disagreements,
    find_entries,
    manifest_jobs,
    read_manifest,
    write_manifest,
)
from puffer_phc.options import Parsed, parse_options
from puffer_phc.resources import resource_root

SAMPLE_DATA = resource_root() / "sample_data"
MANIFEST = SAMPLE_DATA / "cmu_manifest.csv"
RESULTS = SAMPLE_DATA / "cmu_results.json"
CHECKPOINT = SAMPLE_DATA / "cmu_generalist.pt"

SETS = {TRAIN: "cmu_train.npz", HELD_OUT: "cmu_held_out.npz"}
"""The motion file of each role that has one."""

Folder = Annotated[Path, tyro.conf.Positional]


def check(folder: Folder, manifest: Path = MANIFEST) -> int:
    """Say which files of the manifest a folder has, and whether they are the ones that we used.

    Args:
        folder: A folder with CMU's files, however they lie in it.
        manifest: The table of files.
    """
    found = find_entries(read_manifest(manifest), folder)
    say_all(account(found))
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
    check_request(None, results if publish else None, processes)
    check_writable(out)
    published = read_results(results).get("conversion", {})
    found = find_entries(read_manifest(manifest), folder)
    say_all(account(found))
    unusable = [one for one in found if one.state not in USABLE]
    if unusable and not partial:
        raise MotionFileError(f"{len(unusable)} of {len(found)} clips are missing or differ in '{folder}'; --partial goes on without them")
    jobs = manifest_jobs(found)
    if not jobs:
        raise MotionFileError(f"'{folder}' has no file of the manifest")
    make_folder(out)
    converted = convert_all(jobs, processes)
    say_all(f"left out: {one.name}, {one.kind}: {one.reason}" for one in sorted(converted.dropped))
    say_all(disagreements(found, (one.name for one in converted.dropped)))
    clips = {clip.name: clip for clip in converted.clips}
    for role in SETS:
        save_set(out / SETS[role], [clips[one.entry.clip] for one in found if one.entry.role == role and one.entry.clip in clips])
    measured = [one for job in jobs for one in measure_job(job, clips)]
    own = conversion_figures(converted.clips, measured)
    show_conversion(own, published)
    if publish:
        publish_figures(results, conversion=own)
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
    if checkpoint == CHECKPOINT and not is_there(checkpoint):
        raise CheckpointError("no policy that was trained on CMU's motions lies in this version; name yours with -c")
    if publish:
        check_writable_file(results)
    published = read_results(results).get("evaluation", {})
    options = ["--mode", "eval", "-c", str(checkpoint), "--env.backend", backend]
    options += ["--eval.num_envs", str(num_envs)] if num_envs else []
    asked = {role: prepared(options, out / name) for role, name in SETS.items()}
    own: Results = {"checkpoint_sha256": digest(needed_checkpoint(asked[TRAIN])).whole}
    for role, arguments in asked.items():
        own.update(evaluate_set(arguments, out / role, role))
    if published and published["checkpoint_sha256"] != own["checkpoint_sha256"]:
        say(f"'{checkpoint}' is not the policy of the published figures")
    show_evaluation(own, published)
    if publish:
        publish_figures(results, evaluation=own, **({"training": {"commands": trained_by}} if trained_by else {}))
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
    check_request(None, output, processes)
    rows = index_rows(folder)
    entries = [describe(source, rows.get(source.path.resolve(), {})) for source in find_sources(folder)]
    found = find_entries(entries, folder)
    dropped = {one.name: one for one in convert_all(manifest_jobs(found), processes).dropped}
    entries = [with_verdict(entry, dropped.get(entry.clip)) for entry in entries]
    write_manifest(output, entries)
    counts = Counter(entry.role for entry in entries)
    say(f"{len(entries)} clips: " + ", ".join(f"{counts[role]} {role}" for role in ROLES))
    return 0


def convert_all(jobs: Sequence[Sequence[Source]], processes: int) -> Converted:
    """What comes of all jobs, with a progress bar."""
    return collect(convert(jobs, Options(licence=CMU_LICENCE), processes), sum(len(job) for job in jobs), Aside())


def save_set(path: Path, clips: Sequence[Clip]) -> None:
    """Write a motion file of ``clips``; none where there are none, and no old one either."""
    if clips:
        save_motion_file(path, sorted(clips, key=lambda clip: clip.name))
        say(f"wrote {path}: {len(clips)} clips, {sum(clip.num_frames for clip in clips)} frames")
    elif path.exists():
        path.unlink()


def say_all(lines: Iterable[str]) -> None:
    """Say each of them."""
    for line in lines:
        say(line)


def prepared(options: List[str], motion_file: Path) -> Parsed:
    """The command line ``options`` of scripts/train.py on ``motion_file``. Raises MotionFileError where that was not prepared."""
    arguments = parse_options([*options, "-m", str(motion_file)])
    if not is_there(motion_file):
        raise MotionFileError(f"motion file '{motion_file}' does not exist; prepare writes it")
    return arguments


def evaluate_set(arguments: Parsed, folder: Path, role: str) -> Results:
    """The published figures of one set, evaluated as ``arguments`` say; tables go to ``folder``."""
    check_writable(folder)
    with open_session(arguments) as session:
        result = evaluated(session, arguments).result
        write_results(result, folder)
        device = torch.cuda.get_device_name(session.device) if session.device.type == "cuda" else f"CPU ({platform.machine()})"
        return {role: evaluation_figures(result), "backend": session.config.env.backend, "device": device}

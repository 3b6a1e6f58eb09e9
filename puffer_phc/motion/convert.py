"""Folders of motion capture files to clips of the humanoid: every file converted, or named with the reason why not."""

import csv
import re
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch

from puffer_phc.errors import MotionFileError
from puffer_phc.files import is_there
from puffer_phc.motion.asf import find_skeleton
from puffer_phc.motion.asf_amc import CMU_FPS, load_amc
from puffer_phc.motion.bvh import load_bvh
from puffer_phc.motion.clip_names import distinct, plain_name
from puffer_phc.motion.conversion import Converted, Dropped, failure, share_out
from puffer_phc.motion.deepmimic import import_deepmimic
from puffer_phc.motion.file import Clip
from puffer_phc.motion.inspect import OK, REPAIRED, Inspection, inspect_clips
from puffer_phc.motion.joint_map import JointMap
from puffer_phc.motion.performer import MOST_FRAMES, Performer, measure_performer
from puffer_phc.motion.recording import Recording, joinable
from puffer_phc.motion.retarget import retarget_all

SUFFIXES = (".amc", ".bvh", ".txt")

LARGEST_JOB = 64
"""Files that one process takes at a time at most; it holds them all in memory to measure their performer."""

CMU_LICENCE = (
    'Carnegie Mellon University Motion Capture Database: "This dataset of motions is free for all uses." The data used in this project was '
    "obtained from mocap.cs.cmu.edu. The database was created with funding from NSF EIA-0196217."
)

SLOW_CMU_SUBJECTS = ("60", "61")
"""Recorded at 60 Hz instead of 120, whatever their files say."""

_CMU_NAME = re.compile(r"(\d{2,3})_\d{2}")
"""Subject and trial, as CMU's files are named wherever they are published."""


class Options(NamedTuple):
    """How files are to be read; what is None is found out for each file."""

    fps: Optional[float] = None
    joint_map: Optional[JointMap] = None
    licence: Optional[str] = None
    """The same text for all; otherwise CMU's for files that are named as CMU's are, a DeepMimic file's own, and none for others."""
    keep_all: bool = False
    """Keep clips that the inspection rejects or that need a scene."""


class Source(NamedTuple):
    """One motion file and what an ``index.csv`` above it says of it."""

    path: Path
    name: str
    """Unique among the sources."""
    fps: Optional[float]
    skeleton: Optional[Path]
    needs_scene: bool
    category: str
    """What the index calls the motion; empty without one."""


class Looked(NamedTuple):
    """What a job gives back, and what the inspection found."""

    converted: Converted
    inspections: List[Inspection]


def index_rows(folder: Path) -> Dict[Path, Dict[str, str]]:
    """Rows of all ``index.csv`` under ``folder`` by the file that they describe."""
    return _together(sorted(folder.rglob("index.csv")))


def _rows_above(folder: Path) -> Dict[Path, Dict[str, str]]:
    """Those of all ``index.csv`` in ``folder`` and in the folders above it; the nearest is right."""
    folder = folder.resolve()
    return _together([place / "index.csv" for place in (folder, *folder.parents)][::-1])


def _together(indices: Sequence[Path]) -> Dict[Path, Dict[str, str]]:
    """The rows of those ``indices`` that exist; later ones are right."""
    return {file: row for index in indices if index.is_file() for file, row in read_index(index).items()}


def read_index(index: Path) -> Dict[Path, Dict[str, str]]:
    """Rows of a table of files (file, fps, skeleton, category, likely_scene_or_object) by the file that they describe.

    Raises MotionFileError where it is no table.
    """
    rows: Dict[Path, Dict[str, str]] = {}
    try:
        with index.open(newline="", encoding="utf-8", errors="replace") as stream:
            for row in csv.DictReader(stream):
                if row.get("file"):
                    known = {key: value or "" for key, value in row.items() if key}
                    rows[(index.parent / row["file"]).resolve()] = {**known, "": str(index.parent)}
    except (csv.Error, ValueError, RuntimeError) as error:  # endless fields, zero bytes, rings of links
        raise MotionFileError(f"index '{index}' is not a table of files ({error})") from error
    return rows


def _number(text: str) -> Optional[float]:
    """A positive number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value > 0 else None


def _source(path: Path, name: str, row: Dict[str, str]) -> Source:
    """A source from a file and the row of the index that names it."""
    skeleton = Path(row[""]) / row["skeleton"] if row.get("skeleton") else None
    return Source(
        path,
        name,
        _number(row.get("fps", "")),
        skeleton,
        row.get("likely_scene_or_object", "").lower() in ("yes", "true", "1"),
        row.get("category", ""),
    )


def find_sources(path: Path) -> List[Source]:
    """All motion files at or under ``path``, sorted; raises ``MotionFileError`` if there are none."""
    path = Path(path)
    if not is_there(path):
        raise MotionFileError(f"'{path}' does not exist")
    if not (path.is_dir() or path.is_file()):
        raise MotionFileError(f"'{path}' is neither a file nor a folder")
    folder = path if path.is_dir() else path.parent
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()) if path.is_dir() else [path]
    if not files or files[0].suffix.lower() not in SUFFIXES:
        raise MotionFileError(f"'{path}': no motion files; known are {', '.join(SUFFIXES)}")
    rows = {**_rows_above(folder), **(index_rows(folder) if path.is_dir() else {})}
    stems = Counter(file.stem for file in files)
    names = [file.stem if stems[file.stem] == 1 else "_".join(file.relative_to(folder).with_suffix("").parts) for file in files]
    if len(set(names)) < len(names):
        names = [f"{name}_{file.suffix[1:]}" for name, file in zip(names, files)]
    names = distinct([plain_name(name) for name in names])
    return [_source(file, name, rows.get(file.resolve(), {})) for file, name in zip(files, names)]


def _group_of(source: Source) -> str:
    """Sources with equal texts are likely of one performer and go into one job."""
    if source.path.suffix.lower() == ".amc":
        try:
            return str(source.skeleton or find_skeleton(source.path))
        except MotionFileError:
            return str(source.path)
    return str(source.path.parent)


def make_jobs(sources: Sequence[Source]) -> List[List[Source]]:
    """The sources in groups of one performer each, largest files first, none larger than ``LARGEST_JOB``."""
    groups: Dict[str, List[Source]] = defaultdict(list)
    for source in sources:
        groups[_group_of(source)].append(source)
    jobs = [group[begin : begin + LARGEST_JOB] for group in groups.values() for begin in range(0, len(group), LARGEST_JOB)]
    return sorted(jobs, key=lambda job: -sum(source.path.stat().st_size for source in job))


def _cmu_subject(source: Source) -> Optional[str]:
    """The number of the performer where the file is named as CMU's are."""
    match = _CMU_NAME.fullmatch(source.path.stem)
    return match[1] if match else None


def load_recording(source: Source, options: Options) -> Recording:
    """The recording in an AMC or BVH file."""
    subject = _cmu_subject(source)
    fps = options.fps or source.fps or (60.0 if subject in SLOW_CMU_SUBJECTS else None)
    if source.path.suffix.lower() == ".amc":
        recording = load_amc(source.path, source.skeleton, fps or CMU_FPS)
    else:
        recording = load_bvh(source.path, options.joint_map, fps)
    known = "" if subject is None else CMU_LICENCE
    return recording._replace(name=source.name, licence=known if options.licence is None else options.licence)


def _load_deepmimic(source: Source, options: Options) -> Clip:
    """The clip in a DeepMimic file."""
    clip = import_deepmimic(source.path)
    return clip._replace(name=source.name, licence=clip.licence if options.licence is None else options.licence)


def _read(sources: Sequence[Source], options: Options) -> Tuple[List[Clip], List[Recording], List[Dropped]]:
    """Clips that need no retargeting, recordings that do, and files that cannot be read."""
    clips: List[Clip] = []
    recordings: List[Recording] = []
    dropped: List[Dropped] = []
    for source in sources:
        if source.needs_scene and not options.keep_all:
            dropped.append(Dropped(source.name, "needs a scene", "marked so in index.csv"))
            continue
        try:
            if source.path.suffix.lower() == ".txt":
                clips.append(_load_deepmimic(source, options))
            else:
                recordings.append(load_recording(source, options))
        except Exception as error:
            dropped.append(failure(source.name, error))
    return clips, recordings, dropped


def _retarget_group(takes: Sequence[Recording], performer: Performer) -> Tuple[List[Clip], List[Dropped]]:
    """Takes that may be joined as clips: all at once, or one by one where one of them fails."""
    try:
        return retarget_all(takes, performer), []
    except Exception as error:
        if len(takes) == 1:
            return [], [failure(takes[0].name, error)]
    results = [_retarget_group([take], performer) for take in takes]
    return [clip for clips, _ in results for clip in clips], [entry for _, dropped in results for entry in dropped]


def _retarget_performer(takes: Sequence[Recording]) -> Tuple[List[Clip], List[Dropped]]:
    """All takes of one performer, who is measured on them, as clips."""
    try:
        performer = measure_performer(takes)
    except Exception as error:
        return [], [failure(take.name, error) for take in takes]
    results = [_retarget_group(group, performer) for group in joinable(takes, MOST_FRAMES)]
    return [clip for clips, _ in results for clip in clips], [entry for _, dropped in results for entry in dropped]


def _retarget_all(recordings: Sequence[Recording]) -> Tuple[List[Clip], List[Dropped]]:
    """The recordings as clips, each performer measured on all of them."""
    performers: Dict[str, List[Recording]] = defaultdict(list)
    for recording in recordings:
        performers[recording.skeleton].append(recording)
    results = [_retarget_performer(takes) for takes in performers.values()]
    return [clip for clips, _ in results for clip in clips], [entry for _, dropped in results for entry in dropped]


def _inspected(clips: Sequence[Clip]) -> Tuple[List[Tuple[Clip, Inspection]], List[Dropped]]:
    """Clips with what was found in them: all at once, or one by one where one of them fails."""
    try:
        return inspect_clips(clips), []
    except Exception as error:
        if len(clips) == 1:
            return [], [failure(clips[0].name, error)]
    results = [_inspected([clip]) for clip in clips]
    return [pair for pairs, _ in results for pair in pairs], [entry for _, dropped in results for entry in dropped]


def look_through(sources: Sequence[Source], options: Options) -> Looked:
    """Everything that comes of the files of one job, and what was found in all of it."""
    torch.set_num_threads(1)
    clips, recordings, dropped = _read(sources, options)
    retargeted, failed = _retarget_all(recordings)
    pairs, unseen = _inspected(clips + retargeted)
    dropped += failed + unseen
    kept: List[Clip] = []
    for clip, inspection in pairs:
        if options.keep_all or inspection.verdict in (OK, REPAIRED):
            kept.append(clip)
        else:
            dropped.append(Dropped(clip.name, inspection.verdict, inspection.reasons))
    return Looked(Converted(kept, dropped), [inspection for _, inspection in pairs])


def convert_job(sources: Sequence[Source], options: Options) -> Converted:
    """Everything that comes of the files of one job."""
    return look_through(sources, options).converted


def convert(jobs: Sequence[Sequence[Source]], options: Options, processes: int) -> Iterator[Tuple[int, Converted]]:
    """The number of files of each job and what came of it, in order, worked on by ``processes`` processes."""
    return share_out(jobs, partial(convert_job, options=options), processes)

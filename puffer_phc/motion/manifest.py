"""A table of motion capture files by hash, without their motion: what a reader needs to gather the same files, and a check that they are.

One row a clip (``Entry``), as CSV. Hashes are of the whole file and of its text with line ends as LF: copies of old text files differ
in nothing else as often as not.
"""

import csv
import hashlib
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from puffer_phc.errors import MotionFileError
from puffer_phc.files import whole_file
from puffer_phc.motion.convert import Source

TRAIN, HELD_OUT, NEEDS_SCENE, REJECTED = ROLES = ("train", "held_out", "needs_scene", "rejected")
"""What becomes of a clip: trained on, only evaluated, left out for the scene that it needs, left out by the inspection."""

SAME, LINE_ENDS, OTHER_FORMAT, DIFFERENT, MISSING = STATES = ("same", "other line ends", "AMC for BVH", "different", "missing")
"""What a folder has of a clip, best first: see ``Found``."""

USABLE = (SAME, LINE_ENDS, OTHER_FORMAT)
"""States of clips that repeat the published ones, or nearly."""

_HASH = re.compile(r"[0-9a-f]{64}")


class Digest(NamedTuple):
    """SHA-256 of a file, in hexadecimal."""

    whole: str
    text: str
    """Of its bytes with CR LF as LF."""


class Entry(NamedTuple):
    """One row of a manifest; texts are empty where there is nothing to say."""

    clip: str
    """Unique."""
    role: str
    """One of ``ROLES``."""
    reason: str
    """Why a clip is left out."""
    category: str
    """What the motion is called."""
    note: str
    """What a reader should know of the file."""
    format: str
    """asfamc, bvh_daz or bvh_mb."""
    file: str
    """Name of the file, without folder."""
    sha256: str
    sha256_lf: str
    """The same with line ends as LF."""
    skeleton: str
    """Name of the ASF file of an AMC file."""
    skeleton_sha256: str
    skeleton_sha256_lf: str
    fps: float
    """Frames per second, whatever the file says."""
    address: str
    """CMU's own AMC file of the trial."""
    skeleton_address: str
    """CMU's ASF file of the subject."""
    release: str
    """Where a conversion of CMU's files is published."""

    @property
    def digest(self) -> Digest:
        """Of the motion file."""
        return Digest(self.sha256, self.sha256_lf)

    @property
    def skeleton_digest(self) -> Digest:
        """Of the skeleton file."""
        return Digest(self.skeleton_sha256, self.skeleton_sha256_lf)

    @property
    def performer(self) -> str:
        """Equal for clips of one performer on one skeleton, who is measured on all of them."""
        return self.skeleton_sha256_lf or f"{self.format} {self.clip.split('_')[0]}"


class Found(NamedTuple):
    """What a folder has of one entry."""

    entry: Entry
    state: str
    """SAME: the files of the manifest; LINE_ENDS: but for their line ends; OTHER_FORMAT: CMU's AMC and ASF where the manifest has a
    BVH file; DIFFERENT: files of these names with other contents; MISSING: a file is not there."""
    path: Optional[Path] = None
    skeleton: Optional[Path] = None


def digest(path: Path) -> Digest:
    """The hashes of a file."""
    content = path.read_bytes()
    return Digest(*(hashlib.sha256(version).hexdigest() for version in (content, content.replace(b"\r\n", b"\n"))))


def read_manifest(path: Path) -> List[Entry]:
    """The entries of a manifest. Raises MotionFileError for one that is missing, or whose rows contradict themselves or each other."""
    try:
        with Path(path).open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            entries = [_entry(row, f"manifest '{path}', line {reader.line_num}") for row in reader]
    except (OSError, UnicodeError, csv.Error) as error:
        raise MotionFileError(f"manifest '{path}' can't be read: {getattr(error, 'strerror', None) or error}") from error
    repeated = [clip for clip, count in Counter(entry.clip for entry in entries).items() if count > 1]
    if repeated or not entries:
        raise MotionFileError(f"manifest '{path}': " + (f"clip '{repeated[0]}' has two rows" if repeated else "no clips"))
    return entries


def write_manifest(path: Path, entries: Iterable[Entry]) -> None:
    """Write ``entries`` by clip name; the file appears whole or not at all."""
    with whole_file(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Entry._fields)
        writer.writerows({**entry._asdict(), "fps": f"{entry.fps:g}"}.values() for entry in sorted(entries))


def _entry(row: Dict[str, str], where: str) -> Entry:
    """A row as an entry, checked."""
    lacking = [name for name in Entry._fields if row.get(name) is None]
    if lacking or None in row:
        raise MotionFileError(f"{where}: {'no column ' + lacking[0] if lacking else 'too many columns'}")
    if row["role"] not in ROLES:
        raise MotionFileError(f"{where}: role is '{row['role']}'; there are {', '.join(ROLES)}")
    hashes = [row["sha256"], row["sha256_lf"]] + ([row["skeleton_sha256"], row["skeleton_sha256_lf"]] if row["skeleton"] else [])
    if not all(_HASH.fullmatch(value) for value in hashes):
        raise MotionFileError(f"{where}: a hash is not 64 hexadecimal digits")
    try:
        fps = float(row["fps"])
    except ValueError:
        fps = 0.0
    if not 0.0 < fps < 1e4:
        raise MotionFileError(f"{where}: fps is '{row['fps']}', must be a positive number")
    return Entry(**{**{name: row[name] for name in Entry._fields}, "fps": fps})


def find_entries(entries: Sequence[Entry], folder: Path) -> List[Found]:
    """What is anywhere under ``folder`` of each entry, by file names and then contents. Raises MotionFileError if it is no folder."""
    if not Path(folder).is_dir():
        raise MotionFileError(f"'{folder}' is not a folder")
    places: Dict[str, List[Path]] = defaultdict(list)
    names = {name for entry in entries for name in (entry.file, entry.skeleton, *map(_file_name, (entry.address, entry.skeleton_address)))}
    for path in sorted(Path(folder).rglob("*")):
        if path.name in names and path.is_file():
            places[path.name].append(path)
    digests: Dict[Path, Digest] = {}
    return [_find(entry, places, digests) for entry in entries]


def _file_name(address: str) -> str:
    return address.rsplit("/", 1)[-1]


def _find(entry: Entry, places: Dict[str, List[Path]], digests: Dict[Path, Digest]) -> Found:
    """The entry's own files, else CMU's of the trial."""
    state, path = _best(entry.file, entry.digest, places, digests)
    skeleton = None
    if entry.skeleton:
        skeleton_state, skeleton = _best(entry.skeleton, entry.skeleton_digest, places, digests)
        state = max(state, skeleton_state, key=STATES.index)
    if state in (SAME, LINE_ENDS) or entry.skeleton or not entry.address:
        return Found(entry, state, path, skeleton)
    own = [places.get(_file_name(address)) for address in (entry.address, entry.skeleton_address)]
    if all(own):
        return Found(entry, OTHER_FORMAT, *(paths[0] for paths in own if paths))
    return Found(entry, state, path)


def _best(name: str, wanted: Digest, places: Dict[str, List[Path]], digests: Dict[Path, Digest]) -> Tuple[str, Optional[Path]]:
    """The nearest to ``wanted`` among the files of that name, and how near it is."""

    def candidates() -> Iterator[Tuple[str, Path]]:
        for path in places.get(name, []):
            if path not in digests:
                digests[path] = digest(path)
            yield _state(digests[path], wanted), path

    return min(candidates(), key=lambda candidate: STATES.index(candidate[0]), default=(MISSING, None))


def _state(actual: Digest, wanted: Digest) -> str:
    if actual.whole == wanted.whole:
        return SAME
    return LINE_ENDS if actual.text == wanted.text else DIFFERENT


def manifest_jobs(found: Iterable[Found]) -> List[List[Source]]:
    """What can be converted of ``found``, one job a performer, so that the folders in which files lie make no difference.

    Clips that need a scene are left out; those that the inspection will reject are not, for their performer is measured on them, too.
    """
    jobs: Dict[str, List[Source]] = defaultdict(list)
    for one in sorted(found):
        if one.path is not None and one.entry.role != NEEDS_SCENE:
            performer = f"{one.state} {one.skeleton}" if one.state == OTHER_FORMAT else one.entry.performer
            jobs[performer].append(Source(one.path, one.entry.clip, one.entry.fps, one.skeleton, False, one.entry.category))
    return list(jobs.values())


def account(found: Sequence[Found]) -> Iterator[str]:
    """What a folder has of a manifest, line by line: clips that are not as they were, and counts."""
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


def disagreements(found: Sequence[Found], dropped: Iterable[str]) -> Iterator[str]:
    """Where the inspection, which left out the clips ``dropped``, decided otherwise than in the manifest, line by line."""
    left_out = set(dropped)
    for entry in (one.entry for one in found if one.path is not None and one.entry.role != NEEDS_SCENE):
        if (entry.role == REJECTED) != (entry.clip in left_out):
            yield f"unlike ours: {entry.clip} was {'kept' if entry.role == REJECTED else 'left out'} here; the manifest says {entry.role}"

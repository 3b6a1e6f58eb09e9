"""What we know of the motions of CMU's Graphics Lab Motion Capture Database: addresses, and whom no policy is trained on."""

import re
from typing import Dict, Optional

from puffer_phc.errors import MotionFileError
from puffer_phc.motion.conversion import Dropped
from puffer_phc.motion.convert import SLOW_CMU_SUBJECTS, Source
from puffer_phc.motion.manifest import HELD_OUT, NEEDS_SCENE, REJECTED, TRAIN, Digest, Entry, digest

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


def with_verdict(entry: Entry, dropped: Optional[Dropped]) -> Entry:
    """The entry, as rejected where its clip was dropped."""
    if dropped is None or entry.role == NEEDS_SCENE:
        return entry
    return entry._replace(role=REJECTED, reason=f"{dropped.kind}: {dropped.reason}")

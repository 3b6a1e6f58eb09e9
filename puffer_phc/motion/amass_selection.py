"""Which files of AMASS are wanted: splits, and lists of clips in the first release's names."""

from pathlib import Path
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from puffer_phc.errors import MotionFileError
from puffer_phc.motion.clip_names import plain_name
from puffer_phc.motion.conversion import UNREADABLE, Dropped
from puffer_phc.motion.plain_pickle import load_plain_pickle

SPLITS: Dict[str, Tuple[str, ...]] = {
    "train": (
        "CMU", "MPI_Limits", "TotalCapture", "KIT", "EKUT", "TCD_handMocap", "BMLhandball", "DanceDB", "ACCAD", "BMLmovi",
        "BioMotionLab_NTroje", "Eyes_Japan_Dataset", "DFaust_67",
    ),
    "valid": ("HumanEva", "MPI_HDM05", "SFU", "MPI_mosh"),
    "test": ("Transitions_mocap", "SSM_synced"),
}  # fmt: skip
"""Data sets of PHC's splits; with all filters the first gives its 11,313 clips."""

LATER_NAMES: Dict[str, str] = {
    "PosePrior": "MPI_Limits",
    "TCDHands": "TCD_handMocap",
    "BMLrub": "BioMotionLab_NTroje",
    "EyesJapanDataset": "Eyes_Japan_Dataset",
    "DFaust": "DFaust_67",
    "HDM05": "MPI_HDM05",
    "MoSh": "MPI_mosh",
    "Transitions": "Transitions_mocap",
    "SSM": "SSM_synced",
}
"""What the SMPL-X release calls data sets, and what the first release and the splits call them."""

SHORTEST_FRAMES = 10
"""Frames at 30 per second below which a clip is left out."""

CURABLE_ISSUES = ("sitting", "airborne")
"""Issues of the occlusion list that spoil a clip only from a known frame on."""


class Source(NamedTuple):
    """One file to convert."""

    path: Path
    name: str
    """The clip's, unique."""
    num_frames: Optional[int] = None
    """Frames at 30 per second to keep at most."""


class Occlusion(NamedTuple):
    """What PHC's list says of a clip."""

    issue: str
    num_frames: Optional[int]
    """Frames at 30 per second before the issue; None where the whole clip has it."""


class Selection(NamedTuple):
    """Which files are wanted."""

    split: str = "train"
    """train, valid, test or all."""
    name_offset: int = -3
    """Path components, from the end, that name a clip; the first of them is the data set."""
    occlusions: Mapping[str, Occlusion] = {}
    """By clip name."""
    only: Optional[FrozenSet[str]] = None
    """Clip names to convert, all others are left out."""


def find_files(folder: Path) -> List[Path]:
    """All .npz files under ``folder``, sorted; raises MotionFileError if there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise MotionFileError(f"'{folder}' is not a folder; AMASS's files are expected in <folder>/<data set>/<subject>/")
    files = sorted(path for path in folder.rglob("*.npz") if path.is_file())
    if not files:
        raise MotionFileError(f"'{folder}' has no .npz files; unpack AMASS's archives first")
    return files


def select(files: Sequence[Path], selection: Selection) -> Tuple[List[Source], List[Dropped]]:
    """The files to convert and those to leave out, by their names alone."""
    sources: List[Source] = []
    dropped: List[Dropped] = []
    taken: Dict[str, Path] = {}
    for path in files:
        parts = path.absolute().with_suffix("").parts[selection.name_offset :]
        name = plain_name("0-" + "_".join(parts))
        verdict = _verdict(name, parts, selection)
        if verdict is None and name in taken:
            verdict = Dropped(name, UNREADABLE, f"has the same name as '{taken[name]}'; --name-offset -4 may tell them apart")
        if verdict is not None:
            dropped.append(verdict)
            continue
        taken[name] = path
        occlusion = selection.occlusions.get(first_release_name(parts))
        sources.append(Source(path, name, None if occlusion is None else occlusion.num_frames))
    return sources, dropped


def first_release_name(parts: Sequence[str]) -> str:
    """The name of a clip in the first release's terms, in which lists of clips are written; ``parts`` are its path components."""
    data_set = LATER_NAMES.get(parts[0], parts[0])
    name = "0-" + "_".join((data_set, *parts[1:]))
    return name[: -len("_stageii")] + "_poses" if name.endswith("_stageii") else name


def _verdict(name: str, parts: Sequence[str], selection: Selection) -> Optional[Dropped]:
    """Why a file is left out, if it is."""
    data_set = LATER_NAMES.get(parts[0], parts[0])
    if selection.split != "all" and data_set not in SPLITS[selection.split]:
        others = [split for split, members in SPLITS.items() if data_set in members]
        return Dropped(name, "other data set", f"'{parts[0]}' is in {' '.join(others) or 'none of the splits; --split all takes it'}")
    old_name = first_release_name(parts)
    if selection.only is not None and not {name, old_name} & selection.only:
        return Dropped(name, "not asked for", "not among the failed keys")
    occlusion = selection.occlusions.get(old_name)
    if occlusion is None:
        return None
    if occlusion.num_frames is None:
        return Dropped(name, "filtered", f"occlusion list: {occlusion.issue}")
    if occlusion.num_frames < SHORTEST_FRAMES:
        return Dropped(name, "filtered", f"occlusion list: {occlusion.issue} from the start")
    return None


def read_occlusions(path: Path) -> Dict[str, Occlusion]:
    """PHC's list of clips with objects or missing floor, by name. Raises MotionFileError for anything else."""
    where = f"occlusion file '{path}'"
    entries = load_plain_pickle(path)
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise MotionFileError(f"{where} is not a dictionary of dictionaries with 'issue' and 'idxes'")
    return {str(name): _occlusion(entry, f"{where}, '{name}'") for name, entry in entries.items()}


def _occlusion(entry: Mapping[str, Any], where: str) -> Occlusion:
    """What an entry of the list says, with ``issue`` and ``idxes``, frames at 30 per second."""
    issue = str(entry.get("issue", "unknown issue"))
    if issue not in CURABLE_ISSUES or entry.get("idxes") is None:
        return Occlusion(issue, None)
    try:
        frames = np.atleast_1d(np.asarray(entry["idxes"]))
        return Occlusion(issue, int(frames[0]) if len(frames) else None)
    except (TypeError, ValueError, OverflowError) as error:
        raise MotionFileError(f"{where}: 'idxes' begins with no frame ({error})") from error


def read_failed_keys(path: Path) -> FrozenSet[str]:
    """Clip names from a pickle with ``failed_keys``, or from a text file with one name a line."""
    if Path(path).suffix != ".pkl":
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise MotionFileError(f"failed keys '{path}' cannot be read: {error}") from error
        return frozenset(line.strip() for line in lines if line.strip())
    content = load_plain_pickle(path)
    if not isinstance(content, dict) or "failed_keys" not in content:
        raise MotionFileError(f"failed keys '{path}': the pickle has no entry 'failed_keys'")
    return frozenset(str(key) for key in np.asarray(content["failed_keys"]).reshape(-1))

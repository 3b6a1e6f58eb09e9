"""The motion file: clips of root positions and local rotations in one pickle-free ``.npz``.

Schema, version 1. C clips, F frames of all clips one after the other, B bodies:

==============  =================  ==========================================================================
``schema``      str                ``puffer_phc motion``
``version``     int                1
``body_names``  (B,) str           bodies in the order of ``local_quats``
``names``       (C,) str           unique clip names
``lengths``     (C,) int64         frames of each clip
``fps``         (C,) float64       frames per second of each clip
``sources``     (S,) str           where motions come from; ``source_ids`` (C,) chooses one for each clip
``licences``    (L,) str           licence texts; ``licence_ids`` (C,) chooses one for each clip
``repairs``     (R,) str           what an inspection has mended, empty for nothing; ``repair_ids`` (C,) likewise. Older files lack both
``root_pos``    (F, 3) float32     m, world frame, z up
``local_quats`` (F, B, 4) float32  wxyz child-to-parent rotations; the root's own is its world rotation
==============  =================  ==========================================================================

Everything is checked once, at load; whoever holds a ``Clip`` need not check again.
"""

import os
import zipfile
from pathlib import Path
from typing import IO, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from puffer_phc.errors import MotionFileError
from puffer_phc.files import is_there, whole_file
from puffer_phc.humanoid.skeleton import BODY_NAMES, NUM_BODIES
from puffer_phc.motion.array_archive import ArrayArchive, is_text
from puffer_phc.motion.clip_names import LONGEST_NAME, is_plain

SCHEMA = "puffer_phc motion"
VERSION = 1

MAX_FRAMES = 50_000_000
"""More than ten times all of AMASS at 30 Hz; a header that says more is damaged or hostile."""

MAX_COORDINATE = 1e4
"""m. A root farther than this from the origin has the wrong unit, and float32 would blur it."""

FPS_RANGE = (1.0, 1000.0)

UNIT_TOLERANCE = 1e-3
"""Quaternions whose length differs from 1 by less are normalised, others refused."""

_CHECKED_FRAMES = 1 << 12
"""Frames that are checked at a time: they stay in a processor's cache."""

_KINDS = {
    "schema": "U",
    "version": "i",
    "body_names": "U",
    "names": "U",
    "lengths": "i",
    "fps": "f",
    "sources": "U",
    "source_ids": "i",
    "licences": "U",
    "licence_ids": "i",
    "repairs": "U",
    "repair_ids": "i",
    "root_pos": "f",
    "local_quats": "f",
}
"""NumPy's kind of each array of the schema."""

_TEXTS = {"source_ids": "sources", "licence_ids": "licences", "repair_ids": "repairs"}
"""Arrays that choose a text for each clip, and the arrays of the texts."""

_LATER = {"repairs", "repair_ids"}
"""Arrays that files of earlier versions of this project lack."""


class Clip(NamedTuple):
    """One motion of the humanoid, checked: finite, unit quaternions, at least two frames."""

    name: str
    root_pos: np.ndarray
    """(F, 3) float32 m, world frame, z up."""
    local_quats: np.ndarray
    """(F, B, 4) float32 wxyz child-to-parent rotations, upright body frames, MJCF order; the root's own is its world rotation."""
    fps: float
    source: str
    """Where the motion comes from."""
    licence: str
    """The text under which it may be used."""
    repairs: str = ""
    """What an inspection has mended in it; empty for nothing."""

    @property
    def num_frames(self) -> int:
        """F."""
        return len(self.root_pos)

    @property
    def duration(self) -> float:
        """Seconds from the first to the last frame."""
        return (self.num_frames - 1) / self.fps


PathLike = Union[str, "os.PathLike[str]"]


def load_motion_file(path: PathLike) -> List[Clip]:
    """The clips of a motion file (.npz), of an original-style .pkl, or of a folder of those.

    Raises MotionFileError when the file is missing, damaged or does not fit the humanoid.
    """
    path = Path(path)
    if not is_there(path):
        raise MotionFileError(f"motion file '{path}' does not exist")
    if path.is_dir() or path.suffix == ".pkl":
        from puffer_phc.motion.legacy import load_legacy_motions  # it builds on this module

        return load_legacy_motions(path)
    return _clips(_read_arrays(path), f"motion file '{path}'")


def save_motion_file(path: PathLike, clips: Sequence[Clip]) -> None:
    """Write ``clips`` to ``path`` (.npz). The file appears whole or not at all.

    Raises MotionFileError when a clip is not fit to be loaded again, or the file cannot be written.
    """
    path = Path(path)
    label = f"motion file '{path}'"
    if path.suffix != ".npz":
        raise MotionFileError(f"{label}: the name of a motion file ends in .npz")
    arrays = _arrays(clips, label)
    _clips(arrays, label)
    odd = next((key for key, array in arrays.items() if array.dtype.kind == "U" and not is_text(array)), None)
    if odd is not None:
        raise MotionFileError(f"{label}: '{odd}' has characters that there are not")
    try:
        with whole_file(path) as temporary, temporary.open("wb") as stream:
            _write_arrays(stream, arrays)
    except OSError as error:
        raise MotionFileError(f"{label} cannot be written: {error.strerror or error}") from error


def _write_arrays(stream: IO[bytes], arrays: Dict[str, np.ndarray]) -> None:
    """As ``np.savez_compressed``, three times as fast for a file a few percent larger."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, array in arrays.items():
            with archive.open(key + ".npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def check_clips(clips: Sequence[Clip], label: str) -> List[Clip]:
    """The same clips with unit quaternions in float32, checked as at load; ``label`` begins the message of a MotionFileError."""
    return _clips(_arrays(clips, label), label)


def _table(values: Sequence[str]) -> Tuple[np.ndarray, np.ndarray]:
    """Distinct texts and, for each value, its index among them."""
    texts, ids = np.unique(np.array(values, dtype=np.str_), return_inverse=True)
    return texts, ids.reshape(-1).astype(np.int64)


def _arrays(clips: Sequence[Clip], label: str) -> Dict[str, np.ndarray]:
    """The arrays of the schema; raises MotionFileError where clips do not even fit together."""
    if not clips:
        raise MotionFileError(f"{label} has no clips")
    for clip in clips:
        where = f"{label}, clip '{clip.name}'"
        if clip.local_quats.ndim != 3 or clip.local_quats.shape[1:] != (NUM_BODIES, 4):
            _reject_rotations(clip.local_quats.shape, where)
        if clip.root_pos.shape != (len(clip.local_quats), 3):
            raise MotionFileError(
                f"{where}: root positions have shape {clip.root_pos.shape}, expected {(len(clip.local_quats), 3)} to match the rotations"
            )
    sources, source_ids = _table([clip.source for clip in clips])
    licences, licence_ids = _table([clip.licence for clip in clips])
    repairs, repair_ids = _table([clip.repairs for clip in clips])
    return {
        "schema": np.array(SCHEMA),
        "version": np.array(VERSION),
        "body_names": np.array(BODY_NAMES),
        "names": np.array([clip.name for clip in clips], dtype=np.str_),
        "lengths": np.array([clip.num_frames for clip in clips], dtype=np.int64),
        "fps": np.array([clip.fps for clip in clips], dtype=np.float64),
        "sources": sources,
        "source_ids": source_ids,
        "licences": licences,
        "licence_ids": licence_ids,
        "repairs": repairs,
        "repair_ids": repair_ids,
        "root_pos": np.concatenate([clip.root_pos for clip in clips]).astype(np.float32, copy=False),
        "local_quats": np.concatenate([clip.local_quats for clip in clips]).astype(np.float32, copy=False),
    }


def _read_arrays(path: Path) -> Dict[str, np.ndarray]:
    """All arrays of the schema, types checked, contents not yet."""
    label = f"motion file '{path}'"
    try:
        with ArrayArchive(path) as archive:
            keys = [key for key in _KINDS if key not in _LATER or _LATER & set(archive.files)]
            arrays = {key: _read_array(archive, key, label) for key in keys}
            return {"repairs": np.array([""]), "repair_ids": np.zeros_like(arrays["lengths"]), **arrays}
    except MotionFileError:
        raise
    except OSError as error:
        raise MotionFileError(f"{label} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged archive fails anywhere and with any type
        raise MotionFileError(f"{label} is damaged or not a motion file ({error or type(error).__name__})") from error


def _read_array(archive: ArrayArchive, key: str, label: str) -> np.ndarray:
    """One array, its type and number of frames checked before memory is taken for it."""
    if key not in archive.files:
        raise MotionFileError(f"{label} has no array '{key}'; expected {', '.join(_KINDS)}")
    shape, dtype = archive.header(key)
    if dtype.kind not in (_KINDS[key], "u" if _KINDS[key] == "i" else _KINDS[key]):
        raise MotionFileError(f"{label}: array '{key}' holds {dtype}, expected kind '{_KINDS[key]}'")
    if shape and shape[0] > MAX_FRAMES:
        raise MotionFileError(f"{label}: array '{key}' claims shape {shape}, which nobody needs")
    return archive[key]


def _clips(arrays: Dict[str, np.ndarray], label: str) -> List[Clip]:
    """Clips as views of the arrays, which are checked, and whose rotations are made unit in place."""
    _check_header(arrays, label)
    names, lengths = arrays["names"].tolist(), arrays["lengths"].astype(np.int64)
    ends = np.cumsum(lengths)
    with np.errstate(over="ignore"):
        root_pos, quats = (arrays[key].astype(np.float32, copy=False) for key in ("root_pos", "local_quats"))
    for begin in range(0, len(quats), _CHECKED_FRAMES):
        part = slice(begin, begin + _CHECKED_FRAMES)
        found = _normalize(root_pos[part], quats[part])
        if found is not None:
            frame, fault = begin + found[0], found[1]
            clip = int(np.searchsorted(ends, frame, side="right"))
            raise MotionFileError(f"{label}, clip '{names[clip]}': {fault} at frame {frame - (ends - lengths)[clip]}")
    texts = zip(*(np.array(arrays[of].tolist(), dtype=object)[arrays[ids]] for ids, of in _TEXTS.items()))
    return [
        Clip(name, root_pos[end - length : end], quats[end - length : end], float(fps), *of_clip)
        for name, length, end, fps, of_clip in zip(names, lengths, ends, arrays["fps"], texts)
    ]


def _reject_rotations(shape: Tuple[int, ...], where: str) -> None:
    if len(shape) == 3 and shape[1] != NUM_BODIES:
        bodies = f"{BODY_NAMES[0]} … {BODY_NAMES[-1]}"
        raise MotionFileError(f"{where}: joint rotations have {shape[1]} bodies, this humanoid has {NUM_BODIES} ({bodies})")
    raise MotionFileError(f"{where}: joint rotations have shape {shape}, expected (frames, {NUM_BODIES}, 4)")


def _check_header(arrays: Dict[str, np.ndarray], label: str) -> None:
    """Raise MotionFileError unless names, counts and shapes fit together and fit the humanoid."""
    if arrays["schema"].shape != () or str(arrays["schema"]) != SCHEMA:
        raise MotionFileError(f"{label}: schema is '{arrays['schema']}', expected '{SCHEMA}'")
    if arrays["version"].shape != () or int(arrays["version"]) != VERSION:
        raise MotionFileError(f"{label}: schema version is {arrays['version']}, this program reads version {VERSION}")
    names, lengths = arrays["names"], arrays["lengths"]
    if names.ndim != 1 or names.size == 0:
        raise MotionFileError(f"{label} has no clips")
    where = f"{label}, clip '{names[0]}'"
    quats, root_pos = arrays["local_quats"], arrays["root_pos"]
    if quats.ndim != 3 or quats.shape[1:] != (NUM_BODIES, 4):
        _reject_rotations(quats.shape, where)
    if tuple(arrays["body_names"].tolist()) != BODY_NAMES:
        raise MotionFileError(f"{label}: bodies are {' '.join(arrays['body_names'].tolist())}, expected {' '.join(BODY_NAMES)}")
    if root_pos.shape != (len(quats), 3):
        raise MotionFileError(f"{label}: root positions have shape {root_pos.shape}, expected {(len(quats), 3)} to match the rotations")
    for key in ("lengths", "fps", *_TEXTS):
        if arrays[key].shape != names.shape:
            raise MotionFileError(f"{label}: array '{key}' has shape {arrays[key].shape}, expected {names.shape}, one entry a clip")
    for ids, texts in _TEXTS.items():
        if arrays[texts].ndim != 1 or arrays[ids].min() < 0 or arrays[ids].max() >= arrays[texts].size:
            raise MotionFileError(f"{label}: array '{ids}' points outside '{texts}'")
    _check_clip_table(names, lengths, arrays["fps"], len(quats), label)


def _check_clip_table(names: np.ndarray, lengths: np.ndarray, fps: np.ndarray, num_frames: int, label: str) -> None:
    """Raise MotionFileError for double and odd names, clips shorter than two frames, counts that do not add up and odd frame rates."""
    distinct, counts = np.unique(names, return_counts=True)
    if counts.max() > 1:
        raise MotionFileError(f"{label}: {counts.max()} clips have the name '{distinct[counts.argmax()]}'")
    odd_name = next((name for name in names.tolist() if not is_plain(name)), None)
    if odd_name is not None:
        raise MotionFileError(
            f"{label}: clip name {odd_name[:80]!r} is not a plain name (printable, no / or \\, at most {LONGEST_NAME} characters)"
        )
    short = np.flatnonzero(lengths < 2)
    if short.size:
        raise MotionFileError(f"{label}, clip '{names[short[0]]}': has {lengths[short[0]]} frame(s), a motion needs at least 2")
    if lengths.max() > num_frames or lengths.sum() != num_frames:
        raise MotionFileError(f"{label}: clips have {lengths.sum()} frames by 'lengths', but {num_frames} are stored")
    odd = np.flatnonzero(~((fps >= FPS_RANGE[0]) & (fps <= FPS_RANGE[1])))
    if odd.size:
        low, high = FPS_RANGE
        raise MotionFileError(f"{label}, clip '{names[odd[0]]}': has {fps[odd[0]]:g} frames per second, expected {low:g} … {high:g}")


def _normalize(root_pos: np.ndarray, quats: np.ndarray) -> Optional[Tuple[int, str]]:
    """Make ``quats`` unit in place. The first frame that is not finite, not nearly unit or out of this world, and what is wrong there."""
    bad = ~np.isfinite(root_pos).all(-1)
    if bad.any():
        return int(bad.argmax()), "root position is not finite"
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.sqrt(np.einsum("fbi,fbi->fb", quats, quats))
        deviation = np.abs(length - 1.0).max(-1)
    bad = ~np.isfinite(deviation)
    if bad.any():
        return int(bad.argmax()), "joint rotation is not finite"
    bad = deviation > UNIT_TOLERANCE
    if bad.any():
        return int(bad.argmax()), f"quaternion length differs from 1 by {deviation[bad.argmax()]:.3g}"
    far = np.abs(root_pos).max(-1)
    bad = far > MAX_COORDINATE
    if bad.any():
        return int(bad.argmax()), f"root is {far[bad.argmax()]:.3g} m from the origin, metres expected,"
    quats /= length[..., None]
    return None

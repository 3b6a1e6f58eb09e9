"""Motion files of PHC and its relatives: joblib pickles of global rotations."""

from pathlib import Path
from typing import Any, List

import numpy as np
import torch

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import local_rotations
from puffer_phc.motion.clip_names import plain_text
from puffer_phc.motion.file import Clip, check_clips
from puffer_phc.motion.plain_pickle import load_plain_pickle

DEFAULT_FPS = 30


def load_legacy_motions(path: Path) -> List[Clip]:
    """The clips of an original-style .pkl, or of all .pkl files in a folder.

    Raises MotionFileError when a file cannot be read, holds something else, or asks for anything but numbers.
    """
    path = Path(path)
    files = sorted(path.glob("*.pkl")) if path.is_dir() else [path]
    if not files:
        raise MotionFileError(f"motion folder '{path}' has no .pkl files")
    clips = [clip for file in files for clip in _file_clips(file)]
    return check_clips(clips, f"motion file '{path}'")


def _file_clips(path: Path) -> List[Clip]:
    label = f"motion file '{path}'"
    content = load_plain_pickle(path)
    if not isinstance(content, dict) or not content:
        raise MotionFileError(f"{label} is not a dictionary of motions")
    odd = [name for name in content if not isinstance(name, str)]
    if odd:
        raise MotionFileError(f"{label} has a clip whose name is no text but a {type(odd[0]).__name__}")
    return [_clip(name, motion, path, label) for name, motion in content.items()]


def _clip(name: str, motion: Any, path: Path, label: str) -> Clip:
    """A clip from one entry: ``root_trans_offset`` (F, 3) m and ``pose_quat_global`` (F, 24, 4) xyzw, upright, MJCF order."""
    where = f"{label}, clip '{name}'"
    if not isinstance(motion, dict):
        raise MotionFileError(f"{where} is not a dictionary")
    for key in ("root_trans_offset", "pose_quat_global"):
        if key not in motion:
            raise MotionFileError(f"{where} has no '{key}'")
    for key in ("root_trans_offset", "pose_quat_global"):
        if not isinstance(motion[key], (np.ndarray, torch.Tensor)):
            raise MotionFileError(f"{where}: '{key}' is a {type(motion[key]).__name__}, not an array")
    try:
        root_pos = np.asarray(motion["root_trans_offset"], dtype=np.float64)
        quat_xyzw = np.asarray(motion["pose_quat_global"], dtype=np.float64)
        fps = float(motion.get("fps", DEFAULT_FPS))
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise MotionFileError(f"{where} does not hold numbers ({error})") from error
    local = quat_xyzw
    if quat_xyzw.ndim == 3 and quat_xyzw.shape[1:] == (24, 4):
        local = local_rotations(rotations.wxyz_from_xyzw(torch.from_numpy(quat_xyzw))).numpy()
    return Clip(name, root_pos, local, fps, f"converted elsewhere, read from {plain_text(path.name)}", "unknown: ask whoever made the file")

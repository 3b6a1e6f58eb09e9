"""AMASS folders to clips of the humanoid: SMPL+H (``*_poses.npz``) and SMPL-X (``*_stageii.npz``) alike.

Both begin every frame with 22 axis-angle rotations of the same joints, the rest being hands and face. SMPL's rest frame has x to the left,
y up and z forward, ours x forward, y left and z up: components change places. AMASS's world is z up already. No body model is needed:
body shape is left out, and the height over the floor is found from the humanoid's own shapes when clips are loaded.
"""

from functools import lru_cache, partial
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.skeleton import NUM_BODIES, SMPL_PELVIS, SMPL_TO_MJCF, UPRIGHT_TO_SMPL_REST
from puffer_phc.motion.amass_selection import SHORTEST_FRAMES, Source
from puffer_phc.motion.array_archive import ArrayArchive
from puffer_phc.motion.clip_names import plain_text
from puffer_phc.motion.conversion import Converted, Dropped, failure, share_out
from puffer_phc.motion.file import FPS_RANGE, Clip
from puffer_phc.motion.frame_rate import FPS, resample
from puffer_phc.motion.mirror import mirror_clip
from puffer_phc.motion.smpl_model import SmplModel, load_smpl_model

LICENCE = (
    "AMASS (https://amass.is.tue.mpg.de/license.html): non-commercial scientific research; neither the data nor a conversion may be shared."
)

DAMAGED_ENDS = {"0-KIT_442_PizzaDelivery02_poses": 2}
"""Clips whose last frames are broken, and how many."""

NUM_POSED = 22
"""Joints that SMPL, SMPL+H and SMPL-X share, the root among them; SMPL's two hands stay at rest."""

LARGEST_ROTATION = 8.0 * np.pi
"""rad: a rotation vector longer than this was meant in degrees."""

HIGHEST_ROOT = 10.0
"""m over or under the origin that the median root height may be; more is millimetres, centimetres or inches."""

FASTEST_ROOT = 20.0
"""m/s: half of a clip faster than this is no metre either."""

LARGEST_JOB = 16
"""Files that one process takes at a time."""


class Options(NamedTuple):
    """How files are converted."""

    mirror: bool = False
    """Whether every clip's mirror image is added."""
    body_model: Optional[Path] = None
    """A SMPL model whose skin decides where the floor is."""


class _LeftOutError(MotionFileError):
    """The file is as it should be, but holds no motion, or too little; ``kind`` as in ``Dropped``."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Capture(NamedTuple):
    """The part of a file that every release has."""

    root_pos: np.ndarray
    """(F, 3) m, of the pelvis joint, world frame, z up."""
    rotation_vectors: np.ndarray
    """(F, 22, 3) rad, SMPL's joints and axes; the root's own is its world rotation."""
    fps: float


def read_capture(path: Path) -> Capture:
    """The motion in a file, checked. Raises MotionFileError when there is none or it cannot be one; runs nothing that the file holds."""
    try:
        with ArrayArchive(path) as archive:
            return _checked(_capture(archive))
    except MotionFileError:
        raise
    except OSError as error:
        raise MotionFileError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged archive fails anywhere and with any type
        raise MotionFileError(f"is damaged or not an .npz file ({error or type(error).__name__})") from error


def _capture(archive: ArrayArchive) -> Capture:
    """The motion in an open file, as it stands there."""
    keys = set(archive.files)
    rates = [key for key in ("mocap_framerate", "mocap_frame_rate") if key in keys]
    if not rates:
        raise _LeftOutError("not a motion", "has no mocap_framerate")
    if "trans" not in keys or not ("poses" in keys or {"root_orient", "pose_body"} <= keys):
        raise MotionFileError(f"has no trans and poses, only {', '.join(sorted(keys))}")
    poses = _numbers(archive, "poses") if "poses" in keys else np.hstack([_numbers(archive, "root_orient"), _numbers(archive, "pose_body")])
    trans, rate = _numbers(archive, "trans"), _numbers(archive, rates[0])
    if poses.ndim != 2 or poses.shape[1] < 3 * NUM_POSED or trans.shape != (len(poses), 3) or rate.size != 1:
        raise MotionFileError(f"poses {poses.shape} and trans {trans.shape} are not (frames, {3 * NUM_POSED} or more) and (frames, 3)")
    vectors = poses[:, : 3 * NUM_POSED].reshape(-1, NUM_POSED, 3)
    return Capture(trans + np.array(SMPL_PELVIS), vectors, float(rate.reshape(-1)[0]))


def _numbers(archive: ArrayArchive, key: str) -> np.ndarray:
    """An array of the file as float64."""
    values = archive[key]
    if values.dtype.kind not in "fiu":
        raise MotionFileError(f"{key} holds {values.dtype}, not numbers")
    return values.astype(np.float64)


def _checked(capture: Capture) -> Capture:
    """The capture itself, if it is a motion of a human in metres, radians and frames per second."""
    root_pos, vectors, fps = capture
    if len(root_pos) < 2:
        raise MotionFileError(f"has {len(root_pos)} frame(s)")
    if not FPS_RANGE[0] <= fps <= FPS_RANGE[1]:
        raise MotionFileError(f"has {fps:g} frames per second")
    for values, what in ((root_pos, "trans"), (vectors, "poses")):
        bad = ~np.isfinite(values).reshape(len(values), -1).all(1)
        if bad.any():
            raise MotionFileError(f"{what} is not finite at frame {int(bad.argmax())}")
    longest = float(np.linalg.norm(vectors, axis=-1).max())
    if longest > LARGEST_ROTATION:
        raise MotionFileError(f"a joint turns by {longest:.0f} rad; are these degrees?")
    height = float(np.median(root_pos[:, 2]))
    speed = float(np.median(np.linalg.norm(np.diff(root_pos, axis=0), axis=-1))) * fps
    if abs(height) > HIGHEST_ROOT or speed > FASTEST_ROOT:
        raise MotionFileError(f"the root is {height:.0f} m high and moves at {speed:.0f} m/s; are these metres?")
    return capture


def to_clip(capture: Capture, name: str, source: str) -> Clip:
    """The capture as a clip of the humanoid, at its own frame rate and height."""
    vectors = np.zeros((len(capture.root_pos), NUM_BODIES, 3))
    vectors[:, :NUM_POSED] = capture.rotation_vectors
    vectors = vectors[:, list(SMPL_TO_MJCF)]
    vectors[:, 1:] = vectors[:, 1:, [2, 0, 1]]
    quats = rotations.from_rotation_vector(torch.from_numpy(vectors))
    quats[:, 0] = rotations.multiply(quats[:, 0], rotations.conjugate(torch.from_numpy(UPRIGHT_TO_SMPL_REST)).expand_as(quats[:, 0]))
    return Clip(name, capture.root_pos.astype(np.float32), quats.numpy().astype(np.float32), capture.fps, source, LICENCE)


@lru_cache(maxsize=1)
def _model(path: Path) -> SmplModel:
    """The body model, read once a process."""
    return load_smpl_model(path)


def convert_file(source: Source, options: Options) -> List[Clip]:
    """The clip in a file and, if wished, its mirror image. Raises MotionFileError when there is none, or too little of it."""
    clip = resample(to_clip(read_capture(source.path), source.name, plain_text(f"AMASS {'/'.join(source.path.parts[-3:-1])}")), FPS)
    num_frames = clip.num_frames - DAMAGED_ENDS.get(source.name, 0)
    if source.num_frames is not None:
        num_frames = min(num_frames, source.num_frames)
    if num_frames < SHORTEST_FRAMES:
        raise _LeftOutError("filtered", f"fewer than {SHORTEST_FRAMES} frames at {FPS:g} frames per second")
    clip = clip._replace(root_pos=clip.root_pos[:num_frames], local_quats=clip.local_quats[:num_frames])
    if options.body_model is not None:
        height = _model(options.body_model).floor(clip)
        clip = clip._replace(root_pos=clip.root_pos - np.array([0.0, 0.0, height], dtype=np.float32))
    return [clip, mirror_clip(clip)] if options.mirror else [clip]


def convert_job(sources: Sequence[Source], options: Options) -> Converted:
    """Everything that comes of the files of one job."""
    torch.set_num_threads(1)
    result = Converted([], [])
    for source in sources:
        try:
            result.clips.extend(convert_file(source, options))
        except _LeftOutError as error:
            result.dropped.append(Dropped(source.name, error.kind, str(error)))
        except Exception as error:
            result.dropped.append(failure(source.name, error))
    return result


def convert(sources: Sequence[Source], options: Options, processes: int) -> Iterator[Tuple[int, Converted]]:
    """The number of files of each job and what came of it, in order, worked on by ``processes`` processes."""
    jobs = [sources[begin : begin + LARGEST_JOB] for begin in range(0, len(sources), LARGEST_JOB)]
    return share_out(jobs, partial(convert_job, options=options), processes)

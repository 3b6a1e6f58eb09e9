"""CMU's Acclaim files, an ASF skeleton and AMC motion, as a recording.

A bone's rotation is C·E·C⁻¹ after its parent's, where C is the bone's ``axis`` and E its ``dof`` values, both about fixed x, then y,
then z.
"""

import math
from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import Components, product
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.motion.amc import AmcMotion, read_amc
from puffer_phc.motion.asf import AsfSkeleton, find_skeleton, load_asf
from puffer_phc.motion.clip_names import plain_text
from puffer_phc.motion.hierarchy import IDENTITY, Place, ancestors, conjugate, moved, stacked, turned
from puffer_phc.motion.recording import Recording, checked, quats_to_upright, to_upright

CMU_FPS = 120.0
"""Rate of the CMU database but for subjects 60 and 61."""

BONE_OF_BODY: Dict[str, Tuple[str, str]] = {
    "Pelvis": ("root", "root"),
    "L_Hip": ("lfemur", "lfemur"),
    "L_Knee": ("ltibia", "ltibia"),
    "L_Ankle": ("lfoot", "lfoot"),
    "L_Toe": ("ltoes", "ltoes"),
    "R_Hip": ("rfemur", "rfemur"),
    "R_Knee": ("rtibia", "rtibia"),
    "R_Ankle": ("rfoot", "rfoot"),
    "R_Toe": ("rtoes", "rtoes"),
    "Torso": ("lowerback", "lowerback"),
    "Spine": ("upperback", "upperback"),
    "Chest": ("thorax", "thorax"),
    "Neck": ("lowerneck", "lowerneck"),
    "Head": ("head", "head"),
    "L_Thorax": ("lclavicle", "lclavicle"),
    "L_Shoulder": ("lhumerus", "lhumerus"),
    "L_Elbow": ("lradius", "lwrist"),
    "L_Wrist": ("lhand", "lhand"),
    "L_Hand": ("lfingers", "lhand"),
    "R_Thorax": ("rclavicle", "rclavicle"),
    "R_Shoulder": ("rhumerus", "rhumerus"),
    "R_Elbow": ("rradius", "rwrist"),
    "R_Wrist": ("rhand", "rhand"),
    "R_Hand": ("rfingers", "rhand"),
}
"""For each body: the CMU bone that starts at its joint, and the one whose rotation it takes (the forearm turns at ``wrist``)."""

_POSITIONS = ("tx", "ty", "tz")


class _Columns(NamedTuple):
    """The columns of one bone over all frames, by their names (tx … rz)."""

    values: Dict[str, np.ndarray]
    """Each (F,), as written."""
    cosines: Dict[str, np.ndarray]
    sines: Dict[str, np.ndarray]
    """Of half the angle."""


def _columns_of(motion: AmcMotion, dofs: Mapping[str, Tuple[str, ...]], unit: float) -> Dict[str, _Columns]:
    """The columns of each bone; ``unit`` is one of the file's angles in radians."""
    values = np.ascontiguousarray(motion.values.T)
    with np.errstate(invalid="ignore"):  # Infinite angles: the recording says so when it is checked.
        cosines, sines = np.cos(0.5 * unit * values), np.sin(0.5 * unit * values)
    columns: Dict[str, _Columns] = {}
    begin = 0
    for name, count in motion.layout:
        parts = (dict(zip(dofs[name], array[begin : begin + count])) for array in (values, cosines, sines))
        columns[name] = _Columns(*parts)
        begin += count
    return columns


def _turned(quat: Components, columns: _Columns) -> Components:
    """``quat`` ⊗ the rotation about fixed x, then y, then z that a bone's columns say."""
    for axis, name in ((2, "rz"), (1, "ry"), (0, "rx")):
        if name in columns.cosines:
            quat = turned(quat, axis, columns.cosines[name], columns.sines[name])
    return quat


def _fixed_axis_rotation(degrees: Sequence[float]) -> Components:
    """The rotation about fixed x, then y, then z by three angles."""
    quat = IDENTITY
    for axis in (2, 1, 0):
        half = 0.5 * math.radians(degrees[axis])
        quat = turned(quat, axis, math.cos(half), math.sin(half))
    return quat


def _root_place(skeleton: AsfSkeleton, columns: _Columns) -> Place:
    """The root over time, in m."""
    zero = np.zeros_like(next(iter(columns.values.values())))
    position = tuple(columns.values.get(name, zero) * skeleton.metres for name in _POSITIONS)
    turn = _turned((zero + 1.0, zero, zero, zero), columns)
    return Place(position, product(turn, _fixed_axis_rotation(skeleton.root_axis_degrees.tolist())))


def _places(skeleton: AsfSkeleton, motion: AmcMotion) -> Dict[str, Place]:
    """Where each bone that the humanoid needs begins, in m, and its world rotation, in the file's axes, by name."""
    is_degrees = skeleton.is_degrees if motion.is_degrees is None else motion.is_degrees
    bones = {bone.name: bone for bone in skeleton.bones}
    dofs = {**{name: bone.dof for name, bone in bones.items()}, "root": skeleton.root_order}
    columns = _columns_of(motion, dofs, float(np.pi / 180.0) if is_degrees else 1.0)
    needed = ancestors(skeleton.parents, [name for pair in BONE_OF_BODY.values() for name in pair])
    places = {"root": _root_place(skeleton, columns["root"])}
    for bone in skeleton.bones:
        if bone.name not in needed:
            continue
        name = skeleton.parents[bone.name]
        parent = places[name]
        start = parent.position if name == "root" else moved(parent, bones[name].vector.tolist())
        quat = parent.quat
        if bone.name in columns and bone.dof:
            frame = _fixed_axis_rotation(bone.axis_degrees.tolist())
            quat = product(_turned(product(quat, frame), columns[bone.name]), conjugate(frame))
        places[bone.name] = Place(start, quat)
    return places


def _rest_positions(skeleton: AsfSkeleton) -> torch.Tensor:
    """(B, 3) m: where the humanoid's joints are in the rest pose, our axes."""
    starts: Dict[str, np.ndarray] = {"root": np.zeros(3)}
    ends: Dict[str, np.ndarray] = {"root": np.zeros(3)}
    for bone in skeleton.bones:
        starts[bone.name] = ends[skeleton.parents[bone.name]]
        ends[bone.name] = starts[bone.name] + bone.vector
    return to_upright(torch.from_numpy(np.stack([starts[BONE_OF_BODY[body][0]] for body in BODY_NAMES])))


def load_amc(path: Path, skeleton_path: Optional[Path] = None, fps: float = CMU_FPS) -> Recording:
    """The clip in an AMC file on the skeleton of ``skeleton_path`` (looked for beside it if not given), at ``fps`` frames per second."""
    path = Path(path)
    skeleton = load_asf(Path(skeleton_path) if skeleton_path else find_skeleton(path))
    needed = {name for pair in BONE_OF_BODY.values() for name in pair} - {"root"}
    lacking = sorted(needed - {bone.name for bone in skeleton.bones})
    if lacking:
        raise MotionFileError(
            f"skeleton '{Path(skeleton.path).name}': bones {', '.join(lacking)} are missing; only CMU's bone names are known"
        )
    places = _places(skeleton, read_amc(path, skeleton))
    recording = Recording(
        name=path.stem,
        positions=to_upright(torch.from_numpy(stacked([places[BONE_OF_BODY[body][0]].position for body in BODY_NAMES]))).float(),
        quats=quats_to_upright(torch.from_numpy(stacked([places[BONE_OF_BODY[body][1]].quat for body in BODY_NAMES]))).float(),
        rest=_rest_positions(skeleton).float(),
        fps=fps,
        skeleton=skeleton.path,
        source=plain_text(f"ASF/AMC {path.name}"),
    )
    return checked(recording)

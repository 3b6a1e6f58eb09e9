"""CMU's Acclaim files: an ASF skeleton and AMC motion.

Facts about the format: a bone's direction is given in the world frame of the rest pose (a T-pose with the legs spread by 20 degrees).
Its rotation is C·E·C⁻¹ after its parent's, where C is the bone's ``axis`` and E its ``dof`` values, both about fixed x, then y, then z.
A length unit is ``length`` inches⁻¹: metres = value · 0.0254 / length. AMC files do not say their rate.
"""

import logging
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import Components, product
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.motion.hierarchy import IDENTITY, Place, ancestors, conjugate, moved, stacked, turned
from puffer_phc.motion.number_text import Words
from puffer_phc.motion.recording import Recording, checked, quats_to_upright, to_upright

CMU_FPS = 120.0
"""Rate of the CMU database but for subjects 60 and 61."""

INCH = 0.0254

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

_MAX_BONES = 1000
"""CMU's skeletons have 30."""

_AXES = ("rx", "ry", "rz")
_POSITIONS = ("tx", "ty", "tz")


class Bone(NamedTuple):
    """One bone of an ASF skeleton, in the file's own axes."""

    name: str
    vector: np.ndarray
    """(3,) m, from its start to its end in the rest pose."""
    axis_degrees: np.ndarray
    """(3,) the rotation C as angles about fixed x, y, z."""
    dof: Tuple[str, ...]
    """Which of rx, ry, rz an AMC frame gives, in its order."""


class AsfSkeleton(NamedTuple):
    """An ASF file: bones, parents first."""

    path: str
    metres: float
    """Metres of one length unit."""
    is_degrees: bool
    root_order: Tuple[str, ...]
    root_axis_degrees: np.ndarray
    bones: Tuple[Bone, ...]
    parents: Dict[str, str]


def _sections(text: str) -> Dict[str, List[List[str]]]:
    """The lines of each ``:keyword`` section as lists of words; comments dropped."""
    sections: Dict[str, List[List[str]]] = {}
    current: List[List[str]] = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if words[0].startswith(":"):
            current = sections.setdefault(words[0][1:].lower(), [])
            words = words[1:]
        if words:
            current.append(words)
    return sections


def _floats(words: List[str], count: int, what: str) -> np.ndarray:
    """The first ``count`` words as numbers."""
    try:
        values = np.array([float(word) for word in words[:count]])
    except ValueError:
        raise MotionFileError(f"{what}: '{' '.join(words)}' are not numbers") from None
    if len(values) != count or not np.isfinite(values).all():
        raise MotionFileError(f"{what}: needs {count} finite numbers, has '{' '.join(words)}'")
    return values


def _parse_bone(lines: List[List[str]], metres: float, where: str) -> Bone:
    """One ``begin … end`` block of the bone section."""
    fields = {words[0].lower(): words[1:] for words in lines}
    missing = [key for key in ("name", "direction", "length", "axis") if not fields.get(key)]
    if missing:
        raise MotionFileError(f"{where}: a bone has no {', '.join(missing)}")
    name = fields["name"][0]
    direction = _floats(fields["direction"], 3, f"{where}, bone '{name}', direction")
    length = _floats(fields["length"], 1, f"{where}, bone '{name}', length")[0]
    axis = _floats(fields["axis"], 3, f"{where}, bone '{name}', axis")
    dof = tuple(word.lower() for word in fields.get("dof", []))
    unknown = [word for word in dof if word not in _AXES]
    if unknown:
        raise MotionFileError(f"{where}, bone '{name}': dof {', '.join(unknown)} is not one of rx, ry, rz")
    norm = np.linalg.norm(direction)
    return Bone(name, direction / (norm if norm > 0 else 1.0) * length * metres, axis, dof)


def _parse_bones(lines: List[List[str]], metres: float, where: str) -> Dict[str, Bone]:
    """All blocks of the bone section by name."""
    bones: Dict[str, Bone] = {}
    block: List[List[str]] = []
    for words in lines:
        if words[0].lower() == "begin":
            block = []
        elif words[0].lower() == "end":
            bone = _parse_bone(block, metres, where)
            bones[bone.name] = bone
        else:
            block.append(words)
    return bones


def read_asf(path: Path) -> AsfSkeleton:
    """The skeleton in an ASF file; raises ``MotionFileError`` with the place of the first defect."""
    where = f"skeleton '{Path(path).name}'"
    try:
        sections = _sections(Path(path).read_text(errors="replace"))
    except OSError as error:
        raise MotionFileError(f"{where}: {error.strerror or error}") from None
    missing = [name for name in ("root", "bonedata", "hierarchy") if not sections.get(name)]
    if missing:
        raise MotionFileError(f"{where}: section :{missing[0]} is missing; is it an ASF file?")
    units = {words[0].lower(): words[1:] for words in sections.get("units", [])}
    length = _floats(units.get("length", ["1.0"]), 1, f"{where}, units length")[0]
    if length <= 0:
        raise MotionFileError(f"{where}: length unit {length} is not positive")
    metres = INCH / length
    bones = _parse_bones(sections["bonedata"], metres, where)
    root = {words[0].lower(): words[1:] for words in sections["root"]}
    parents, ordered = _hierarchy(sections["hierarchy"], bones, where)
    return AsfSkeleton(
        path=str(path),
        metres=metres,
        is_degrees=units.get("angle", ["deg"])[0].lower().startswith("deg"),
        root_order=tuple(word.lower() for word in root.get("order", ["tx", "ty", "tz", "rx", "ry", "rz"])),
        root_axis_degrees=_floats(root.get("orientation", ["0", "0", "0"]), 3, f"{where}, root orientation"),
        bones=ordered,
        parents=parents,
    )


def _hierarchy(lines: List[List[str]], bones: Dict[str, Bone], where: str) -> Tuple[Dict[str, str], Tuple[Bone, ...]]:
    """Each bone's parent, and the bones with parents before children."""
    parents: Dict[str, str] = {}
    for parent, *children in lines:
        for child in children:
            if child not in bones:
                raise MotionFileError(f"{where}: the hierarchy names bone '{child}', which is not defined")
            parents[child] = parent
    if len(parents) > _MAX_BONES:
        raise MotionFileError(f"{where}: has {len(parents)} bones, at most {_MAX_BONES} are read")
    ordered: List[Bone] = []
    known = {"root"}
    while len(ordered) < len(parents):
        ready = [name for name in parents if name not in known and parents[name] in known]
        if not ready:
            raise MotionFileError(f"{where}: the hierarchy does not hang together at '{sorted(set(parents) - known)[0]}'")
        known.update(ready)
        ordered.extend(bones[name] for name in ready)
    return parents, tuple(ordered)


logger = logging.getLogger(__name__)

_FRAME_NUMBER = re.compile(r"^[ \t]*\d+[ \t]*\r?$", re.MULTILINE)

_NAME = re.compile(r"^[ \t]*([A-Za-z_][\w.-]*)", re.MULTILINE)


class AmcMotion(NamedTuple):
    """An AMC file: the values of every frame."""

    layout: Tuple[Tuple[str, int], ...]
    """Bone names and how many values each has, in the order of the columns."""
    values: np.ndarray
    """(F, columns) as written."""
    is_degrees: Optional[bool]
    """What the file's own header says of its unit; None without one."""


def read_amc(path: Path, skeleton: AsfSkeleton) -> AmcMotion:
    """All frames of an AMC file whose bones are those of ``skeleton``; raises ``MotionFileError`` with the place of the first defect."""
    where = f"motion '{Path(path).name}'"
    try:
        text = Path(path).read_text(errors="replace")
    except OSError as error:
        raise MotionFileError(f"{where}: {error.strerror or error}") from None
    start = _FRAME_NUMBER.search(text)
    if start is None:
        raise MotionFileError(f"{where}: no frames; is it an AMC file?")
    header, body = text[: start.start()].upper(), text[start.start() :]
    layout = _frame_layout(body, skeleton, where)
    return AmcMotion(layout, _frame_values(body, layout, where), _unit(header))


def _unit(header: str) -> Optional[bool]:
    """True for degrees, False for radians, None where the header is silent."""
    if ":RADIANS" in header:
        return False
    return True if ":DEGREES" in header else None


def _frame_layout(body: str, skeleton: AsfSkeleton, where: str) -> Tuple[Tuple[str, int], ...]:
    """Names and value counts of the first frame, checked against the skeleton and against all other frames."""
    first = _FRAME_NUMBER.split(body, maxsplit=2)[1]
    names = _NAME.findall(first)
    counts = {bone.name: len(bone.dof) for bone in skeleton.bones}
    counts["root"] = len(skeleton.root_order)
    unknown = [name for name in names if name not in counts]
    if unknown:
        raise MotionFileError(f"{where}: bone '{unknown[0]}' is not in skeleton '{Path(skeleton.path).name}'")
    if "root" not in names:
        raise MotionFileError(f"{where}: the first frame has no root")
    return tuple((name, counts[name]) for name in names)


def _frame_values(body: str, layout: Tuple[Tuple[str, int], ...], where: str) -> np.ndarray:
    """(F, columns) numbers, the frame number dropped."""
    values = _columns(Words(body.encode("ascii", "replace")), layout)
    if values is not None:
        return values
    starts = list(_FRAME_NUMBER.finditer(body))
    if len(starts) > 2 and len(_NAME.findall(body, starts[-1].start())) < len(layout):
        values = _columns(Words(body[: starts[-1].start()].encode("ascii", "replace")), layout)
        if values is not None:
            logger.warning("%s: the last frame is cut off and left out", where)
            return values
    raise MotionFileError(f"{where}: {_first_defect(body, layout)}")


def _columns(words: Words, layout: Tuple[Tuple[str, int], ...]) -> Optional[np.ndarray]:
    """(F, columns) from the words of all frames, or None if they are not all alike; whole columns at a time, to be fast."""
    width = 1 + sum(1 + count for _, count in layout)
    if not len(words) or len(words) % width:
        return None
    numbers: List[int] = []
    place = 1
    for name, count in layout:
        if not words.are(name, slice(place, None, width)):
            return None
        numbers += range(place + 1, place + 1 + count)
        place += 1 + count
    places = np.arange(0, len(words), width)[:, None] + np.array(numbers)
    try:
        return words.numbers(places.reshape(-1)).reshape(places.shape)
    except ValueError:
        return None


def _are_numbers(words: List[str]) -> bool:
    """Whether all words are numbers."""
    try:
        return bool(np.isfinite([float(word) for word in words]).all())
    except ValueError:
        return False


def _first_defect(body: str, layout: Tuple[Tuple[str, int], ...]) -> str:
    """What is wrong with the first frame that is not like the first."""
    expected = dict(layout)
    seen: List[str] = []
    frame = "?"
    for line in body.splitlines():
        words = line.split()
        if not words:
            continue
        if len(words) == 1 and words[0].isdigit():
            if seen and len(seen) != len(layout):
                break
            frame, seen = words[0], []
            continue
        name, numbers = words[0], words[1:]
        if name not in expected:
            return f"frame {frame}: unexpected '{name}'"
        if len(numbers) != expected[name] or not _are_numbers(numbers):
            return f"frame {frame}, bone '{name}': needs {expected[name]} numbers, has '{' '.join(numbers)}'"
        seen.append(name)
    return f"frame {frame} has {len(seen)} of {len(layout)} bones; is the file cut off?"


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


def find_skeleton(amc: Path) -> Path:
    """The ASF file that belongs to an AMC file: of the same stem, of the subject's name, or the only one in the folder."""
    folder = Path(amc).parent
    stem = Path(amc).stem
    candidates = sorted(folder.glob("*.asf")) + sorted(folder.glob("*.ASF"))
    for wanted in (stem, stem.rsplit("_", 1)[0], stem.split("_", 1)[-1], folder.name):
        for candidate in candidates:
            if candidate.stem == wanted:
                return candidate
    if len(candidates) == 1:
        return candidates[0]
    names = ", ".join(candidate.name for candidate in candidates) or "none"
    raise MotionFileError(f"motion '{Path(amc).name}': no ASF skeleton of its name in its folder (there: {names})")


def _skeleton(path: Path) -> AsfSkeleton:
    """The skeleton in an ASF file, read once for the many clips of a performer."""
    return _unchanged_skeleton(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=16)
def _unchanged_skeleton(path: Path, _: int) -> AsfSkeleton:
    """The skeleton in an ASF file as it was when it was last changed."""
    return read_asf(path)


def load_amc(path: Path, skeleton_path: Optional[Path] = None, fps: float = CMU_FPS) -> Recording:
    """The clip in an AMC file on the skeleton of ``skeleton_path`` (looked for beside it if not given), at ``fps`` frames per second."""
    path = Path(path)
    skeleton = _skeleton(Path(skeleton_path) if skeleton_path else find_skeleton(path))
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
        source=f"ASF/AMC {path.name}",
    )
    return checked(recording)

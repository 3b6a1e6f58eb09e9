"""CMU's Acclaim skeletons: ASF files.

Facts about the format: a bone's direction is given in the world frame of the rest pose (a T-pose with the legs spread by 20 degrees), its
``axis`` is the frame that it turns in. A length unit is ``length`` inches⁻¹: metres = value · 0.0254 / length.
"""

from functools import lru_cache
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import numpy as np

from puffer_phc.errors import MotionFileError

INCH = 0.0254

_MAX_BONES = 1000
"""CMU's skeletons have 30."""

_AXES = ("rx", "ry", "rz")


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


def load_asf(path: Path) -> AsfSkeleton:
    """The skeleton in an ASF file, read once for the many clips of a performer."""
    return _unchanged_skeleton(path, path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=16)
def _unchanged_skeleton(path: Path, _: int) -> AsfSkeleton:
    """The skeleton in an ASF file as it was when it was last changed."""
    return read_asf(path)

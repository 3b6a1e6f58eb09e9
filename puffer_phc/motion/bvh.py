"""BVH files of any hierarchy, read through a joint map that says which joint is which.

A BVH joint turns by its channels in the order they are listed, each about its own already turned axis.
"""

import re
import zlib
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import Components, product
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.motion.clip_names import plain_text
from puffer_phc.motion.hierarchy import Place, conjugate, moved, stacked, turned
from puffer_phc.motion.joint_map import BUILT_IN_MAPS, JointMap, short_name
from puffer_phc.motion.number_text import numbers
from puffer_phc.motion.recording import Recording, checked, quats_to_upright, to_upright

_MAX_JOINTS = 10_000
"""A body with all fingers has 100."""

_ROTATIONS = {"xrotation": 0, "yrotation": 1, "zrotation": 2}
_POSITIONS = {"xposition": 0, "yposition": 1, "zposition": 2}


class Joint(NamedTuple):
    """One joint of a BVH hierarchy; an End Site is a joint without channels, named after its parent with ``.end``."""

    name: str
    parent: int
    offset: Tuple[float, float, float]
    """In the parent's frame, file units."""
    channels: Tuple[str, ...]
    """Lower-case channel names in the order of the columns."""
    column: int
    """The first column of its channels."""


class BvhMotion(NamedTuple):
    """A BVH file as written."""

    joints: Tuple[Joint, ...]
    """Parents before children."""
    values: np.ndarray
    """(F, columns)."""
    fps: float


def read_bvh(path: Path) -> BvhMotion:
    """The hierarchy and frames of a BVH file; raises ``MotionFileError`` with the first defect."""
    where = f"motion '{Path(path).name}'"
    try:
        text = Path(path).read_text(errors="replace")
    except OSError as error:
        raise MotionFileError(f"{where}: {error.strerror or error}") from None
    parts = re.split(r"^[ \t]*MOTION[ \t\r]*$", text, maxsplit=1, flags=re.MULTILINE)
    if len(parts) != 2 or "HIERARCHY" not in parts[0]:
        raise MotionFileError(f"{where}: no HIERARCHY or no MOTION; is it a BVH file?")
    joints = _joints(parts[0].split(), where)
    header = re.match(r"\s*Frames:\s*([0-9]{1,9})\s+Frame\s+Time:\s*(\S+)", parts[1], re.IGNORECASE)
    if header is None:
        raise MotionFileError(f"{where}: 'Frames:' or 'Frame Time:' is missing after MOTION")
    try:
        frame_time = float(header.group(2))
    except ValueError:
        frame_time = 0.0
    if not 1e-4 < frame_time < 1.0:
        raise MotionFileError(f"{where}: frame time '{header.group(2)}' is not a number of seconds")
    values = _values(parts[1][header.end() :], joints, int(header.group(1)), where)
    return BvhMotion(joints, values, 1.0 / frame_time)


def _values(text: str, joints: Sequence[Joint], frames: int, where: str) -> np.ndarray:
    """(F, columns) numbers of the motion part."""
    columns = sum(len(joint.channels) for joint in joints)
    if columns == 0:
        raise MotionFileError(f"{where}: no joint has a channel")
    try:
        values = numbers(text)
    except ValueError as error:
        raise MotionFileError(f"{where}: {error}") from None
    if len(values) != frames * columns or frames == 0:
        raise MotionFileError(
            f"{where}: {len(values)} numbers, {frames} frames of {columns} channels need {frames * columns}; is it cut off?"
        )
    return values.reshape(frames, columns)


class _Hierarchy:
    """The joints of the hierarchy part, statement by statement, from its ``words``."""

    def __init__(self, words: Sequence[str], where: str) -> None:
        self._words, self._where = words, where
        self._column = 0
        self.joints: List[Joint] = []
        self.open: List[int] = []
        """The joints whose braces are open, outermost first."""

    def read(self, position: int) -> int:
        """Take the statement that begins at ``position`` and return where the next one does.

        Raises ValueError or IndexError where it is none, MotionFileError where it says what cannot be.
        """
        words, word = self._words, self._words[position].upper()
        if word in ("ROOT", "JOINT", "END"):
            self._add(words[position + 1] if word != "END" else f"{self.joints[self.open[-1]].name}.end")
            return position + 2
        if word == "OFFSET":
            x, y, z = (float(value) for value in words[position + 1 : position + 4])
            self.joints[-1] = self.joints[-1]._replace(offset=(x, y, z))
            return position + 4
        if word == "CHANNELS":
            count = int(words[position + 1])
            self._add_channels(count, [channel.lower() for channel in words[position + 2 : position + 2 + count]])
            return position + 2 + count
        if word == "{":
            self.open.append(len(self.joints) - 1)
        elif word == "}":
            self.open.pop()
        return position + 1

    def _add(self, name: str) -> None:
        """A joint under the one whose brace was opened last."""
        self.joints.append(Joint(name, self.open[-1] if self.open else -1, (0.0, 0.0, 0.0), (), self._column))

    def _add_channels(self, count: int, channels: Sequence[str]) -> None:
        """The ``channels`` of the last joint, which are to be ``count``."""
        joint = f"{self._where}: joint '{self.joints[-1].name}'"
        unknown = [channel for channel in channels if channel not in _ROTATIONS and channel not in _POSITIONS]
        if unknown or len(channels) != count:
            raise MotionFileError(f"{joint} has an unknown channel '{unknown[0] if unknown else 'end of file'}'")
        if self.joints[-1].channels:
            raise MotionFileError(f"{joint} has its channels twice")
        self.joints[-1] = self.joints[-1]._replace(channels=tuple(channels))
        self._column += count


def _joints(words: Sequence[str], where: str) -> Tuple[Joint, ...]:
    """The joints of the hierarchy part, which is given as words."""
    hierarchy, position = _Hierarchy(words, where), 0
    try:
        while position < len(words):
            position = hierarchy.read(position)
    except (ValueError, IndexError):
        raise MotionFileError(f"{where}: the hierarchy is damaged near '{' '.join(words[position : position + 4])}'") from None
    joints = hierarchy.joints
    if len(joints) > _MAX_JOINTS:
        raise MotionFileError(f"{where}: has {len(joints)} joints, at most {_MAX_JOINTS} are read")
    if not joints or hierarchy.open:
        raise MotionFileError(f"{where}: the hierarchy is not closed")
    return tuple(joints)


def choose_map(motion: BvhMotion, where: str) -> JointMap:
    """The built-in map whose joints are all in the file."""
    names = {short_name(joint.name) for joint in motion.joints}
    for joint_map in BUILT_IN_MAPS:
        if set(joint_map.joints.values()) <= names:
            return joint_map
    known = ", ".join(joint_map.name for joint_map in BUILT_IN_MAPS)
    raise MotionFileError(f"{where}: its joints fit none of the built-in maps ({known}); write a joint map and name it with --map")


def _turned(quat: Components, joint: Joint, cosines: np.ndarray, sines: np.ndarray) -> Components:
    """``quat`` ⊗ the joint's own rotation, from cosines and sines (columns, F) of half the angles."""
    for column, channel in enumerate(joint.channels, start=joint.column):
        if channel in _ROTATIONS:
            quat = turned(quat, _ROTATIONS[channel], cosines[column], sines[column])
    return quat


def _places(joints: Sequence[Joint], values: np.ndarray, needed: "set[int]") -> Dict[int, Place]:
    """World positions, in file units, and rotations of the joints in ``needed`` (all their ancestors among them)."""
    columns = np.ascontiguousarray(values.T)
    half = columns * (0.5 * np.pi / 180.0)
    with np.errstate(invalid="ignore"):  # Infinite angles: the recording says so when it is checked.
        cosines, sines = np.cos(half), np.sin(half)
    zero = np.zeros(columns.shape[1])
    places: Dict[int, Place] = {}
    for index in sorted(needed):
        joint = joints[index]
        if joint.parent < 0:
            offset = [zero + value for value in joint.offset]
            for column, channel in enumerate(joint.channels, start=joint.column):
                if channel in _POSITIONS:
                    offset[_POSITIONS[channel]] = columns[column]
            position, quat = tuple(offset), (zero + 1.0, zero, zero, zero)
        else:
            parent = places[joint.parent]
            position, quat = moved(parent, joint.offset), parent.quat
        places[index] = Place(position, _turned(quat, joint, cosines, sines))
    return places


def _with_offsets(joints: Sequence[Joint], index: Dict[str, int], joint_map: JointMap, where: str) -> Tuple[Joint, ...]:
    """The joints with the offsets that the map replaces; ``index`` finds them by name."""
    mended = list(joints)
    for name, (other, factor) in joint_map.offsets.items():
        x, y, z = joints[_index(index, other, joint_map, where)].offset
        place = _index(index, name, joint_map, where)
        mended[place] = mended[place]._replace(offset=(factor * x, factor * y, factor * z))
    return tuple(mended)


def _rest_values(values: np.ndarray, joint_map: JointMap, where: str) -> np.ndarray:
    """(1, columns) of the frame that shows the T-pose."""
    if joint_map.rest_frame is None:
        return np.zeros_like(values[:1])
    if joint_map.rest_frame >= len(values):
        raise MotionFileError(f"{where}: has {len(values)} frames, but 'rest_frame' of map '{joint_map.name}' is {joint_map.rest_frame}")
    return values[joint_map.rest_frame : joint_map.rest_frame + 1]


def _with_ancestors(joints: Sequence[Joint], wanted: Sequence[int]) -> "set[int]":
    """``wanted`` and everything above it."""
    needed: set[int] = set()
    for index in wanted:
        while index >= 0 and index not in needed:
            needed.add(index)
            index = joints[index].parent
    return needed


def load_bvh(path: Path, joint_map: Optional[JointMap] = None, fps: Optional[float] = None) -> Recording:
    """The clip in a BVH file through ``joint_map`` (chosen by joint names if not given); ``fps`` overrides the file's rate."""
    path = Path(path)
    where = f"motion '{path.name}'"
    motion = read_bvh(path)
    joint_map = joint_map or choose_map(motion, where)
    index = {short_name(joint.name): i for i, joint in reversed(list(enumerate(motion.joints)))}
    joints = _with_offsets(motion.joints, index, joint_map, where)
    places = [_index(index, joint_map.joints[body], joint_map, where) for body in BODY_NAMES]
    turners = [_index(index, joint_map.turns.get(body, joint_map.joints[body]), joint_map, where) for body in BODY_NAMES]
    needed = _with_ancestors(joints, places + turners)
    values = motion.values
    rest = _places(joints, _rest_values(values, joint_map, where), needed)
    moving = _places(joints, values[joint_map.skip_frames :], needed)
    relative = [product(moving[turner].quat, conjugate(rest[turner].quat)) for turner in turners]
    rest_places = torch.from_numpy(stacked([rest[place].position for place in places])[0]) * joint_map.metres
    recording = Recording(
        name=path.stem,
        positions=to_upright(torch.from_numpy(stacked([moving[place].position for place in places])) * joint_map.metres).float(),
        quats=quats_to_upright(torch.from_numpy(stacked(relative))).float(),
        rest=to_upright(rest_places).float(),
        fps=fps or motion.fps,
        skeleton=f"{joint_map.name} {_signature(joints)}",
        source=plain_text(f"BVH ({joint_map.name}) {path.name}"),
    )
    return checked(recording)


def _signature(joints: Sequence[Joint]) -> str:
    """A text that two files share if their bones have the same lengths."""
    lengths = " ".join(f"{value:.3f}" for joint in joints[1:] for value in joint.offset)
    return f"{zlib.crc32(lengths.encode()):08x}"


def _index(index: Dict[str, int], name: str, joint_map: JointMap, where: str) -> int:
    """The index of a joint by name."""
    if name not in index:
        raise MotionFileError(f"{where}: has no joint '{name}', which map '{joint_map.name}' names; it has {', '.join(index)}")
    return index[name]

"""Which joint of a BVH file is which of the humanoid's: for the two BVH conversions of the CMU database, and for skeletons like Mixamo's.

Another map is a small JSON file with the fields of ``JointMap``.
"""

import json
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from typing_extensions import TypeGuard

from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.skeleton import BODY_NAMES
from puffer_phc.motion.clip_names import plain_text
from puffer_phc.motion.file import MAX_FRAMES

_LARGEST = sys.float_info.max

_LONGEST_SHOWN = 60
"""Characters of a value in a message."""


class JointMap(NamedTuple):
    """How a family of BVH files is to be read."""

    name: str
    joints: Dict[str, str]
    """For each body of the humanoid the joint at its place, ``NAME.end`` for an End Site, without the file's prefix up to ``:``."""
    turns: Dict[str, str]
    """For bodies that take the rotation of another joint than the one at their place."""
    metres: float
    """Metres of one file unit."""
    rest_frame: Optional[int] = None
    """The frame that shows the T-pose; None: the T-pose is the hierarchy with all rotations zero."""
    skip_frames: int = 0
    """Frames at the start that are no motion (an added T-pose)."""
    offsets: Mapping[str, Tuple[str, float]] = MappingProxyType({})
    """Joints whose offset is that of another joint times a factor: mends hierarchies from which a bone was dropped."""


def _sided(pairs: Dict[str, str], left: str, right: str) -> Dict[str, str]:
    """``pairs`` with ``*`` in body and joint names replaced once for each side."""
    both = [(body.replace("*", "L"), joint.replace("*", left)) for body, joint in pairs.items()]
    both += [(body.replace("*", "R"), joint.replace("*", right)) for body, joint in pairs.items() if "*" in body]
    return dict(both)


_MOTIONBUILDER_NAMES = {
    "Pelvis": "Hips",
    "*_Hip": "*UpLeg",
    "*_Knee": "*Leg",
    "*_Ankle": "*Foot",
    "*_Toe": "*ToeBase",
    "Neck": "Neck",
    "Head": "Head",
    "*_Thorax": "*Shoulder",
    "*_Shoulder": "*Arm",
    "*_Elbow": "*ForeArm",
    "*_Wrist": "*Hand",
}
"""Joints that MotionBuilder and Mixamo name alike, sides as in ``_sided``."""

CMU_MOTIONBUILDER = JointMap(
    name="CMU, MotionBuilder-friendly",
    joints=_sided(
        {
            **_MOTIONBUILDER_NAMES,
            "Torso": "LowerBack",
            "Spine": "Spine",
            "Chest": "Spine1",
            "*_Hand": "*HandIndex1",
        },
        "Left",
        "Right",
    ),
    turns={"L_Hand": "LeftHand", "R_Hand": "RightHand"},
    metres=0.0254 / 0.45,
    skip_frames=1,
    offsets={
        "Neck": ("Spine1", 1.0),
        "LeftShoulder": ("Spine1", 1.0),
        "RightShoulder": ("Spine1", 1.0),
        "LeftHand": ("LeftHand", 1.5),
        "RightHand": ("RightHand", 1.5),
    },
)
"""Bruce Hahne's conversion with the performer's own bones. It has lost two bones: the thorax (as long as the one under it in every
CMU skeleton) and the wrist (half as long as the radius)."""

CMU_DAZ = JointMap(
    name="CMU, Daz-friendly",
    joints=_sided(
        {
            "Pelvis": "hip",
            "*_Hip": "*Thigh",
            "*_Knee": "*Shin",
            "*_Ankle": "*Foot",
            "*_Toe": "*Foot.end",
            "Torso": "hip",
            "Spine": "abdomen",
            "Chest": "chest",
            "Neck": "neck",
            "Head": "head",
            "*_Thorax": "*Collar",
            "*_Shoulder": "*Shldr",
            "*_Elbow": "*ForeArm",
            "*_Wrist": "*Hand",
            "*_Hand": "*Mid1",
        },
        "l",
        "r",
    ),
    turns={"Torso": "abdomen", "Spine": "abdomen", "L_Toe": "lFoot", "R_Toe": "rFoot", "L_Hand": "lHand", "R_Hand": "rHand"},
    metres=0.01,
    skip_frames=1,
)
"""Bruce Hahne's conversion to one common skeleton, in centimetres."""

MIXAMO = JointMap(
    name="Mixamo",
    joints=_sided(
        {
            **_MOTIONBUILDER_NAMES,
            "Torso": "Spine",
            "Spine": "Spine1",
            "Chest": "Spine2",
            "*_Hand": "*HandMiddle1",
        },
        "Left",
        "Right",
    ),
    turns={"L_Hand": "LeftHand", "R_Hand": "RightHand"},
    metres=0.01,
)
"""Skeletons with Mixamo's joint names, in centimetres, T-pose at zero."""

BUILT_IN_MAPS: Tuple[JointMap, ...] = (CMU_MOTIONBUILDER, CMU_DAZ, MIXAMO)


def short_name(name: str) -> str:
    """A joint's name without its namespace."""
    return name.rsplit(":", 1)[-1]


def read_joint_map(path: Path) -> JointMap:
    """A joint map from a JSON file: an object with the fields of ``JointMap``; ``turns`` and what follows ``metres`` may be left out.

    Raises MotionFileError with the field that is not as it should be.
    """
    where = f"joint map '{Path(path).name}'"
    fields = _fields(Path(path), where)
    joints = _joint_names(fields, "joints", where)
    missing = [body for body in BODY_NAMES if body not in joints]
    if missing:
        raise MotionFileError(f"{where}: 'joints' names no joint for {', '.join(missing)}")
    name = fields.get("name", Path(path).stem)
    if not isinstance(name, str):
        raise MotionFileError(f"{where}: 'name' must be a text, is {_shown(name)}")
    metres = fields.get("metres")
    if not _is_number(metres) or not metres > 0.0:
        raise MotionFileError(f"{where}: 'metres' (of one file unit) must be a positive number, is {_shown(metres)}")
    rest_frame = None if fields.get("rest_frame") is None else _frame_number(fields, "rest_frame", where)
    turns, skipped, offsets = _joint_names(fields, "turns", where), _frame_number(fields, "skip_frames", where), _offsets(fields, where)
    return JointMap(plain_text(name), joints, turns, float(metres), rest_frame, skipped, offsets)


def _fields(path: Path, where: str) -> Dict[str, Any]:
    """The object in a JSON file, its keys known."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MotionFileError(f"{where}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise MotionFileError(f"{where}: {error}") from None
    if not isinstance(fields, dict) or "joints" not in fields:
        raise MotionFileError(f"{where}: needs an object with 'joints', for each body the name of a joint")
    unknown = sorted(set(fields) - set(JointMap._fields))
    if unknown:
        raise MotionFileError(f"{where}: unknown field {_shown(unknown[0])}; known: {', '.join(JointMap._fields)}")
    return fields


def _joint_names(fields: Dict[str, Any], key: str, where: str) -> Dict[str, str]:
    """The field ``key``: for bodies of the humanoid the name of a joint."""
    names = fields.get(key, {})
    if not isinstance(names, dict):
        raise MotionFileError(f"{where}: '{key}' must be an object, for bodies the name of a joint, is {_shown(names)}")
    for body, joint in names.items():
        if body not in BODY_NAMES:
            raise MotionFileError(
                f"{where}: '{key}' names {_shown(body)}, which is no body of the humanoid; known: {', '.join(BODY_NAMES)}"
            )
        if not isinstance(joint, str):
            raise MotionFileError(f"{where}: '{key}' of '{body}' must be the name of a joint, is {_shown(joint)}")
    return {body: short_name(joint) for body, joint in names.items()}


def _offsets(fields: Dict[str, Any], where: str) -> Dict[str, Tuple[str, float]]:
    """The field ``offsets``: for joints another joint and a factor."""
    offsets = fields.get("offsets", {})
    if not isinstance(offsets, dict):
        raise MotionFileError(f"{where}: 'offsets' must be an object, for joints [another joint, factor], is {_shown(offsets)}")
    for joint, entry in offsets.items():
        is_pair = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and _is_number(entry[1])
        if not is_pair:
            raise MotionFileError(f"{where}: 'offsets' of {_shown(joint)} must be [another joint, factor], is {_shown(entry)}")
    return {short_name(joint): (short_name(other), float(factor)) for joint, (other, factor) in offsets.items()}


def _frame_number(fields: Dict[str, Any], key: str, where: str) -> int:
    """The field ``key``: a count of frames, 0 where it is left out."""
    value = fields.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_FRAMES:
        raise MotionFileError(f"{where}: '{key}' must be a number of frames, 0 … {MAX_FRAMES}, is {_shown(value)}")
    return value


def _is_number(value: Any) -> "TypeGuard[float]":
    """Whether ``value`` is a finite number that a float can be."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def _shown(value: Any) -> str:
    """``value`` as JSON, short enough for a line."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + " …"

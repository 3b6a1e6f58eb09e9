"""Which joint of a BVH file is which of the humanoid's: for the two BVH conversions of the CMU database, and for skeletons like Mixamo's.

Another map is a small JSON file with the fields of ``JointMap``.
"""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.skeleton import BODY_NAMES


class JointMap(NamedTuple):
    """How a family of BVH files is to be read."""

    name: str
    joints: Dict[str, str]
    """For each body of the humanoid the joint at its place, ``NAME.end`` for an End Site. A prefix up to ``:`` is ignored."""
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


def read_joint_map(path: Path) -> JointMap:
    """A joint map from a JSON file: an object with the fields of ``JointMap``; ``turns`` and what follows ``metres`` may be left out."""
    where = f"joint map '{Path(path).name}'"
    try:
        fields = json.loads(Path(path).read_text())
    except OSError as error:
        raise MotionFileError(f"{where}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise MotionFileError(f"{where}: {error}") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("joints"), dict):
        raise MotionFileError(f"{where}: needs an object with 'joints', for each body the name of a joint")
    unknown = sorted(set(fields) - set(JointMap._fields))
    if unknown:
        raise MotionFileError(f"{where}: unknown field '{unknown[0]}'; known: {', '.join(JointMap._fields)}")
    missing = [body for body in BODY_NAMES if body not in fields["joints"]]
    if missing:
        raise MotionFileError(f"{where}: 'joints' names no joint for {', '.join(missing)}")
    if not isinstance(fields.get("metres"), (int, float)) or not fields["metres"] > 0:
        raise MotionFileError(f"{where}: 'metres' (of one file unit) must be a positive number")
    offsets = {joint: (other, float(factor)) for joint, (other, factor) in fields.get("offsets", {}).items()}
    return JointMap(**{"name": Path(path).stem, "turns": {}, **fields, "offsets": offsets})

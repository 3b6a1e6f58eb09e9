"""Small hand-made motion capture files: a performer of our own in CMU's ASF/AMC format and as BVH, and where the real data may lie."""

import math
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "cmu"

UNIT = 0.45 / 0.0254
"""ASF length units of one metre."""

SPREAD = math.radians(20.0)

_LEG = (math.sin(SPREAD), -math.cos(SPREAD), 0.0)


def _bones():
    """(name, parent, direction, length m, axis degrees, dof) of every bone; x left, y up, z forward."""
    bones = []
    for letter, sign in (("l", 1.0), ("r", -1.0)):
        leg, tilt = (sign * _LEG[0], _LEG[1], 0.0), (0.0, 0.0, sign * 20.0)
        bones += [
            (f"{letter}hipjoint", "root", (sign * 0.66, -0.70, 0.28), 0.14, (0.0, 0.0, 0.0), ""),
            (f"{letter}femur", f"{letter}hipjoint", leg, 0.41, tilt, "rx ry rz"),
            (f"{letter}tibia", f"{letter}femur", leg, 0.42, tilt, "rx"),
            (f"{letter}foot", f"{letter}tibia", (sign * 0.09, -0.25, 0.96), 0.13, (-90.0, 0.0, sign * 20.0), "rx rz"),
            (f"{letter}toes", f"{letter}foot", (0.0, 0.0, 1.0), 0.06, (-90.0, 0.0, sign * 20.0), "rx"),
        ]
    up = (0.0, 1.0, 0.0)
    for name, parent, length in (
        ("lowerback", "root", 0.12),
        ("upperback", "lowerback", 0.12),
        ("thorax", "upperback", 0.12),
        ("lowerneck", "thorax", 0.09),
        ("upperneck", "lowerneck", 0.09),
        ("head", "upperneck", 0.1),
    ):
        bones.append((name, parent, up, length, (0.0, 0.0, 0.0), "rx ry rz"))
    for letter, sign in (("l", 1.0), ("r", -1.0)):
        side, arm_axis, hand_axis = (sign, 0.0, 0.0), (180.0, -30.0 * sign, -90.0 * sign), (0.0, 90.0 * sign, 90.0 * sign)
        bones += [
            (f"{letter}clavicle", "thorax", (sign * 0.98, 0.15, 0.0), 0.2, (0.0, 0.0, 0.0), "ry rz"),
            (f"{letter}humerus", f"{letter}clavicle", side, 0.3, arm_axis, "rx ry rz"),
            (f"{letter}radius", f"{letter}humerus", side, 0.14, arm_axis, "rx"),
            (f"{letter}wrist", f"{letter}radius", side, 0.07, hand_axis, "ry"),
            (f"{letter}hand", f"{letter}wrist", side, 0.05, hand_axis, "rx rz"),
            (f"{letter}fingers", f"{letter}hand", side, 0.04, hand_axis, "rx"),
        ]
    return bones


def asf_text() -> str:
    """A whole ASF skeleton with CMU's bone names."""
    lines = [":version 1.10", ":name TEST", ":units", "  mass 1.0", "  length 0.45", "  angle deg", ":root"]
    lines += ["   order TX TY TZ RX RY RZ", "   axis XYZ", "   position 0 0 0", "   orientation 0 0 0", ":bonedata"]
    for number, (name, _, direction, length, axis, dof) in enumerate(_bones(), start=1):
        lines += ["  begin", f"     id {number}", f"     name {name}", "     direction {} {} {}".format(*direction)]
        lines += [f"     length {length * UNIT}", "     axis {} {} {} XYZ".format(*axis)]
        lines += [f"    dof {dof}"] if dof else []
        lines += ["  end"]
    lines += [":hierarchy", "  begin"] + [f"    {parent} {name}" for name, parent, *_ in _bones()] + ["  end"]
    return "\n".join(lines) + "\n"


def amc_frame(number: int, root=(0.0, 0.95, 0.0, 0.0, 0.0, 0.0), **angles) -> str:
    """One frame; ``root`` in metres and degrees, ``angles`` by bone name in degrees, the legs upright unless given."""
    position, turn = [value * UNIT for value in root[:3]], list(root[3:])
    pose = {"lfemur": (0.0, 0.0, -20.0), "rfemur": (0.0, 0.0, 20.0), **angles}
    lines = [str(number), "root " + " ".join(f"{value:.6f}" for value in (*position, *turn))]
    for name, _, _, _, _, dof in _bones():
        if dof:
            values = pose.get(name, (0.0,) * len(dof.split()))
            lines.append(name + " " + " ".join(f"{value:.6f}" for value in values))
    return "\n".join(lines)


def amc_text(frames) -> str:
    """A whole AMC file of ``frames`` as ``amc_frame`` makes them."""
    return "#!OML:ASF test\n:FULLY-SPECIFIED\n:DEGREES\n" + "\n".join(frames) + "\n"


def squat_frames(count: int = 121, depth: float = 25.0):
    """Frames at 120 Hz of a performer who bends both knees and stands up again, feet in place and flat."""
    frames = []
    for number in range(1, count + 1):
        bend = depth * 0.5 * (1.0 - math.cos(2.0 * math.pi * (number - 1) / (count - 1)))
        height = 0.08 + 0.098 + 0.83 * math.cos(math.radians(bend))
        pose = {}
        for letter, sign in (("l", 1.0), ("r", -1.0)):
            pose.update({f"{letter}femur": (-bend, 0.0, -20.0 * sign), f"{letter}tibia": (2.0 * bend,), f"{letter}foot": (-bend, 0.0)})
            pose[f"{letter}humerus"] = (0.0, 0.0, 75.0 * sign)
        frames.append(amc_frame(number, (0.0, height, 0.0, 0.0, 0.0, 0.0), **pose))
    return frames


def write_asf_amc(folder: Path, frames, stem: str = "77_01") -> Path:
    """Both files in ``folder``; returns the AMC's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem.split('_')[0]}.asf").write_text(asf_text())
    path = folder / f"{stem}.amc"
    path.write_text(amc_text(frames))
    return path


MIXAMO_JOINTS = (
    ("Hips", None, (0, 0, 0)),
    ("LeftUpLeg", "Hips", (9, -8, 0)),
    ("LeftLeg", "LeftUpLeg", (0, -41, 0)),
    ("LeftFoot", "LeftLeg", (0, -42, 0)),
    ("LeftToeBase", "LeftFoot", (0, -4, 12)),
    ("RightUpLeg", "Hips", (-9, -8, 0)),
    ("RightLeg", "RightUpLeg", (0, -41, 0)),
    ("RightFoot", "RightLeg", (0, -42, 0)),
    ("RightToeBase", "RightFoot", (0, -4, 12)),
    ("Spine", "Hips", (0, 10, 0)),
    ("Spine1", "Spine", (0, 12, 0)),
    ("Spine2", "Spine1", (0, 12, 0)),
    ("Neck", "Spine2", (0, 18, 0)),
    ("Head", "Neck", (0, 10, 0)),
    ("LeftShoulder", "Spine2", (6, 14, 0)),
    ("LeftArm", "LeftShoulder", (12, 0, 0)),
    ("LeftForeArm", "LeftArm", (28, 0, 0)),
    ("LeftHand", "LeftForeArm", (26, 0, 0)),
    ("LeftHandMiddle1", "LeftHand", (8, 0, 0)),
    ("RightShoulder", "Spine2", (-6, 14, 0)),
    ("RightArm", "RightShoulder", (-12, 0, 0)),
    ("RightForeArm", "RightArm", (-28, 0, 0)),
    ("RightHand", "RightForeArm", (-26, 0, 0)),
    ("RightHandMiddle1", "RightHand", (-8, 0, 0)),
)
"""A Mixamo-like skeleton in centimetres: name, parent, offset."""


def _bvh_joint(name, indent: int, prefix: str):
    """Lines of a joint and everything under it."""
    offset = next(offset for joint, _, offset in MIXAMO_JOINTS if joint == name)
    pad = "  " * indent
    channels = "6 Xposition Yposition Zposition Zrotation Yrotation Xrotation" if indent == 0 else "3 Zrotation Yrotation Xrotation"
    lines = [f"{pad}{'ROOT' if indent == 0 else 'JOINT'} {prefix}{name}", pad + "{"]
    lines += [f"{pad}  OFFSET {offset[0]} {offset[1]} {offset[2]}", f"{pad}  CHANNELS {channels}"]
    children = [joint for joint, parent, _ in MIXAMO_JOINTS if parent == name]
    for child in children:
        lines += _bvh_joint(child, indent + 1, prefix)
    if not children:
        lines += [f"{pad}  End Site", pad + "  {", f"{pad}    OFFSET 0 0 5", pad + "  }"]
    return [*lines, pad + "}"]


def bvh_text(poses, fps: float = 60.0, prefix: str = "mixamorig:") -> str:
    """A BVH file; each pose is (root position cm, {joint: (z, y, x) degrees})."""
    order = [line.split(":")[-1].split()[-1] for line in _bvh_joint("Hips", 0, "p:") if "JOINT" in line or "ROOT" in line]
    lines = ["HIERARCHY", *_bvh_joint("Hips", 0, prefix), "MOTION", f"Frames: {len(poses)}", f"Frame Time: {1.0 / fps:.7f}"]
    for position, turns in poses:
        values = list(position)
        for joint in order:
            values += list(turns.get(joint, (0.0, 0.0, 0.0)))
        lines.append(" ".join(f"{value:.5f}" for value in values))
    return "\n".join(lines) + "\n"


def real_archive(name: str) -> Path:
    """The archive of real clips; skips the test where it is not."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the repository")
    return path

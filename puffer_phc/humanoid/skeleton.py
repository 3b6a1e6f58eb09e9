"""The humanoid as one table: 24 bodies with their offsets, collision shapes, densities and joint gains.

Everything else (MJCF, kinematics, observations, importers) is derived from this table, so that no two descriptions can drift apart.
Body frames are upright: x forward, y left, z up in the zero pose, a T-pose with the arms along ±y. Every body but the root hangs on
its parent by a ball joint at its own origin. Numbers: the neutral SMPL body of PHC (arXiv 2305.06456), 73.9954 kg in all.
"""

from typing import List, NamedTuple, Optional, Tuple, Union

import numpy as np

Vector = Tuple[float, float, float]


class Sphere(NamedTuple):
    """A sphere in its body's frame, metres."""

    center: Vector
    radius: float


class Capsule(NamedTuple):
    """A segment with hemispherical caps in its body's frame, metres."""

    start: Vector
    end: Vector
    radius: float


class Box(NamedTuple):
    """An axis-aligned box in its body's frame, metres."""

    center: Vector
    half_extents: Vector


Shape = Union[Sphere, Capsule, Box]


class Body(NamedTuple):
    """One rigid body and the ball joint that ties it to its parent."""

    name: str
    parent: Optional[str]
    offset: Vector
    """From the parent's origin, in the parent's frame, m. The root's is the pelvis joint in SMPL's own rest frame (y up)."""
    shape: Shape
    density: float
    """kg/m³."""
    stiffness: float
    """kp, N·m/rad."""
    damping: float
    """kd, N·m·s/rad."""


# fmt: off
BODIES: Tuple[Body, ...] = (
    Body("Pelvis", None, (-0.0018, -0.2233, 0.0282), Sphere((0.0, 0.0, 0.0), 0.0942), 4629.6296296296305, 0.0, 0.0),
    Body("L_Hip", "Pelvis", (-0.0068, 0.0695, -0.0914), Capsule((-0.0009, 0.0069, -0.075), (-0.0036, 0.0274, -0.3002), 0.0615), 2040.816327, 800.0, 80.0),
    Body("L_Knee", "L_Hip", (-0.0045, 0.0343, -0.3752), Capsule((-0.0087, -0.0027, -0.0796), (-0.035, -0.0109, -0.3184), 0.0541), 1234.567901, 800.0, 80.0),
    Body("L_Ankle", "L_Knee", (-0.0437, -0.0136, -0.398), Box((0.0242, 0.0233, -0.0239), (0.085, 0.0483, 0.0464)), 1000.0, 800.0, 80.0),
    Body("L_Toe", "L_Ankle", (0.1193, 0.0264, -0.0558), Box((0.0248, -0.003, 0.0055), (0.0496, 0.0478, 0.02)), 1000.0, 500.0, 50.0),
    Body("R_Hip", "Pelvis", (-0.0043, -0.0677, -0.0905), Capsule((-0.0018, -0.0077, -0.0765), (-0.0071, -0.0306, -0.3061), 0.0606), 2040.816327, 800.0, 80.0),
    Body("R_Knee", "R_Hip", (-0.0089, -0.0383, -0.3826), Capsule((-0.0085, 0.0032, -0.0797), (-0.0338, 0.0126, -0.3187), 0.0541), 1234.567901, 800.0, 80.0),
    Body("R_Ankle", "R_Knee", (-0.0423, 0.0158, -0.3984), Box((0.0256, -0.0212, -0.0174), (0.0865, 0.0483, 0.0478)), 1000.0, 800.0, 80.0),
    Body("R_Toe", "R_Ankle", (0.1233, -0.0254, -0.0481), Box((0.0227, 0.0042, 0.0045), (0.0493, 0.0479, 0.0216)), 1000.0, 500.0, 50.0),
    Body("Torso", "Pelvis", (-0.0267, -0.0025, 0.109), Capsule((0.0005, 0.0025, 0.0608), (0.0006, 0.003, 0.0743), 0.0769), 2040.816327, 1000.0, 100.0),
    Body("Spine", "Torso", (0.0011, 0.0055, 0.1352), Capsule((0.0114, 0.0007, 0.0238), (0.014, 0.0008, 0.0291), 0.0755), 2040.816327, 1000.0, 100.0),
    Body("Chest", "Spine", (0.0254, 0.0015, 0.0529), Capsule((-0.0173, -0.0009, 0.0682), (-0.0212, -0.001, 0.0833), 0.1002), 2040.816327, 1000.0, 100.0),
    Body("Neck", "Chest", (-0.0429, -0.0028, 0.2139), Capsule((0.0103, 0.001, 0.013), (0.0411, 0.0041, 0.052), 0.0436), 1000.0, 500.0, 50.0),
    Body("Head", "Neck", (0.0513, 0.0052, 0.065), Sphere((0.0, 0.0, 0.0), 0.1011), 1000.0, 500.0, 50.0),
    Body("L_Thorax", "Chest", (-0.0341, 0.0788, 0.1217), Capsule((-0.0018, 0.0182, 0.0061), (-0.0071, 0.0728, 0.0244), 0.0521), 1000.0, 500.0, 50.0),
    Body("L_Shoulder", "L_Thorax", (-0.0089, 0.091, 0.0305), Capsule((-0.0055, 0.0519, -0.0026), (-0.022, 0.2077, -0.0102), 0.0517), 1000.0, 500.0, 50.0),
    Body("L_Elbow", "L_Shoulder", (-0.0275, 0.2596, -0.0128), Capsule((-0.0002, 0.0498, 0.0018), (-0.0009, 0.1994, 0.0072), 0.0405), 1000.0, 500.0, 50.0),
    Body("L_Wrist", "L_Elbow", (-0.0012, 0.2492, 0.009), Capsule((-0.003, 0.0168, -0.0016), (-0.012, 0.0672, -0.0065), 0.0318), 1000.0, 300.0, 30.0),
    Body("L_Hand", "L_Wrist", (-0.0149, 0.084, -0.0082), Sphere((0.0, 0.0, 0.0), 0.0337), 1000.0, 300.0, 30.0),
    Body("R_Thorax", "Chest", (-0.0386, -0.0818, 0.1188), Capsule((-0.0018, -0.0192, 0.0065), (-0.0073, -0.0768, 0.026), 0.0511), 1000.0, 500.0, 50.0),
    Body("R_Shoulder", "R_Thorax", (-0.0091, -0.096, 0.0326), Capsule((-0.0043, -0.0507, -0.0027), (-0.0171, -0.203, -0.0107), 0.0531), 1000.0, 500.0, 50.0),
    Body("R_Elbow", "R_Shoulder", (-0.0214, -0.2537, -0.0133), Capsule((-0.0011, -0.0511, 0.0016), (-0.0044, -0.2042, 0.0062), 0.0408), 1000.0, 500.0, 50.0),
    Body("R_Wrist", "R_Elbow", (-0.0056, -0.2553, 0.0078), Capsule((-0.0021, -0.0169, -0.0012), (-0.0083, -0.0677, -0.0049), 0.0326), 1000.0, 300.0, 30.0),
    Body("R_Hand", "R_Wrist", (-0.0103, -0.0846, -0.0061), Sphere((0.0, 0.0, 0.0), 0.034), 1000.0, 300.0, 30.0),
)
# fmt: on
"""In MJCF order, which is the order of every per-body tensor."""

NUM_BODIES = len(BODIES)
NUM_DOFS = 3 * (NUM_BODIES - 1)
"""Body i > 0 owns degrees of freedom 3(i − 1) … 3(i − 1) + 2: the x, y, z components of its rotation vector."""

BODY_NAMES: Tuple[str, ...] = tuple(body.name for body in BODIES)
PARENTS: Tuple[int, ...] = tuple(BODY_NAMES.index(body.parent) if body.parent else -1 for body in BODIES)
OFFSETS = np.array([(0.0, 0.0, 0.0)] + [body.offset for body in BODIES[1:]])
"""(B, 3) m, from the parent's origin; zero for the root."""

SMPL_PELVIS: Vector = BODIES[0].offset
"""The pelvis joint of the neutral SMPL body in SMPL's rest frame, m: AMASS's ``trans`` plus this is the pelvis position."""

GRAVITY = 9.81
"""m/s², along −z."""

ARMATURE = 0.02
"""kg·m² of rotor inertia on every degree of freedom."""

SMPL_ORDER: Tuple[str, ...] = (
    "Pelvis", "L_Hip", "R_Hip", "Torso", "L_Knee", "R_Knee", "Spine", "L_Ankle", "R_Ankle", "Chest", "L_Toe", "R_Toe",
    "Neck", "L_Thorax", "R_Thorax", "Head", "L_Shoulder", "R_Shoulder", "L_Elbow", "R_Elbow", "L_Wrist", "R_Wrist", "L_Hand", "R_Hand",
)  # fmt: skip
"""Body names in the joint order of SMPL pose vectors."""

SMPL_TO_MJCF: Tuple[int, ...] = tuple(SMPL_ORDER.index(name) for name in BODY_NAMES)
"""Gather indices: ``mjcf[i] = smpl[SMPL_TO_MJCF[i]]``."""

UPRIGHT_TO_SMPL_REST = np.array([0.5, 0.5, 0.5, 0.5])
"""wxyz. Global SMPL rotation = upright global rotation ⊗ this: SMPL's rest frame is y up, z forward."""

EXCLUDED_CONTACTS: Tuple[Tuple[str, str], ...] = (
    ("L_Knee", "L_Toe"),
    ("R_Knee", "R_Toe"),
    ("L_Knee", "R_Ankle"),
    ("R_Knee", "L_Ankle"),
    ("L_Knee", "R_Toe"),
    ("R_Knee", "L_Toe"),
    ("Torso", "Chest"),
    ("Chest", "Head"),
)
"""Body pairs that never collide, besides parents with their children: their shapes overlap in ordinary poses."""

HAND_BODIES: Tuple[str, ...] = ("L_Hand", "R_Hand")
TOE_BODIES: Tuple[str, ...] = ("L_Toe", "R_Toe")
KEY_BODIES: Tuple[str, ...] = ("R_Ankle", "L_Ankle", "R_Wrist", "L_Wrist")
"""In the order of the AMP observation."""


def body_ids(names: Tuple[str, ...]) -> List[int]:
    """Indices of bodies by name, in the order given."""
    return [BODY_NAMES.index(name) for name in names]


def dof_ids(names: Tuple[str, ...]) -> List[int]:
    """Indices of the degrees of freedom of bodies by name, three a body, in the order given."""
    return [3 * (body - 1) + axis for body in body_ids(names) for axis in range(3)]


def dof_stiffness() -> np.ndarray:
    """(D,) kp, N·m/rad."""
    return np.repeat([body.stiffness for body in BODIES[1:]], 3)


def dof_damping() -> np.ndarray:
    """(D,) kd, N·m·s/rad."""
    return np.repeat([body.damping for body in BODIES[1:]], 3)

"""The table of bodies: masses, extents, maps, gains."""

import math

import numpy as np
import pytest
import torch

from puffer_phc.humanoid import skeleton
from puffer_phc.humanoid.kinematics import forward_kinematics
from puffer_phc.humanoid.skeleton import BODIES, BODY_NAMES, PARENTS, Box, Capsule


def volume(shape) -> float:
    if isinstance(shape, Box):
        return 8.0 * math.prod(shape.half_extents)
    ball = 4.0 / 3.0 * math.pi * shape.radius**3
    return ball + math.pi * shape.radius**2 * math.dist(shape.start, shape.end) if isinstance(shape, Capsule) else ball


@pytest.mark.parametrize(
    ("name", "mass"),
    [("Pelvis", 16.2102), ("L_Hip", 7.4724), ("R_Ankle", 1.5976), ("Chest", 9.6039), ("Head", 4.3285), ("R_Hand", 0.1646)],
)
def test_masses_from_volumes(name, mass):
    body = BODIES[BODY_NAMES.index(name)]
    assert abs(volume(body.shape) * body.density - mass) < 6e-5


def test_the_humanoid_weighs_what_the_original_weighs():
    assert abs(sum(volume(body.shape) * body.density for body in BODIES) - 73.9954) < 1e-4


def test_sizes_and_order():
    assert (skeleton.NUM_BODIES, skeleton.NUM_DOFS) == (24, 69)
    assert PARENTS == (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 12, 11, 14, 15, 16, 17, 11, 19, 20, 21, 22)
    assert skeleton.SMPL_TO_MJCF == (0, 1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12, 15, 13, 16, 18, 20, 22, 14, 17, 19, 21, 23)
    assert sorted(skeleton.SMPL_ORDER) == sorted(BODY_NAMES)


def test_extents_of_the_zero_pose():
    quats = torch.zeros(24, 4, dtype=torch.float64)
    quats[:, 0] = 1.0
    positions, _ = forward_kinematics(torch.zeros(3, dtype=torch.float64), quats)
    found = [positions[:, 2].min(), positions[:, 2].max(), positions[:, 1].min(), positions[:, 1].max()]
    np.testing.assert_allclose(found, [-0.9204, 0.5760, -0.7669, 0.7671], atol=6e-5)


def test_gains_and_their_places():
    stiffness, damping = skeleton.dof_stiffness(), skeleton.dof_damping()
    assert stiffness.shape == damping.shape == (69,)
    np.testing.assert_allclose(stiffness, 10.0 * damping)
    expected = {"L_Knee": 800.0, "R_Toe": 500.0, "Chest": 1000.0, "L_Elbow": 500.0, "R_Wrist": 300.0}
    for name, value in expected.items():
        assert (stiffness[skeleton.dof_ids((name,))] == value).all()


def test_ids_of_names():
    assert skeleton.body_ids(("R_Hand", "Pelvis")) == [23, 0]
    assert skeleton.dof_ids(("L_Toe",)) == [9, 10, 11]
    assert skeleton.dof_ids(skeleton.HAND_BODIES) == [51, 52, 53, 66, 67, 68]


def test_excluded_pairs_are_those_whose_masks_met():
    masks = [0, 0, 7, 16, 12, 0, 56, 2, 33, 128, 0, 192, 0, 64, *[0] * 10]
    pairs = {
        frozenset((BODY_NAMES[a], BODY_NAMES[b]))
        for a in range(24)
        for b in range(a + 1, 24)
        if masks[a] & masks[b] and PARENTS[b] != a and PARENTS[a] != b
    }
    assert {frozenset(pair) for pair in skeleton.EXCLUDED_CONTACTS} == pairs

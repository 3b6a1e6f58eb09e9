"""Rotations: group axioms, agreement with SciPy and MuJoCo, and the figures of the original."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from puffer_phc import rotations

settings.register_profile("fast", max_examples=50, deadline=None)
settings.load_profile("fast")

IDENTITY = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
component = st.floats(-1.0, 1.0, allow_nan=False, width=32)
vector = st.tuples(*[st.floats(-10.0, 10.0, allow_nan=False, width=32)] * 3).map(lambda v: torch.tensor(v, dtype=torch.float64))
quaternion = (
    st.tuples(*[component] * 4)
    .filter(lambda q: sum(c * c for c in q) > 1e-2)
    .map(lambda q: rotations.normalize(torch.tensor(q, dtype=torch.float64)))
)


def random_quats(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return rotations.normalize(torch.randn(*shape, 4, generator=generator, dtype=torch.float64)).to(dtype)


def scipy_rotation(q):
    return Rotation.from_quat(rotations.xyzw_from_wxyz(q).numpy())


def assert_same_rotation(a, b, tolerance=1e-9):
    assert torch.minimum((a - b).abs().amax(-1), (a + b).abs().amax(-1)).max() < tolerance


@given(quaternion, quaternion, quaternion)
def test_the_product_is_associative(a, b, c):
    assert_same_rotation(rotations.multiply(rotations.multiply(a, b), c), rotations.multiply(a, rotations.multiply(b, c)))


@given(quaternion)
def test_identity_and_inverse(q):
    assert torch.equal(rotations.multiply(IDENTITY, q), q)
    assert torch.equal(rotations.multiply(q, IDENTITY), q)
    assert_same_rotation(rotations.multiply(q, rotations.conjugate(q)), IDENTITY)


@given(quaternion, quaternion, vector)
def test_a_product_rotates_by_the_second_first(a, b, v):
    torch.testing.assert_close(rotations.rotate(rotations.multiply(a, b), v), rotations.rotate(a, rotations.rotate(b, v)))


@given(quaternion, vector)
def test_rotations_keep_lengths_and_do_not_see_the_sign(q, v):
    torch.testing.assert_close(rotations.rotate(q, v).norm(), v.norm())
    torch.testing.assert_close(rotations.rotate(-q, v), rotations.rotate(q, v))
    torch.testing.assert_close(rotations.to_rotation_vector(-q).norm(), rotations.to_rotation_vector(q).norm())


@given(quaternion)
def test_logarithm_and_exponential_are_inverse(q):
    logarithm = rotations.to_rotation_vector(q)
    assert logarithm.norm() <= math.pi + 1e-12
    assert_same_rotation(rotations.from_rotation_vector(logarithm), q)
    torch.testing.assert_close(logarithm.norm(), rotations.angle(q), atol=1e-12, rtol=1e-9)


@given(quaternion)
def test_heading_inverse_leaves_no_heading(q):
    turned = rotations.multiply(rotations.heading_inverse(q), q)
    assert_same_rotation(rotations.multiply(rotations.heading(q), turned), q)
    if torch.hypot(*rotations.tangent_normal(q)[:2]) > 1e-6:  # a vertical x axis has no heading
        assert abs(rotations.heading_angle(turned)) < 1e-6


def test_a_heading_is_the_same_bits_in_any_company():
    """What a row observes does not depend on how many others there are."""
    quats = random_quats(200)
    whole = rotations.heading_angle(quats)
    for size in (1, 3, 8, 17, 64, 131):
        assert torch.equal(rotations.heading_angle(quats[:size]), whole[:size])
        assert torch.equal(rotations.heading_angle(quats[-size:]), whole[-size:])


@given(quaternion, quaternion, st.floats(0.0, 1.0))
def test_slerp_moves_evenly_along_the_shorter_arc(a, b, fraction):
    between = rotations.slerp(a, b, torch.tensor([fraction], dtype=torch.float64))
    whole = rotations.angle(rotations.multiply(rotations.conjugate(a), b))
    part = rotations.angle(rotations.multiply(rotations.conjugate(a), between))
    assert abs(part - fraction * whole) < 1e-6
    assert abs(between.norm() - 1.0) < 1e-12


def test_slerp_meets_its_ends_and_scipy():
    a, b = random_quats(64, dtype=torch.float64), random_quats(64, seed=1, dtype=torch.float64)
    for fraction in (0.0, 0.3, 0.7, 1.0):
        expected = scipy_rotation(a) * Rotation.from_rotvec(fraction * (scipy_rotation(a).inv() * scipy_rotation(b)).as_rotvec())
        found = rotations.slerp(a, b, torch.tensor(fraction, dtype=torch.float64))
        assert (scipy_rotation(found).inv() * expected).magnitude().max() < 1e-7


def test_slerp_of_equal_and_opposite_quaternions_is_finite():
    q = random_quats(16)
    fraction = torch.full((16, 1), 0.5)
    assert_same_rotation(rotations.slerp(q, q, fraction), q, 1e-6)
    assert_same_rotation(rotations.slerp(q, -q, fraction), q, 1e-6)
    half_turn = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(16, 4)
    assert torch.isfinite(rotations.slerp(q, rotations.multiply(q, half_turn), fraction)).all()


def test_agreement_with_scipy():
    a, b = random_quats(100), random_quats(100, seed=1)
    vectors = torch.randn(100, 3, generator=torch.Generator().manual_seed(2))
    ours = {
        "product": rotations.to_matrix(rotations.multiply(a, b)),
        "rotate": rotations.rotate(a, vectors),
        "matrix": rotations.to_matrix(a),
        "logarithm": rotations.to_rotation_vector(a),
        "exponential": rotations.to_matrix(rotations.from_rotation_vector(vectors)),
    }
    theirs = {
        "product": (scipy_rotation(a) * scipy_rotation(b)).as_matrix(),
        "rotate": scipy_rotation(a).apply(vectors.numpy()),
        "matrix": scipy_rotation(a).as_matrix(),
        "logarithm": scipy_rotation(a).as_rotvec(),
        "exponential": Rotation.from_rotvec(vectors.numpy()).as_matrix(),
    }
    for name in ours:
        np.testing.assert_allclose(ours[name].numpy(), theirs[name], atol=3e-6, err_msg=name)


def test_agreement_with_mujoco():
    mujoco = pytest.importorskip("mujoco")
    a, b = random_quats(20, dtype=torch.float64), random_quats(20, seed=1, dtype=torch.float64)
    vectors = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for row in range(20):
        product, rotated, logarithm = np.zeros(4), np.zeros(3), np.zeros(3)
        mujoco.mju_mulQuat(product, a[row].numpy(), b[row].numpy())
        mujoco.mju_rotVecQuat(rotated, vectors[row].numpy(), a[row].numpy())
        mujoco.mju_quat2Vel(logarithm, a[row].numpy(), 1.0)
        np.testing.assert_allclose(rotations.multiply(a[row], b[row]).numpy(), product, atol=1e-12)
        np.testing.assert_allclose(rotations.rotate(a[row], vectors[row]).numpy(), rotated, atol=1e-12)
        np.testing.assert_allclose(rotations.to_rotation_vector(a[row]).numpy(), logarithm, atol=1e-9)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-7, 1e-5, 1e-3, 0.1])
def test_small_rotation_vectors_keep_their_digits_in_float32(size):
    v = size * torch.tensor([[0.6, -0.48, 0.64], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(rotations.to_rotation_vector(rotations.from_rotation_vector(v)), v, rtol=2e-6, atol=0.0)


def test_gradients_are_finite_at_the_identity():
    v = torch.zeros(3, requires_grad=True)
    rotations.to_rotation_vector(rotations.from_rotation_vector(v + 1e-12)).sum().backward()
    assert v.grad is not None and torch.isfinite(v.grad).all()


def test_figures_of_the_original():
    q = rotations.wxyz_from_xyzw(torch.tensor([0.1, 0.2, 0.3, 0.92736185]))
    expected = torch.tensor([0.740000, 0.596417, -0.310945, 0.430945, -0.065472, 0.900000])
    torch.testing.assert_close(rotations.tangent_normal(q), expected, atol=1e-6, rtol=0.0)
    assert abs(rotations.heading_angle(q).item() - 0.678370) < 1e-6


def test_the_6d_form_is_two_columns_of_the_matrix():
    q = random_quats(5, 7)
    matrix = rotations.to_matrix(q)
    torch.testing.assert_close(rotations.tangent_normal(q), torch.cat((matrix[..., 0], matrix[..., 2]), dim=-1))


def test_orders_are_inverse_and_canonical_has_no_negative_w():
    q = random_quats(9)
    assert torch.equal(rotations.wxyz_from_xyzw(rotations.xyzw_from_wxyz(q)), q)
    assert (rotations.canonical(q)[..., 0] >= 0).all()
    assert_same_rotation(rotations.canonical(q), q)


def test_a_yaw_turns_the_x_axis():
    turned = rotations.rotate(rotations.yaw(torch.tensor(math.pi / 2)), torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0.0)


def test_leading_axes_broadcast():
    a, b = random_quats(5, 1), random_quats(3, seed=1)
    assert rotations.multiply(a, b).shape == (5, 3, 4)
    assert rotations.rotate(a, torch.zeros(3, 3)).shape == (5, 3, 3)
    assert rotations.slerp(a, b, torch.tensor(0.5)).shape == (5, 3, 4)

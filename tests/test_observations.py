import golden_vectors
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_motion import flipped, random_body, turned

from puffer_phc.env.observations import (
    AMP_SIZE,
    FRAME_SIZE,
    SELF_SIZE,
    amp_observation,
    imitation_observation,
    observation,
    observation_size,
    self_observation,
)
from puffer_phc.rotations import wxyz_from_xyzw
from puffer_phc.state import BodyState, Pose

TOLERANCE = 1e-4


def frames(*bodies):
    """(N, K, B, ·) from K bodies (N, B, ·)."""
    return BodyState(*(torch.stack(parts, dim=1) for parts in zip(*bodies)))


def amp_inputs(golden):
    pose = Pose(
        golden["root_pos"],
        wxyz_from_xyzw(golden["root_quat_xyzw"]),
        golden["root_lin_vel"],
        golden["root_ang_vel"],
        golden["dof_pos_rotation_vectors"],
        golden["dof_vel"],
    )
    return pose, golden["key_body_pos_RAnkle_LAnkle_RWrist_LWrist"]


def test_equals_the_original():
    golden = golden_vectors.load("observation_reward")
    body, reference = golden_vectors.body_and_reference(golden)
    torch.testing.assert_close(self_observation(body), golden["self_observation"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(imitation_observation(body, frames(reference)), golden["imitation_observation"], atol=TOLERANCE, rtol=0)


def test_amp_observation_equals_the_original():
    golden = golden_vectors.load("amp_observation")
    torch.testing.assert_close(amp_observation(*amp_inputs(golden)), golden["amp_observation"], atol=TOLERANCE, rtol=0)


def test_sizes():
    assert (SELF_SIZE, FRAME_SIZE, AMP_SIZE) == (358, 576, 196)
    assert [observation_size(k) for k in (1, 3)] == [934, 358 + 3 * 576]


def test_of_nobody_has_its_columns():
    nobody = BodyState(*(part[:0] for part in random_body(0, 1)))
    assert observation(nobody, frames(nobody, nobody)).shape == (0, observation_size(2))


def test_whole_is_the_parts_frame_after_frame():
    body, near, far = random_body(0, 3), random_body(1, 3), random_body(2, 3)
    parts = (self_observation(body), imitation_observation(body, frames(near)), imitation_observation(body, frames(far)))
    torch.testing.assert_close(observation(body, frames(near, far)), torch.cat(parts, dim=-1), atol=1e-6, rtol=0)
    torch.testing.assert_close(imitation_observation(body, frames(near, far)), torch.cat(parts[1:], dim=-1), atol=1e-6, rtol=0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), heading=st.floats(-3.1, 3.1), x=st.floats(-20.0, 20.0), y=st.floats(-20.0, 20.0))
def test_does_not_depend_on_place_and_heading(seed, heading, x, y):
    body, reference = random_body(seed, 2), random_body(seed + 1, 2)
    moved = [turned(state, heading, (x, y, 0.0)) for state in (body, reference)]
    torch.testing.assert_close(observation(moved[0], frames(moved[1])), observation(body, frames(reference)), atol=2e-4, rtol=0)


def test_height_shows_in_one_column():
    body, reference = random_body(3, 2), random_body(4, 2)
    raised = [turned(state, 0.0, (0.0, 0.0, 0.5)) for state in (body, reference)]
    change = observation(raised[0], frames(raised[1])) - observation(body, frames(reference))
    torch.testing.assert_close(change[:, 0], torch.full((2,), 0.5))
    assert change[:, 1:].abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_sign_of_quaternions_does_not_matter(seed):
    body, reference = random_body(seed, 5), random_body(seed + 10, 5)
    other = observation(flipped(body, seed), frames(flipped(reference, seed + 1)))
    torch.testing.assert_close(other, observation(body, frames(reference)), atol=1e-5, rtol=0)


def test_on_the_reference_all_differences_vanish():
    body = random_body(5, 4)
    pos, rot, velocities, _ = imitation_observation(body, frames(body)).split((72, 144, 144, 216), dim=-1)
    assert pos.abs().max() == 0 and velocities.abs().max() == 0
    identity = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 1.0]).repeat(24)
    torch.testing.assert_close(rot, identity.expand_as(rot), atol=1e-6, rtol=0)


def test_compiles_into_one_graph():
    body, future = random_body(6, 3), random_body(7, 3, 2)
    compiled = torch.compile(observation, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(body, future), observation(body, future))
    pose, key_pos = amp_inputs(golden_vectors.load("amp_observation"))
    compiled = torch.compile(amp_observation, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(pose, key_pos), amp_observation(pose, key_pos))

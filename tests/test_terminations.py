import golden_vectors
import pytest
import torch
from synthetic_motion import random_body, turned

from puffer_phc.env.terminations import fails_relaxed, fails_strict, is_finite, is_lost, tracking_error


def test_equals_the_original():
    golden = golden_vectors.load("observation_reward")
    error = tracking_error(*golden_vectors.body_and_reference(golden))
    assert fails_strict(error).tolist() == golden["terminated_max_0_25"].tolist()
    assert fails_relaxed(error).tolist() == golden["terminated_mean_0_5_all24"].tolist()


def test_one_body_is_enough_to_be_lost():
    error = torch.zeros(3, 24)
    error[1, 7], error[2, 7] = 0.3, 0.3001
    assert is_lost(error, 0.3).tolist() == [False, False, True]
    assert fails_strict(error).tolist() == [False, True, True]
    assert not fails_relaxed(error).any()


def test_relaxed_takes_the_mean():
    error = torch.full((2, 24), 0.49)
    error[1] = 0.51
    assert fails_relaxed(error).tolist() == [False, True]
    error[0, 0] += 0.24 + 0.01
    assert fails_relaxed(error).tolist() == [True, True]


def test_error_is_a_distance():
    body = random_body(0, 2, 3)
    error = tracking_error(body, turned(body, 0.0, (0.3, 0.0, 0.4)))
    torch.testing.assert_close(error, torch.full((2, 3, 24), 0.5))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", range(5))
def test_any_bad_number_is_found_in_its_row_only(part, value):
    body, power = random_body(1, 3), torch.ones(3, 69)
    (*body, power)[part][1, 4] = value
    assert is_finite(body, power).tolist() == [True, False, True]


def test_compiles_into_one_graph():
    body, other = random_body(2, 3), random_body(3, 3)

    def rule(body, other, power):
        error = tracking_error(body, other)
        return is_lost(error, 0.25), fails_strict(error), fails_relaxed(error), is_finite(body, power)

    compiled = torch.compile(rule, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(body, other, torch.ones(3, 69)), rule(body, other, torch.ones(3, 69)))

import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from puffer_phc.motion.timeline import Timeline

LENGTHS = (7, 1, 12, 2)


@pytest.fixture
def values():
    return torch.randn(sum(LENGTHS), 3, generator=torch.Generator().manual_seed(0))


def test_takes_are_smoothed_each_for_itself(values):
    timeline = Timeline(LENGTHS, 30.0)
    expected = torch.cat(
        [torch.from_numpy(gaussian_filter1d(values[span].numpy(), 2.0, axis=0, mode="nearest")) for span in timeline.spans()]
    )
    assert torch.equal(timeline.smooth(values, 2.0), expected)
    assert timeline.smooth(values, 0.0) is values


def test_velocities_do_not_see_the_take_beside(values):
    timeline = Timeline(LENGTHS, 30.0)
    velocity = timeline.velocity(values)
    for span in timeline.spans():
        if span.stop - span.start == 1:
            assert torch.equal(velocity[span], torch.zeros(1, 3))
        else:
            assert torch.allclose(velocity[span], torch.gradient(values[span], spacing=1.0 / 30.0, dim=0)[0], atol=1e-4)


def test_no_step_leads_from_one_take_to_the_next(values):
    steps = Timeline(LENGTHS, 30.0).steps(values)
    assert not steps[[6, 7, 19]].any()
    inside = [row for row in range(len(steps)) if row not in (6, 7, 19)]
    assert torch.equal(steps[inside], values.diff(dim=0)[inside])

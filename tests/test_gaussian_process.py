"""Gaussian processes: against formulas by hand, and what a fit has to find out."""

import math

import numpy as np
import pytest
import torch

from puffer_phc.sweep.gaussian_process import Bend, GaussianProcess, Objective, fitted

NOISELESS = torch.tensor(math.log(1e-8), dtype=torch.float64)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def grid(size, dims, seed=0):
    return torch.quasirandom.SobolEngine(dims, scramble=True, seed=seed).draw(size, dtype=torch.float64)


def test_one_observation_by_hand():
    length, variance, noise = 0.5, 2.0, 0.1
    process = GaussianProcess(tensor([0.0]), tensor(1.0), tensor(length).log(), tensor(variance).log()[0], tensor(noise).log()[0])
    mean, spread = process.predict(tensor([0.3]))
    r = math.sqrt(5.0) * 0.3 / length
    covariance = variance * (1 + r + r * r / 3) * math.exp(-r)
    assert mean.item() == pytest.approx(covariance / (variance + noise), abs=1e-7)
    assert spread.item() == pytest.approx(variance - covariance**2 / (variance + noise), abs=1e-7)


def test_without_noise_it_goes_through_the_observations():
    points = grid(12, 2)
    values = torch.sin(6.0 * points[:, 0]) + points[:, 1]
    process = GaussianProcess(points, values, tensor(0.5, 0.5).log(), tensor(1.0).log()[0], NOISELESS)
    mean, variance = process.predict(points)
    assert torch.allclose(mean, values, atol=1e-5)
    assert (variance < 1e-5).all()


def test_more_observations_later_are_the_same_as_all_at_once():
    points, values = grid(10, 2), grid(10, 1, seed=1)[:, 0]
    hyper = (tensor(0.4, 0.8).log(), tensor(1.5).log()[0], tensor(0.01).log()[0])
    whole = GaussianProcess(points, values, *hyper)
    parts = GaussianProcess(points[:6], values[:6], *hyper).with_more(points[6:], values[6:])
    queries = grid(5, 2, seed=2)
    for one, other in zip(whole.predict(queries), parts.predict(queries)):
        assert torch.allclose(one, other)


def test_draws_have_the_moments_of_the_prediction():
    process = GaussianProcess(tensor([0.2], [0.7]), tensor(1.0, -1.0), tensor(0.3).log(), tensor(1.0).log()[0], NOISELESS)
    queries, generator = tensor([0.4], [0.9]), torch.Generator().manual_seed(0)
    draws = torch.stack([process.sample(queries, generator) for _ in range(2000)])
    mean, variance = process.predict(queries)
    assert torch.allclose(draws.mean(0), mean, atol=0.06)
    assert torch.allclose(draws.var(0), variance, rtol=0.12)


def test_a_fit_finds_what_matters_and_how_noisy_it_is():
    points = grid(60, 3)
    noise = 0.2 * torch.randn(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    clean = torch.sin(5.0 * points[:, 0])
    raw = clean + noise
    process, _ = fitted(points, (raw - raw.mean()) / raw.std())
    assert process.log_lengths[0] < process.log_lengths[1:].min() - 1.0
    assert 0.5 < process.noise * raw.std() / 0.2 < 2.0
    exact, _ = fitted(points, (clean - clean.mean()) / clean.std())
    assert exact.noise < 0.01


@pytest.mark.parametrize("is_bent", [False, True])
def test_the_gradient_of_a_fit_is_that_of_its_value(is_bent):
    points, scores = grid(9, 2), grid(9, 1, seed=3)[:, 0]
    objective = Objective(points, scores, Bend(scores) if is_bent else None)
    vector = np.array([-1.0, 0.3, 0.5, -3.0] + [0.7] * is_bent)
    steps = 1e-6 * np.eye(len(vector))
    slopes = [(objective(vector + step)[0] - objective(vector - step)[0]) / 2e-6 for step in steps]
    assert objective(vector)[1] == pytest.approx(slopes, abs=1e-5)


def test_bending_keeps_the_order_and_pulls_good_scores_apart():
    scores = tensor(-1e6, -1e5, -100.0, -2.0, -1.0)
    bend = Bend(scores)
    straight, _ = bend.bent(tensor(-25.0)[0])
    bent, _ = bend.bent(tensor(8.0)[0])
    assert torch.allclose(straight, (scores - scores.mean()) / scores.std(correction=0), atol=1e-4)
    for values in (straight, bent):
        assert (values.diff() > 0).all()
        assert values.mean().item() == pytest.approx(0.0, abs=1e-9) and values.std(correction=0).item() == pytest.approx(1.0)
    assert bent[4] - bent[2] > 1000 * (straight[4] - straight[2])


def test_the_slope_of_the_bend_is_its_derivative():
    scores = tensor(3.0, -1.0, 0.5, 2.0)

    def log_slope(bend):
        """Of the map with what is taken from all scores held: what a single score would become."""
        raw = _unscaled(scores, scores, bend)
        jacobian = torch.autograd.functional.jacobian(lambda values: _unscaled(values, scores, bend) / raw.std(correction=0), scores)
        return jacobian.diagonal().log().sum().item()

    bend = Bend(scores)
    difference = bend.bent(tensor(1.5)[0])[1] - bend.bent(tensor(-2.0)[0])[1]
    assert difference.item() == pytest.approx(log_slope(1.5) - log_slope(-2.0), abs=1e-9)


def _unscaled(values, scores, bend):
    gaps = scores.max() - scores
    steepness = math.exp(bend)
    return -torch.log1p(steepness * (scores.max() - values) / gaps[gaps > 0].median()) / steepness


def test_equal_scores_are_no_trouble():
    process, _ = fitted(grid(6, 2), torch.zeros(6, dtype=torch.float64), Bend(torch.full((6,), 0.3, dtype=torch.float64)))
    assert process.predict(grid(3, 2, seed=1)).mean.isfinite().all()

"""Tracking errors against hand computations and SciPy."""

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.transform import Rotation

from puffer_phc.evaluate import metrics


def _points(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _residual(pos: torch.Tensor, ref_pos: torch.Tensor) -> torch.Tensor:
    return (metrics.procrustes(pos, ref_pos) - ref_pos).square().sum((-1, -2))


def test_position_errors_by_hand():
    ref_pos = torch.zeros(2, 3, 3)
    pos = ref_pos.clone()
    pos[0, :, 0] = 0.5  # the whole body is half a metre off: nothing of it is left once roots meet
    pos[1, 1] = torch.tensor([0.0, 0.3, 0.4])  # one body of three is half a metre off
    assert metrics.mpjpe_g_mm(pos, ref_pos).tolist() == pytest.approx([500.0, 500.0 / 3])
    assert metrics.mpjpe_l_mm(pos, ref_pos).tolist() == pytest.approx([0.0, 500.0 / 3])


def test_a_moved_root_moves_every_other_body_in_the_local_error():
    ref_pos = _points(24, 3)
    pos = ref_pos.clone()
    pos[0, 2] += 0.1
    assert metrics.mpjpe_g_mm(pos, ref_pos).item() == pytest.approx(100.0 / 24)
    assert metrics.mpjpe_l_mm(pos, ref_pos).item() == pytest.approx(100.0 * 23 / 24)


def test_velocity_and_acceleration_errors_equal_differences_of_trajectories():
    pos, ref_pos = _points(7, 24, 3).numpy(), _points(7, 24, 3, seed=1).numpy()
    velocity = 1000 * np.linalg.norm(np.diff(pos, axis=0) - np.diff(ref_pos, axis=0), axis=-1).mean(-1)
    acceleration = 1000 * np.linalg.norm(np.diff(pos, 2, axis=0) - np.diff(ref_pos, 2, axis=0), axis=-1).mean(-1)
    offset = torch.from_numpy(pos - ref_pos)
    assert metrics.velocity_error_mm(offset[1:], offset[:-1]).numpy() == pytest.approx(velocity)
    assert metrics.acceleration_error_mm(offset[2:], offset[1:-1], offset[:-2]).numpy() == pytest.approx(acceleration)


def test_steady_drift_is_a_velocity_error_and_no_acceleration_error():
    offsets = torch.arange(3.0)[:, None, None] * torch.tensor([0.003, 0.0, 0.004]).expand(24, 3)
    assert metrics.velocity_error_mm(offsets[1], offsets[0]).item() == pytest.approx(5.0)
    assert metrics.acceleration_error_mm(offsets[2], offsets[1], offsets[0]).item() == pytest.approx(0.0, abs=1e-4)


def test_procrustes_undoes_any_similarity_transform():
    pos = _points(50, 24, 3)
    rotation = torch.from_numpy(Rotation.random(50, random_state=0).as_matrix())
    scale = torch.linspace(0.1, 3.0, 50, dtype=torch.float64)[:, None, None]
    moved = scale * pos @ rotation.transpose(-1, -2) + 10 * _points(50, 1, 3, seed=1)
    assert torch.allclose(metrics.procrustes(pos, moved), moved, atol=1e-9)
    assert metrics.mpjpe_pa_mm(pos.float(), moved.float()).max() < 0.01


def test_procrustes_equals_scipy():
    ref_pos = _points(20, 24, 3)
    pos = ref_pos + 0.3 * _points(20, 24, 3, seed=1)  # near enough that SciPy, which may mirror, does not
    size = (ref_pos - ref_pos.mean(-2, keepdim=True)).square().sum((-1, -2))
    expected = [scipy_procrustes(goal, points)[2] for goal, points in zip(ref_pos.numpy(), pos.numpy())]
    assert (_residual(pos, ref_pos) / size).numpy() == pytest.approx(np.array(expected), rel=1e-9)


def test_rotation_equals_scipys_alignment_even_for_a_mirrored_body():
    pos = _points(20, 24, 3)
    ref_pos = pos * torch.tensor([1.0, -1.0, 1.0]) + 0.05 * _points(20, 24, 3, seed=1)
    aligned = metrics.procrustes(pos, ref_pos)
    for points, goal, ours in zip(pos.numpy(), ref_pos.numpy(), aligned.numpy()):
        points, center = points - points.mean(0), goal.mean(0)
        rotation, _ = Rotation.align_vectors(goal - center, points)
        turned = rotation.apply(points)
        scale = (turned * (goal - center)).sum() / (points**2).sum()
        assert ours == pytest.approx(scale * turned + center, abs=1e-8)
    assert _residual(pos, ref_pos).min() > 1.0  # a reflection would have left 0.0025 per number


@pytest.mark.parametrize("shape", ["planar", "collinear", "coincident", "few"])
def test_procrustes_is_a_best_fit_where_the_rotation_is_not_unique(shape):
    pos, ref_pos = _points(30, 24, 3), _points(30, 24, 3, seed=1)
    if shape == "planar":
        pos[..., 2] = 0.0
    elif shape == "collinear":
        pos[..., 1:], ref_pos[..., :2] = 0.0, 0.0
    elif shape == "coincident":
        pos[:] = pos[:, :1]
    else:
        pos[:, 2:], ref_pos[:, 2:] = pos[:, :1], ref_pos[:, :1]
    source, goal = pos - pos.mean(-2, keepdim=True), ref_pos - ref_pos.mean(-2, keepdim=True)
    u, singular, vh = torch.linalg.svd(source.transpose(-1, -2) @ goal)
    singular[..., 2] *= torch.linalg.det(u @ vh).sign()
    size = source.square().sum((-1, -2)).clamp_min(1e-300)
    best = goal.square().sum((-1, -2)) - singular.sum(-1).square() / size
    assert _residual(pos, ref_pos).numpy() == pytest.approx(best.numpy(), abs=1e-9)


def test_equal_positions_have_no_error_in_float32():
    pos = _points(5, 24, 3).float()
    assert metrics.mpjpe_g_mm(pos, pos).max() == 0.0
    assert metrics.mpjpe_l_mm(pos, pos).max() == 0.0
    assert metrics.mpjpe_pa_mm(pos, pos).max() < 1e-3


def test_procrustes_error_does_not_see_where_the_body_is_nor_its_heading():
    pos, ref_pos = _points(4, 24, 3), _points(4, 24, 3, seed=1)
    turn = torch.from_numpy(Rotation.from_euler("z", 130, degrees=True).as_matrix())
    moved = pos @ turn.T + torch.tensor([5.0, -3.0, 0.2], dtype=torch.float64)
    assert torch.allclose(metrics.mpjpe_pa_mm(moved, ref_pos), metrics.mpjpe_pa_mm(pos, ref_pos))
    assert not torch.allclose(metrics.mpjpe_g_mm(moved, ref_pos), metrics.mpjpe_g_mm(pos, ref_pos))


def test_metrics_are_one_graph_for_the_compiler():
    pos, ref_pos = _points(2, 3, 24, 3).float(), _points(2, 3, 24, 3, seed=1).float()
    for metric in (metrics.mpjpe_g_mm, metrics.mpjpe_l_mm, metrics.mpjpe_pa_mm):
        compiled = torch.compile(metric, fullgraph=True, backend="eager")
        assert torch.allclose(compiled(pos, ref_pos), metric(pos, ref_pos))
        assert metric(pos, ref_pos).shape == (2, 3)

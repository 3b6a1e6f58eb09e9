"""Whole-clip evaluation: an oracle without physics whose failures are arranged, and the real engine."""

import math

import numpy as np
import pytest
import torch
from kinematic_simulator import KinematicSimulator
from waiting import NothingWaits, WaitedError

from puffer_phc import rotations
from puffer_phc.config import EnvConfig
from puffer_phc.evaluate.evaluation import evaluate
from puffer_phc.evaluate.judge import Judge
from puffer_phc.evaluate.result import ERROR_NAMES, EvaluationResult, merge
from puffer_phc.humanoid.mjcf import PhysicsOptions
from puffer_phc.humanoid.skeleton import NUM_BODIES
from puffer_phc.motion.file import Clip
from puffer_phc.motion.library import MotionLibrary

SPACING = 3.0
"""m between the roots of neighbouring clips, by which the simulator below tells which clip a row plays."""
LENGTHS = (12, 7, 31, 2, 20)
"""Frames of the five clips."""


def _clip(index, num_frames):
    time = torch.arange(num_frames)[:, None, None] / 30.0
    phase = torch.randn(NUM_BODIES, 3, generator=torch.Generator().manual_seed(index))
    vectors = 0.3 * torch.sin(2.0 * time + phase)
    vectors[:, 0] = 0.0
    root_pos = torch.stack((torch.full((num_frames,), SPACING * index), 0.5 * time[:, 0, 0], torch.ones(num_frames)), dim=-1)
    quats = rotations.from_rotation_vector(vectors)
    return Clip(f"clip_{index}", root_pos.numpy(), quats.numpy().astype(np.float32), 30.0, "made for tests", "public domain")


def _motions(lengths=LENGTHS):
    return MotionLibrary([_clip(index, length) for index, length in enumerate(lengths)], torch.device("cpu"))


class ArrangedSimulator(KinematicSimulator):
    """Follows the oracle, and at arranged (clip, frame) moves bodies by an offset (B, 3) m or diverges where the offset is None.

    The oracle undoes an offset in the next frame.
    """

    def __init__(self, num_envs, arranged=None, **options):
        super().__init__(num_envs, **options)
        self._arranged = arranged or {}
        self._frames = torch.zeros(num_envs, dtype=torch.int64)
        self.num_steps = 0

    def set_state(self, mask, pose):
        super().set_state(mask, pose)
        self._frames.masked_fill_(mask, 0)

    def step(self, target):
        super().step(target)
        self._frames += 1
        self.num_steps += 1
        for row, frame in enumerate(self._frames.tolist()):
            clip = round(self.body.pos[row, 0, 0].item() / SPACING)
            offset = self._arranged.get((clip, frame), 0.0)
            if offset is None:
                self.diverged[row] = True
            else:
                self.body.pos[row] += offset


def oracle(simulator):
    """The simulator's, as a policy that remembers nothing."""
    return lambda observation, starts: simulator.oracle(observation)


def _evaluate(num_envs, arranged=None, motions=None, clip_ids=None, **options):
    simulator = ArrangedSimulator(num_envs, arranged, **options)
    return evaluate(oracle(simulator), simulator, motions or _motions(), EnvConfig(), clip_ids)


def _everything(result):
    return torch.cat((torch.stack((result.clip_ids, result.frames, result.played_frames, result.strict_frames), 1), result.error_sums), 1)


def _one_body(body, x):
    offset = torch.zeros(NUM_BODIES, 3)
    offset[body, 0] = x
    return offset


ARRANGED = {
    (0, 3): _one_body(17, 0.3),  # strict failure only
    (1, 6): torch.full((NUM_BODIES, 3), 0.3),  # 0.52 m: relaxed failure in the very last frame
    (2, 9): _one_body(5, 0.26),
    (2, 15): torch.tensor([0.0, 0.6, 0.0]).expand(NUM_BODIES, 3),
    (4, 2): None,
}


@pytest.mark.parametrize("num_envs", [1, 2, 3, 5, 8])
def test_an_oracle_is_perfect_with_fewer_and_with_more_environments_than_clips(num_envs):
    result = _evaluate(num_envs)
    assert result.names == tuple(f"clip_{index}" for index in range(5))
    assert result.frames.tolist() == [length - 1 for length in LENGTHS]
    summary = result.summary()
    for meaning in ("eval/success_rate", "eval/success_rate_relaxed", "eval/success_rate_strict", "eval/survival_strict"):
        assert summary.pop(meaning) == 1.0
    assert len(summary) == 7
    assert all(0.0 <= millimetres < 0.01 for millimetres in summary.values()), summary


def test_arranged_failures_are_found_at_their_frames():
    result = _evaluate(5, ARRANGED)
    assert result.strict_frames.tolist() == [2, 5, 8, 1, 1]
    assert result.played_frames.tolist() == [11, 5, 14, 1, 1]
    assert result.relaxed_success.tolist() == [True, False, False, True, False]
    assert result.strict_success.tolist() == [False, False, False, True, False]
    assert result.strict_seconds.tolist() == pytest.approx([2 / 30, 5 / 30, 8 / 30, 1 / 30, 1 / 30])
    assert result.strict_survival.tolist() == pytest.approx([2 / 11, 5 / 6, 8 / 30, 1.0, 1 / 19])
    assert result.strict_failure_times.tolist() == pytest.approx([3 / 30, 6 / 30, 9 / 30, math.inf, 2 / 30])
    assert result.relaxed_failure_times.tolist() == pytest.approx([math.inf, 6 / 30, 15 / 30, math.inf, 2 / 30])


def test_errors_by_hand():
    errors = _evaluate(5, ARRANGED).error_sums
    blip = 300.0 / NUM_BODIES  # one body of 24 is 0.3 m off in one frame: there and back, and with weights 1, −2, 1
    assert errors[0, [0, 1]].tolist() == pytest.approx([blip, blip], abs=0.05)
    assert errors[0, [3, 4]].tolist() == pytest.approx([2 * blip, 4 * blip], abs=0.05)
    assert 0.0 < errors[0, 2] < 300.0 / math.sqrt(NUM_BODIES), "no worse in root mean square than unaligned"
    assert errors[1].max() < 0.05, "the frame of failure is not counted"
    assert errors[2, 0].item() == pytest.approx(260.0 / NUM_BODIES, abs=0.05), "frames after the failure are not counted"
    assert errors[4].max() < 0.05


def test_a_body_that_is_carried_along_has_only_a_global_error():
    arranged = {(2, frame): torch.tensor([0.0, 0.1, 0.0]).expand(NUM_BODIES, 3) for frame in range(1, 31)}
    # The oracle corrects the body to the reference before the offset is added, so that it is off by the same in all 30 frames.
    result = _evaluate(3, arranged)
    assert result.strict_success.all()
    assert result.errors[2].tolist() == pytest.approx([100.0, 0.0, 0.0, 0.0, 0.0], abs=0.01)
    summary = result.summary()
    assert summary["eval/mpjpe_succ"] == pytest.approx(100.0 * 30 / sum(length - 1 for length in LENGTHS), abs=0.01)
    assert summary["eval/mpjpe_all"] == summary["eval/mpjpe_succ"]


@pytest.mark.parametrize("num_envs", [1, 2, 3, 7])
def test_the_result_does_not_depend_on_the_number_of_environments(num_envs):
    expected, result = _evaluate(5, ARRANGED), _evaluate(num_envs, ARRANGED)
    assert result.names == expected.names
    assert torch.equal(_everything(result), _everything(expected))


def test_results_of_several_processes_merge_exactly():
    whole = _evaluate(2, ARRANGED)
    parts = [_evaluate(3, ARRANGED, clip_ids=range(rank, 5, 3)) for rank in range(3)] + [_evaluate(3, clip_ids=[])]
    merged = merge(parts[::-1])
    assert merged.names == whole.names
    assert torch.equal(_everything(merged), _everything(whole))
    assert merged.summary() == whole.summary()
    with pytest.raises(ValueError, match="different clips"):
        merge([whole, parts[0]])


def test_without_a_success_its_figures_do_not_exist():
    everyone_fails = {(clip, 1): None for clip in range(5)}
    result = _evaluate(5, everyone_fails)
    assert result.played_frames.tolist() == [0] * 5
    summary = result.summary()
    assert summary["eval/success_rate"] == summary["eval/success_rate_strict"] == summary["eval/survival_strict"] == 0.0
    assert all(math.isnan(value) for name, value in summary.items() if "success_rate" not in name and "survival" not in name)


def test_summary_weights_frames_and_keeps_failures_out_of_the_figures_of_successes():
    sums = torch.tensor([[30.0, 15.0, 6.0, 8.0, 3.0], [1.0, 1.0, 1.0, 0.0, 0.0], [500.0, 400.0, 300.0, 200.0, 100.0]]).double()
    result = EvaluationResult(
        1 / 30, torch.arange(3), ("a", "b", "c"), torch.tensor([3, 1, 10]), torch.tensor([3, 1, 5]), torch.tensor([3, 0, 5]), sums
    )
    assert result.error_counts.tolist() == [[3, 3, 3, 2, 1], [1, 1, 1, 0, 0], [5, 5, 5, 4, 3]]
    assert result.summary() == pytest.approx(
        {
            "eval/success_rate": 2 / 3,
            "eval/success_rate_relaxed": 2 / 3,
            "eval/success_rate_strict": 1 / 3,
            "eval/survival_strict": (1 + 0 + 5 / 10) / 3,
            "eval/mpjpe_all": 531 / 9,
            "eval/mpjpe_succ": 31 / 4,
            "eval/accel_dist": 3.0,
            "eval/vel_dist": 4.0,
            "eval/mpjpel_succ": 4.0,
            "eval/mpjpe_pa": 7 / 4,
            "eval/mpjpel_all": 416 / 9,
        }
    )
    assert len(ERROR_NAMES) == sums.shape[1]


def test_a_batch_ends_soon_after_everybody_has_failed():
    motions = _motions((300, 200))
    simulator = ArrangedSimulator(2, {(0, 4): None, (1, 20): None})
    result = evaluate(oracle(simulator), simulator, motions, EnvConfig())
    assert result.played_frames.tolist() == [3, 19]
    assert simulator.num_steps <= 30


def test_measuring_a_step_waits_for_nothing_and_keeps_three_frames():
    simulator, motions = KinematicSimulator(3), _motions()
    judge = Judge(simulator, motions)
    judge.begin(torch.tensor([0, 2, 4]), torch.tensor([11, 30, 0]))
    judge.set_state(torch.ones(3, dtype=torch.bool), motions.at(torch.tensor([0, 2, 4]), torch.zeros(3)).pose())
    nothing_waits = NothingWaits()
    simulator.step = nothing_waits.allowing(simulator.step)
    with nothing_waits:
        for _ in range(6):
            judge.step(torch.zeros(3, 69))
    assert sum(tensor.numel() for tensor in judge.offsets) == 3 * 3 * NUM_BODIES * 3
    with pytest.raises(WaitedError, match="_local_scalar_dense"), nothing_waits:
        judge.is_anyone_running()


@pytest.mark.parametrize("control_rate", [15.0, 20.0, 45.0, 60.0])
def test_clips_end_where_the_environment_ends_them_at_other_control_rates(control_rate):
    lengths = tuple(range(2, 14))
    result = _evaluate(4, motions=_motions(lengths), control_dt=1 / control_rate)
    assert result.relaxed_success.all()
    assert result.errors[:, 0].max() < 0.01
    seconds = torch.tensor([(length - 1) / 30 for length in lengths]).double()
    off = result.frames / control_rate - seconds
    assert (off.abs() <= 0.501 / control_rate).logical_or(result.frames == 1).all()


def test_a_policy_of_zeros_on_the_real_engine_gives_the_same_for_any_number_of_environments():
    pytest.importorskip("mujoco", minversion="3.17")
    from puffer_phc.sim.mujoco_cpu import MujocoCpuSimulator

    motions = _motions((9, 14, 11))
    results = []
    for num_envs in (1, 2, 5):
        simulator = MujocoCpuSimulator(num_envs, PhysicsOptions())
        results.append(evaluate(lambda observation, starts: torch.zeros(len(observation), 57), simulator, motions, EnvConfig()))
        simulator.close()
    first = results[0]
    assert first.error_sums.isfinite().all()
    assert (first.strict_seconds > 0).all()
    assert (first.errors[:, 0] > 0.1).all(), "no physical humanoid is exactly on its reference"
    for other in results[1:]:
        assert torch.equal(_everything(other)[:, :4], _everything(first)[:, :4])
        assert torch.allclose(other.error_sums, first.error_sums, rtol=1e-6)

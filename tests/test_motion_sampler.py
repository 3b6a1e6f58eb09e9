"""Where episodes begin: the floor holds, failures attract, equal seeds draw equally."""

import numpy as np
import pytest
import torch

from puffer_phc.config import EnvConfig
from puffer_phc.motion.file import Clip
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.sampler import BIN_FRAMES, FixedSampler, make_sampler
from puffer_phc.randomness import EnvRandom

CPU = torch.device("cpu")
LENGTHS = [2, 3, 40, 95, 200]
KINDS = ["adaptive", "uniform", "pmcp_soft", "pmcp_hard"]


@pytest.fixture(scope="module")
def motions():
    quats = np.tile(np.array([1, 0, 0, 0], "f4"), (max(LENGTHS), 24, 1))
    return MotionLibrary([Clip(str(n), np.zeros((n, 3), "f4"), quats[:n], 30.0, "", "") for n in LENGTHS], CPU)


def sampler_of(motions, kind, num_envs=20000, seed=0, floor=0.2, state_init="random"):
    config = EnvConfig(sampler=kind, sampler_floor=floor, state_init=state_init)
    return make_sampler(config, motions, EnvRandom(seed, num_envs, CPU))


def shares(sampler):
    """Share of draws of each clip."""
    return sampler.draw()[0].bincount(minlength=len(LENGTHS)) / 20000


def fail(sampler, clip, second, times=100):
    """Every environment visits every second of every clip, and one place ends in failure ``times`` times."""
    for other, length in enumerate(LENGTHS):
        for frame in range(length):
            sampler.record(*record_rows(20, other, frame / 30.0, failed=False))
    sampler.record(*record_rows(times, clip, second, failed=True))
    sampler.update()


def record_rows(rows, clip, second, failed):
    flags = torch.full((rows,), failed)
    return flags, flags, torch.full((rows,), clip), torch.full((rows,), float(second))


@pytest.mark.parametrize("kind", KINDS)
def test_draws_lie_on_frames_and_never_in_the_last_two(motions, kind):
    sampler = sampler_of(motions, kind)
    clips, times = sampler.draw()
    assert clips.dtype == torch.int64
    assert times.dtype == torch.float32
    frames = times * 30.0
    torch.testing.assert_close(frames, frames.round(), atol=1e-4, rtol=0)
    last_start = (motions.num_frames[clips] - 3).clamp_min(0)
    assert (frames.round() <= last_start).all()
    assert (frames >= 0).all()
    for clip in range(2, 5):
        assert set(frames[clips == clip].round().long().tolist()) >= set(range(0, LENGTHS[clip] - 2, 40))
        assert frames[clips == clip].max().round() == LENGTHS[clip] - 3


@pytest.mark.parametrize("kind", KINDS)
def test_before_anything_is_known_all_frames_are_equally_likely(motions, kind):
    starts = (torch.tensor(LENGTHS) - 2).clamp_min(1)
    torch.testing.assert_close(shares(sampler_of(motions, kind)), starts / starts.sum(), atol=0.012, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_episodes_can_begin_at_the_start(motions, kind):
    clips, times = sampler_of(motions, kind, state_init="start").draw()
    assert not times.any()
    assert clips.unique().numel() == len(LENGTHS)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_draw_equally_and_fresh_each_time(motions, kind):
    one, two, other = sampler_of(motions, kind), sampler_of(motions, kind), sampler_of(motions, kind, seed=1)
    first = one.draw()
    for a, b, c in zip(first, two.draw(), other.draw()):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert not torch.equal(first[1], one.draw()[1])


def test_rows_belong_to_environments_not_to_processes(motions):
    config = EnvConfig(sampler="adaptive")
    whole = make_sampler(config, motions, EnvRandom(3, 64, CPU)).draw()
    halves = [make_sampler(config, motions, EnvRandom(3, 32, CPU, first, 64)).draw() for first in (0, 32)]
    for index in range(2):
        assert torch.equal(whole[index], torch.cat([half[index] for half in halves]))


def test_failures_attract_draws_to_their_second_and_the_ones_before(motions):
    sampler = sampler_of(motions, "adaptive")
    before = sampler.probabilities.clone()
    fail(sampler, clip=4, second=4.2)
    first = 1 + 1 + 2 + 4
    change = sampler.probabilities - before
    assert (change[first + 2 : first + 5] > 0).all()
    assert change[first + 4] > change[first + 3] > change[first + 2]
    assert (change[:first] < 0).all()
    assert (change[first : first + 2] < 0).all()
    assert change[first + 5] < 0
    assert shares(sampler)[4] > 0.8


def test_failures_do_not_reach_into_the_clip_before(motions):
    sampler = sampler_of(motions, "adaptive", floor=0.0)
    fail(sampler, clip=4, second=0.0)
    assert (shares(sampler) == torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])).all()


@pytest.mark.parametrize("kind", ["adaptive", "pmcp_soft", "pmcp_hard"])
@pytest.mark.parametrize("floor", [0.1, 0.5])
def test_the_floor_starves_no_clip(motions, kind, floor):
    sampler = sampler_of(motions, kind, floor=floor)
    uniform = sampler.probabilities.clone()
    for _ in range(50):
        fail(sampler, clip=2, second=0.5, times=10000)
        sampler.record_evaluation(torch.arange(5) == 2)
    assert (sampler.probabilities >= floor * uniform * (1 - 1e-9)).all()
    assert sampler.clip_probabilities()[2] > 0.9 * (1 - floor)
    assert sampler.probabilities.sum() == pytest.approx(1.0)


def test_equal_failure_rates_attract_equally_however_often_they_were_visited(motions):
    sampler = sampler_of(motions, "adaptive", floor=0.0)
    for _ in range(1000):
        sampler.record(*record_rows(30, 3, 0.5, failed=False))
        sampler.record(*record_rows(300, 4, 0.5, failed=False))
    for _ in range(10):
        sampler.record(*record_rows(30, 3, 0.5, failed=True))
        sampler.record(*record_rows(300, 4, 0.5, failed=True))
    sampler.update()
    chances = sampler.clip_probabilities()
    assert chances[4] / chances[3] == pytest.approx(1.0, abs=0.02)


def test_old_failures_fade(motions):
    sampler = sampler_of(motions, "adaptive", floor=0.0)
    fail(sampler, clip=2, second=0.5)
    fail(sampler, clip=3, second=0.5)
    assert sampler.clip_probabilities()[3] > sampler.clip_probabilities()[2]
    for _ in range(60):
        fail(sampler, clip=4, second=0.5)
    assert sampler.clip_probabilities()[4] > 0.99


def test_episodes_that_end_well_attract_nothing(motions):
    sampler = sampler_of(motions, "adaptive")
    before = sampler.probabilities.clone()
    rows = torch.ones(100, dtype=torch.bool)
    sampler.record(rows, ~rows, torch.full((100,), 3), torch.full((100,), 1.0))
    sampler.record(~rows, rows, torch.full((100,), 3), torch.full((100,), 1.0))
    sampler.update()
    torch.testing.assert_close(sampler.probabilities, before)


def test_counts_of_processes_add_up(motions):
    whole, halves = sampler_of(motions, "adaptive"), [sampler_of(motions, "adaptive") for _ in range(2)]
    rows = torch.rand(200, generator=torch.Generator().manual_seed(0))
    clips, times, failed = (rows * 5).long(), rows * 6.0, rows > 0.5
    whole.record(failed, failed, clips, times)
    for half, sampler in zip((slice(0, 100), slice(100, 200)), halves):
        sampler.record(failed[half], failed[half], clips[half], times[half])
    for mine, other in zip(halves[0].shared_counts, halves[1].shared_counts):
        mine += other
    whole.update()
    halves[0].update()
    torch.testing.assert_close(halves[0].probabilities, whole.probabilities)
    assert not any(count.any() for count in whole.shared_counts)


def test_soft_mining_remembers_and_hard_mining_forgets(motions):
    soft, hard = sampler_of(motions, "pmcp_soft", floor=0.0), sampler_of(motions, "pmcp_hard", floor=0.0)
    uniform = soft.clip_probabilities()
    for failed in ([0, 0, 1, 0, 1], [0, 0, 0, 0, 1]):
        soft.record_evaluation(torch.tensor(failed) == 1)
        hard.record_evaluation(torch.tensor(failed) == 1)
    torch.testing.assert_close(soft.clip_probabilities(), torch.tensor([0, 0, 1, 0, 2], dtype=torch.float64) / 3)
    torch.testing.assert_close(hard.clip_probabilities(), torch.tensor([0, 0, 0, 0, 1], dtype=torch.float64))
    for sampler in (soft, hard):
        sampler.record_evaluation(torch.zeros(5, dtype=torch.bool))
        torch.testing.assert_close(sampler.clip_probabilities(), uniform)
    soft.record_evaluation(torch.tensor([0, 0, 1, 0, 0]) == 1)
    torch.testing.assert_close(soft.clip_probabilities(), torch.tensor([0, 0, 2, 0, 2], dtype=torch.float64) / 4)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_state_goes_on_exactly(motions, kind):
    one, two = sampler_of(motions, kind), sampler_of(motions, kind)
    fail(one, clip=3, second=2.0)
    one.record_evaluation(torch.arange(5) == 3)
    one.record(*record_rows(7, 2, 0.1, failed=True))
    two.load_state_dict(one.state_dict())
    for sampler in (one, two):
        sampler.update()
    for a, b in zip(one.draw(), two.draw()):
        assert torch.equal(a, b)


def test_fixed_assignment():
    clips, times = torch.tensor([3, 1]), torch.tensor([0.5, 0.0])
    sampler = FixedSampler(clips, times)
    sampler.record(*record_rows(2, 0, 0.0, failed=True))
    assert all(torch.equal(a, b) for a, b in zip(sampler.draw(), (clips, times)))


def test_bins_are_a_second():
    assert BIN_FRAMES == 30


@pytest.mark.parametrize("kind", KINDS)
def test_hard_clips_have_their_share_and_nothing_is_forgotten(motions, kind):
    hard = torch.tensor([False, False, True, False, True])
    config = EnvConfig(sampler=kind, hard_share=0.7)
    sampler = make_sampler(config, motions, EnvRandom(0, 20000, CPU), hard)
    usual = make_sampler(config, motions, EnvRandom(0, 20000, CPU))
    for _ in range(2):
        expected = 0.3 * usual.clip_probabilities()
        expected[hard] += 0.7 * usual.clip_probabilities()[hard] / usual.clip_probabilities()[hard].sum()
        torch.testing.assert_close(sampler.clip_probabilities(), expected)
        torch.testing.assert_close(shares(sampler).double(), expected, atol=0.02, rtol=0)
        assert (sampler.clip_probabilities() > 0).all()
        for one in (sampler, usual):
            one.record_evaluation(torch.tensor([False, False, False, True, True]))
            fail(one, 4, 5.0)


def test_hard_clips_without_weight_are_drawn_uniformly(motions):
    """Hard PMCP without a floor gives nothing to a clip that did not fail the last evaluation."""
    hard = torch.tensor([False, False, True, True, False])
    sampler = make_sampler(EnvConfig(sampler="pmcp_hard", sampler_floor=0.0, hard_share=0.5), motions, EnvRandom(0, 100, CPU), hard)
    sampler.record_evaluation(torch.tensor([False, False, False, False, True]))
    starts = torch.tensor([38.0, 93.0]).double()
    torch.testing.assert_close(sampler.clip_probabilities()[2:4], 0.5 * starts / starts.sum())
    torch.testing.assert_close(sampler.clip_probabilities()[4].item(), 0.5)


def test_hard_clips_survive_a_resume(motions):
    hard = torch.tensor([False, True, False, False, False])
    sampler, other = (make_sampler(EnvConfig(), motions, EnvRandom(seed, 1000, CPU), hard) for seed in (0, 1))
    fail(sampler, 4, 5.0)
    other.load_state_dict(sampler.state_dict())
    for one in (sampler, other):
        fail(one, 3, 1.0)
    assert torch.equal(sampler.probabilities, other.probabilities)
    assert other.clip_probabilities()[1] > 0.7

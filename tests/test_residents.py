"""Libraries larger than the device: who is chosen, that nobody notices who is there, and that everybody's turn comes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from kinematic_simulator import KinematicSimulator
from synthetic_motion import swaying_clip

from puffer_phc import build
from puffer_phc.config import Config, EnvConfig
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.env.puffer import PufferImitation
from puffer_phc.errors import ConfigError
from puffer_phc.evaluate.evaluation import evaluate
from puffer_phc.learn.rollout import Deterministic
from puffer_phc.motion.frame_rows import row_bytes
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.residents import choose_residents
from puffer_phc.motion.sampler import make_sampler
from puffer_phc.play.playlist import Playlist
from puffer_phc.randomness import EnvRandom
from puffer_phc.resolve import resolve

CPU = torch.device("cpu")
LENGTHS = (40, 12, 95, 61, 33, 20, 70, 48)
CLIPS = [swaying_clip(length, seed) for seed, length in enumerate(LENGTHS)]
NUM_ROWS = torch.tensor(LENGTHS) + 1
LIMIT = 140
KINDS = ["adaptive", "uniform", "pmcp_soft", "pmcp_hard"]


def limited(max_frames=LIMIT, **options):
    return MotionLibrary(CLIPS, CPU, max_frames=max_frames, **options)


def tensors_of(library):
    """Every tensor that a library and its residents keep, once each."""
    found = [tensor for owner in (library, library.residents) for tensor in vars(owner).values() if isinstance(tensor, torch.Tensor)]
    return list({id(tensor): tensor for tensor in found}.values())


def frames_of(library, clip):
    """All that a library says about a clip, on its frames, between them and beyond its end."""
    frames = torch.arange(LENGTHS[clip] + 3)
    times = torch.cat((frames, frames + 0.3)) / 30.0
    ids = torch.full((len(times),), clip)
    found = library.at(ids, times)
    return torch.cat([part.flatten(1) for part in (*found.body, *found[1:], library.clearance(ids, times)[:, None])], dim=-1)


def sampler_of(library, kind="adaptive", num_envs=4000, seed=0, floor=0.2):
    return make_sampler(EnvConfig(sampler=kind, sampler_floor=floor), library, EnvRandom(seed, num_envs, CPU))


def fail(sampler, library, clip):
    """Everybody visits the clip and every other visit is a failure; the others, as far as they are there, are stood."""
    for other in range(len(LENGTHS)):
        if library.residents.is_present[other]:
            failed = torch.arange(50) % 2 == 0 if other == clip else torch.zeros(50, dtype=torch.bool)
            sampler.record(failed, failed, torch.full((50,), other), torch.zeros(50))
    sampler.record_evaluation(torch.arange(len(LENGTHS)) == clip)
    sampler.update()


@pytest.mark.parametrize("is_half", [False, True])
def test_whoever_is_there_is_bit_for_bit_who_it_was_in_a_whole_library(is_half):
    whole, some = MotionLibrary(CLIPS, CPU, is_half=is_half), limited(is_half=is_half)
    for ids in ([2, 0], [1, 3, 5], [0, 1, 2][::-1][1:], [6], [7, 4]):
        some.hold(ids)
        assert some.residents.clip_ids == ids
        assert some.residents.is_present.nonzero().squeeze(1).tolist() == sorted(ids)
        for clip in ids:
            assert torch.equal(frames_of(some, clip), frames_of(whole, clip))


def test_what_does_not_change_with_the_residents():
    whole, some = MotionLibrary(CLIPS, CPU), limited()
    addresses = [tensor.data_ptr() for tensor in tensors_of(some)]
    for ids in ([0, 1], [2], [3, 4, 5]):
        some.hold(ids)
        assert [tensor.data_ptr() for tensor in tensors_of(some)] == addresses
    assert some.names == whole.names
    assert torch.equal(some.num_frames, whole.num_frames)
    assert torch.equal(some.durations, whole.durations)


@pytest.mark.parametrize("is_half", [False, True])
def test_memory_is_bounded(is_half):
    some = limited(is_half=is_half)
    per_clip = 48 * len(LENGTHS)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(some))
    assert size <= LIMIT * row_bytes(is_half) + per_clip
    with pytest.raises(ValueError, match="do not fit"):
        some.hold([2, 3])
    assert some.residents.clip_ids == []


def test_a_limit_that_everything_fits_into_is_none():
    for max_frames in (0, sum(LENGTHS) + len(LENGTHS), 10**9):
        library = limited(max_frames)
        assert library.residents.is_whole
        assert library.residents.is_present.all()
        library.hold([3])
        assert library.residents.is_present.all()
    assert not limited(sum(LENGTHS) + len(LENGTHS) - 1).residents.is_whole


def test_a_clip_that_is_too_long_by_itself_is_refused_before_anything_is_computed():
    assert limited(96).residents.capacity == 96
    with pytest.raises(ConfigError, match=r"env\.max_resident_frames is 95, but clip 'sway_2' has 95 frames at 30 per second and needs 96"):
        limited(95)


def test_the_clips_of_before_come_back():
    library = limited()
    library.hold([0, 3])
    before = frames_of(library, 3)
    with pytest.raises(KeyError), library.lent():
        library.hold([2])
        raise KeyError
    assert library.residents.clip_ids == [0, 3]
    assert torch.equal(frames_of(library, 3), before)


def test_the_choice_fits_and_its_bias_is_taken_out():
    """Averaged over choices, share × weight is the share of each clip, however unequal shares and lengths are."""
    generator = torch.Generator().manual_seed(0)
    num_rows = torch.randint(10, 120, (100,), generator=generator)
    shares = torch.rand(100, generator=generator, dtype=torch.float64).pow(4) + 0.01
    shares /= shares.sum()
    total, appearances = torch.zeros_like(shares), torch.zeros_like(shares)
    for _ in range(3000):
        chosen = choose_residents(shares, num_rows, 2000, torch.rand(100, generator=generator))
        assert 2000 - 120 < num_rows[chosen.clip_ids].sum() <= 2000
        assert torch.equal(chosen.weights.nonzero().squeeze(1), chosen.clip_ids)
        drawn = shares * chosen.weights
        total += drawn / drawn.sum()
        appearances[chosen.clip_ids] += 1
    torch.testing.assert_close(total / 3000, shares, atol=1e-3, rtol=0.1)
    density = shares / num_rows
    assert appearances[density > density.quantile(0.9)].min() > 2000
    assert 30 < appearances.min() < 1000


def test_clips_that_are_never_to_be_drawn_are_there_last():
    shares = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    for seed in range(20):
        uniform = torch.rand(len(LENGTHS), generator=torch.Generator().manual_seed(seed))
        chosen = choose_residents(shares, NUM_ROWS, LIMIT, uniform)
        assert {1, 3} <= set(chosen.clip_ids.tolist())
        assert chosen.weights.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_drawn_who_is_not_there_and_everybody_comes(kind):
    library = limited()
    sampler = sampler_of(library, kind)
    seen = set()
    for change in range(120):
        sampler.change_residents()
        clips, times = sampler.draw()
        assert library.residents.is_present[clips].all()
        assert (times <= library.durations[clips]).all()
        seen |= set(clips.tolist())
        if change % 10 == 0:
            fail(sampler, library, clip=1)
            assert library.residents.is_present[sampler.draw()[0]].all()
    assert seen == set(range(len(LENGTHS)))


@pytest.mark.parametrize("kind", KINDS)
def test_those_who_are_there_are_drawn_the_more_the_less_likely_they_were_to_be(kind):
    library = limited(300)
    sampler = sampler_of(library, kind, num_envs=40000)
    sampler.change_residents()
    expected = sampler.clip_probabilities() * library.residents.weights
    shares = sampler.draw()[0].bincount(minlength=len(LENGTHS)) / 40000
    assert (expected > 0).sum() >= 4
    torch.testing.assert_close(shares.double(), expected / expected.sum(), atol=0.01, rtol=0)


def test_frames_to_demonstrate_are_of_all_clips_alike_however_residents_are_preferred():
    """Clips that fail are nearly always there and the others now and then; yet all frames are drawn as often."""
    lengths = torch.randint(12, 60, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    library = MotionLibrary([swaying_clip(length, seed) for seed, length in enumerate(lengths)], CPU, max_frames=sum(lengths) // 3)
    sampler = sampler_of(library, num_envs=1)
    failed = torch.ones(50, dtype=torch.bool)
    for clip in range(5):
        sampler.record(failed, failed, torch.full((50,), clip), torch.zeros(50))
    sampler.update()
    generator = torch.Generator().manual_seed(1)
    drawn, there = torch.zeros(40), torch.zeros(40)
    for _ in range(250):
        sampler.change_residents()
        clips, frames = library.residents.random_frames(2000, generator)
        assert library.residents.is_present[clips].all() and (frames < library.num_frames[clips]).all()
        drawn += clips.bincount(minlength=40) / 2000 / 250
        there += library.residents.is_present / 250
    assert there[:5].min() > 0.9 and there[5:].max() < 0.6
    wanted = library.num_frames / library.num_frames.sum()
    assert drawn[:5].sum() == pytest.approx(float(wanted[:5].sum()), rel=0.1)
    torch.testing.assert_close(drawn, wanted, rtol=0.4, atol=0)


def test_weights_come_back_with_the_clips_of_before():
    library = limited()
    sampler = sampler_of(library)
    sampler.change_residents()
    before = library.residents.weights.clone()
    assert before.max() > 1.0
    with library.lent():
        library.hold([2])
        assert library.residents.weights.nonzero().flatten().tolist() == [2]
    assert torch.equal(library.residents.weights, before)


def test_failures_are_not_forgotten_while_a_clip_is_away_and_bring_it_back():
    library = limited()
    sampler = sampler_of(library)
    library.hold([1, 2])
    fail(sampler, library, clip=1)
    rate = float(sampler.failure_rates().max())
    assert rate > 0.5
    library.hold([3, 0])
    for _ in range(40):
        sampler.update()
    assert float(sampler.failure_rates().max()) == rate
    assert sampler.clip_probabilities()[1] > 0.5
    there = 0
    for _ in range(50):
        sampler.change_residents()
        there += int(library.residents.is_present[1])
    assert there > 45
    library.hold([1, 2])
    for _ in range(40):
        sampler.update()
    assert float(sampler.failure_rates().max()) < 0.1 * rate


def test_equal_seeds_choose_equally_in_all_processes():
    libraries = [limited() for _ in range(3)]
    samplers = [
        make_sampler(EnvConfig(), library, EnvRandom(3, num_envs, CPU, first, 64))
        for library, num_envs, first in zip(libraries, (64, 32, 32), (0, 0, 32))
    ]
    for _ in range(3):
        for sampler in samplers:
            sampler.change_residents()
        assert libraries[0].residents.clip_ids == libraries[1].residents.clip_ids == libraries[2].residents.clip_ids
        whole, *halves = (sampler.draw() for sampler in samplers)
        for index in range(2):
            assert torch.equal(whole[index], torch.cat([half[index] for half in halves]))


@pytest.mark.parametrize("kind", KINDS)
def test_saved_residents_come_back(kind):
    library, other = limited(), limited()
    one, two = sampler_of(library, kind), sampler_of(other, kind, seed=5)
    one.change_residents()
    fail(one, library, clip=library.residents.clip_ids[0])
    one.change_residents()
    two.change_residents()
    two.load_state_dict(one.state_dict())
    assert library.residents.clip_ids == other.residents.clip_ids
    for _ in range(2):
        for a, b in zip(one.draw(), two.draw()):
            assert torch.equal(a, b)
        one.change_residents()
        two.change_residents()
        assert library.residents.clip_ids == other.residents.clip_ids
    with pytest.raises(ValueError, match="other clips"):
        sampler_of(MotionLibrary(CLIPS[:4], CPU), kind).load_state_dict(one.state_dict())


def environment(library, sampler, num_envs=32):
    return ImitationEnv(KinematicSimulator(num_envs), library, sampler, EnvConfig(), termination_distance=None)


def test_episodes_whose_clip_leaves_begin_anew_and_the_others_do_not_notice():
    library = limited(300)
    sampler = sampler_of(library, num_envs=32)
    sampler.change_residents()
    env = PufferImitation(environment(library, sampler))
    for _ in range(3):
        env.step(torch.zeros(32, env.env.action_size))
    clips, steps, seen = env.env.clip_ids.clone(), env.env.steps.clone(), env.observations.clone()
    env.change_residents()
    stays = library.residents.is_present[clips]
    assert 0 < stays.sum() < 32
    assert torch.equal(env.env.clip_ids[stays], clips[stays])
    assert torch.equal(env.env.steps[stays], steps[stays])
    assert torch.equal(env.observations[stays], seen[stays])
    assert library.residents.is_present[env.env.clip_ids].all()
    assert not env.env.steps[~stays].any()
    assert env.truncations[~stays].all()
    assert torch.equal(env.env.reference.body.pos, library.at(env.env.clip_ids, env.env.times).body.pos)
    assert torch.equal(env.snapshot()["statistics"]["lengths"] == 0, ~stays | (steps == 0))
    env.step(torch.zeros(32, env.env.action_size))
    assert env.env.result.observation.isfinite().all()


def test_a_whole_library_has_nothing_to_change():
    library = MotionLibrary(CLIPS, CPU)
    one, two = (environment(library, sampler_of(library, num_envs=32)) for _ in range(2))
    two.sampler.change_residents()
    assert not two.restart_absent().any()
    assert torch.equal(one.clip_ids, two.clip_ids)
    assert torch.equal(one.result.observation, two.result.observation)


class Wavering(KinematicSimulator):
    """Follows the oracle but for a drift that depends on where the reference goes, so that clips fail at different frames."""

    def step(self, target):
        super().step(target)
        self.body.pos[..., 1] += 1.2 * (self.body.pos[:, :1, 0] - 0.1).clamp_min(0.0).square()


@pytest.mark.parametrize(("num_envs", "max_frames"), [(1, 96), (3, LIMIT), (3, 300), (8, 96), (8, LIMIT)])
def test_an_evaluation_in_waves_finds_exactly_what_a_whole_library_finds(num_envs, max_frames):
    def result(library):
        simulator = Wavering(num_envs)
        return evaluate(lambda observation, starts: simulator.oracle(observation), simulator, library, EnvConfig())

    library = limited(max_frames)
    library.hold([0, 1])
    expected, found = result(MotionLibrary(CLIPS, CPU)), result(library)
    assert not expected.strict_success.all()
    assert expected.relaxed_success.any()
    assert found.names == expected.names
    for column in ("clip_ids", "frames", "played_frames", "strict_frames", "error_sums"):
        assert torch.equal(getattr(found, column), getattr(expected, column)), column
    assert str(found.summary()) == str(expected.summary())
    assert library.residents.clip_ids == [0, 1]


def test_an_evaluation_in_waves_on_the_real_engine():
    pytest.importorskip("mujoco", reason="the real engine")
    config = resolve(Config(env=EnvConfig(backend="mujoco_cpu")), CPU)
    simulator = build.make_simulator(config.env, 4, CPU)
    policy = build.make_policy(config, 934, 57, CPU)
    with torch.no_grad():
        policy.mean_head.weight.mul_(30.0)
    with torch.no_grad():
        act = Deterministic(policy)
        expected = evaluate(act, simulator, MotionLibrary(CLIPS, CPU), config.env)
        found = evaluate(act, simulator, limited(), config.env)
    assert torch.equal(found.played_frames, expected.played_frames)
    torch.testing.assert_close(found.error_sums, expected.error_sums, rtol=1e-4, atol=1e-3)


def test_play_goes_through_all_clips_of_a_limited_library():
    library = limited(200)
    playlist = Playlist(library, 2, None, seed=0)
    env = environment(library, playlist, num_envs=2)
    played = set()
    for _ in range(sum(LENGTHS)):
        assert library.residents.is_present[env.clip_ids].all()
        played |= set(env.clip_ids.tolist())
        env.step(torch.zeros(2, env.action_size))
    assert played == set(range(len(LENGTHS)))
    playlist.choose("sway_2")
    env.reset()
    assert env.clip_ids.tolist() == [2, 2]
    assert library.residents.is_present[2]
    with pytest.raises(ConfigError, match=r"8 clips do not fit into env\.max_resident_frames 200"):
        Playlist(library, 8, None, seed=0)


def test_options_reach_the_library(tmp_path):
    from puffer_phc.motion.file import save_motion_file

    save_motion_file(tmp_path / "a.npz", CLIPS)
    config = Config(env=EnvConfig(motion_file=str(tmp_path / "a.npz")))
    assert build.load_motions(config, CPU).residents.is_whole
    library = build.load_motions(replace(config, env=replace(config.env, max_resident_frames=LIMIT)), CPU)
    assert library.residents.capacity == LIMIT
    assert resolve(config, CPU).env.max_resident_frames == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_never_sees_more_than_the_limit():
    clips = [swaying_clip(2000, seed) for seed in range(60)]
    device = torch.device("cuda")
    whole = MotionLibrary(clips[:3], CPU)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    library = MotionLibrary(clips, device, max_frames=4 * 2001)
    assert torch.cuda.memory_allocated() - before < 4 * 2001 * row_bytes(False) + 1e6
    captured, ids = torch.zeros(3, 24, 3, device=device), torch.arange(3, device=device)
    library.hold([0, 1, 2])
    library.nearest(ids, ids / 30.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.copy_(library.nearest(ids, ids / 30.0).body.pos)
    for residents in ([2, 1, 0], [5, 0, 1, 2], [0, 2, 1]):
        library.hold(residents)
        graph.replay()
        torch.testing.assert_close(captured.cpu(), whole.nearest(torch.arange(3), torch.arange(3) / 30.0).body.pos, atol=1e-4, rtol=0)
    assert np.isfinite(captured.cpu().numpy()).all()

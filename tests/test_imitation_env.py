from dataclasses import replace

import pytest
import torch
from kinematic_simulator import KinematicSimulator
from synthetic_motion import swaying_library
from waiting import NothingWaits, looking_costs

from puffer_phc.config import EnvConfig
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.env.observations import SELF_SIZE, observation
from puffer_phc.env.rewards import imitation_reward
from puffer_phc.errors import ConfigError
from puffer_phc.motion.sampler import FixedSampler, UniformSampler, make_sampler
from puffer_phc.randomness import EnvRandom
from puffer_phc.state import BodyState

CPU = torch.device("cpu")
DT = 1.0 / 30.0
CONFIG = EnvConfig()
FRAMES = (20, 33)


@pytest.fixture(scope="module")
def motions():
    return swaying_library(*FRAMES)


def make_env(motions, config=CONFIG, distance=0.25, num_envs=4, starts=None, seed=0):
    """An environment on the kinematic simulator; ``starts`` are fixed (clip, frame) pairs instead of random draws."""
    if starts is None:
        sampler = make_sampler(config, motions, EnvRandom(seed, num_envs, CPU))
    else:
        sampler = FixedSampler(torch.tensor([clip for clip, _ in starts]), torch.tensor([frame / 30.0 for _, frame in starts]))
        num_envs = len(starts)
    return ImitationEnv(KinematicSimulator(num_envs), motions, sampler, config, distance)


def follow(env):
    return env.step(env.simulator.oracle(env.result.observation, env.action_size))


def cloned(result):
    return type(result)(*(part.clone() for part in result))


def unsqueezed(body):
    return BodyState(*(part.unsqueeze(1) for part in body))


def test_oracle_never_fails_and_earns_one(motions):
    env = make_env(motions, num_envs=6)
    episodes = 0
    for _ in range(120):
        result = follow(env)
        episodes += int(result.truncated.sum())
        assert not result.terminated.any()
        torch.testing.assert_close(result.reward, torch.ones(6), atol=1e-5, rtol=0)
    assert episodes >= 6 * 120 // max(FRAMES)
    assert (env.simulator.body.pos - env.reference.body.pos).norm(dim=-1).max() < 0.05, "rows just reset may be lifted"


@pytest.mark.parametrize("clip", range(len(FRAMES)))
def test_clips_are_over_at_their_last_frame(motions, clip):
    starts = [(clip, frame) for frame in range(FRAMES[clip] - 1)]
    env = make_env(motions, starts=starts)
    lengths = torch.zeros(len(starts), dtype=torch.int64)
    over = torch.zeros(len(starts), dtype=torch.bool)
    for step in range(1, FRAMES[clip]):
        ended = follow(env).truncated & ~over
        lengths[ended], over = step, over | ended
    assert lengths.tolist() == [FRAMES[clip] - 1 - frame for _, frame in starts]


class WatchedSimulator(KinematicSimulator):
    """Writes down the calls that it gets and the times that the environment has then."""

    def __init__(self, num_envs):
        super().__init__(num_envs)
        self.calls, self.env = [], None

    def step(self, target):
        super().step(target)
        self._note("step")

    def set_state(self, mask, pose):
        super().set_state(mask, pose)
        self._note("set_state")

    def _note(self, name):
        if self.env is not None:
            self.calls.append((name, self.env.times.clone()))


class WatchedSampler(UniformSampler):
    """Writes down its calls in the same list."""

    def record(self, done, failed, clip_ids, times):
        self.calls.append(("record", (done.clone(), failed.clone(), clip_ids.clone(), times.clone())))
        super().record(done, failed, clip_ids, times)

    def draw(self):
        drawn = super().draw()
        self.calls.append(("draw", drawn))
        return drawn


def test_order_of_a_control_step(motions):
    """Simulator, judgement at t + dt, the sampler hears of the old episode before it draws, the new state, the observation."""
    simulator = WatchedSimulator(3)
    sampler = WatchedSampler(motions, EnvRandom(0, 3, CPU))
    sampler.calls = simulator.calls
    env = simulator.env = ImitationEnv(simulator, motions, sampler, CONFIG, 0.25)
    before, clips = env.times.clone(), env.clip_ids.clone()
    follow(env)
    simulator.calls.clear()
    simulator.disturbance[1] = 1.0
    result = follow(env)
    assert [name for name, _ in simulator.calls] == ["step", "record", "draw", "set_state"]
    (_, at_step), (_, record), (_, drawn), (_, at_reset) = simulator.calls
    torch.testing.assert_close(at_step, before + DT)
    assert record[0].tolist() == record[1].tolist() == result.terminated.tolist() == [False, True, False]
    assert record[2].tolist() == clips.tolist()
    torch.testing.assert_close(record[3], before + 2 * DT)
    assert at_reset[1] == drawn[1][1] and env.clip_ids[1] == drawn[0][1]
    seen = observation(simulator.body, unsqueezed(env.motions.at(env.clip_ids, env.times + DT).body))
    torch.testing.assert_close(result.observation, seen)


def test_target_is_of_the_coming_reference(motions):
    env = make_env(motions, starts=[(0, 2), (1, 5)])
    config = env.config
    ahead = motions.at(env.clip_ids, torch.tensor([3 / 30, 6 / 30]))
    env.step(torch.zeros(2, env.action_size))
    expected = ahead.dof_pos + config.velocity_lead * env.simulator.gains.damping / env.simulator.gains.stiffness * ahead.joint_velocity
    torch.testing.assert_close(env.simulator.target, expected)


def test_reward_compares_the_same_instant(motions):
    env = make_env(motions, starts=[(0, 2), (1, 5)], distance=None)
    result = env.step(torch.zeros(2, env.action_size))
    reference = motions.at(env.clip_ids, torch.tensor([3 / 30, 6 / 30]))
    expected = imitation_reward(env.simulator.body, reference.body, env.simulator.dof.power, env.steps, CONFIG)
    torch.testing.assert_close(result.reward, expected.total)
    torch.testing.assert_close(result.reward_terms, expected.terms)
    assert (result.reward < 0.99).all()


def test_power_is_charged_from_the_fourth_step_on(motions):
    env = make_env(motions, starts=[(1, 0)])
    env.simulator.dof.power.fill_(10.0)
    costs = []
    for _ in range(5):
        costs.append(follow(env).reward_terms[0, 4].item())
    assert costs == pytest.approx([0.0, 0.0, 0.0, -0.069, -0.069])


def test_nothing_is_lost_in_the_first_step(motions):
    env = make_env(motions, starts=[(1, 0), (1, 3)])
    for expected in (False, True):
        env.simulator.disturbance[0] = 0.5
        result = follow(env)
        assert result.terminated.tolist() == [expected, False]


@pytest.mark.parametrize("distance, lost", [(0.25, [True, True]), (0.5, [False, True]), (10.0, [False, False]), (None, [False, False])])
def test_termination_distance(motions, distance, lost):
    env = make_env(motions, starts=[(1, 0), (1, 3)], distance=distance)
    follow(env)
    env.simulator.disturbance[:, 2] = torch.tensor([0.4, 0.6])
    assert follow(env).terminated.tolist() == lost


def test_lost_at_the_last_frame_is_not_truncated(motions):
    env = make_env(motions, starts=[(0, FRAMES[0] - 3)] * 2)
    follow(env)
    env.simulator.disturbance[0] = 1.0
    result = follow(env)
    assert result.terminated.tolist() == [True, False]
    assert result.truncated.tolist() == [False, True]


def test_final_observation_is_of_the_state_before_the_reset(motions):
    env = make_env(motions, starts=[(0, FRAMES[0] - 2), (1, 5)])
    before = env.result.observation.clone()
    result = follow(env)
    assert result.truncated.tolist() == [True, False]
    last = motions.at(torch.tensor([0, 1]), torch.tensor([(FRAMES[0] - 1) / 30, 6 / 30]))
    beyond = motions.at(torch.tensor([0, 1]), torch.tensor([FRAMES[0] / 30, 7 / 30]))
    expected = observation(last.body, unsqueezed(beyond.body))
    torch.testing.assert_close(result.final_observation, expected, atol=1e-4, rtol=0)
    assert torch.equal(result.final_observation[1], result.observation[1])
    torch.testing.assert_close(result.observation[0], before[0], atol=1e-5, rtol=0)
    assert (result.final_observation[0] - result.observation[0]).abs().max() > 0.01


@pytest.mark.parametrize("trouble", ["nan", "inf", "flag"])
def test_bad_rows_end_alone(motions, trouble):
    healthy, sick = (make_env(motions, num_envs=5, seed=3) for _ in range(2))
    for step in range(30):
        if step == 4:
            if trouble == "flag":
                sick.simulator.diverged[2] = True
            else:
                sick.simulator.disturbance[2] = float(trouble)
        others = [0, 1, 3, 4]
        expected, result = follow(healthy), follow(sick)
        for one, other in zip(expected, result):
            if step <= 4:
                assert torch.equal(one[others], other[others])
            assert other.float().isfinite().all()
        if step == 4:
            assert result.terminated[2] and sick.diverged.tolist() == [False, False, True, False, False]
            assert result.reward[2] == 0 and (result.final_observation[2] == 0).all() and sick.steps[2] == 0
            assert not sick.simulator.diverged.any()
    assert not sick.diverged.any()


def test_reset_lifts_the_humanoid_out_of_the_floor(motions):
    starts = [(1, frame) for frame in range(FRAMES[1] - 2)]
    env = make_env(motions, starts=starts)
    clearance = motions.clearance(env.clip_ids, env.times)
    assert (clearance < 0).any() and (clearance > 0).any()
    torch.testing.assert_close(env.lift, (-clearance).clamp_min(0.0))
    raised = env.simulator.body.pos - env.reference.body.pos
    torch.testing.assert_close(raised[..., 2], env.lift.unsqueeze(-1).expand(-1, 24), atol=1e-5, rtol=0)
    assert raised[..., :2].abs().max() < 1e-5
    torch.testing.assert_close(env.simulator.body.lin_vel[:, 0], env.reference.body.lin_vel[:, 0])


def test_times_do_not_drift():
    """Half an hour into an episode the time is the nearest float32 to start + steps / 30."""
    endless = swaying_library(5)
    endless.durations.fill_(1e6)
    env = make_env(endless, starts=[(0, 1)], distance=None)
    env.steps.fill_(54_000)
    for step in range(54_001, 54_004):
        env.step(torch.zeros(1, env.action_size))
        assert env.steps.item() == step
        assert env.times.item() == pytest.approx((step + 1) / 30, rel=1e-7)


@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_future_frames_are_one_control_step_apart(motions, num_frames):
    env = make_env(motions, replace(CONFIG, num_future_frames=num_frames), starts=[(0, 3), (1, 8)])
    assert env.observation_size == SELF_SIZE + 576 * num_frames == env.result.observation.shape[1]
    for step in range(3):
        bodies = [motions.at(env.clip_ids, (torch.tensor([3, 8]) + step + ahead) / 30).body for ahead in range(1, num_frames + 1)]
        future = BodyState(*(torch.stack(parts, dim=1) for parts in zip(*bodies)))
        torch.testing.assert_close(env.result.observation, observation(env.simulator.body, future), atol=1e-5, rtol=0)
        torch.testing.assert_close(env.next_reference.body.pos, bodies[0].pos, atol=1e-6, rtol=0)
        follow(env)


def test_reference_is_of_now_and_next_of_the_next_step(motions):
    env = make_env(motions, num_envs=6)
    for _ in range(40):
        follow(env)
        for reference, ahead in ((env.reference, 0.0), (env.next_reference, DT)):
            expected = motions.at(env.clip_ids, env.times + ahead)
            torch.testing.assert_close(reference.body.pos, expected.body.pos, atol=1e-6, rtol=0)
            torch.testing.assert_close(reference.body.lin_vel, expected.body.lin_vel, atol=1e-5, rtol=0)
            torch.testing.assert_close(reference.dof_pos, expected.dof_pos, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rate", [15.0, 30.0, 50.0, 60.0])
def test_any_control_rate(motions, rate):
    """Off the frames the reference is interpolated; the oracle earns all there is at every rate."""
    starts = [(0, 3), (1, 8)]
    sampler = FixedSampler(torch.tensor([0, 1]), torch.tensor([3 / 30, 8 / 30]))
    env = ImitationEnv(KinematicSimulator(2, control_dt=1.0 / rate), motions, sampler, CONFIG, 0.25)
    for step in range(1, 8):
        result = follow(env)
        torch.testing.assert_close(result.reward, torch.ones(2), atol=1e-4, rtol=0)
        times = torch.tensor([frame / 30 + step / rate for _, frame in starts])
        torch.testing.assert_close(env.times, times)
        torch.testing.assert_close(env.simulator.body.pos, motions.at(env.clip_ids, times).body.pos, atol=1e-5, rtol=0)


def test_state_init_start_begins_at_the_first_frame(motions):
    env = make_env(motions, replace(CONFIG, state_init="start"), num_envs=16)
    assert (env.times == 0).all()
    env = make_env(motions, replace(CONFIG, state_init="random"), num_envs=16)
    assert (env.times > 0).any()


def test_without_a_future_frame_there_is_nothing_to_imitate(motions):
    with pytest.raises(ConfigError, match="num_future_frames"):
        make_env(motions, replace(CONFIG, num_future_frames=0))


def test_tensors_stay_where_they_are(motions):
    env = make_env(motions, num_envs=3)

    def tensors():
        own = [env.clip_ids, env.start_times, env.steps, env.times, env.lift, env.diverged]
        references = [part for r in (env.reference, env.next_reference) for part in (*r.body, *r[1:])]
        return [tensor.data_ptr() for tensor in (*own, *references, *env.result)]

    before = tensors()
    for _ in range(30):
        follow(env)
    assert tensors() == before


@pytest.mark.parametrize("num_frames", [1, 3])
def test_device_path_never_waits_and_equals_the_cpu_path(motions, num_frames):
    config = replace(CONFIG, num_future_frames=num_frames)
    env, device_env = (make_env(motions, config, num_envs=5, seed=9) for _ in range(2))
    nothing_waits = NothingWaits()
    for name in ("step", "set_state"):
        setattr(device_env.simulator, name, nothing_waits.allowing(getattr(device_env.simulator, name)))
    for step in range(25):
        if step % 7 == 3:
            for each in (env, device_env):
                each.simulator.disturbance[step % 5] = 0.7
        expected = follow(env)
        with looking_costs(), nothing_waits:
            result = follow(device_env)
        states = [(*each.reference.body, *each.next_reference.body, each.times, each.lift, each.diverged) for each in (env, device_env)]
        for one, other in zip((*expected, *states[0]), (*result, *states[1])):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_continues_exactly_from_a_snapshot(motions):
    env = make_env(motions, num_envs=4, seed=5)
    for _ in range(10):
        follow(env)
    snapshot, sampler = env.snapshot(), env.sampler.state_dict()
    expected = [cloned(follow(env)) for _ in range(25)]
    other = make_env(motions, num_envs=4, seed=6)
    other.restore(snapshot)
    other.sampler.load_state_dict(sampler)
    for result in expected:
        for one, again in zip(result, follow(other)):
            assert torch.equal(one, again)


def test_equal_seeds_give_equal_episodes(motions):
    one, same, different = (make_env(motions, num_envs=8, seed=seed) for seed in (1, 1, 2))
    for _ in range(30):
        results = [follow(env) for env in (one, same, different)]
    assert torch.equal(results[0].observation, results[1].observation)
    assert not torch.equal(results[0].observation, results[2].observation)

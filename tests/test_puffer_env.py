import numpy as np
import pufferlib
import pufferlib.vector
import pytest
import torch
from kinematic_simulator import KinematicSimulator
from synthetic_motion import swaying_library

from puffer_phc.config import EnvConfig
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.env.puffer import PufferImitation
from puffer_phc.motion.sampler import FixedSampler, UniformSampler
from puffer_phc.randomness import EnvRandom

CPU = torch.device("cpu")
FRAMES = (8, 12)


def make_imitation(num_envs=3, seed=0):
    motions = swaying_library(*FRAMES)
    return ImitationEnv(KinematicSimulator(num_envs), motions, UniformSampler(motions, EnvRandom(seed, num_envs, CPU)), EnvConfig(), 0.25)


def make_fixed(*starts):
    motions = swaying_library(*FRAMES)
    sampler = FixedSampler(torch.tensor([clip for clip, _ in starts]), torch.tensor([frame / 30 for _, frame in starts]))
    return PufferImitation(ImitationEnv(KinematicSimulator(len(starts)), motions, sampler, EnvConfig(), 0.25))


def make_numpy(buf=None, seed=0, log_interval=4):
    return PufferImitation(make_imitation(2, seed), numpy_buffers=True, buf=buf, log_interval=log_interval)


def follow(env):
    return env.step(env.env.simulator.oracle(env.env.result.observation, env.env.action_size))


def test_device_buffers_are_the_environments_own():
    env = pufferlib.vector.make(lambda: PufferImitation(make_imitation()), backend=pufferlib.PufferEnv)
    result = env.env.result
    assert env.observations is result.observation and env.rewards is result.reward
    assert env.terminals is result.terminated and env.truncations is result.truncated
    assert env.final_observations is result.final_observation
    observations, infos = env.reset(seed=1)
    assert observations is env.observations and infos == []
    for _ in range(5):
        returned = follow(env)
        for given, buffer in zip(returned, (env.observations, env.rewards, env.terminals, env.truncations)):
            assert given is buffer
        assert returned[4] == []
    assert env.single_observation_space.shape == (934,) and env.single_action_space.shape == (57,)
    env.send(torch.zeros(3, 57))
    received = env.recv()
    assert received[0] is env.observations and received[6].all()


def test_last_step_counts_to_the_episode_that_it_ends():
    env = make_fixed((0, 0), (1, 0))
    for _ in range(FRAMES[0] - 1):
        follow(env)
    statistics = env.read_statistics()
    assert statistics["episodes"] == 1 and statistics["epi_trunc_rate"] == 1
    assert statistics["episode_length"] == FRAMES[0] - 1
    assert statistics["episode_return"] == pytest.approx(FRAMES[0] - 1, rel=1e-5)
    for name in ("rew_body_pos", "rew_body_rot", "rew_lin_vel", "rew_ang_vel"):
        assert statistics[name] == pytest.approx(1.0, abs=1e-5)
    assert statistics["rew_power"] == 0
    for _ in range(FRAMES[0] - 1):
        follow(env)
    statistics = env.read_statistics()
    assert statistics["episodes"] == 2
    assert statistics["episode_length"] == (FRAMES[0] - 1 + FRAMES[1] - 1) / 2
    assert statistics["episode_return"] == pytest.approx(statistics["episode_length"], rel=1e-5)


def test_failures_and_divergence_are_counted():
    env = make_fixed((1, 0), (1, 1), (1, 2))
    follow(env)
    env.env.simulator.disturbance[0] = 1.0
    env.env.simulator.disturbance[1] = float("nan")
    follow(env)
    statistics = env.read_statistics()
    assert statistics["diverged"] == 1 and statistics["episodes"] == 2
    assert statistics["epi_trunc_rate"] == 0 and statistics["episode_length"] == 2
    assert np.isfinite(list(statistics.values())).all()


def test_reset_lifts_are_reported():
    env = make_fixed(*((0, frame) for frame in range(5)))
    lift = env.env.lift.clone()
    assert (lift > 0).any()
    env.env.simulator.disturbance[:] = 1.0
    follow(env)
    env.env.simulator.disturbance[:] = 1.0
    follow(env)
    statistics = env.read_statistics()
    assert statistics["episodes"] == 5
    assert statistics["reset_lift_rate"] == pytest.approx((lift > 0).float().mean().item())
    assert statistics["reset_lift_mm"] == pytest.approx(1000 * lift.mean().item(), rel=1e-5)


def test_without_an_episode_there_is_no_mean_of_episodes():
    env = make_fixed((1, 0))
    assert "rew_body_pos" not in env.read_statistics()
    follow(env)
    statistics = env.read_statistics()
    assert "episode_length" not in statistics and "rew_body_pos" in statistics
    assert "rew_body_pos" not in env.read_statistics(), "reading starts anew"


def test_reset_forgets_episodes_under_way():
    env = make_fixed((0, 0))
    for _ in range(3):
        follow(env)
    env.reset()
    assert not env.rewards.any() and not env.truncations.any()
    for _ in range(FRAMES[0] - 1):
        follow(env)
    assert env.read_statistics()["episode_length"] == FRAMES[0] - 1


def test_numpy_mode_equals_device_mode():
    device, numpy = PufferImitation(make_imitation(2)), make_numpy()
    np.testing.assert_array_equal(device.observations.numpy(), numpy.observations)
    random = np.random.default_rng(0)
    for tick in range(1, 13):
        actions = random.uniform(-1, 1, (2, 57)).astype(np.float32)
        device.step(torch.from_numpy(actions))
        *_, infos = numpy.step(actions)
        for name in ("observations", "rewards", "terminals", "truncations"):
            assert isinstance(getattr(numpy, name), np.ndarray)
            np.testing.assert_array_equal(getattr(device, name).numpy(), getattr(numpy, name))
        assert len(infos) == (tick % 4 == 0)
    assert "rew_body_pos" in infos[0]


@pytest.mark.parametrize("options", [{}, {"num_workers": 1, "overwork": True}, {"num_workers": 2, "overwork": True}])
def test_pufferlibs_vectorisers(options):
    """Two environments of two humanoids behind one interface, the same numbers whichever way they are run."""
    vector = pufferlib.vector.make(make_numpy, backend="Multiprocessing" if options else "Serial", num_envs=2, **options)
    try:
        observations, _ = vector.reset(seed=0)
        assert observations.shape == (4, 934)
        alone = [make_numpy(seed=seed) for seed in (0, 1)]
        for env in alone:
            env.reset()
        random = np.random.default_rng(1)
        seen_infos = []
        for _ in range(6):
            actions = random.uniform(-1, 1, (4, 57)).astype(np.float32)
            observations, rewards, terminals, truncations, infos = vector.step(actions)
            seen_infos += infos if isinstance(infos, list) else [infos]
            for rows, env in zip((slice(0, 2), slice(2, 4)), alone):
                env.step(actions[rows])
                np.testing.assert_allclose(observations[rows], env.observations, atol=1e-6)
                np.testing.assert_allclose(rewards[rows], env.rewards, atol=1e-6)
                np.testing.assert_array_equal(terminals[rows], env.terminals)
                np.testing.assert_array_equal(truncations[rows], env.truncations)
        assert any("rew_body_pos" in info for info in seen_infos if info)
    finally:
        vector.close()


def test_continues_exactly_from_a_snapshot():
    env, other = PufferImitation(make_imitation(seed=1)), PufferImitation(make_imitation(seed=2))
    for _ in range(5):
        follow(env)
    other.restore(env.snapshot())
    other.env.sampler.load_state_dict(env.env.sampler.state_dict())
    for _ in range(20):
        follow(env)
        follow(other)
    assert torch.equal(env.observations, other.observations)
    assert env.read_statistics() == other.read_statistics()

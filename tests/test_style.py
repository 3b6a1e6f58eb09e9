"""What discriminators see: histories right after resets, states before them, demonstrations, differences."""

import pytest
import torch
from kinematic_simulator import KinematicSimulator
from synthetic_motion import random_body, swaying_clip, swaying_library, turned

from puffer_phc import rotations
from puffer_phc.config import EnvConfig
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.env.observations import AMP_SIZE, DIFFERENCE_SIZE, amp_observation, tracking_difference
from puffer_phc.env.style import NOT_A_MOTION, AmpObserver, DifferenceObserver
from puffer_phc.humanoid.skeleton import KEY_BODIES, body_ids
from puffer_phc.learn.seen import make_seen
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.sampler import FixedSampler
from puffer_phc.state import Pose

K, DT = 10, 1.0 / 30.0
CLIPS = torch.tensor([0, 0, 0, 1])
"""Several environments on one clip."""
FRAMES = torch.tensor([0, 3, 20, 15])
VELOCITY_COLUMNS = [*range(7, 13), *range(127, 184)]


def reference_step(motions, clip, frame):
    """(196,) of one frame of the reference, frames before the first being the first."""
    reference = motions.at(torch.tensor([clip]), torch.tensor([max(frame, 0) * DT]))
    return amp_observation(reference.pose(), reference.body.pos[:, body_ids(KEY_BODIES)])[0]


def reference_window(motions, clip, frame, num_steps=K):
    return torch.stack([reference_step(motions, clip, frame - age) for age in range(num_steps)])


def make_env(style="amp"):
    motions = swaying_library(40, 30)
    simulator = KinematicSimulator(len(CLIPS))
    sampler = FixedSampler(CLIPS, FRAMES * DT)
    observer = AmpObserver(motions, len(CLIPS), DT, K) if style == "amp" else DifferenceObserver(len(CLIPS), torch.device("cpu"))
    env = ImitationEnv(simulator, motions, sampler, EnvConfig(), 0.25, observer)
    env.seen, env.num_seen = make_seen(observer, 8), 0
    return env


def follow(env):
    env.seen.before(env.num_seen, env.episodes)
    env.step(env.simulator.oracle(env.result.observation, env.action_size))
    env.seen.after(env.num_seen)
    env.num_seen += 1


def seen_last(env):
    """(N, S) what a discriminator sees of the last step."""
    return env.seen.windows((env.num_seen - 1) * env.num_envs + torch.arange(env.num_envs))


def simulated_step(env, row):
    body, dof = env.simulator.body, env.simulator.dof
    pose = Pose(*(part[:, 0] for part in body), dof.pos, dof.vel)
    return amp_observation(pose, body.pos[:, body_ids(KEY_BODIES)])[row]


def test_right_after_a_reset_the_past_is_the_references():
    env = make_env()
    before = [simulated_step(env, row) for row in range(4)]
    follow(env)
    windows = seen_last(env).unflatten(1, (K, AMP_SIZE))
    for row, (clip, frame) in enumerate(zip(CLIPS.tolist(), FRAMES.tolist())):
        torch.testing.assert_close(windows[row, 0], simulated_step(env, row))
        torch.testing.assert_close(windows[row, 1], before[row])
        past = torch.stack([reference_step(env.motions, clip, frame - age) for age in range(1, K - 1)])
        torch.testing.assert_close(windows[row, 2:], past, atol=1e-5, rtol=0)


def test_the_state_of_a_reset_is_seen_as_the_reference_that_it_was_placed_on():
    env = make_env()
    follow(env)
    windows = seen_last(env).unflatten(1, (K, AMP_SIZE))
    for row, (clip, frame) in enumerate(zip(CLIPS.tolist(), FRAMES.tolist())):
        expected = reference_step(env.motions, clip, frame)
        expected[0] += env.lift[row]
        torch.testing.assert_close(windows[row, 1], expected, atol=2e-4, rtol=0)


def test_who_follows_the_reference_shows_its_windows():
    """All columns but velocities, of which the oracle knows smoothed ones."""
    env = make_env()
    for _ in range(4):
        follow(env)
    kept = [column for column in range(AMP_SIZE) if column not in VELOCITY_COLUMNS]
    windows = seen_last(env).unflatten(1, (K, AMP_SIZE))[..., kept]
    for row, (clip, frame) in enumerate(zip(CLIPS.tolist(), FRAMES.tolist())):
        expected = reference_window(env.motions, clip, frame + 4)[:, kept]
        expected[4, 0] += env.lift[row]
        torch.testing.assert_close(windows[row], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("style", ["amp", "add"])
def test_the_last_state_of_an_episode_is_seen_not_the_first_of_the_next(style):
    env = make_env(style)
    follow(env)
    env.simulator.disturbance[1] = torch.tensor([0.0, 0.0, 1.0])
    follow(env)
    assert env.result.terminated.tolist() == [False, True, False, False]
    if style == "amp":
        assert env.style.observation[1, 0] == pytest.approx(env.style.observation[0, 0].item() + 1.0, abs=0.1)
        follow(env)
        windows = seen_last(env).unflatten(1, (K, AMP_SIZE))
        torch.testing.assert_close(windows[1, 2], reference_step(env.motions, 0, 2), atol=1e-5, rtol=0)
        assert windows[1, :, 0].max() < 1.5, "nothing is left of the episode before"
    else:
        assert env.style.observation[1].unflatten(0, (4, 24, 3))[0, :, 2].mean() == pytest.approx(-1.0, abs=1e-3)
        assert env.style.observation[[0, 2, 3]].abs().max() < 1e-3


@pytest.mark.parametrize("style", ["amp", "add"])
def test_a_diverged_row_shows_no_motion(style):
    env = make_env(style)
    env.simulator.diverged[2] = True
    env.simulator.body.pos[2] = float("nan")
    follow(env)
    assert (seen_last(env)[2] == NOT_A_MOTION).all()
    assert seen_last(env)[[0, 1, 3]].isfinite().all()
    follow(env)
    assert seen_last(env).isfinite().all()
    assert (seen_last(env)[2] != NOT_A_MOTION).any()


def test_demonstrations_are_windows_of_all_clips_drawn_uniformly_and_independently_of_the_environment():
    env = make_env()
    num_frames = env.motions.num_frames.tolist()
    every = torch.stack([reference_window(env.motions, clip, frame).flatten() for clip in range(2) for frame in range(num_frames[clip])])
    drawn = env.style.demonstrations(7000, torch.Generator().manual_seed(5))
    follow(env)
    assert torch.equal(env.style.demonstrations(7000, torch.Generator().manual_seed(5)), drawn)
    nearest = torch.cdist(drawn.double(), every.double()).min(1)
    assert nearest.values.max() < 1e-4
    counts = nearest.indices.bincount(minlength=len(every)).float()
    assert counts.min() > 50 and counts.max() < 160


def test_demonstrations_come_from_clips_on_the_device_only():
    motions = MotionLibrary([swaying_clip(40), swaying_clip(30, seed=1)], torch.device("cpu"), max_frames=50)
    motions.hold([1])
    drawn = AmpObserver(motions, 1, DT, K).demonstrations(200, torch.Generator().manual_seed(5))
    second = torch.stack([reference_window(motions, 1, frame).flatten() for frame in range(30)])
    assert torch.cdist(drawn.double(), second.double()).min(1).values.max() < 1e-4


def test_what_is_seen_goes_on_after_a_snapshot():
    env = make_env()
    for _ in range(3):
        follow(env)
    saved, seen = env.snapshot(), []
    for _ in range(2):
        env.restore(saved)
        env.num_seen = 3
        for _ in range(2):
            follow(env)
        seen.append(seen_last(env))
        env.reset()
    assert torch.equal(*seen)


def test_the_one_demonstration_of_differences_is_none():
    assert torch.equal(make_env("add").style.demonstrations(50, torch.Generator()), torch.zeros(1, DIFFERENCE_SIZE))


def test_the_difference_is_zero_on_the_reference_and_the_same_wherever_both_are():
    body, reference = random_body(0, 3), random_body(1, 3)
    assert tracking_difference(body, body).abs().max() < 1e-6
    moved = [turned(state, 2.0, (3.0, -5.0, 0.5)) for state in (body, reference)]
    torch.testing.assert_close(tracking_difference(*moved), tracking_difference(body, reference), atol=2e-5, rtol=0)


def test_columns_of_the_difference():
    """The body looks along y: what is ahead of it in the world's y is ahead in x of its heading frame."""
    body = random_body(2, 1)
    facing = rotations.yaw(torch.tensor(torch.pi / 2))
    body.quat[:, 0] = facing
    turn = rotations.from_rotation_vector(torch.tensor([0.0, 0.3, 0.0]))
    reference = body._replace(pos=body.pos + torch.tensor([0.0, 0.2, 0.1]), quat=rotations.multiply(turn.expand_as(body.quat), body.quat))
    blocks = tracking_difference(body, reference).unflatten(1, (4, 24, 3))[0]
    torch.testing.assert_close(blocks[0], torch.tensor([0.2, 0.0, 0.1]).expand(24, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(blocks[1], torch.tensor([0.3, 0.0, 0.0]).expand(24, 3), atol=1e-5, rtol=0)
    assert blocks[2:].abs().max() == 0


def test_it_compiles_into_one_graph():
    compiled = torch.compile(tracking_difference, fullgraph=True, backend="eager")
    body, reference = random_body(0, 3), random_body(1, 3)
    torch.testing.assert_close(compiled(body, reference), tracking_difference(body, reference))

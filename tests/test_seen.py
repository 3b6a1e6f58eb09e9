"""Windows put together from steps that are kept once are those that a copy of the whole window at every step would hold, bit for bit."""

from typing import List

import pytest
import torch
from kinematic_simulator import KinematicSimulator
from synthetic_motion import swaying_clip
from waiting import looking_costs

from puffer_phc.config import EnvConfig
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.env.observations import AMP_SIZE
from puffer_phc.env.style import NOT_A_MOTION, AmpObserver, DifferenceObserver
from puffer_phc.learn.seen import SeenWindows, make_seen
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.sampler import UniformSampler
from puffer_phc.randomness import EnvRandom

CPU = torch.device("cpu")
CLIPS = [swaying_clip(length, seed) for seed, length in enumerate((12, 40, 25, 18))]
NUM_ENVS, NUM_STEPS = 13, 16
"""Several environments a clip; no multiple of what a processor works on at a time."""


class CopiedWindows:
    """The straightforward way: each row's whole window (N, K, F), moved on at each step and filled with the reference at each beginning."""

    def __init__(self, env: ImitationEnv, observer: AmpObserver) -> None:
        self._env, self._observer = env, observer
        self.window = torch.zeros(env.num_envs, observer.num_steps, AMP_SIZE)
        self.shown = self.window.flatten(1)
        self._begin, self._observe = observer.begin, observer.observe
        observer.begin, observer.observe = self.begin, self.observe  # type: ignore[method-assign]
        self.fill(torch.ones(env.num_envs, dtype=torch.bool))

    def fill(self, done: torch.Tensor) -> None:
        for row in done.nonzero().flatten().tolist():
            self.window[row, 0] = self._observer.present[row]
            for age in range(1, self._observer.num_steps):
                time = self._env.times[row : row + 1] - age * self._env.control_dt
                self.window[row, age] = self._observer.reference(self._env.clip_ids[row : row + 1], time)[0]

    def begin(self, done: torch.Tensor, *arguments: object) -> None:
        self._begin(done, *arguments)  # type: ignore[arg-type]
        self.fill(done)

    def observe(self, *arguments: object) -> None:
        self._observe(*arguments)  # type: ignore[arg-type]
        self.window[:, 1:] = self.window[:, :-1].clone()
        self.window[:, 0] = self._observer.observation
        self.window[self._env.diverged] = NOT_A_MOTION
        self.shown = self.window.flatten(1).clone()


class Troubled:
    """An environment whose rows stumble, diverge and come to the ends of their clips, and what is seen of it in both ways."""

    def __init__(self, num_steps: int, num_seen: int, control_dt: float = 1.0 / 30.0, max_frames: int = 0) -> None:
        self.motions = MotionLibrary(CLIPS, CPU, max_frames=max_frames)
        sampler = UniformSampler(self.motions, EnvRandom(1, NUM_ENVS, CPU))
        sampler.change_residents()
        observer = AmpObserver(self.motions, NUM_ENVS, control_dt, num_steps)
        self.env = ImitationEnv(KinematicSimulator(NUM_ENVS, control_dt), self.motions, sampler, EnvConfig(), 0.25, observer)
        seen = make_seen(observer, num_seen)
        assert isinstance(seen, SeenWindows)
        self.seen, self.copied, self.num_done = seen, CopiedWindows(self.env, observer), 0
        self._generator = torch.Generator().manual_seed(2)

    def collect(self) -> torch.Tensor:
        """(T, N, S) the copies of one rollout."""
        copies: List[torch.Tensor] = []
        for t in range(len(self.seen.steps)):
            self.seen.before(t, self.env.episodes)
            self.step()
            self.seen.after(t)
            copies.append(self.copied.shown)
        return torch.stack(copies)

    def step(self) -> None:
        env, simulator = self.env, self.env.simulator
        stumbles = torch.rand(NUM_ENVS, generator=self._generator) < 0.1
        simulator.disturbance[stumbles, 1] = 1.0
        simulator.diverged |= torch.rand(NUM_ENVS, generator=self._generator) < 0.03
        result = env.step(simulator.oracle(env.result.observation, env.action_size))
        self.num_done += int((result.terminated | result.truncated).sum())


@pytest.mark.parametrize("num_seen", [NUM_STEPS, 3])
@pytest.mark.parametrize("num_steps", [1, 2, 10, 20])
def test_every_window_is_the_copied_one_bit_for_bit(num_steps: int, num_seen: int) -> None:
    troubled = Troubled(num_steps, num_seen)
    generator = torch.Generator().manual_seed(3)
    num_lost = 0
    for _ in range(4 if num_seen == NUM_STEPS else 12):
        copies = troubled.collect().flatten(0, 1)
        num_lost += int((copies == NOT_A_MOTION).all(-1).sum())
        rows = torch.randint(len(copies), (3 * len(copies),), generator=generator)
        assert torch.equal(troubled.seen.windows(rows), copies[rows])
        assert torch.equal(troubled.seen.windows(torch.arange(len(copies))), copies)
    assert troubled.num_done > 4 * NUM_ENVS and num_lost > 5


def test_where_choosing_rows_would_mean_waiting_windows_are_the_same() -> None:
    troubled = Troubled(10, NUM_STEPS)
    for _ in range(3):
        troubled.collect()
        rows = torch.randperm(NUM_STEPS * NUM_ENVS, generator=torch.Generator().manual_seed(4))
        chosen = troubled.seen.windows(rows)
        with looking_costs():
            assert torch.equal(troubled.seen.windows(rows), chosen)


def test_between_frames_the_past_is_the_same_but_for_rounding() -> None:
    troubled = Troubled(10, NUM_STEPS, control_dt=1.0 / 50.0)
    for _ in range(3):
        copies = troubled.collect().flatten(0, 1)
        torch.testing.assert_close(troubled.seen.windows(torch.arange(len(copies))), copies, rtol=0, atol=1e-5)
    assert troubled.num_done > NUM_ENVS


def test_episodes_whose_clip_stays_go_on_and_the_others_begin() -> None:
    troubled = Troubled(10, NUM_STEPS, max_frames=60)
    stayed = 0
    for _ in range(8):
        copies = troubled.collect().flatten(0, 1)
        assert torch.equal(troubled.seen.windows(torch.arange(len(copies))), copies)
        troubled.env.sampler.change_residents()
        gone = troubled.env.restart_absent()
        stayed += int((~gone & (troubled.env.steps > 0)).sum())
    assert stayed > 5


def test_what_is_carried_is_all_that_another_needs_to_go_on() -> None:
    one, other = Troubled(10, NUM_STEPS), Troubled(10, NUM_STEPS)
    for _ in range(2):
        one.collect()
        other.collect()
    other.seen = make_seen(other.env.style, NUM_STEPS)  # type: ignore[assignment]
    other.seen.carried.copy_(one.seen.carried)
    rows = torch.arange(NUM_STEPS * NUM_ENVS)
    copies = one.collect().flatten(0, 1)
    other.collect()
    assert torch.equal(one.seen.windows(rows), copies)
    assert torch.equal(other.seen.windows(rows), copies)


def test_a_step_is_kept_twice_and_not_ten_times() -> None:
    """As the state that an action led to and as the one that the next began in: they differ where an episode ended."""
    seen = Troubled(10, 64).seen
    kept = sum(tensor.numel() for tensor in vars(seen).values() if isinstance(tensor, torch.Tensor) and tensor is not seen.carried)
    assert kept < 0.22 * 64 * NUM_ENVS * seen.size


def test_differences_are_judged_by_themselves() -> None:
    observer = DifferenceObserver(NUM_ENVS, CPU)
    motions = MotionLibrary(CLIPS, CPU)
    sampler = UniformSampler(motions, EnvRandom(1, NUM_ENVS, CPU))
    env = ImitationEnv(KinematicSimulator(NUM_ENVS), motions, sampler, EnvConfig(), 0.25, observer)
    seen = make_seen(observer, 2)
    assert seen is not None and seen.size == 288 and seen.carried.numel() == 0
    for t in range(2):
        seen.before(t, env.episodes)
        env.step(torch.zeros(NUM_ENVS, env.action_size))
        seen.after(t)
        assert torch.equal(seen.windows(t * NUM_ENVS + torch.arange(NUM_ENVS)), observer.observation)


def test_where_nobody_watches_nothing_is_kept() -> None:
    assert make_seen(None, 2) is None

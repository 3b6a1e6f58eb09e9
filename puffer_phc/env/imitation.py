"""The environment: N humanoids that imitate clips in one simulator, stepped together, everything on the simulator's device."""

from typing import Any, Callable, Dict, Generic, NamedTuple, Optional, Tuple, TypeVar

import torch
from torch import Tensor

from puffer_phc import looking
from puffer_phc.config import EnvConfig
from puffer_phc.env.actions import ActionMap
from puffer_phc.env.captured import CapturedCall
from puffer_phc.env.fused import Fused
from puffer_phc.env.observations import observation, observation_size
from puffer_phc.env.rewards import REWARD_TERMS
from puffer_phc.env.style import StyleObserver
from puffer_phc.env.verdict import Progress, verdict
from puffer_phc.errors import ConfigError
from puffer_phc.humanoid.skeleton import NUM_BODIES, NUM_DOFS
from puffer_phc.looking import Rows
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.sampler import Sampler
from puffer_phc.sim.simulator import Simulator
from puffer_phc.state import BodyState, Pose, Reference

AnySampler = TypeVar("AnySampler", bound=Sampler)
"""Training knows more of its sampler than the environment needs."""


class StepResult(NamedTuple):
    """What a control step led to. The tensors are the environment's own, rewritten in place by the next step."""

    observation: Tensor
    """(N, O) to act on next; in rows whose episode ended, of the new episode."""
    reward: Tensor
    """(N,)."""
    terminated: Tensor
    """(N,) bool: the episode ended because tracking failed or the state was lost."""
    truncated: Tensor
    """(N,) bool: the clip was over, and the humanoid still with it."""
    final_observation: Tensor
    """(N, O) of the state before resets: equal to ``observation`` where the episode goes on, zero where the state was not finite."""
    reward_terms: Tensor
    """(N, 5) in the order of ``rewards.REWARD_TERMS``."""


class Episodes(NamedTuple):
    """The episode that each row is in. The tensors are the environment's own, rewritten in place."""

    clip_ids: Tensor
    """(N,) int64, the clip that is imitated."""
    start_times: Tensor
    """(N,) s in the clip at which the episode began."""
    steps: Tensor
    """(N,) int64, control steps since then."""


class ImitationEnv(Generic[AnySampler]):
    """N humanoids imitating clips.

    ``step`` does, in this order, which is a contract:

    1. target from the action, and in residual mode from the reference at t + dt, clamped to what the drives can do;
    2. the simulator advances by ``control_dt``; steps += 1; t = start + steps · control_dt;
    3. the reference at t (looked up one step ahead, where observations need it anyway);
    4. reward;
    5. terminated where a body is lost after the first step, or the state is not finite; truncated where t has reached the clip's end;
    6. the final observation, of the state that the action led to and the reference after t;
    7. rows whose episode ended: the sampler draws clip and start, the simulator is placed on the reference there;
    8. observation of the state as it is now, and of the reference at t + dt.

    ``termination_distance`` m is how far a body may be off; with None nothing is ever lost. ``style`` watches: it is shown the state that
    the action led to after 5, and new beginnings after 7. Tensors are allocated once and rewritten in place; nothing waits for a GPU, so
    that a step can be recorded in a CUDA graph. No gradient passes. Construction starts an episode in every row.
    """

    def __init__(
        self,
        simulator: Simulator,
        motions: MotionLibrary,
        sampler: AnySampler,
        config: EnvConfig,
        termination_distance: Optional[float],
        style: Optional[StyleObserver] = None,
    ) -> None:
        if config.num_future_frames < 1:
            raise ConfigError(f"env.num_future_frames is {config.num_future_frames}, but at least 1 frame has to be observed")
        self.simulator, self.motions, self.sampler, self.config = simulator, motions, sampler, config
        self.termination_distance, self.style = termination_distance, style
        self.num_envs, self.device, self.control_dt = simulator.num_envs, simulator.device, simulator.control_dt
        self._actions = ActionMap(config, simulator.gains)
        self.action_size = self._actions.action_size
        self.observation_size = observation_size(config.num_future_frames)
        self._target, self._observe = self._actions.target, observation
        self._follow: Callable[[], None] = self._follow_physics
        self._reference_at = motions.look_up_every(self.control_dt)
        self._allocate()
        self.reset()

    def _allocate(self) -> None:
        n, k, device = self.num_envs, self.config.num_future_frames, self.device
        self.episodes = Episodes(
            clip_ids=torch.zeros(n, dtype=torch.int64, device=device),
            start_times=torch.zeros(n, device=device),
            steps=torch.zeros(n, dtype=torch.int64, device=device),
        )
        self.clip_ids, self.start_times, self.steps = self.episodes
        self.times = torch.zeros(n, device=device)
        """(N,) s in the clip: start + steps · control_dt, never summed up."""
        self.lift = torch.zeros(n, device=device)
        """(N,) m by which the last reset raised the humanoid over its reference, out of the floor."""
        self.diverged = torch.zeros(n, dtype=torch.bool, device=device)
        """(N,) rows that the last step ended because their state was not finite or sane."""
        self.reference = _empty_reference(n, device=device)
        """The reference at ``times``, the instant of ``simulator.body``."""
        self._future = _empty_reference(n, k, device=device)
        self.next_reference = _map(self._future, lambda part: part[:, 0])
        """The reference one control step after ``times``."""
        self._frame_times = self.control_dt * torch.arange(1, k + 1, device=device)
        self.result = StepResult(
            observation=torch.zeros(n, self.observation_size, device=device),
            reward=torch.zeros(n, device=device),
            terminated=torch.zeros(n, dtype=torch.bool, device=device),
            truncated=torch.zeros(n, dtype=torch.bool, device=device),
            final_observation=torch.zeros(n, self.observation_size, device=device),
            reward_terms=torch.zeros(n, len(REWARD_TERMS), device=device),
        )

    def compile(self) -> None:
        """Fuse the parts of a step with ``torch.compile``; worth its minute on a GPU, and needs a C++ compiler on a CPU.

        Where only the rows that restart are worked on, their number differs from step to step, and what looks at them stays as it is.
        """
        self._target, self._observe, self._advance = Fused(self._actions.target), Fused(observation), Fused(self._advance)
        restarts_all_rows = not looking.is_free(self.device)
        if restarts_all_rows:
            self._leave, self._assign, self._look = Fused(self._leave), Fused(self._assign), Fused(self._look)
        if self.style is not None:
            self.style.compile(for_all_rows=restarts_all_rows)

    def record(self) -> None:
        """On a GPU, replay what follows the physics as one CUDA graph.

        The sampler and the simulator's ``set_state`` have to work in place for that, without a look at what tensors hold.
        """
        if self.device.type == "cuda":
            self._follow = CapturedCall(self._follow_physics, self.sampler.generators)

    @torch.no_grad()
    def reset(self) -> Tensor:
        """Begin a new episode in every row; returns the observation (N, O)."""
        everywhere = torch.ones_like(self.diverged)
        self._restart(everywhere, *self.sampler.draw())
        self.result.final_observation.copy_(self.result.observation)
        return self.result.observation

    @torch.no_grad()
    def restart_absent(self) -> Tensor:
        """Cut off the episodes whose clip is no longer on the device, as ``result.truncated`` says, and begin others.

        Returns these rows (N,) bool.
        """
        gone = ~self.motions.residents.is_present[self.clip_ids]
        self._restart(gone, *self.sampler.draw())
        self.result.final_observation.copy_(self.result.observation)
        self.result.truncated.logical_or_(gone)
        return gone

    @torch.no_grad()
    def step(self, action: Tensor) -> StepResult:
        """Act with ``action`` (N, A), clipped to [−1, 1], for one control period."""
        self.simulator.step(self._target(action, self.next_reference, self.simulator.dof))
        self._follow()
        return self.result

    def _follow_physics(self) -> None:
        """All of a step that comes after the physics."""
        self.steps.add_(1)
        self._advance()
        if self.style is not None:
            self.style.observe(self.simulator, self.reference, self.diverged)
        done = self.result.terminated | self.result.truncated
        self.sampler.record(done, self.result.terminated, self.clip_ids, self.times)
        drawn = self.sampler.draw()
        if looking.finds_none(done):
            self._go_on()
        else:
            self._restart(done, *drawn)

    def snapshot(self) -> Dict[str, Any]:
        """All that ``restore`` needs to go on exactly, but for the sampler, which has a state of its own."""
        own = {name: getattr(self, name).clone() for name in ("clip_ids", "start_times", "steps", "lift")}
        return {"simulator": self.simulator.snapshot(), "style": self.style.snapshot() if self.style is not None else {}, **own}

    def fits(self, snapshot: Dict[str, Any]) -> bool:
        """Whether ``snapshot`` is of as many rows."""
        return len(snapshot["clip_ids"]) == self.num_envs

    @torch.no_grad()
    def restore(self, snapshot: Dict[str, Any]) -> None:
        """Go back to a ``snapshot`` of an environment with the same simulator options, motions and number of rows."""
        self.simulator.restore(snapshot["simulator"])
        for name in ("clip_ids", "start_times", "steps", "lift"):
            getattr(self, name).copy_(snapshot[name])
        self._set_times()
        _write(self.reference, self._reference_at(self.clip_ids, self.times))
        if self.style is not None:
            self.style.restore(snapshot["style"])
        self._go_on()

    def close(self) -> None:
        """Free what the simulator holds."""
        self.simulator.close()

    def _set_times(self) -> None:
        self.times.copy_(self.start_times + self.steps * self.control_dt)

    def _advance(self) -> None:
        """The time after ``steps`` and the reference of then; reward and end of episode in the state that the simulator came to.

        Like all that is fused here it may run again over what it has written: steps are counted elsewhere.
        """
        self._set_times()
        _write(self.reference, self.next_reference)
        simulator, result = self.simulator, self.result
        is_over = self.times > self.motions.durations[self.clip_ids] - 0.5 * self.control_dt
        progress = Progress(self.steps, is_over, simulator.diverged)
        found = verdict(simulator.body, self.reference.body, simulator.dof.power, progress, self.config, self.termination_distance)
        own = (result.reward, result.reward_terms, result.terminated, result.truncated, self.diverged)
        for old, new in zip(own, found):
            old.copy_(new)

    def _go_on(self) -> None:
        """Observe where no episode ended."""
        _write(self._future, self._ahead(self.clip_ids, self.times))
        self.result.observation.copy_(self._observe(self.simulator.body, self._future.body))
        self.result.final_observation.copy_(self.result.observation)

    def _restart(self, done: Tensor, clip_ids: Tensor, start_times: Tensor) -> None:
        """Begin the episodes (clip, start) in rows ``done`` (N,); observe the new states of all rows and the old ones of these."""
        rows = looking.rows_where(done)
        left = self._leave(rows)
        self.simulator.set_state(done, self._assign(done, rows, clip_ids, start_times))
        if self.style is not None:
            self.style.begin(done, rows, self.simulator)
        self._look(done, rows, *left)

    def _leave(self, rows: Rows) -> Tuple[BodyState, BodyState]:
        """The bodies of ``rows`` as they are, and those of the references ahead of them."""
        return _map_body(self.simulator.body, lambda part: part[rows].clone()), self._ahead(self.clip_ids[rows], self.times[rows]).body

    def _assign(self, done: Tensor, rows: Rows, clip_ids: Tensor, start_times: Tensor) -> Pose:
        """Give ``done`` rows their episodes; returns where humanoids begin: on the reference, lifted out of the floor."""
        self.clip_ids.copy_(torch.where(done, clip_ids, self.clip_ids))
        self.start_times.copy_(torch.where(done, start_times, self.start_times))
        self.steps.masked_fill_(done, 0)
        self._set_times()
        _write(self.reference, self._reference_at(self.clip_ids[rows], self.times[rows]), rows)
        penetration = (-self.motions.clearance(self.clip_ids[rows], self.times[rows])).clamp_min(0.0)
        self.lift[rows] = torch.where(done[rows], penetration, self.lift[rows])
        return self._lifted_pose()

    def _look(self, done: Tensor, rows: Rows, left_body: BodyState, left_future: BodyState) -> None:
        """Observe all rows, and in ``done`` ones, which are among ``rows``, the bodies and references that they left."""
        _write(self._future, self._ahead(self.clip_ids, self.times))
        now = observation(self.simulator.body, self._future.body)
        left = observation(left_body, left_future).masked_fill(self.diverged[rows].unsqueeze(-1), 0.0)
        self.result.observation.copy_(now)
        self.result.final_observation.copy_(now)
        self.result.final_observation[rows] = torch.where(done[rows].unsqueeze(-1), left, now[rows])

    def _ahead(self, clip_ids: Tensor, times: Tensor) -> Reference:
        """The K references (M, K, …) that are observed at ``times`` (M,) s of clips (M,), in one look-up."""
        times = times.unsqueeze(-1) + self._frame_times
        found = self._reference_at(clip_ids.unsqueeze(-1).expand_as(times).flatten(), times.flatten())
        return _map(found, lambda part: part.unflatten(0, times.shape))

    def _lifted_pose(self) -> Pose:
        pose = self.reference.pose()
        root_pos = torch.cat((pose.root_pos[:, :2], pose.root_pos[:, 2:] + self.lift.unsqueeze(-1)), dim=-1)
        return Pose(root_pos, *pose[1:])


def _empty_reference(*rows: int, device: torch.device) -> Reference:
    body = BodyState(*(torch.zeros(*rows, NUM_BODIES, width, device=device) for width in (3, 4, 3, 3)))
    return Reference(body, *(torch.zeros(*rows, width, device=device) for width in (NUM_DOFS, NUM_DOFS, 6, NUM_DOFS)))


def _map_body(body: BodyState, function: Callable[[Tensor], Tensor]) -> BodyState:
    return BodyState(*(function(part) for part in body))


def _map(reference: Reference, function: Callable[[Tensor], Tensor]) -> Reference:
    return Reference(_map_body(reference.body, function), *(function(part) for part in reference[1:]))


def _write(target: Reference, source: Reference, rows: Rows = slice(None)) -> None:
    """Copy ``source`` into ``rows`` of the tensors of ``target``."""
    for old, new in zip((*target.body, *target[1:]), (*source.body, *source[1:])):
        old[rows] = new

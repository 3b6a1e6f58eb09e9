"""What a discriminator of motion sees of each control step, and what it is told real motion looks like.

Shape letters: N environments, F numbers that are seen of a control step, K control steps that are judged together, S = K · F, M rows. An
observer is given to the environment, which shows it every state before rows are reset, and every new beginning. Two kinds:

- AMP (Peng et al. 2021, arXiv 2104.02180): the last K steps of the body in its own heading frame, against windows of the reference motions.
- ADD (Zhang et al. 2025, arXiv 2505.04961): the difference between the body and its own reference, against no difference at all.
"""

from typing import Dict, Protocol

import torch
from torch import Tensor

from puffer_phc.env.fused import Fused
from puffer_phc.env.observations import AMP_SIZE, DIFFERENCE_SIZE, amp_observation, tracking_difference
from puffer_phc.humanoid.skeleton import KEY_BODIES, body_ids
from puffer_phc.looking import Rows
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.sim.simulator import Simulator
from puffer_phc.state import Pose, Reference

NOT_A_MOTION = 10.0
"""What is seen of a diverged row, in every column: as far from real motion as normalisers let numbers be."""


class StyleObserver(Protocol):
    """Watches the rows of an environment. Tensors are allocated once and rewritten in place; nothing waits for a GPU."""

    observation: Tensor
    """(N, F) of the state that the last action led to, before resets."""
    is_difference: bool
    """Whether zeros are the best that can be seen."""

    def begin(self, done: Tensor, rows: Rows, simulator: Simulator) -> None:
        """Episodes have begun in rows ``done`` (N,), all among ``rows``."""
        ...

    def observe(self, simulator: Simulator, reference: Reference, diverged: Tensor) -> None:
        """See the state after a control step; ``reference`` is of the same instant, rows ``diverged`` (N,) hold no state."""
        ...

    def demonstrations(self, count: int, generator: torch.Generator) -> Tensor:
        """Real motion (M, S), newest step first; M is ``count`` where there is more than one."""
        ...

    def compile(self, for_all_rows: bool) -> None:
        """Fuse the pure parts with ``torch.compile``; ``for_all_rows``: also what is asked of rows that end, which is then asked of all."""
        ...

    def snapshot(self) -> Dict[str, Tensor]:
        """What ``restore`` needs to go on exactly."""
        ...

    def restore(self, snapshot: Dict[str, Tensor]) -> None:
        """Go back to a ``snapshot``."""
        ...


class AmpObserver:
    """One control step of every row, F = 196, of which K are judged together.

    What was before an episode is the reference before its start, its first frame repeated where that is before the clip's; demonstrations
    near a clip's beginning have the same. They end at frames drawn uniformly from all clips, whoever is on the device.
    """

    is_difference = False

    def __init__(self, motions: MotionLibrary, num_envs: int, control_dt: float, num_steps: int) -> None:
        device = motions.device
        self.num_steps, self.control_dt = num_steps, control_dt
        self._motions, self._look_up = motions, motions.look_up_every(control_dt)
        self._ages = control_dt * torch.arange(num_steps, device=device)
        self._key_ids = torch.tensor(body_ids(KEY_BODIES), device=device)
        self.observation = torch.zeros(num_envs, AMP_SIZE, device=device)
        self.present = torch.zeros(num_envs, AMP_SIZE, device=device)
        """(N, F) of the state to act on next: in rows whose episode ended, the first of the new one."""
        self._features, self._features_of_reference = amp_observation, amp_observation

    def begin(self, done: Tensor, rows: Rows, simulator: Simulator) -> None:
        """See the states that ``done`` rows were put in."""
        self.present[rows] = torch.where(done[rows].unsqueeze(-1), self._seen(simulator)[rows], self.present[rows])

    def observe(self, simulator: Simulator, reference: Reference, diverged: Tensor) -> None:
        """See the present state."""
        self.observation.copy_(self._seen(simulator).masked_fill(diverged.unsqueeze(-1), NOT_A_MOTION))
        self.present.copy_(self.observation)

    def reference(self, clip_ids: Tensor, times: Tensor) -> Tensor:
        """(M, F) of the references of ``clip_ids`` (M,) at ``times`` (M,) s, placed as humanoids are placed; the first before the first."""
        reference = self._look_up(clip_ids, times.clamp_min(0.0))
        return self._features_of_reference(reference.pose(), reference.body.pos[:, self._key_ids])

    @torch.no_grad()
    def demonstrations(self, count: int, generator: torch.Generator) -> Tensor:
        """Windows (M, S) of the reference motions, drawn independently of what the environment does."""
        clip_ids, frames = self._motions.residents.random_frames(count, generator)
        instants = (frames / self._motions.fps).unsqueeze(1) - self._ages
        seen = self.reference(clip_ids.unsqueeze(1).expand_as(instants).flatten(), instants.flatten())
        return seen.unflatten(0, instants.shape).flatten(1)

    def compile(self, for_all_rows: bool) -> None:
        """Fuse the pure parts with ``torch.compile``; what looks at references only if their number does not vary."""
        self._features = Fused(amp_observation)
        if for_all_rows:
            self._features_of_reference = self._features

    def snapshot(self) -> Dict[str, Tensor]:
        """What is seen of the present states."""
        return {"present": self.present.clone()}

    def restore(self, snapshot: Dict[str, Tensor]) -> None:
        """Go back to a ``snapshot``."""
        self.present.copy_(snapshot["present"])

    def _seen(self, simulator: Simulator) -> Tensor:
        """(N, 196) of the simulated state."""
        body, dof = simulator.body, simulator.dof
        pose = Pose(body.pos[:, 0], body.quat[:, 0], body.lin_vel[:, 0], body.ang_vel[:, 0], dof.pos, dof.vel)
        return self._features(pose, body.pos[:, self._key_ids])


class DifferenceObserver:
    """How far every row is from its reference, K = 1, F = 288: what ADD's discriminator weighs instead of hand-set reward weights."""

    is_difference = True

    def __init__(self, num_envs: int, device: torch.device) -> None:
        self.observation = torch.zeros(num_envs, DIFFERENCE_SIZE, device=device)
        self._difference = tracking_difference

    def begin(self, done: Tensor, rows: Rows, simulator: Simulator) -> None:
        """Nothing is remembered of what was before."""

    def observe(self, simulator: Simulator, reference: Reference, diverged: Tensor) -> None:
        """See the difference of the present state."""
        difference = self._difference(simulator.body, reference.body)
        self.observation.copy_(difference.masked_fill(diverged.unsqueeze(-1), NOT_A_MOTION))

    def demonstrations(self, count: int, generator: torch.Generator) -> Tensor:
        """No difference at all (1, S): the one demonstration that there is."""
        return torch.zeros_like(self.observation[:1])

    def compile(self, for_all_rows: bool) -> None:
        """Fuse the pure parts with ``torch.compile``."""
        self._difference = Fused(tracking_difference)

    def snapshot(self) -> Dict[str, Tensor]:
        """Empty."""
        return {}

    def restore(self, snapshot: Dict[str, Tensor]) -> None:
        """Nothing to take over."""

"""What a discriminator sees of a rollout: every step kept once, put together into windows where they are asked for.

Shape letters as in ``env.style``: F numbers of a control step, K steps that are judged together, S = K · F; M rows.
"""

from typing import Optional

import torch
from torch import Tensor

from puffer_phc import looking
from puffer_phc.env.imitation import Episodes
from puffer_phc.env.style import NOT_A_MOTION, AmpObserver, StyleObserver
from puffer_phc.threads import one_thread_on


class SeenSteps:
    """What ``observer`` showed of the states that the actions of a rollout led to; each is judged by itself, S = F."""

    def __init__(self, observer: StyleObserver, num_steps: int) -> None:
        self.observer = observer
        self.steps = observer.observation.new_zeros(num_steps, *observer.observation.shape)
        """(T, N, F), allocated once."""
        self.carried = self.steps[:0]
        """(·, N, F) what the windows of the next rollout need of this one."""

    @property
    def size(self) -> int:
        """S."""
        return self.steps.shape[-1]

    def before(self, t: int, episodes: Episodes) -> None:
        """Step ``t`` of ``episodes`` is about to be made. Of what was before it nothing is needed."""

    def after(self, t: int) -> None:
        """Step ``t`` was made."""
        self.steps[t].copy_(self.observer.observation)

    def windows(self, rows: Tensor) -> Tensor:
        """(M, S) what is seen of ``rows`` (M,) of the T · N in time order."""
        return self.steps.flatten(0, 1)[rows]


class SeenWindows(SeenSteps):
    """The last K steps of each row, newest first, of states that are kept once.

    A window is the state that the action led to, the one that it began in, and those before. What was before the episode is looked up in
    the library, where the clip has to be still: no window may be asked for after other clips came onto the device.
    """

    observer: AmpObserver

    def __init__(self, observer: AmpObserver, num_steps: int) -> None:
        super().__init__(observer, num_steps)
        self._ages = torch.arange(observer.num_steps - 1, device=self.steps.device)
        self._num_carried = max(observer.num_steps - 2, 0)
        self._states = self.steps.new_zeros(self._num_carried + num_steps, *observer.present.shape)
        self._clips, self._episode_steps = (torch.zeros_like(self.steps[..., 0], dtype=torch.int64) for _ in range(2))
        self._starts = torch.zeros_like(self.steps[..., 0])
        self.carried = self._states[num_steps:]

    @property
    def size(self) -> int:
        """S."""
        return self.observer.num_steps * self.steps.shape[-1]

    def before(self, t: int, episodes: Episodes) -> None:
        """Step ``t`` is about to be made: keep the state that it begins in, and which of ``episodes`` that is of."""
        if t == 0:
            self._states[: self._num_carried] = self.carried.clone()
        self._states[self._num_carried + t].copy_(self.observer.present)
        self._clips[t].copy_(episodes.clip_ids)
        self._starts[t].copy_(episodes.start_times)
        self._episode_steps[t].copy_(episodes.steps)

    @torch.no_grad()
    def windows(self, rows: Tensor) -> Tensor:
        """(M, S) what is seen of ``rows`` (M,) of the T · N in time order. Torch compiles anew for calls under autocast."""
        with one_thread_on(rows.device):
            num_envs = self.steps.shape[1]
            at = rows // num_envs, rows % num_envs
            newest = self.steps[at]
            window = torch.cat((newest.unsqueeze(1), self._earlier(*at)), dim=1)
            is_lost = (newest == NOT_A_MOTION).all(dim=-1)
            return window.masked_fill_(is_lost[:, None, None], NOT_A_MOTION).flatten(1)

    def _earlier(self, t: Tensor, envs: Tensor) -> Tensor:
        """(M, K - 1, F) the state that each of the steps ``t`` (M,) of ``envs`` (M,) began in, and those before."""
        seen = self._states[self._num_carried + t.unsqueeze(1) - self._ages, envs.unsqueeze(1)].flatten(0, 1)
        before_start = self._ages - self._episode_steps[t, envs].unsqueeze(1)
        times = self._starts[t, envs].unsqueeze(1) - before_start * self.observer.control_dt
        clip_ids = self._clips[t, envs].unsqueeze(1).expand_as(before_start).flatten()
        is_past = before_start.flatten() > 0
        rows = looking.rows_where(is_past)
        past = self.observer.reference(clip_ids[rows], times.flatten()[rows])
        seen[rows] = torch.where(is_past[rows].unsqueeze(-1), past, seen[rows])
        return seen.unflatten(0, before_start.shape)


def make_seen(observer: Optional[StyleObserver], num_steps: int) -> Optional[SeenSteps]:
    """The place for what ``observer`` shows in a rollout of T = ``num_steps``, where somebody observes."""
    if observer is None:
        return None
    return SeenWindows(observer, num_steps) if isinstance(observer, AmpObserver) else SeenSteps(observer, num_steps)

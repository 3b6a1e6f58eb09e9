"""Which clips a playing session shows: the sampler that a person steers."""

import difflib
from typing import List, NamedTuple, Optional, Sequence

import torch
from torch import Tensor

from puffer_phc.errors import ConfigError
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.sampler import FixedSampler


class Episode(NamedTuple):
    """One that ended."""

    clip: str
    time: float
    """s in the clip."""
    is_lost: bool


class Playlist(FixedSampler):
    """Which clip each row plays: all clips in turn, or one for all.

    In turn, row i begins with clip i and goes on to the next when its clip is over or lost. With one clip, rows begin spread over it, so
    that they differ, and start over at its beginning. A limited library is made to hold what is played; ConfigError where it can't.
    """

    def __init__(self, motions: MotionLibrary, num_envs: int, clip: Optional[str], seed: int) -> None:
        self._motions, self._num_envs = motions, num_envs
        self._generator = torch.Generator().manual_seed(seed)
        super().__init__(torch.zeros(num_envs, dtype=torch.int64), torch.zeros(num_envs))
        self.counts = {"finished": 0, "lost": 0}
        self.ended: List[Episode] = []
        """Of the last control step."""
        self.choose(clip)

    def choose(self, clip: Optional[str]) -> None:
        """One clip for all rows, by name, or all clips in turn. Raises ConfigError for a name that no clip has."""
        if clip is not None and clip not in self._motions.names:
            nearest = difflib.get_close_matches(clip, self._motions.names, n=1)
            hint = f"did you mean '{nearest[0]}'?" if nearest else f"there are {_some(self._motions.names)}"
            raise ConfigError(f"no clip is called '{clip}'; {hint}")
        self.clip = clip
        rows = torch.arange(self._num_envs)
        self._set(rows % self._motions.num_clips if clip is None else torch.full_like(rows, self._motions.names.index(clip)))

    def shift(self, by: int) -> None:
        """Every row goes ``by`` clips on."""
        if self.clip is not None:
            self.clip = self._motions.names[(self._motions.names.index(self.clip) + by) % self._motions.num_clips]
        self._set((self.clip_ids.cpu() + by) % self._motions.num_clips)

    def shuffle(self) -> None:
        """Every row gets a clip at random; from there on, clips come in turn."""
        self.clip = None
        self._set(torch.randint(self._motions.num_clips, (self._num_envs,), generator=self._generator))

    def restart(self) -> None:
        """The same clips again from their beginnings, or spread as at first."""
        self._set(self.clip_ids.cpu())

    def _set(self, clip_ids: Tensor) -> None:
        self._have(clip_ids)
        self.clip_ids = clip_ids.to(self._motions.device)
        self.start_times = torch.zeros(self._num_envs, device=self._motions.device)
        if self.clip is not None:
            frames = self._motions.num_frames[self.clip_ids].float()
            rows = torch.arange(self._num_envs, device=self._motions.device)
            self.start_times = (frames * rows / self._num_envs).floor().clamp_max(frames - 2) / self._motions.fps

    def record(self, done: Tensor, failed: Tensor, clip_ids: Tensor, times: Tensor) -> None:
        """Rows whose episode ended go on to the next clip, or back to the start of the only one."""
        rows = done.nonzero().squeeze(1).tolist()
        self.ended = [Episode(self._motions.names[int(clip_ids[row])], float(times[row]), bool(failed[row])) for row in rows]
        lost = sum(episode.is_lost for episode in self.ended)
        self.counts["lost"] += lost
        self.counts["finished"] += len(self.ended) - lost
        self.start_times = self.start_times.masked_fill(done, 0.0)
        if self.clip is None:
            left = self.clip_ids
            self.clip_ids = torch.where(done, (left + 1) % self._motions.num_clips, left)
            self._have(self.clip_ids)

    def _have(self, clip_ids: Tensor) -> None:
        """Have these clips on the device, and of the others those that follow the first of them."""
        motions, residents = self._motions, self._motions.residents
        if bool(residents.is_present[clip_ids.to(motions.device)].all()):
            return
        needed = clip_ids.unique().tolist()
        if len(residents.fitting(needed)) < len(needed):
            raise ConfigError(
                f"{len(needed)} clips do not fit into env.max_resident_frames {residents.capacity}; there is --play.num_envs, or 0 for all"
            )
        following = ((needed[0] + index) % motions.num_clips for index in range(motions.num_clips))
        motions.hold(residents.fitting([*needed, *(clip for clip in following if clip not in needed)]))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"

"""Which clip an episode imitates and where in it the episode begins.

Draws cover all N rows of a process at every call, whether a row needs one or not: shapes never change and nothing waits for the
device. Start times fall on frames and never in the last two of a clip.
"""

from typing import Any, Dict, List, Optional, Protocol, Tuple

import torch
from torch import Tensor

from puffer_phc.config import EnvConfig
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.residents import choose_residents
from puffer_phc.randomness import EnvRandom

BIN_FRAMES = 30
"""Frames of one time bin of the adaptive sampler: one second."""

LOOK_AHEAD = (1.0, 0.8, 0.64)
"""Share of the failures in a bin, one later and two later that count for a start in the bin: what goes wrong is prepared before."""

FORGETTING = 0.9
"""Share of the counts of earlier iterations that is kept at each update."""

PRIOR_SECONDS = 10.0
"""Time without failure that every bin is taken to have seen, so that one bad draw in a new bin does not attract all."""


class Sampler(Protocol):
    """Says where episodes begin, and hears how they end: what an environment needs."""

    @property
    def generators(self) -> List[torch.Generator]:
        """What ``draw`` draws from."""
        ...

    def draw(self) -> Tuple[Tensor, Tensor]:
        """Clips (N,) int64 and start times (N,) float32 s, fresh for every row."""
        ...

    def record(self, done: Tensor, failed: Tensor, clip_ids: Tensor, times: Tensor) -> None:
        """Note one control step of all rows: which episodes ended (N,), which of them by failure (N,), where in which clip they are."""
        ...


def make_sampler(config: EnvConfig, motions: MotionLibrary, random: EnvRandom, hard_clips: Optional[Tensor] = None) -> "TrainingSampler":
    """The sampler that ``config`` asks for; clips ``hard_clips`` (C,) bool get the share ``config.hard_share`` of draws to themselves."""
    starts = config.state_init == "start"
    sampler: TrainingSampler = UniformSampler(motions, random, starts)
    if config.sampler == "adaptive":
        sampler = AdaptiveSampler(motions, random, config.sampler_floor, starts)
    elif config.sampler != "uniform":
        sampler = PmcpSampler(motions, random, config.sampler_floor, config.sampler == "pmcp_hard", starts)
    if hard_clips is not None:
        sampler.emphasise(hard_clips, config.hard_share)
    return sampler


class FixedSampler:
    """Always the same assignment: clips ``clip_ids`` (N,) int64 from ``start_times`` (N,) s. For evaluation and playing."""

    def __init__(self, clip_ids: Tensor, start_times: Tensor) -> None:
        self.clip_ids = clip_ids
        self.start_times = start_times
        self.generators: List[torch.Generator] = []

    def draw(self) -> Tuple[Tensor, Tensor]:
        """The assignment."""
        return self.clip_ids, self.start_times

    def record(self, done: Tensor, failed: Tensor, clip_ids: Tensor, times: Tensor) -> None:
        """However episodes end, the assignment stays."""


class TrainingSampler:
    """The base of all samplers of training, which weight time bins by what they note; this one notes nothing, and weights them by length.

    The start frames of each clip are divided into bins of ``BIN_FRAMES``. A draw chooses a bin by the probabilities ``probabilities``
    (bins,) and then a frame in it. With ``from_start`` episodes begin at time 0 of the clip that was drawn.

    ``probabilities`` and all that is learned are of all clips. Where only some of them lie on the device, draws are of those, each the
    more likely the less likely it was to be there, so that over many changes every clip is drawn as often as ``probabilities`` says.
    """

    def __init__(self, motions: MotionLibrary, random: EnvRandom, from_start: bool = False) -> None:
        self._motions, self._random = motions, random
        self._from_start = from_start
        self._fps = motions.fps
        starts = (motions.num_frames - 2).clamp_min(1)
        bins = (starts + BIN_FRAMES - 1) // BIN_FRAMES
        self._last_bin = bins.cumsum(0) - 1
        self._first_bin = self._last_bin - bins + 1
        self._bin_clip = torch.repeat_interleave(torch.arange(motions.num_clips, device=motions.device), bins)
        index = torch.arange(len(self._bin_clip), device=motions.device) - self._first_bin[self._bin_clip]
        self._bin_start = index * BIN_FRAMES
        self._bin_length = (starts[self._bin_clip] - self._bin_start).clamp_max(BIN_FRAMES)
        self._uniform = self._bin_length.double() / starts.sum()
        self._cumulative = torch.empty_like(self._uniform)
        self.probabilities = torch.empty_like(self._uniform)
        self._emphasis: Optional[Tuple[Tensor, float]] = None
        self._set_probabilities(self._uniform)
        self.shared_counts: List[Tensor] = []
        """Counts since the last ``update``, to be summed over processes in place before it."""

    @property
    def generators(self) -> List[torch.Generator]:
        """What ``draw`` draws from."""
        return [self._random.generator]

    def draw(self) -> Tuple[Tensor, Tensor]:
        """Clips (N,) int64 and start times (N,) float32 s, fresh for every row."""
        uniform = self._random.uniform(2)
        sought = uniform[:, 0].double() * self._cumulative[-1]
        chosen = torch.searchsorted(self._cumulative, sought, right=True).clamp_max(len(self._cumulative) - 1)
        length = self._bin_length[chosen]
        offset = torch.minimum((uniform[:, 1] * length).long(), length - 1)
        times = (self._bin_start[chosen] + offset).float() / self._fps
        return self._bin_clip[chosen], torch.zeros_like(times) if self._from_start else times

    def record(self, done: Tensor, failed: Tensor, clip_ids: Tensor, times: Tensor) -> None:
        """Note one control step, as ``Sampler`` says. Here, as in the next two, there is nothing to learn."""

    def record_evaluation(self, failed_clips: Tensor) -> None:
        """Note which clips (C,) bool failed an evaluation over all clips."""

    def update(self) -> None:
        """Turn what was noted into new draws; once per training iteration."""

    def change_residents(self) -> None:
        """Choose anew which clips of a limited library lie on the device, by how often they are to be drawn; the same in every process."""
        residents = self._motions.residents
        if residents.is_whole:
            return
        uniform = self._random.shared(self._motions.num_clips)
        chosen = choose_residents(self.clip_probabilities(), self._motions.num_frames + 1, residents.capacity, uniform)
        self._motions.hold(chosen.clip_ids.tolist(), chosen.weights)
        self._prepare_draws()

    def state_dict(self) -> Dict[str, Any]:
        """What ``load_state_dict`` needs to go on exactly, the state of the random generator included."""
        return {"random": self._random.generator.get_state(), **{name: tensor.clone() for name, tensor in self._state().items()}}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Go on from a ``state_dict`` of the same kind of sampler over the same clips; raises ValueError for any other."""
        own = self._state()
        if any(name not in state or state[name].shape != tensor.shape for name, tensor in own.items()):
            raise ValueError("the sampler's state is of another kind of sampler or of other clips")
        self._random.generator.set_state(state["random"])
        if own.pop("residency", None) is not None:
            weights = state["residency"]
            self._motions.hold(weights.nonzero().squeeze(1).tolist(), weights)
        for name, tensor in own.items():
            tensor.copy_(state[name])
        self._prepare_draws()

    def emphasise(self, clips: Tensor, share: float) -> None:
        """From now on, give the share ``share`` of draws to the clips ``clips`` (C,) bool, some of which must be true, alone.

        Among them, and among all clips in the rest of the draws, the sampler's own preferences hold.
        """
        self._emphasis = clips.to(self._uniform.device)[self._bin_clip], share
        self._set_probabilities(self._emphasised(self.probabilities))

    def clip_probabilities(self) -> Tensor:
        """(C,) probability of each clip, for reports."""
        total = torch.zeros(len(self._first_bin), dtype=torch.float64, device=self.probabilities.device)
        return total.scatter_add_(0, self._bin_clip, self.probabilities)

    def _state(self) -> Dict[str, Tensor]:
        """The tensors that make up the state, by name."""
        residents = self._motions.residents
        return {"probabilities": self.probabilities, **({} if residents.is_whole else {"residency": residents.weights})}

    def _set_probabilities(self, weights: Tensor) -> None:
        """Draw bins in proportion to ``weights`` (bins,), in place, so that captured graphs see the change."""
        self.probabilities.copy_(weights / weights.sum())
        self._prepare_draws()

    def _prepare_draws(self) -> None:
        weights = self.probabilities * self._motions.residents.weights[self._bin_clip]
        if torch.are_deterministic_algorithms_enabled():
            weights = weights.cpu()  # on a GPU the order of these additions is not fixed
        self._cumulative.copy_(torch.cumsum(weights, 0))

    def _mix(self, weights: Tensor, floor: float) -> None:
        """Draw by ``weights`` (bins,) but for the share ``floor``, which stays uniform; all uniform while no weight is positive."""
        total = weights.sum()
        weighted = torch.where(total > 0, weights / total.clamp_min(1e-30), self._uniform)
        self._set_probabilities(self._emphasised((1.0 - floor) * weighted + floor * self._uniform))

    def _emphasised(self, probabilities: Tensor) -> Tensor:
        """Probabilities (bins,) with the share of the emphasised clips added; uniform among these where none of them had any."""
        if self._emphasis is None:
            return probabilities
        is_hard, share = self._emphasis
        own = torch.where(is_hard, probabilities, 0.0)
        own = torch.where(own.sum() > 0, own, torch.where(is_hard, self._uniform, 0.0))
        return share * own / own.sum() + (1.0 - share) * probabilities


class UniformSampler(TrainingSampler):
    """Every start frame of every clip is equally likely, always."""


class AdaptiveSampler(TrainingSampler):
    """Starts more often where the policy fails: in proportion to failures per second in each second of each clip.

    Rates instead of counts: a place that is drawn more often also fails more often, and by counts the worst place would attract all
    draws. A failure counts for its bin and, less, for the ones before it (BeyondMimic, arXiv 2508.08241, section III-D). Counts of
    earlier iterations fade. The share ``floor`` of draws stays uniform.
    """

    def __init__(self, motions: MotionLibrary, random: EnvRandom, floor: float, from_start: bool = False) -> None:
        super().__init__(motions, random, from_start)
        self._floor = floor
        num_bins = len(self._bin_clip)
        self._failures, self._visits = torch.zeros(2, num_bins, device=motions.device).unbind(0)
        self._new_failures, self._new_visits = torch.zeros(2, num_bins, device=motions.device).unbind(0)
        self.shared_counts = [self._new_failures, self._new_visits]

    def record(self, done: Tensor, failed: Tensor, clip_ids: Tensor, times: Tensor) -> None:
        """Count a visit of every row's bin and the failures among them."""
        frames = (times * self._fps).round().long().clamp_min(0)
        bins = torch.minimum(self._first_bin[clip_ids] + frames // BIN_FRAMES, self._last_bin[clip_ids])
        self._new_visits.scatter_add_(0, bins, torch.ones_like(times))
        self._new_failures.scatter_add_(0, bins, (done & failed).to(times.dtype))

    def update(self) -> None:
        """Fold the new counts into the fading ones and draw by the failure rates. Nothing fades of clips that can't be drawn."""
        share_kept = torch.where(self._motions.residents.is_present, FORGETTING, 1.0)[self._bin_clip]
        for kept, new in ((self._failures, self._new_failures), (self._visits, self._new_visits)):
            kept.mul_(share_kept).add_(new)
            new.zero_()
        self._mix(self._look_ahead(self.failure_rates()) * self._bin_length, self._floor)

    def failure_rates(self) -> Tensor:
        """(bins,) failures per second."""
        return self._failures.double() / (self._visits.double() / self._fps + PRIOR_SECONDS)

    def _look_ahead(self, rates: Tensor) -> Tensor:
        """Rates (bins,) of each bin and, with falling weight, of those that follow it in the same clip."""
        bins = torch.arange(len(rates), device=rates.device)
        total = torch.zeros_like(rates)
        for shift, weight in enumerate(LOOK_AHEAD):
            later = bins + shift
            same_clip = later <= self._last_bin[self._bin_clip]
            total = total + torch.where(same_clip, weight * rates[later.clamp_max(len(rates) - 1)], torch.zeros_like(rates))
        return total

    def _state(self) -> Dict[str, Tensor]:
        return {
            **super()._state(),
            "failures": self._failures,
            "visits": self._visits,
            "new_failures": self._new_failures,
            "new_visits": self._new_visits,
        }


class PmcpSampler(TrainingSampler):
    """Clips by how they fared in evaluations, as PHC's progressive mining of hard clips, but with a uniform share ``floor``.

    Soft: in proportion to how many evaluations a clip has failed so far. Hard (``is_hard``): equally among the clips that failed the
    last one. Within a clip every start frame is equally likely. Uniform until a clip fails.
    """

    def __init__(self, motions: MotionLibrary, random: EnvRandom, floor: float, is_hard: bool, from_start: bool = False) -> None:
        super().__init__(motions, random, from_start)
        self._floor = floor
        self._is_hard = is_hard
        self._history = torch.zeros(motions.num_clips, dtype=torch.float64, device=motions.device)
        starts = torch.zeros_like(self._history).scatter_add_(0, self._bin_clip, self._bin_length.double())
        self._share_of_clip = self._bin_length / starts[self._bin_clip]

    def record_evaluation(self, failed_clips: Tensor) -> None:
        """Note which clips (C,) bool failed an evaluation over all clips, and draw by it."""
        failed = failed_clips.to(self._history)
        self._history.copy_(failed if self._is_hard else self._history + failed)
        weights = torch.where(failed.any(), self._history, torch.zeros_like(self._history))
        self._mix(weights[self._bin_clip] * self._share_of_clip, self._floor)

    def _state(self) -> Dict[str, Tensor]:
        return {**super()._state(), "history": self._history}

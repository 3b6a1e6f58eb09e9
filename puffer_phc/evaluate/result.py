"""What an evaluation found out about each clip, and the figures that follow from it."""

from dataclasses import dataclass
from typing import Dict, Sequence, Tuple

import torch
from torch import Tensor

ERROR_NAMES = ("mpjpe_g_mm", "mpjpe_l_mm", "mpjpe_pa_mm", "vel_mm", "accel_mm")
"""Columns of per-clip errors: global, root-centred and Procrustes-aligned position, mm; velocity, mm/frame; acceleration, mm/frame²."""

_FIRST_FRAME = (1, 1, 1, 2, 3)
"""The first frame, counted from 1, that has a value in each column: differences need one or two frames before."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """What an evaluation found out, per clip, on the CPU; C clips in ascending order of ``clip_ids``.

    Sums and counts are kept, so that ``merge`` of the results of several processes equals the result of one.
    """

    control_dt: float
    """Seconds of one frame."""
    clip_ids: Tensor
    """(C,) int64 indices in the motion library."""
    names: Tuple[str, ...]
    """C clip names."""
    frames: Tensor
    """(C,) int64 frames to play: those of the clip after its first."""
    played_frames: Tensor
    """(C,) int64 frames before the relaxed failure, at which counting ends; all frames if there was none."""
    strict_frames: Tensor
    """(C,) int64 frames before the strict failure; all frames if there was none."""
    error_sums: Tensor
    """(C, 5) float64 sums of ``ERROR_NAMES`` over played frames."""

    @property
    def relaxed_success(self) -> Tensor:
        """(C,) bool: the mean distance never exceeded 0.5 m."""
        return self.played_frames == self.frames

    @property
    def strict_success(self) -> Tensor:
        """(C,) bool: no body was ever farther than 0.25 m."""
        return self.strict_frames == self.frames

    @property
    def strict_seconds(self) -> Tensor:
        """(C,) float64 s from the first frame to the last one before the strict failure."""
        return self.strict_frames.double() * self.control_dt

    @property
    def strict_failure_times(self) -> Tensor:
        """(C,) float64 s in the clip at which a body is first farther than 0.25 m; infinite where none ever is."""
        return self._times_after(self.strict_frames)

    @property
    def relaxed_failure_times(self) -> Tensor:
        """(C,) float64 s in the clip at which the mean distance is first over 0.5 m; infinite where it never is."""
        return self._times_after(self.played_frames)

    def _times_after(self, frames: Tensor) -> Tensor:
        """(C,) s of the frame after the first ``frames`` (C,); infinite where the clip has none."""
        return torch.where(frames < self.frames, (frames + 1).double() * self.control_dt, torch.inf)

    @property
    def strict_survival(self) -> Tensor:
        """(C,) float64 share of the frames before the strict failure."""
        return self.strict_frames.double() / self.frames

    @property
    def error_counts(self) -> Tensor:
        """(C, 5) float64 number of values in each of ``error_sums``."""
        return torch.stack([(self.played_frames - first + 1).clamp_min(0) for first in _FIRST_FRAME], dim=-1).double()

    @property
    def errors(self) -> Tensor:
        """(C, 5) float64 means of ``ERROR_NAMES`` over played frames, NaN where a clip failed before it had a value."""
        return self.error_sums / self.error_counts

    def summary(self) -> Dict[str, float]:
        """Figures of all clips together, lengths in mm, under the names of the original.

        Millimetre figures are means over frames, so that long clips count more. Those of ``eval/mpjpe_all`` and ``eval/mpjpel_all``
        are over the played frames of all clips, the others over relaxed successes, and NaN if there were none. ``eval/survival_strict``
        is the mean over clips of the share before the strict failure.
        """
        everyone = self._means(torch.ones_like(self.relaxed_success))
        succeeded = self._means(self.relaxed_success)
        relaxed = self.relaxed_success.double().mean().item()
        return {
            "eval/success_rate": relaxed,
            "eval/success_rate_relaxed": relaxed,
            "eval/success_rate_strict": self.strict_success.double().mean().item(),
            "eval/survival_strict": self.strict_survival.mean().item(),
            "eval/mpjpe_all": everyone["mpjpe_g_mm"],
            "eval/mpjpe_succ": succeeded["mpjpe_g_mm"],
            "eval/accel_dist": succeeded["accel_mm"],
            "eval/vel_dist": succeeded["vel_mm"],
            "eval/mpjpel_succ": succeeded["mpjpe_l_mm"],
            "eval/mpjpe_pa": succeeded["mpjpe_pa_mm"],
            "eval/mpjpel_all": everyone["mpjpe_l_mm"],
        }

    def _means(self, chosen: Tensor) -> Dict[str, float]:
        means = self.error_sums[chosen].sum(0) / self.error_counts[chosen].sum(0)
        return dict(zip(ERROR_NAMES, means.tolist()))


def merge(results: Sequence[EvaluationResult]) -> EvaluationResult:
    """One result from those of several processes, which must have evaluated different clips of the same library."""
    clip_ids, order = torch.cat([result.clip_ids for result in results]).sort()
    if len(clip_ids.unique()) < len(clip_ids) or len({result.control_dt for result in results}) > 1:
        raise ValueError("results to merge must be of different clips at the same control rate")
    names = [name for result in results for name in result.names]
    return EvaluationResult(
        results[0].control_dt,
        clip_ids,
        tuple(names[index] for index in order.tolist()),
        *(
            torch.cat([getattr(result, column) for result in results])[order]
            for column in ("frames", "played_frames", "strict_frames", "error_sums")
        ),
    )


def no_clips(control_dt: float) -> EvaluationResult:
    """The result of playing nothing in steps of ``control_dt`` s, to ``merge`` others with."""
    none = torch.zeros(0, dtype=torch.int64)
    return EvaluationResult(control_dt, none, (), none, none, none, torch.zeros(0, len(ERROR_NAMES), dtype=torch.float64))

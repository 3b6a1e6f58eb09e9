"""All motions on the device, or as many as fit: kinematics and velocities computed once, looked up at any time of any clip."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import ConfigError, MotionFileError
from puffer_phc.humanoid.kinematics import local_rotations
from puffer_phc.motion.file import Clip
from puffer_phc.motion.frame_rate import FPS, resample
from puffer_phc.motion.frame_rows import ROW_SIZE, read_rows, write_rows
from puffer_phc.motion.residents import Residents
from puffer_phc.state import BodyState, Reference

_FRAME_SNAP = 4e-3
"""Frames. Nearer than this to a frame is on it: float32 times are no more exact after nine minutes, and 0.13 ms is nothing before."""

_CHUNK_FRAMES = 1 << 13
"""Frames whose kinematics are computed at a time: the temporaries stay in the cache of a CPU."""

_GPU_CHUNKS = 8
"""Times as many frames at a time keep a GPU busier than its launches take."""


class MotionLibrary:
    """Whole clips as flat tensors on one device.

    Everything known of a frame lies in one row of one tensor, so that a look-up reads contiguous memory. After the last frame of each
    clip follows one more row, the same pose at rest, for times beyond the end. With ``sets_floor`` each clip is shifted vertically so that
    its lowest points rest on the floor (``motion.floor``). Look-ups never wait for the device.

    With ``is_half`` rows are stored in half precision, positions relative to the root's, which stays whole: half the memory, positions
    within half a millimetre and rotations within a twentieth of a degree.

    With ``max_frames`` the tensors have that many rows, and clips that do not fit stay in the computer's memory as the file has them, a
    fifth of the size: ``hold`` says which ones lie on the device, at first none, and only those may be looked up. Clips keep their numbers,
    tensors their addresses. Which clips are there may change between any two look-ups, and a clip's rows are the same whenever it is.
    """

    fps = FPS

    def __init__(
        self, clips: Sequence[Clip], device: torch.device, sets_floor: bool = True, is_half: bool = False, max_frames: int = 0
    ) -> None:
        if not clips:
            raise MotionFileError("a motion library needs at least one clip")
        self.device = torch.device(device)
        clips = [resample(clip, FPS) for clip in clips]
        self.names: List[str] = [clip.name for clip in clips]
        self.num_clips = len(clips)
        self.num_frames = torch.tensor([clip.num_frames for clip in clips], device=self.device)
        """(C,) frames of each clip."""
        self.durations = (self.num_frames - 1) / FPS
        """(C,) s from the first frame to the last."""
        self.residents = Residents(self.num_frames, _capacity(clips, max_frames))
        """Which clips are on the device."""
        self._sets_floor, self._clips = sets_floor, clips
        capacity = self.residents.capacity
        self._rows = torch.empty(capacity, ROW_SIZE, device=self.device, dtype=torch.float16 if is_half else torch.float32)
        self._clearance = torch.empty(capacity, device=self.device)
        self._roots = torch.empty(capacity, 3, device=self.device) if is_half else None
        if self.residents.is_whole:
            self.residents.replace(range(self.num_clips))
            self._build(clips)
            self._clips = []

    @property
    def num_bytes(self) -> int:
        """Taken on the device."""
        parts = (self._rows, self._clearance, *(() if self._roots is None else (self._roots,)))
        return sum(part.numel() * part.element_size() for part in parts)

    def hold(self, clip_ids: Sequence[int], weights: Optional[Tensor] = None) -> None:
        """Have the clips ``clip_ids`` on the device, and in a limited library no others; ``weights`` (C,) are theirs, if not all 1.

        Raises ValueError where they do not fit together.
        """
        if not self.residents.is_whole and self.residents.replace(clip_ids, weights):
            self._build([self._clips[index] for index in self.residents.clip_ids])

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """A time in which others may ``hold`` what they need; afterwards the clips from before are there again."""
        before, weights = self.residents.clip_ids, self.residents.weights.clone()
        try:
            yield
        finally:
            self.hold(before, weights)

    def _build(self, clips: Sequence[Clip]) -> None:
        """Compute the first rows: on a CPU by threads with a chunk each, which wait for nobody; torch's own would wait for each other."""
        groups = _groups(clips, _CHUNK_FRAMES if self.device.type == "cpu" else _GPU_CHUNKS * _CHUNK_FRAMES)
        stops = np.cumsum([sum(clip.num_frames + 1 for clip in group) for group in groups]).tolist()
        jobs = [(group, slice(start, stop)) for group, start, stop in zip(groups, [0, *stops], stops)]
        if self.device.type != "cpu":
            for job in jobs:
                self._build_part(*job)
            return
        with ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for done in [pool.submit(self._build_part, *job) for job in jobs]:
                done.result()

    def _build_part(self, clips: Sequence[Clip], part: slice) -> None:
        """Compute the rows ``part``, those of ``clips``."""
        rows = self._rows[part] if self._roots is None else torch.empty_like(self._rows[part], dtype=torch.float32)
        write_rows(rows, self._clearance[part], clips, self._sets_floor)
        if self._roots is not None:
            pos = read_rows(rows).body.pos
            self._roots[part] = pos[:, 0]
            pos -= pos[:, :1].clone()
            self._rows[part] = rows

    def at(self, clip_ids: Tensor, times: Tensor) -> Reference:
        """The reference of clips ``clip_ids`` (N,) int64 at ``times`` (N,) s.

        Times are clamped to the clip, and velocities are zero beyond its end. Positions and velocities are interpolated linearly,
        rotations spherically; at the time of a frame the frame itself is returned.
        """
        row, next_row, fraction = self._locate(clip_ids, times)
        return _blend(self._frames(row), self._frames(next_row), fraction)

    def nearest(self, clip_ids: Tensor, times: Tensor) -> Reference:
        """As ``at``, but the frame nearest to each time: the same where times fall on frames, and several times faster."""
        frame = torch.minimum((times * FPS).round().clamp_min(0.0).long(), self.num_frames[clip_ids])
        return self._frames(self.residents.first_rows[clip_ids] + frame)

    def look_up_every(self, period: float) -> Callable[[Tensor, Tensor], Reference]:
        """The look-up for times a multiple of ``period`` s before or after a frame: ``nearest`` where these are frames, else ``at``."""
        frames = period * FPS
        return self.nearest if round(frames) >= 1 and abs(frames - round(frames)) < 1e-6 else self.at

    def clearance(self, clip_ids: Tensor, times: Tensor) -> Tensor:
        """Height (N,) in m of the lowest point of the collision shapes over the floor; negative inside it."""
        row, next_row, fraction = self._locate(clip_ids, times)
        return torch.lerp(self._clearance[row], self._clearance[next_row], fraction)

    def _frames(self, rows: Tensor) -> Reference:
        """The motion in ``rows`` (N,) int64."""
        if self._roots is None:
            return read_rows(self._rows[rows])
        stored = read_rows(self._rows[rows].float())
        pos = stored.body.pos + self._roots[rows][:, None]
        return stored._replace(body=stored.body._replace(pos=pos, quat=rotations.normalize(stored.body.quat)))

    def _locate(self, clip_ids: Tensor, times: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """The rows (N,) before and after ``times`` and the fraction (N,) of the way between them."""
        last = self.num_frames[clip_ids] - 1
        frame = (times * FPS).clamp_min(0.0)
        nearest = frame.round()
        frame = torch.where((frame - nearest).abs() < _FRAME_SNAP, nearest, frame)
        frame = torch.where(frame > last, (last + 1).to(frame.dtype), frame)
        below = frame.floor()
        fraction = frame - below
        row = self.residents.first_rows[clip_ids] + below.long()
        return row, row + (fraction > 0), fraction


def _capacity(clips: Sequence[Clip], max_frames: int) -> int:
    """Rows of a library of ``clips`` under the limit ``max_frames`` (0: none). Raises ConfigError for a clip that is over it by itself."""
    everything = sum(clip.num_frames + 1 for clip in clips)
    longest = max(clips, key=lambda clip: clip.num_frames)
    if 0 < max_frames < min(longest.num_frames + 1, everything):
        raise ConfigError(
            f"env.max_resident_frames is {max_frames}, but clip '{longest.name}' has {longest.num_frames} frames at {FPS:g} per second "
            f"and needs {longest.num_frames + 1}"
        )
    return min(max_frames, everything) if max_frames > 0 else everything


def _blend(before: Reference, after: Reference, fraction: Tensor) -> Reference:
    """The reference at ``fraction`` (N,) of the way between two frames; where that is 0, ``before`` exactly."""
    weight = fraction[:, None]
    on_frame = weight == 0
    quat = rotations.slerp(before.body.quat, after.body.quat, weight[..., None])
    dof_pos = rotations.to_rotation_vector(local_rotations(quat)[:, 1:]).flatten(1)
    body = BodyState(
        torch.lerp(before.body.pos, after.body.pos, weight[..., None]),
        torch.where(on_frame[..., None], before.body.quat, quat),
        torch.lerp(before.body.lin_vel, after.body.lin_vel, weight[..., None]),
        torch.lerp(before.body.ang_vel, after.body.ang_vel, weight[..., None]),
    )
    velocities_between = (torch.lerp(a, b, weight) for a, b in zip(before[2:], after[2:]))
    return Reference(body, torch.where(on_frame, before.dof_pos, dof_pos), *velocities_between)


def _groups(clips: Sequence[Clip], size: int) -> List[List[Clip]]:
    """Consecutive clips in groups of about ``size`` frames."""
    groups: List[List[Clip]] = []
    frames = 0
    for clip in clips:
        if not groups or frames + clip.num_frames > size:
            groups.append([])
            frames = 0
        groups[-1].append(clip)
        frames += clip.num_frames
    return groups

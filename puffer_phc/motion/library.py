"""All motions on the device, or as many as fit: kinematics and velocities computed once, looked up at any time of any clip."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import ConfigError, MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics, local_rotations, lowest_point
from puffer_phc.humanoid.skeleton import NUM_BODIES, NUM_DOFS
from puffer_phc.motion import velocities
from puffer_phc.motion.file import Clip
from puffer_phc.motion.floor import floor_height
from puffer_phc.motion.frame_rate import resample
from puffer_phc.state import BodyState, Reference

FPS = 30.0
"""Frames per second of every stored motion; the policy acts at the same rate, so that its times fall on frames."""

_FRAME_SNAP = 4e-3
"""Frames. Nearer than this to a frame is on it: float32 times are no more exact after nine minutes, and 0.13 ms is nothing before."""

_CHUNK_FRAMES = 1 << 13
"""Frames whose kinematics are computed at a time: the temporaries stay in the cache of a CPU."""

_GPU_CHUNKS = 8
"""Times as many frames at a time keep a GPU busier than its launches take."""

_COLUMNS = (4 * NUM_BODIES, NUM_DOFS, 3 * NUM_BODIES, 3 * NUM_BODIES, 3 * NUM_BODIES, NUM_DOFS, 6, NUM_DOFS)
"""Floats per frame: rotations, joint coordinates, positions; linear, angular, joint velocities; the root's and joints' unsmoothed."""


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
        self.num_rows = np.array([clip.num_frames + 1 for clip in clips])
        """(C,) rows that each clip takes: its frames and one more."""
        self.capacity = capacity = _capacity(clips, max_frames)
        """Rows that the device holds."""
        self.is_whole = capacity == int(self.num_rows.sum())
        """Whether all clips are on the device, always."""
        self.is_resident = torch.zeros(self.num_clips, dtype=torch.bool, device=self.device)
        """(C,) whether each clip is on the device."""
        self.weights = torch.zeros(self.num_clips, dtype=torch.float64, device=self.device)
        """(C,) for how many each clip on the device stands: 1 / (chance that it is there), where those were drawn; 0 for the others."""
        self._cumulative_frames = torch.zeros_like(self.weights)
        self._sets_floor, self._clips = sets_floor, clips
        self._residents: List[int] = []
        self._first_rows = torch.zeros_like(self.num_frames)
        self._rows = torch.empty(capacity, sum(_COLUMNS), device=self.device, dtype=torch.float16 if is_half else torch.float32)
        self._clearance = torch.empty(capacity, device=self.device)
        self._roots = torch.empty(capacity, 3, device=self.device) if is_half else None
        if self.is_whole:
            self._lay(range(self.num_clips))
            self._weigh(None)
            self._clips = []

    @property
    def residents(self) -> List[int]:
        """The clips that are on the device, in the order of their rows."""
        return list(self._residents)

    @property
    def num_bytes(self) -> int:
        """Taken on the device."""
        parts = (self._rows, self._clearance, *(() if self._roots is None else (self._roots,)))
        return sum(part.numel() * part.element_size() for part in parts)

    def fitting(self, clip_ids: Sequence[int]) -> List[int]:
        """As many of ``clip_ids``, from the first on, as the device holds together."""
        ids = list(clip_ids)
        fits = self.num_rows[ids].cumsum() <= self.capacity
        return ids[: int(fits.sum())]

    def hold(self, clip_ids: Sequence[int], weights: Optional[Tensor] = None) -> None:
        """Have the clips ``clip_ids`` on the device, and in a limited library no others; ``weights`` (C,) are theirs, if not all 1.

        Raises ValueError where they do not fit together.
        """
        ids = list(clip_ids)
        if len(self.fitting(ids)) < len(ids):
            raise ValueError(f"{len(ids)} clips of {self.num_rows[ids].sum()} rows do not fit into {self.capacity}")
        if self.is_whole:
            return
        if ids != self._residents:
            self._lay(ids)
        self._weigh(weights)

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """A time in which others may ``hold`` what they need; afterwards the clips from before are there again."""
        before, weights = self.residents, self.weights.clone()
        try:
            yield
        finally:
            self.hold(before, weights)

    def _weigh(self, weights: Optional[Tensor]) -> None:
        """Let the residents have ``weights`` (C,), or 1. Summed up on the CPU: on a GPU the order of additions is not fixed."""
        self.weights.copy_(self.is_resident if weights is None else weights)
        self._cumulative_frames.copy_((self.num_frames * self.weights).cpu().cumsum(0))

    def _lay(self, clip_ids: Sequence[int]) -> None:
        """Compute the rows of these clips, one after the other from the first row on."""
        self._residents = list(clip_ids)
        ids, num_rows = torch.tensor(self._residents, dtype=torch.long), self.num_rows[self._residents]
        first_rows, is_resident = torch.zeros(self.num_clips, dtype=torch.long), torch.zeros(self.num_clips, dtype=torch.bool)
        first_rows[ids] = torch.from_numpy(num_rows.cumsum() - num_rows)
        is_resident[ids] = True
        self._first_rows.copy_(first_rows)
        self.is_resident.copy_(is_resident)
        if self._residents:
            self._build([self._clips[index] for index in self._residents])

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
        _fill(rows, self._clearance[part], clips, self._sets_floor)
        if self._roots is not None:
            pos = _unpack(rows).body.pos
            self._roots[part] = pos[:, 0]
            pos -= pos[:, :1].clone()
            self._rows[part] = rows

    def random_frames(self, count: int, generator: torch.Generator) -> Tuple[Tensor, Tensor]:
        """Clips (M,) on the device and frames (M,) of them: over many choices of residents, every frame of every clip is equally likely."""
        uniform = torch.rand(count, 2, generator=generator, device=self.device, dtype=torch.float64)
        sought = uniform[:, 0] * self._cumulative_frames[-1]
        clip_ids = torch.searchsorted(self._cumulative_frames, sought, right=True).clamp_max(self.num_clips - 1)
        return clip_ids, (uniform[:, 1] * self.num_frames[clip_ids]).long()

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
        return self._frames(self._first_rows[clip_ids] + frame)

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
            return _unpack(self._rows[rows])
        stored = _unpack(self._rows[rows].float())
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
        row = self._first_rows[clip_ids] + below.long()
        return row, row + (fraction > 0), fraction


def row_bytes(is_half: bool) -> int:
    """Bytes that one frame takes on the device."""
    return 4 + (2 * sum(_COLUMNS) + 12 if is_half else 4 * sum(_COLUMNS))


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


def _unpack(rows: Tensor) -> Reference:
    """The parts of rows (N, K) as views."""
    quat, dof_pos, pos, lin_vel, ang_vel, dof_vel, root_velocity, joint_velocity = rows.split(_COLUMNS, dim=-1)
    pos, lin_vel, ang_vel = (part.unflatten(-1, (NUM_BODIES, 3)) for part in (pos, lin_vel, ang_vel))
    body = BodyState(pos, quat.unflatten(-1, (NUM_BODIES, 4)), lin_vel, ang_vel)
    return Reference(body, dof_pos, dof_vel, root_velocity, joint_velocity)


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
    groups: List[List[Clip]] = [[]]
    frames = 0
    for clip in clips:
        if groups[-1] and frames + clip.num_frames > size:
            groups.append([])
            frames = 0
        groups[-1].append(clip)
        frames += clip.num_frames
    return groups


def _fill(rows: Tensor, clearance: Tensor, clips: Sequence[Clip], sets_floor: bool) -> None:
    """Write ``rows`` (F + C, K) and ``clearance`` (F + C,) of ``clips`` one after the other, each with its row at rest."""
    lengths = torch.tensor([clip.num_frames for clip in clips], device=rows.device)
    num_frames = sum(clip.num_frames for clip in clips)
    ends, numbers = lengths.cumsum(0), torch.arange(len(clips), device=rows.device)
    first, last, number = (
        torch.repeat_interleave(values, lengths, output_size=num_frames) for values in (ends - lengths, ends - 1, numbers)
    )
    root_pos = torch.from_numpy(np.concatenate([clip.root_pos for clip in clips])).to(rows.device)
    local_quats = torch.from_numpy(np.concatenate([clip.local_quats for clip in clips])).to(rows.device)
    pos, quats = forward_kinematics(root_pos, local_quats)
    height = lowest_point(pos, quats).amin(-1)
    if sets_floor:
        floor = torch.stack([floor_height(part) for part in height.split([clip.num_frames for clip in clips])])[number]
        pos[..., 2] -= floor[:, None]
        height = height - floor
    joint_quats = local_quats[:, 1:]
    lin_vel = velocities.linear_velocity(pos, first, last, FPS)
    ang_vel = velocities.angular_velocity(quats, first, last, FPS)
    joint_vel = velocities.joint_velocity(joint_quats, first, last, FPS)
    columns = (
        quats,
        rotations.to_rotation_vector(joint_quats),
        pos,
        velocities.smooth(lin_vel, first, last),
        velocities.smooth(ang_vel, first, last),
        velocities.smooth(joint_vel, first, last),
        torch.cat((lin_vel[:, 0], ang_vel[:, 0]), dim=-1),
        joint_vel,
    )
    places, rest = torch.arange(len(first), device=rows.device) + number, ends + numbers
    for target, values in zip((clearance[:, None], *rows.split(_COLUMNS, dim=-1)), (height, *columns)):
        target[places] = values.flatten(1) if values.ndim > 1 else values[:, None]
        target[rest] = target[rest - 1]
    rows[rest, sum(_COLUMNS[:3]) :] = 0.0

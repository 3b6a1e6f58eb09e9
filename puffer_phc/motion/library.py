"""All motions on the device: kinematics and velocities computed once, looked up at any time of any clip."""

from typing import List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics, local_rotations, lowest_point
from puffer_phc.humanoid.skeleton import NUM_BODIES, NUM_DOFS
from puffer_phc.motion import velocities
from puffer_phc.motion.file import Clip
from puffer_phc.motion.frame_rate import resample
from puffer_phc.state import BodyState, Reference

FPS = 30.0
"""Frames per second of every stored motion; the policy acts at the same rate, so that its times fall on frames."""

_FRAME_SNAP = 4e-3
"""Frames. Nearer than this to a frame is on it: float32 times are no more exact after nine minutes, and 0.13 ms is nothing before."""

_CHUNK_FRAMES = 1 << 13
"""Frames whose kinematics are computed at a time: the temporaries stay in the cache of a CPU, and a GPU is kept busy."""

_COLUMNS = (4 * NUM_BODIES, NUM_DOFS, 3 * NUM_BODIES, 3 * NUM_BODIES, 3 * NUM_BODIES, NUM_DOFS)
"""Floats per frame: rotations, joint coordinates, positions, linear velocities, angular velocities, joint velocities."""


class MotionLibrary:
    """Whole clips as flat tensors on one device.

    Everything known of a frame lies in one row of one tensor, so that a look-up reads contiguous memory. After the last frame of each
    clip follows one more row, the same pose at rest, for times beyond the end. With ``sets_floor`` each clip is shifted vertically so that
    the median over its frames of the lowest point of the collision shapes touches the floor. Look-ups never wait for the device.
    """

    fps = FPS

    def __init__(self, clips: Sequence[Clip], device: torch.device, sets_floor: bool = True) -> None:
        if not clips:
            raise MotionFileError("a motion library needs at least one clip")
        self.device = torch.device(device)
        clips = [resample(clip, FPS) for clip in clips]
        self.names: List[str] = [clip.name for clip in clips]
        self.num_clips = len(clips)
        lengths = [clip.num_frames for clip in clips]
        self.num_frames = torch.tensor(lengths, device=self.device)
        self.durations = (self.num_frames - 1) / FPS
        self._first_rows = (self.num_frames + 1).cumsum(0) - self.num_frames - 1
        self._rows = torch.empty(sum(lengths) + len(lengths), sum(_COLUMNS), device=self.device)
        self._clearance = torch.empty(len(self._rows), device=self.device)
        start = 0
        for group in _groups(clips):
            rows, clearance = _frame_rows(group, self.device, sets_floor)
            self._rows[start : start + len(rows)] = rows
            self._clearance[start : start + len(rows)] = clearance
            start += len(rows)

    def at(self, clip_ids: Tensor, times: Tensor) -> Reference:
        """The reference of clips ``clip_ids`` (N,) int64 at ``times`` (N,) s.

        Times are clamped to the clip, and velocities are zero beyond its end. Positions and velocities are interpolated linearly,
        rotations spherically; at the time of a frame the frame itself is returned.
        """
        row, next_row, fraction = self._locate(clip_ids, times)
        return _blend(_unpack(self._rows[row]), _unpack(self._rows[next_row]), fraction)

    def nearest(self, clip_ids: Tensor, times: Tensor) -> Reference:
        """As ``at``, but the frame nearest to each time: the same where times fall on frames, and several times faster."""
        frame = torch.minimum((times * FPS).round().clamp_min(0.0).long(), self.num_frames[clip_ids])
        return _unpack(self._rows[self._first_rows[clip_ids] + frame])

    def clearance(self, clip_ids: Tensor, times: Tensor) -> Tensor:
        """Height (N,) in m of the lowest point of the collision shapes over the floor; negative inside it."""
        row, next_row, fraction = self._locate(clip_ids, times)
        return torch.lerp(self._clearance[row], self._clearance[next_row], fraction)

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


def _unpack(rows: Tensor) -> Reference:
    """The parts of rows (N, K) as views."""
    quat, dof_pos, pos, lin_vel, ang_vel, dof_vel = rows.split(_COLUMNS, dim=-1)
    pos, lin_vel, ang_vel = (part.unflatten(-1, (NUM_BODIES, 3)) for part in (pos, lin_vel, ang_vel))
    return Reference(BodyState(pos, quat.unflatten(-1, (NUM_BODIES, 4)), lin_vel, ang_vel), dof_pos, dof_vel)


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
    return Reference(body, torch.where(on_frame, before.dof_pos, dof_pos), torch.lerp(before.dof_vel, after.dof_vel, weight))


def _groups(clips: Sequence[Clip]) -> List[List[Clip]]:
    """Consecutive clips in groups of about ``_CHUNK_FRAMES`` frames."""
    groups: List[List[Clip]] = [[]]
    frames = 0
    for clip in clips:
        if groups[-1] and frames + clip.num_frames > _CHUNK_FRAMES:
            groups.append([])
            frames = 0
        groups[-1].append(clip)
        frames += clip.num_frames
    return groups


def _frame_rows(clips: Sequence[Clip], device: torch.device, sets_floor: bool) -> Tuple[Tensor, Tensor]:
    """Rows (F + C, K) and clearances (F + C,) of ``clips`` one after the other, each with its row at rest, on the floor if so wished."""
    lengths = torch.tensor([clip.num_frames for clip in clips], device=device)
    ends = lengths.cumsum(0)
    first = torch.repeat_interleave(ends - lengths, lengths)
    last = torch.repeat_interleave(ends - 1, lengths)
    root_pos = torch.from_numpy(np.concatenate([clip.root_pos for clip in clips])).to(device)
    local_quats = torch.from_numpy(np.concatenate([clip.local_quats for clip in clips])).to(device)
    pos, quats = forward_kinematics(root_pos, local_quats)
    clearance = lowest_point(pos, quats).amin(-1)
    floor = torch.stack([part.median() for part in clearance.split(lengths.tolist())]) * float(sets_floor)
    floor = torch.repeat_interleave(floor, lengths)
    pos = pos - floor[:, None, None] * pos.new_tensor([0.0, 0.0, 1.0])
    joint_quats = local_quats[:, 1:]
    speeds = torch.cat(
        (
            velocities.linear_velocity(pos, first, last, FPS),
            velocities.angular_velocity(quats, first, last, FPS),
            velocities.joint_velocity(joint_quats, first, last, FPS),
        ),
        dim=1,
    )
    speeds = velocities.smooth(speeds, first, last)
    dof_pos = rotations.to_rotation_vector(joint_quats)
    rows = torch.cat([column.flatten(1) for column in (quats, dof_pos, pos, speeds)], dim=-1)
    numbers = torch.arange(len(clips), device=device)
    numbered = torch.arange(len(rows) + len(clips), device=device)
    clip = torch.searchsorted(ends + numbers, numbered)
    source = torch.minimum(numbered - clip, ends[clip] - 1)
    rows, clearance = rows[source], (clearance - floor)[source]
    rows[ends + numbers, sum(_COLUMNS[:3]) :] = 0.0
    return rows, clearance

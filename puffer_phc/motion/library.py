"""All motions on the device: kinematics and velocities computed once, looked up at any time of any clip."""

from typing import List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics, lowest_point
from puffer_phc.humanoid.skeleton import NUM_BODIES, NUM_DOFS
from puffer_phc.motion import velocities
from puffer_phc.motion.file import Clip
from puffer_phc.state import BodyState, Reference

FPS = 30.0
"""Frames per second of every stored motion; the policy acts at the same rate, so that its times fall on frames."""

_FRAME_SNAP = 4e-3
"""Frames. Nearer than this to a frame is on it: float32 times are no more exact after nine minutes, and 0.13 ms is nothing before."""

_CHUNK_FRAMES = 1 << 16
"""Frames whose kinematics are computed at a time: bounds the temporary memory to some hundred megabytes."""

_NUM_JOINTS = NUM_BODIES - 1
_COLUMNS = (4 * NUM_BODIES, 4 * _NUM_JOINTS, 3 * NUM_BODIES, 3 * NUM_BODIES, 3 * NUM_BODIES, NUM_DOFS)
"""Floats per frame: body rotations, local joint rotations, body positions, linear velocities, angular velocities, joint velocities."""
_NUM_QUAT_COLUMNS = _COLUMNS[0] + _COLUMNS[1]


class MotionLibrary:
    """Whole clips as flat tensors on one device.

    Everything known of a frame lies in one row of one tensor, so that a look-up reads two runs of contiguous memory per
    environment. Each clip is shifted vertically so that the median over its frames of the lowest point of the collision shapes
    touches the floor. ``at`` and ``clearance`` never wait for the device.
    """

    fps = FPS

    def __init__(self, clips: Sequence[Clip], device: torch.device) -> None:
        if not clips:
            raise MotionFileError("a motion library needs at least one clip")
        self.device = torch.device(device)
        clips = [resample(clip, FPS) for clip in clips]
        self.names: List[str] = [clip.name for clip in clips]
        self.num_clips = len(clips)
        lengths = [clip.num_frames for clip in clips]
        self.num_frames = torch.tensor(lengths, device=self.device)
        self.durations = (self.num_frames - 1) / FPS
        self.first_frames = self.num_frames.cumsum(0) - self.num_frames
        self._frames = torch.empty(sum(lengths), sum(_COLUMNS), device=self.device)
        self._clearance = torch.empty(sum(lengths), device=self.device)
        start = 0
        for group in _groups(clips):
            frames, clearance = _frame_rows(group, self.device)
            self._frames[start : start + len(frames)] = frames
            self._clearance[start : start + len(frames)] = clearance
            start += len(frames)

    def at(self, clip_ids: Tensor, times: Tensor) -> Reference:
        """The reference of clips ``clip_ids`` (N,) int64 at ``times`` (N,) s.

        Times are clamped to the clip, and velocities are zero beyond its end. Positions and velocities are interpolated linearly,
        rotations spherically; at the time of a frame the frame itself is returned.
        """
        where = self._locate(clip_ids, times)
        return _reference(self._frames[where.row], self._frames[where.next_row], where.fraction, where.is_over)

    def clearance(self, clip_ids: Tensor, times: Tensor) -> Tensor:
        """Height (N,) in m of the lowest point of the collision shapes over the floor; negative inside it."""
        where = self._locate(clip_ids, times)
        return torch.lerp(self._clearance[where.row], self._clearance[where.next_row], where.fraction)

    def _locate(self, clip_ids: Tensor, times: Tensor) -> "_Location":
        """The rows around ``times`` and how far between them."""
        last = self.num_frames[clip_ids] - 1
        wanted = times * FPS
        frame = torch.minimum(wanted.clamp_min(0.0), last.to(wanted.dtype))
        nearest = frame.round()
        frame = torch.where((frame - nearest).abs() < _FRAME_SNAP, nearest, frame)
        below = frame.floor()
        row = self.first_frames[clip_ids] + below.long()
        next_row = self.first_frames[clip_ids] + torch.minimum(below.long() + 1, last)
        return _Location(row, next_row, frame - below, wanted > last + _FRAME_SNAP)


class _Location(NamedTuple):
    """Where between two frames (N,) instants lie."""

    row: Tensor
    next_row: Tensor
    fraction: Tensor
    is_over: Tensor


def _reference(row: Tensor, next_row: Tensor, fraction: Tensor, is_over: Tensor) -> Reference:
    """The blend of two rows (N, K) of packed frames at ``fraction`` (N,); no velocities where ``is_over`` (N,)."""
    fraction = fraction[:, None]
    quats = row[:, :_NUM_QUAT_COLUMNS].unflatten(-1, (-1, 4))
    next_quats = next_row[:, :_NUM_QUAT_COLUMNS].unflatten(-1, (-1, 4))
    blended = rotations.slerp(quats, next_quats, fraction[..., None])
    quats = torch.where(fraction[..., None] == 0, quats, blended)
    rest = torch.lerp(row[:, _NUM_QUAT_COLUMNS:], next_row[:, _NUM_QUAT_COLUMNS:], fraction)
    pos, speeds = rest[:, : _COLUMNS[2]], rest[:, _COLUMNS[2] :]
    speeds = torch.where(is_over[:, None], torch.zeros_like(speeds), speeds)
    lin_vel, ang_vel, dof_vel = speeds.split(_COLUMNS[3:], dim=-1)
    shape = (NUM_BODIES, 3)
    body = BodyState(pos.unflatten(-1, shape), quats[:, :NUM_BODIES], lin_vel.unflatten(-1, shape), ang_vel.unflatten(-1, shape))
    return Reference(body, rotations.to_rotation_vector(quats[:, NUM_BODIES:]).flatten(1), dof_vel)


def resample(clip: Clip, fps: float) -> Clip:
    """The clip at ``fps`` frames per second, exactly in time: frame k is the motion at k / fps seconds."""
    if abs(clip.fps - fps) < 1e-6 * fps:
        return clip
    num_frames = max(int(np.floor(clip.duration * fps + 1e-6)) + 1, 2)
    frame = np.minimum(np.arange(num_frames) * (clip.fps / fps), clip.num_frames - 1)
    below = np.minimum(frame.astype(np.int64), clip.num_frames - 2)
    fraction = torch.from_numpy(frame - below)[:, None]
    pos, quats = torch.from_numpy(clip.root_pos).double(), torch.from_numpy(clip.local_quats).double()
    pos = torch.lerp(pos[below], pos[below + 1], fraction)
    quats = rotations.slerp(quats[below], quats[below + 1], fraction[..., None])
    return clip._replace(root_pos=pos.float().numpy(), local_quats=quats.float().numpy(), fps=fps)


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


def _frame_rows(clips: Sequence[Clip], device: torch.device) -> Tuple[Tensor, Tensor]:
    """Packed frames (F, K) and clearances (F,) of ``clips`` one after the other, floor offset applied."""
    lengths = torch.tensor([clip.num_frames for clip in clips], device=device)
    ends = lengths.cumsum(0)
    first = torch.repeat_interleave(ends - lengths, lengths)
    last = torch.repeat_interleave(ends - 1, lengths)
    root_pos = torch.from_numpy(np.concatenate([clip.root_pos for clip in clips])).to(device)
    local_quats = torch.from_numpy(np.concatenate([clip.local_quats for clip in clips])).to(device)
    pos, quats = forward_kinematics(root_pos, local_quats)
    clearance = lowest_point(pos, quats).amin(-1)
    floor = torch.stack([part.median() for part in clearance.split(lengths.tolist())])
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
    columns = (quats, joint_quats, pos, speeds)
    return torch.cat([column.flatten(1) for column in columns], dim=-1), clearance - floor

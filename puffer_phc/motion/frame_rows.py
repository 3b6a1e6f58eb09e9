"""A frame of motion as one row of floats: what stands in it, how rows are computed from clips, and how they are read.

Shape letters: F frames, C clips, K = ``ROW_SIZE`` floats.
"""

from typing import NamedTuple, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc import rotations
from puffer_phc.humanoid.kinematics import forward_kinematics, lowest_point
from puffer_phc.humanoid.skeleton import NUM_BODIES, NUM_DOFS
from puffer_phc.motion import velocities
from puffer_phc.motion.file import Clip
from puffer_phc.motion.floor import floor_height
from puffer_phc.motion.frame_rate import FPS
from puffer_phc.state import BodyState, Reference

_POSES = (4 * NUM_BODIES, NUM_DOFS, 3 * NUM_BODIES)
"""Floats of the world rotations, joint coordinates and positions."""

_VELOCITIES = (3 * NUM_BODIES, 3 * NUM_BODIES, NUM_DOFS, 6, NUM_DOFS)
"""Floats of the linear, angular and joint velocities, and of the root's and the joints' unsmoothed."""

ROW_SIZE = sum(_POSES + _VELOCITIES)
"""Floats of a row."""


def row_bytes(is_half: bool) -> int:
    """Bytes that one frame takes on the device."""
    return 4 + (2 * ROW_SIZE + 12 if is_half else 4 * ROW_SIZE)


def read_rows(rows: Tensor) -> Reference:
    """The parts of rows (N, K) as views."""
    quat, dof_pos, pos, lin_vel, ang_vel, dof_vel, root_velocity, joint_velocity = rows.split(_POSES + _VELOCITIES, dim=-1)
    pos, lin_vel, ang_vel = (part.unflatten(-1, (NUM_BODIES, 3)) for part in (pos, lin_vel, ang_vel))
    body = BodyState(pos, quat.unflatten(-1, (NUM_BODIES, 4)), lin_vel, ang_vel)
    return Reference(body, dof_pos, dof_vel, root_velocity, joint_velocity)


def write_rows(rows: Tensor, clearance: Tensor, clips: Sequence[Clip], sets_floor: bool) -> None:
    """Compute ``rows`` (F + C, K) and ``clearance`` (F + C,) m of ``clips`` one after the other, each with its row at rest.

    With ``sets_floor`` each clip is shifted so that it rests on the floor.
    """
    frames = _Frames.of(clips, rows.device)
    root_pos, local_quats = (
        torch.from_numpy(np.concatenate(parts)).to(rows.device)
        for parts in ([clip.root_pos for clip in clips], [clip.local_quats for clip in clips])
    )
    pos, quats = forward_kinematics(root_pos, local_quats)
    height = lowest_point(pos, quats).amin(-1)
    if sets_floor:
        floor = torch.stack([floor_height(part) for part in height.split([clip.num_frames for clip in clips])])[frames.clip]
        pos[..., 2] -= floor[:, None]
        height = height - floor
    joint_quats = local_quats[:, 1:]
    columns = (quats, rotations.to_rotation_vector(joint_quats), pos, *_velocities(pos, quats, joint_quats, frames))
    for target, values in zip((clearance[:, None], *rows.split(_POSES + _VELOCITIES, dim=-1)), (height, *columns)):
        target[frames.rows] = values.flatten(1) if values.ndim > 1 else values[:, None]
        target[frames.rest] = target[frames.rest - 1]
    rows[frames.rest, sum(_POSES) :] = 0.0


class _Frames(NamedTuple):
    """Where the frames of several clips lie, one clip after the other."""

    clip: Tensor
    """(F,) which of the clips each frame is of."""
    first: Tensor
    """(F,) the first frame of that clip."""
    last: Tensor
    """(F,) its last frame."""
    rows: Tensor
    """(F,) the row of each frame, where every clip has one more."""
    rest: Tensor
    """(C,) those rows."""

    @classmethod
    def of(cls, clips: Sequence[Clip], device: torch.device) -> "_Frames":
        lengths = torch.tensor([clip.num_frames for clip in clips], device=device)
        num_frames = sum(clip.num_frames for clip in clips)
        ends, numbers = lengths.cumsum(0), torch.arange(len(clips), device=device)
        clip, first, last = (
            torch.repeat_interleave(values, lengths, output_size=num_frames) for values in (numbers, ends - lengths, ends - 1)
        )
        return cls(clip, first, last, torch.arange(num_frames, device=device) + clip, ends + numbers)


def _velocities(pos: Tensor, quats: Tensor, joint_quats: Tensor, frames: _Frames) -> Tuple[Tensor, ...]:
    """The velocities of a row, by positions (F, B, 3), world rotations (F, B, 4) and joint rotations (F, B - 1, 4)."""
    first, last = frames.first, frames.last
    linear = velocities.linear_velocity(pos, first, last, FPS)
    angular = velocities.angular_velocity(quats, first, last, FPS)
    joint = velocities.joint_velocity(joint_quats, first, last, FPS)
    smooth = (velocities.smooth(velocity, first, last) for velocity in (linear, angular, joint))
    return (*smooth, torch.cat((linear[:, 0], angular[:, 0]), dim=-1), joint)

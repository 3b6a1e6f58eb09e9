"""What is wrong with a clip, before a GPU hour is spent on it: measured, mended where that is safe, and judged.

The bodies' own collision shapes decide where the floor is; a clip is taken as the humanoid would play it, at the clip's own rate.
"""

import math
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc.errors import MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics, lowest_point, mass_centre
from puffer_phc.humanoid.skeleton import BODY_NAMES, GRAVITY, body_ids
from puffer_phc.motion.clip_names import plain_text
from puffer_phc.motion.collisions import PAIRS, self_penetration
from puffer_phc.motion.file import Clip
from puffer_phc.motion.floor import AIRBORNE, floor_height
from puffer_phc.motion.mending import LARGEST_JUMP, mend_joints, steps

OK, REPAIRED, REJECTED, SCENE = "ok", "repaired", "rejected", "needs a scene"

DEPTH = 0.02
"""m: a point this far inside the floor is a fault, not the softness of a shoe."""

LARGEST_SUNK_SHARE = 0.25
"""Share of frames with a point more than ``DEPTH`` inside the floor that a clip may have."""

LARGEST_ROOT_SPEED = 12.0
"""m/s: no human runs or falls faster in a motion capture laboratory."""

LONGEST_FLIGHT = 0.9
"""s: a jump of one metre. Who stays up longer stands on, hangs from or sits on something that is not there."""

HIGHEST_CARRIED = 0.2
"""m: what is carried this much stands on something that is not there. Of the CMU database, jumps are within 3 cm, the leaps of a modern
dancer within 14, and four runs over an obstacle at 24 to 28."""

LONGEST_UNBALANCED = 1.0
"""s with the centre of mass far outside the feet while hardly moving: the clip leans on something."""

UNBALANCED = 0.2
"""m from the nearest supporting point."""

STILL_SPEED = 0.3
"""m/s, mean over the bodies: slower is hardly moving."""

SUPPORT_HEIGHT = 0.12
"""m over the lowest body: what is no higher may bear the body's weight."""

RESTING_HEIGHTS = {"L_Ankle": 0.09, "R_Ankle": 0.09, "L_Toe": 0.04, "R_Toe": 0.04}
"""m: joints of feet that are lower and hardly move up or down are at rest on the floor, and should not slide."""

RESTING_SPEED = 0.15
"""m/s up or down."""

SHORTEST = 0.3
"""s: shorter clips teach nothing."""

FLOOR_TOLERANCE = 0.01
"""m: a floor farther from z = 0 is moved there."""

PENETRATION_STRIDE = 3
"""Bodies inside each other are looked for in every third frame: they stay there for longer, and there are two hundred pairs."""


class Inspection(NamedTuple):
    """What was measured on one clip, and the verdict."""

    name: str
    frames: int
    seconds: float
    verdict: str
    reasons: str
    """Why it is not simply ok; of a repaired one what was mended, now or by the inspection that its file comes from."""
    floor_offset_m: float
    """Height of the floor that the clip shows, as found."""
    sunk_share: float
    """Share of frames with a point more than 2 cm inside the floor."""
    deepest_m: float
    """Depth of the deepest point of any frame."""
    airborne_share: float
    """Share of frames in which nothing touches the floor."""
    longest_flight_s: float
    carried_m: float
    """How much something carries the body while it touches nothing: how far the centre of mass stays below a free body's path between the
    same points, at most the height of the lowest point over the floor."""
    foot_slide_m_s: float
    """Mean horizontal speed of ankles and toes that are at the floor and hardly move up or down."""
    joint_speed_rad_s: float
    """99.9th percentile over frames and joints."""
    largest_jump_deg: float
    """Largest turn of a joint in a thirtieth of a second."""
    jump_joint: str
    jump_frame: int
    root_speed_m_s: float
    """Fastest."""
    root_acceleration_m_s2: float
    """99th percentile."""
    self_penetration_m: float
    """Deepest of any frame."""
    self_penetration_share: float
    """Share of frames with more than 2 cm."""
    self_penetration_pair: str


def _runs(mask: np.ndarray) -> List[Tuple[int, int]]:
    """First and one-past-last indices of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]


def longest_run(mask: Tensor) -> int:
    """The length of the longest run of true values in ``mask`` (F,)."""
    return max((end - begin for begin, end in _runs(mask.numpy())), default=0)


class _Measured(NamedTuple):
    """Everything about a clip that several figures need."""

    positions: Tensor
    quats: Tensor
    """World poses (F, B, 3) m and (F, B, 4)."""
    lowest: Tensor
    """(F,) m, the lowest point of the body."""


def _measure(root: Tensor, local: Tensor) -> _Measured:
    """World poses and lowest points."""
    positions, quats = forward_kinematics(root, local)
    return _Measured(positions, quats, lowest_point(positions, quats).amin(-1))


def _measure_all(clips: Sequence[Clip]) -> List[_Measured]:
    """All clips measured at once: for short ones that is many times faster."""
    root = torch.from_numpy(np.concatenate([clip.root_pos for clip in clips]))
    local = torch.from_numpy(np.concatenate([clip.local_quats for clip in clips]))
    lengths = [clip.num_frames for clip in clips]
    return [_Measured(*parts) for parts in zip(*(values.split(lengths) for values in _measure(root, local)))]


def _repaired(clip: Clip, measured: _Measured) -> Tuple[Clip, _Measured, List[str]]:
    """The clip with spikes and short flips of joints bridged and its floor set, measured again where it changed, and what was ever done.

    Raises ``MotionFileError`` where more would have to be made up than mended.
    """
    root = torch.from_numpy(clip.root_pos)
    local, done = mend_joints(torch.from_numpy(clip.local_quats), clip.fps)
    if done:
        measured = _measure(root, local)
    offset = float(floor_height(measured.lowest))
    if abs(offset) > FLOOR_TOLERANCE:
        down = torch.tensor([0.0, 0.0, offset])
        root, measured = root - down, measured._replace(positions=measured.positions - down, lowest=measured.lowest - offset)
        done.append(f"floor moved by {100.0 * offset:+.1f} cm")
    repairs = [*filter(None, (plain_text(clip.repairs),)), *done]
    if done:
        clip = clip._replace(root_pos=root.numpy(), local_quats=local.numpy(), repairs="; ".join(repairs))
    return clip, measured, repairs


def _gradient(values: Tensor, fps: float) -> Tensor:
    """Central differences in time of ``values`` (F, ...)."""
    return torch.gradient(values, spacing=1.0 / fps, dim=0)[0]


def _foot_slide(positions: Tensor, fps: float) -> float:
    """Mean horizontal speed in m/s of ankles and toes that are low and hardly move up or down."""
    feet = positions[:, body_ids(tuple(RESTING_HEIGHTS))]
    velocity = _gradient(feet, fps)
    resting = (feet[..., 2] < torch.tensor(list(RESTING_HEIGHTS.values()))) & (velocity[..., 2].abs() < RESTING_SPEED)
    return float(velocity[..., :2].norm(dim=-1)[resting].mean()) if bool(resting.any()) else 0.0


def _unbalanced(measured: _Measured, fps: float) -> Tensor:
    """(F,) whether the body hardly moves while its centre is far from, and outside of, what may bear its weight."""
    positions = measured.positions
    centre = positions[:, body_ids(("Pelvis", "Spine", "Head", "L_Knee", "R_Knee"))].mean(1)
    still = _gradient(positions, fps).norm(dim=-1).mean(-1) < STILL_SPEED
    supports = positions[..., 2] < positions[..., 2].amin(-1, keepdim=True) + SUPPORT_HEIGHT
    offsets = positions[..., :2] - centre[:, None, :2]
    nearest = offsets.norm(dim=-1).masked_fill(~supports, torch.inf).amin(-1)
    directions = torch.linspace(0.0, 2.0 * math.pi, 17)[:-1]
    reach = offsets @ torch.stack((directions.cos(), directions.sin()))
    outside = (-reach.masked_fill(~supports[..., None], -torch.inf).amax(1)).amax(-1)
    return still & (outside > UNBALANCED) & (nearest > UNBALANCED)


def _carried(height: Tensor, lowest: Tensor, fps: float) -> float:
    """``Inspection.carried_m`` of a clip whose centre of mass is at ``height`` (F,) m and whose lowest point at ``lowest`` (F,) m.

    A free body goes from the first frame of a flight to the last on a parabola.
    """
    most = 0.0
    for begin, end in _runs((lowest > AIRBORNE).numpy()):
        share = torch.linspace(0.0, 1.0, end - begin)
        seconds = (end - begin - 1) / fps
        straight = torch.lerp(height[begin], height[end - 1], share)
        parabola = straight + 0.5 * GRAVITY * seconds**2 * share * (1.0 - share)
        most = max(most, float(torch.minimum(parabola - height[begin:end], lowest[begin:end]).max()))
    return most


def _judge(figures: Inspection, unbalanced: float, repairs: Sequence[str], hopeless: Sequence[str]) -> Tuple[str, List[str]]:
    """Verdict and reasons from the figures of a repaired clip, and what could not be repaired.

    ``unbalanced`` is the longest time in s that it leans on nothing.
    """
    scene: List[str] = []
    faults = list(hopeless)
    if figures.longest_flight_s > LONGEST_FLIGHT:
        scene.append(f"off the floor for {figures.longest_flight_s:.2f} s")
    if figures.carried_m > HIGHEST_CARRIED:
        scene.append(f"does not fall while {100.0 * figures.carried_m:.0f} cm above the floor")
    if unbalanced > LONGEST_UNBALANCED:
        scene.append(f"leans on nothing for {unbalanced:.2f} s")
    if figures.seconds < SHORTEST:
        faults.append(f"only {figures.seconds:.2f} s long")
    if figures.largest_jump_deg > math.degrees(LARGEST_JUMP):
        faults.append(f"{figures.jump_joint} jumps by {figures.largest_jump_deg:.0f} degrees at frame {figures.jump_frame}")
    if figures.root_speed_m_s > LARGEST_ROOT_SPEED:
        faults.append(f"pelvis at {figures.root_speed_m_s:.1f} m/s")
    if figures.sunk_share > LARGEST_SUNK_SHARE:
        faults.append(f"inside the floor in {100.0 * figures.sunk_share:.0f} % of frames")
    if scene:
        return SCENE, scene + faults
    if faults:
        return REJECTED, faults
    return (REPAIRED, list(repairs)) if repairs else (OK, [])


def inspect_clip(clip: Clip) -> Tuple[Clip, Inspection]:
    """The clip, repaired where that is safe, and what was found in it."""
    return inspect_clips([clip])[0]


def inspect_clips(clips: Sequence[Clip]) -> List[Tuple[Clip, Inspection]]:
    """Each clip, repaired where that is safe, and what was found in it; together they fit into memory several times.

    What is mended is noted in the clip, behind what was before, so that whoever inspects it again still sees it.
    """
    return [_inspect(clip, measured) for clip, measured in zip(clips, _measure_all(clips))] if clips else []


def _inspect(clip: Clip, measured: _Measured) -> Tuple[Clip, Inspection]:
    """A clip that is measured, repaired where that is safe, and what was found in it."""
    offset = float(floor_height(measured.lowest))
    repairs: List[str] = []
    hopeless: List[str] = []
    try:
        clip, measured, repairs = _repaired(clip, measured)
    except MotionFileError as error:
        hopeless.append(str(error))
    figures = _figures(clip, measured, offset)
    unbalanced = longest_run(_unbalanced(measured, clip.fps)) / clip.fps
    verdict, reasons = _judge(figures, unbalanced, repairs, hopeless)
    return clip, figures._replace(verdict=verdict, reasons="; ".join(reasons))


def _figures(clip: Clip, measured: _Measured, floor_offset: float) -> Inspection:
    """What is measured on ``clip``, not judged yet; its floor was at ``floor_offset`` m before it was repaired."""
    root, local = torch.from_numpy(clip.root_pos), torch.from_numpy(clip.local_quats)
    positions, quats = measured.positions, measured.quats
    step = steps(local) * (clip.fps / 30.0)
    jump_frame, jump_joint = divmod(int(step.argmax()), step.shape[1])
    depth, pair = self_penetration(positions[::PENETRATION_STRIDE], quats[::PENETRATION_STRIDE])
    deepest = PAIRS[int(pair[int(depth.argmax())])].tolist()
    velocity = _gradient(root, clip.fps)
    airborne = measured.lowest > AIRBORNE
    return Inspection(
        name=clip.name,
        frames=clip.num_frames,
        seconds=clip.duration,
        verdict=OK,
        reasons="",
        floor_offset_m=floor_offset,
        sunk_share=float((measured.lowest < -DEPTH).float().mean()),
        deepest_m=float((-measured.lowest).amax().clamp_min(0.0)),
        airborne_share=float(airborne.float().mean()),
        longest_flight_s=longest_run(airborne) / clip.fps,
        carried_m=_carried(mass_centre(positions, quats)[:, 2], measured.lowest, clip.fps),
        foot_slide_m_s=_foot_slide(positions, clip.fps),
        joint_speed_rad_s=float(np.quantile(step.numpy() * 30.0, 0.999)),
        largest_jump_deg=math.degrees(float(step.max())),
        jump_joint=BODY_NAMES[jump_joint],
        jump_frame=jump_frame,
        root_speed_m_s=float(velocity.norm(dim=-1).max()),
        root_acceleration_m_s2=float(torch.quantile(_gradient(velocity, clip.fps).norm(dim=-1), 0.99)),
        self_penetration_m=float(depth.max()),
        self_penetration_share=float((depth > DEPTH).float().mean()),
        self_penetration_pair="–".join(BODY_NAMES[body] for body in deepest) if float(depth.max()) > 0 else "",
    )

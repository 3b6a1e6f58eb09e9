"""Converted clips against another solver: mink's differential inverse kinematics on the same MJCF, for the same joint positions.

    python scripts/cross_check_retargeting.py motions.npz DATA/cmu --clips 16_15 05_06

mink (pip install mink) starts every frame from the captured rotations, copied joint by joint, and knows nothing of our closed forms, priors
and floor. It shows two things: how near to its original any pose of this humanoid can come, and how far our pose is from the one that
somebody else's program finds.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from typing_extensions import Annotated

from puffer_phc.command_line import Aside, run_main
from puffer_phc.errors import BackendError, MotionFileError
from puffer_phc.humanoid.kinematics import forward_kinematics, local_rotations
from puffer_phc.humanoid.mjcf import PhysicsOptions, build_mjcf
from puffer_phc.humanoid.skeleton import body_ids
from puffer_phc.motion.cleaning import trim_ends
from puffer_phc.motion.convert import Options, find_sources, load_recording
from puffer_phc.motion.fidelity import JOINTS, aligned_original
from puffer_phc.motion.file import Clip, load_motion_file
from puffer_phc.motion.performer import measure_performer
from puffer_phc.motion.recording import Recording
from puffer_phc.motion.resample import resample
from puffer_phc.mujoco_loading import import_mujoco

STEPS = 60
"""Steps of differential inverse kinematics a frame; the error has settled by then."""

STEP_SECONDS = 0.1

PULL = 0.003
"""Weight of the captured pose, in m/rad, where a joint position weighs 1."""

DAMPING = 1.0
"""Levenberg–Marquardt's: without it limbs that cannot reach their targets swing about."""


@dataclass(frozen=True)
class Arguments:
    """Compare converted clips with what mink makes of the same joint positions."""

    motions: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MOTIONS")]
    """The motion file."""
    originals: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ORIGINALS")]
    """The folder it was converted from."""
    clips: Tuple[str, ...]
    """Names of the clips."""
    frames: int = 20
    """Frames of each clip, evenly spread."""


class Compared(NamedTuple):
    """One clip by both solvers, means over frames and joints in cm."""

    ours_cm: float
    """Distance of our joints from their targets."""
    mink_cm: float
    """The same of mink's."""
    apart_cm: float
    """Between our joints and mink's."""


def solve(targets: np.ndarray, pelvis: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """(J, 3) m: where mink puts ``JOINTS`` for ``targets`` (J, 3) m, from the captured pelvis (4,) and joint (B, 4) rotations."""
    mujoco = import_mujoco("the comparison")
    try:
        import mink
    except ImportError as error:
        raise BackendError("the check needs mink: pip install mink") from error
    model = mujoco.MjModel.from_xml_string(build_mjcf(PhysicsOptions()))
    start = np.concatenate((targets[:2].mean(0), pelvis, joints[1:].reshape(-1)))
    configuration = mink.Configuration(model, start)
    tasks: List[Any] = [mink.PostureTask(model, cost=PULL)]
    tasks[0].set_target(start)
    for name, target in zip(JOINTS, targets):
        task = mink.FrameTask(name, "body", position_cost=1.0, orientation_cost=0.0, lm_damping=DAMPING)
        task.set_target(mink.SE3.from_translation(target))
        tasks.append(task)
    for _ in range(STEPS):
        velocity = mink.solve_ik(configuration, tasks, STEP_SECONDS, "daqp", damping=1e-6, limits=[])
        configuration.integrate_inplace(velocity, STEP_SECONDS)
    return np.stack([configuration.data.body(name).xpos.copy() for name in JOINTS])


def compare(clip: Clip, recording: Recording, scale: float, frames: int) -> Compared:
    """A clip by both solvers in some of its frames."""
    root, local = torch.from_numpy(clip.root_pos), torch.from_numpy(clip.local_quats)
    positions = forward_kinematics(root, local)[0]
    joints = body_ids(JOINTS)
    targets = aligned_original(positions, clip, recording, scale)[:, joints].double().numpy()
    ours = positions[:, joints].double().numpy()
    picked = np.unique(np.linspace(0, clip.num_frames - 1, frames).round().astype(int))
    captured = local_rotations(resample(trim_ends(recording), clip.fps).quats).double().numpy()
    theirs = np.stack([solve(targets[frame], captured[frame, 0], captured[frame]) for frame in picked])

    def mean_cm(a: np.ndarray, b: np.ndarray) -> float:
        return 100.0 * float(np.linalg.norm(a - b, axis=-1).mean())

    return Compared(mean_cm(ours[picked], targets[picked]), mean_cm(theirs, targets[picked]), mean_cm(ours[picked], theirs))


def _run(arguments: Arguments, console: Console) -> int:
    """Compare and show."""
    clips = {clip.name: clip for clip in load_motion_file(arguments.motions)}
    sources = [source for source in find_sources(arguments.originals) if source.path.suffix.lower() in (".amc", ".bvh")]
    recordings: Dict[str, List[Recording]] = {}
    named = {source.name: source for source in sources}
    missing = [name for name in arguments.clips if name not in clips or name not in named]
    if missing:
        raise MotionFileError(f"clip '{missing[0]}' is not both in '{arguments.motions}' and in '{arguments.originals}'")
    table = Table("clip", "ours to targets (cm)", "mink's to targets (cm)", "ours to mink's (cm)")
    for name in arguments.clips:
        source = named[name]
        folder = str(source.path.parent)
        if folder not in recordings:
            beside = [one for one in sources if one.path.parent == source.path.parent and not one.needs_scene]
            recordings[folder] = [load_recording(one, Options()) for one in beside]
        recording = next(one for one in recordings[folder] if one.name == name)
        performer = measure_performer([one for one in recordings[folder] if one.skeleton == recording.skeleton])
        compared = compare(clips[name], recording, performer.scale, arguments.frames)
        table.add_row(name, *(f"{value:.2f}" for value in compared))
    console.print(table)
    return 0


def main() -> int:
    """Parse the command line and compare."""
    torch.set_num_threads(1)
    return run_main(lambda: _run(tyro.cli(Arguments, description=__doc__), Aside()))


if __name__ == "__main__":
    sys.exit(main())

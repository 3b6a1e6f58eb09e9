"""Mirrored clips against the reflection of the motion that they mirror."""

import numpy as np
import pytest
import torch
from synthetic_motion import swaying_clip

from puffer_phc import build, rotations
from puffer_phc.config import Config, EnvConfig
from puffer_phc.humanoid.kinematics import forward_kinematics
from puffer_phc.humanoid.skeleton import BODY_NAMES, OFFSETS, PARENTS
from puffer_phc.motion.file import load_motion_file, save_motion_file
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.mirror import MIRROR_IDS, mirror_clip, with_mirrored
from puffer_phc.resources import resource_root

REFLECTION = np.array([1.0, -1.0, 1.0])
SAMPLE = load_motion_file(resource_root() / EnvConfig().motion_file)


def world(clip):
    positions, quats = forward_kinematics(torch.from_numpy(clip.root_pos).double(), torch.from_numpy(clip.local_quats).double())
    return positions.numpy(), quats.numpy()


def places_on(offsets, clip, quats):
    """(F, B, 3) m of a skeleton with other ``offsets`` (B, 3), whose bodies turn as in the world rotations (F, B, 4)."""
    places = [torch.from_numpy(clip.root_pos).double()]
    for parent, offset in list(zip(PARENTS, torch.from_numpy(offsets)))[1:]:
        places.append(places[parent] + rotations.rotate(torch.from_numpy(quats[:, parent]), offset.expand(len(quats), 3)))
    return torch.stack(places, dim=1).numpy()


def test_left_and_right_change_places():
    assert BODY_NAMES[MIRROR_IDS[BODY_NAMES.index("L_Knee")]] == "R_Knee"
    assert BODY_NAMES[MIRROR_IDS[BODY_NAMES.index("R_Hand")]] == "L_Hand"
    assert BODY_NAMES[MIRROR_IDS[BODY_NAMES.index("Spine")]] == "Spine"
    assert [MIRROR_IDS[i] for i in MIRROR_IDS] == list(range(len(BODY_NAMES)))


@pytest.mark.parametrize("clip", [swaying_clip(40, 3), *SAMPLE[:3]], ids=lambda clip: clip.name)
def test_twice_is_the_clip_itself(clip):
    again = mirror_clip(mirror_clip(clip))
    assert again.name == clip.name
    np.testing.assert_array_equal(again.root_pos, clip.root_pos)
    np.testing.assert_array_equal(again.local_quats, clip.local_quats)
    assert mirror_clip(clip).name == f"{clip.name}_mirrored"


@pytest.mark.parametrize("clip", [swaying_clip(40, 3), *SAMPLE], ids=lambda clip: clip.name)
def test_on_a_symmetric_skeleton_it_is_the_reflection(clip):
    symmetric = 0.5 * (OFFSETS + REFLECTION * OFFSETS[list(MIRROR_IDS)])
    (positions, quats), (_, mirrored_quats) = world(clip), world(mirror_clip(clip))
    np.testing.assert_allclose(places_on(OFFSETS, clip, quats), positions, atol=1e-9)
    reflected = places_on(symmetric, clip, quats)[:, list(MIRROR_IDS)] * REFLECTION
    np.testing.assert_allclose(places_on(symmetric, mirror_clip(clip), mirrored_quats), reflected, atol=1e-9)
    same = np.abs((mirrored_quats * quats[:, list(MIRROR_IDS)] * [1, -1, 1, -1]).sum(-1))
    np.testing.assert_allclose(same, np.ones(same.shape), atol=1e-5)


@pytest.mark.parametrize("clip", SAMPLE, ids=lambda clip: clip.name)
def test_on_the_real_skeleton_it_is_as_near_as_the_skeleton_is_symmetric(clip):
    positions, _ = world(clip)
    mirrored, _ = world(mirror_clip(clip))
    away = np.linalg.norm(mirrored - positions[:, list(MIRROR_IDS)] * REFLECTION, axis=-1)
    assert away.max() < 0.025
    assert away.mean() < 0.010
    assert away.max() > 1e-3


def test_an_image_that_is_there_already_is_not_made_again():
    clips = with_mirrored([swaying_clip(20, 0), swaying_clip(20, 1)])
    assert [clip.name for clip in clips] == ["sway_0", "sway_1", "sway_0_mirrored", "sway_1_mirrored"]
    assert [clip.name for clip in with_mirrored(clips)] == [clip.name for clip in clips]


def test_the_option_doubles_the_clips_at_load(tmp_path):
    save_motion_file(tmp_path / "a.npz", [swaying_clip(20, 0), swaying_clip(30, 1)])
    plain = build.load_motions(Config(env=EnvConfig(motion_file=str(tmp_path / "a.npz"))), torch.device("cpu"))
    doubled = build.load_motions(Config(env=EnvConfig(motion_file=str(tmp_path / "a.npz"), mirror_motions=True)), torch.device("cpu"))
    assert doubled.names == [*plain.names, "sway_0_mirrored", "sway_1_mirrored"]
    assert doubled.num_frames.tolist() == [20, 30, 20, 30]


def test_a_mirrored_file_loads_again(tmp_path):
    save_motion_file(tmp_path / "a.npz", with_mirrored([swaying_clip(20, 0)]))
    assert [clip.name for clip in load_motion_file(tmp_path / "a.npz")] == ["sway_0", "sway_0_mirrored"]


def test_velocities_are_mirrored_too():
    clip = swaying_clip(60, 2)
    library = MotionLibrary([clip, mirror_clip(clip)], torch.device("cpu"))
    times = torch.arange(60) / 30.0
    plain, mirrored = library.at(torch.zeros(60, dtype=torch.long), times), library.at(torch.ones(60, dtype=torch.long), times)
    torch.testing.assert_close(mirrored.body.lin_vel[:, 0], plain.body.lin_vel[:, 0] * torch.tensor([1.0, -1.0, 1.0]), atol=1e-4, rtol=0)
    turned = plain.body.ang_vel[:, list(MIRROR_IDS)] * torch.tensor([-1.0, 1.0, -1.0])
    torch.testing.assert_close(mirrored.body.ang_vel, turned, atol=1e-3, rtol=0)

"""The motions in the repository: real, whole, on the floor, without jumps, with source and licence."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from puffer_phc import rotations
from puffer_phc.humanoid.skeleton import BODY_NAMES, body_ids
from puffer_phc.motion.deepmimic import LOCOMOTION, import_deepmimic
from puffer_phc.motion.file import load_motion_file
from puffer_phc.motion.floor import floor_height
from puffer_phc.motion.library import MotionLibrary

PATH = Path(__file__).parents[1] / "sample_data" / "deepmimic.npz"
NAMES = [
    "backflip",
    "cartwheel",
    "crawl",
    "dance_a",
    "dance_b",
    "getup_facedown",
    "getup_faceup",
    "jump",
    "kick",
    "punch",
    "roll",
    "run",
    "spin",
    "spinkick",
    "walk",
]
CLIPS = {clip.name: clip for clip in load_motion_file(PATH)}


@pytest.fixture(scope="module")
def library():
    return MotionLibrary(list(CLIPS.values()), torch.device("cpu"))


def reference(library, name):
    clip = library.names.index(name)
    times = torch.arange(int(library.num_frames[clip])) / 30.0
    ids = torch.full_like(times, clip).long()
    return library.at(ids, times), library.clearance(ids, times)


def test_all_fifteen_are_there_and_small():
    assert list(CLIPS) == NAMES
    assert PATH.stat().st_size < 1_000_000
    for clip in CLIPS.values():
        assert clip.fps == 30.0
        assert "pybullet" in clip.source
        assert "zlib licence" in clip.licence
        assert "may not be removed or altered" in clip.licence


@pytest.mark.parametrize("name", LOCOMOTION)
def test_cycles_last_five_seconds(name):
    assert CLIPS[name].duration >= 5.0


@pytest.mark.parametrize("name", NAMES)
def test_nothing_sinks_into_the_floor(library, name):
    _, clearance = reference(library, name)
    assert clearance.min() > -0.025
    assert floor_height(clearance).abs() < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_no_joint_jumps(name):
    quats = torch.from_numpy(CLIPS[name].local_quats)
    steps = rotations.to_rotation_vector(rotations.multiply(rotations.conjugate(quats[:-1]), quats[1:]))
    speed = torch.rad2deg(steps.norm(dim=-1))
    assert speed.max() < 65.0
    excess = torch.rad2deg((steps[1:-1] - 0.5 * (steps[:-2] + steps[2:])).norm(dim=-1))
    usual = torch.maximum(speed[:-2], speed[2:])
    worst = (excess - 4.0 * usual).max()
    assert worst < 12.0, f"{BODY_NAMES[int((excess - 4.0 * usual).amax(0).argmax())]} jumps"


@pytest.mark.parametrize("name", NAMES)
def test_knees_and_elbows_bend_the_human_way(name):
    dofs = rotations.to_rotation_vector(torch.from_numpy(CLIPS[name].local_quats))
    for knee in body_ids(("L_Knee", "R_Knee")):
        assert dofs[:, knee, 1].min() > -0.2
        assert dofs[:, knee, [0, 2]].abs().max() < 0.1
    left, right = body_ids(("L_Elbow", "R_Elbow"))
    assert dofs[:, left, 2].max() < 0.25
    assert dofs[:, right, 2].min() > -0.25


@pytest.mark.parametrize(("name", "speed"), [("walk", (0.7, 1.3)), ("run", (2.5, 4.0))])
def test_locomotion_goes_where_it_faces(library, name, speed):
    body = reference(library, name)[0].body
    travel = (body.pos[-1, 0] - body.pos[0, 0]) / float(library.durations[library.names.index(name)])
    facing = rotations.rotate(rotations.heading(body.quat[:, 0]), torch.tensor([1.0, 0.0, 0.0])).mean(0)
    assert speed[0] < float(travel @ facing) < speed[1]
    assert abs(float(travel[1])) < 0.05


def test_walking_feet_stand_flat_and_still(library):
    body = reference(library, "walk")[0].body
    for ankle in body_ids(("L_Ankle", "R_Ankle")):
        height = body.pos[:, ankle, 2]
        standing = height < 0.08
        assert 0.3 < standing.float().mean() < 0.75
        up = rotations.rotate(body.quat[standing, ankle], torch.tensor([0.0, 0.0, 1.0]))
        assert up[:, 2].min() > np.cos(np.deg2rad(25))
        steps = (body.pos[1:, ankle, :2] - body.pos[:-1, ankle, :2]).norm(dim=-1) * 30
        assert steps[standing[1:] & standing[:-1]].median() < 0.2


def test_acrobatics_turn_over(library):
    for name in ("backflip", "cartwheel"):
        body = reference(library, name)[0].body
        up = rotations.rotate(body.quat[:, 0], torch.tensor([0.0, 0.0, 1.0]))
        assert up[:, 2].min() < -0.7
        assert up[[0, -1], 2].min() > 0.9
    turned = reference(library, "backflip")[0].body.ang_vel[:, 0].sum(0) / 30.0
    torch.testing.assert_close(turned, torch.tensor([0.0, -2 * np.pi, 0.0]), atol=0.5, rtol=0)


def test_the_importer_makes_this_file():
    package = importlib.util.find_spec("pybullet_data")
    if package is None or package.origin is None:
        pytest.skip("pybullet, the source of the motions, is not installed")
    folder = Path(package.origin).parent / "data" / "motions"
    for name in ("walk", "backflip", "crawl"):
        made = import_deepmimic(folder / f"humanoid3d_{name}.txt")
        np.testing.assert_allclose(made.root_pos, CLIPS[name].root_pos, atol=1e-4)
        np.testing.assert_allclose(np.abs((made.local_quats * CLIPS[name].local_quats).sum(-1)), 1.0, atol=1e-5)

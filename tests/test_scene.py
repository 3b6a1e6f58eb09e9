"""What is drawn where: shapes on bodies as MuJoCo places them, humanoids on their grid, meshes closed and facing outwards."""

import math

import mujoco
import numpy as np
import pytest
import torch
from synthetic_motion import random_body, swaying_library

from puffer_phc import rotations
from puffer_phc.humanoid.mjcf import PhysicsOptions, build_mjcf
from puffer_phc.humanoid.skeleton import BODY_NAMES, NUM_BODIES
from puffer_phc.view import meshes
from puffer_phc.view.scene import (
    BESIDE,
    PALETTE,
    REFERENCE_COLOUR,
    REFERENCE_OPACITY,
    SPACING,
    Focus,
    colours,
    grid,
    humanoid_shapes,
    place,
    simple_shapes,
    slim,
    stage,
)
from puffer_phc.view.session import Frame, Settings


def frame_of(body, origins=None):
    count = len(body.pos)
    zeros = torch.zeros(count)
    origins = torch.zeros(count, 3) if origins is None else origins
    names = tuple(f"clip_{index}" for index in range(count))
    return Frame(body.pos, body.quat, body.pos, body.quat, body.pos, origins, zeros, zeros, zeros + 1.0, names)


@pytest.mark.parametrize("behind", [*PALETTE, (0.73, 0.75, 0.78), (0.53, 0.56, 0.59)], ids=str)
def test_the_reference_is_seen_before_every_humanoid_and_floor(behind):
    """What is seen through it differs from what stands beside it by a tenth of the brightness of some colour."""
    difference = REFERENCE_OPACITY * (torch.tensor(REFERENCE_COLOUR) - torch.tensor(behind))
    assert float(difference.abs().max()) > 0.1


def test_shapes_stand_where_mujoco_puts_the_collision_shapes():
    model = mujoco.MjModel.from_xml_string(build_mjcf(PhysicsOptions()))
    data = mujoco.MjData(model)
    data.qpos[:] = np.random.default_rng(0).normal(size=model.nq)
    mujoco.mj_normalizeQuat(model, data.qpos)
    mujoco.mj_forward(model, data)
    body_ids = [model.body(name).id for name in BODY_NAMES]
    shapes = humanoid_shapes()
    body_pos, body_quat = (torch.tensor(array[body_ids]).float()[None] for array in (data.xpos, data.xquat))
    pos, quat = place(shapes, body_pos, body_quat)
    geoms = [model.geom(BODY_NAMES[int(body)]).id for body in shapes.bodies]
    np.testing.assert_allclose(pos[0], data.geom_xpos[geoms], atol=1e-5)
    axes = rotations.to_matrix(quat[0])[:, :, 2].double().numpy()
    expected = data.geom_xmat[geoms].reshape(-1, 3, 3)[:, :, 2]
    is_ball = np.array([kind == "sphere" for kind in shapes.kinds])
    alignment = np.abs((axes * expected).sum(-1))
    np.testing.assert_allclose(alignment[~is_ball], 1.0, atol=1e-5)
    for index, (kind, geom) in enumerate(zip(shapes.kinds, geoms)):
        own = shapes.size[index].numpy()
        own = {"capsule": own[[0, 2]], "sphere": own[:1], "box": own}[kind]
        np.testing.assert_allclose(own, model.geom_size[geom][: len(own)], atol=1e-6)


def test_simple_shapes_fill_the_capsules():
    whole, simple = humanoid_shapes(), simple_shapes()
    assert set(simple.kinds) == {"sphere", "cylinder", "box"}
    for index in [index for index, kind in enumerate(whole.kinds) if kind == "capsule"]:
        same_body = [i for i, body in enumerate(simple.bodies) if body == whole.bodies[index]]
        ends = simple.pos[[i for i in same_body if simple.kinds[i] == "sphere"]]
        assert len(ends) == 2
        torch.testing.assert_close(ends.mean(0), whole.pos[index])
        torch.testing.assert_close((ends[0] - ends[1]).norm() / 2, whole.size[index, 2])


def test_a_slim_reference_lies_inside():
    shapes = humanoid_shapes()
    shrunk = shapes.size - slim(shapes).size
    assert (shrunk > 0.0).all()
    assert (shrunk <= 0.01 + 1e-6).all()
    assert (slim(shapes).size > 0.0).all()


@pytest.mark.parametrize("count", [1, 2, 4, 5, 16, 17])
def test_cells_of_the_grid_are_apart_and_around_the_origin(count):
    cells = grid(count)
    distances = torch.cdist(cells, cells) + torch.eye(count) * 1e3
    assert count == 1 or float(distances.min()) == pytest.approx(SPACING)
    assert float(cells[:, 2].abs().max()) == 0.0
    assert float(cells.abs().max()) <= SPACING * math.ceil(math.sqrt(count)) / 2


def test_clips_begin_at_their_cells_wherever_they_were_recorded():
    library = swaying_library(40, 40)
    start = library.at(torch.arange(2), torch.zeros(2)).body
    origins = start.pos[:, 0] * torch.tensor([1.0, 1.0, 0.0])
    staged = stage(frame_of(start, origins), Settings())
    torch.testing.assert_close(staged.body_pos[:, 0, :2], grid(2)[:, :2])
    torch.testing.assert_close(staged.body_pos[..., 2], start.pos[..., 2])


def test_the_reference_stands_over_or_beside():
    frame = frame_of(random_body(0, 2))
    over, beside = stage(frame, Settings()), stage(frame, Settings(beside=True))
    torch.testing.assert_close(over.reference_pos, over.body_pos)
    torch.testing.assert_close(beside.body_pos, over.body_pos)
    torch.testing.assert_close((beside.reference_pos - beside.body_pos).norm(dim=-1), torch.full((2, NUM_BODIES), BESIDE))


def test_colours_repeat_and_shift():
    shades = humanoid_shapes().shades
    plain = colours(len(PALETTE) + 1, shades, 0)
    torch.testing.assert_close(plain[0], plain[-1])
    torch.testing.assert_close(colours(1, shades, 2)[0], plain[2])
    left, right = (humanoid_shapes().bodies == BODY_NAMES.index(name) for name in ("L_Knee", "R_Knee"))
    assert (plain[0][right] < plain[0][left]).all()


def test_the_focus_follows_smoothly_jumps_far_and_stands_still_when_told():
    focus, here, there = Focus(), torch.tensor([[0.0, 0.0, 0.9]]), torch.tensor([[1.0, 0.0, 0.9]])
    torch.testing.assert_close(focus.move(here, Settings(), 0.03), torch.zeros(3))
    moved = focus.move(there, Settings(), 0.03)
    assert 0.0 < float(moved[0]) < 0.5
    assert float(focus.move(there, Settings(follow=False), 9.0)[0]) == float(moved[0])
    assert float(focus.move(there, Settings(), 9.0)[0]) == pytest.approx(1.0)
    assert float(focus.move(there + torch.tensor([5.0, 0.0, 0.0]), Settings(), 0.03)[0]) == pytest.approx(6.0)


@pytest.mark.parametrize(("name", "volume"), [("sphere", 4.0 / 3.0 * math.pi), ("box", 8.0), ("cylinder", 2.0 * math.pi * 2.0 / 3.0)])
def test_meshes_face_outwards(name, volume):
    """The flux of the position through the surface is three times the volume; a cylinder without lids has two thirds of it."""
    vertices, faces = meshes.unit_meshes()[name]
    a, b, c = (vertices[faces[:, corner]].astype(float) for corner in range(3))
    flux = (np.cross(a, b) * c).sum() / 6.0
    assert flux == pytest.approx(volume, rel=0.08)
    assert flux <= volume + 1e-6
    assert np.abs(vertices).max() <= 1.0 + 1e-6

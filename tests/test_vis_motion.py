"""The clip viewer: its clock and keys, its poses against the motion library, its videos."""

import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_motion import swaying_clip

from puffer_phc.motion.file import load_motion_file, save_motion_file
from puffer_phc.motion.frame_rate import resample
from puffer_phc.resources import resource_root

pytest.importorskip("mujoco")

from puffer_phc.view.motion_player import KEYS, Player, Puppet, pictures, press

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
SAMPLES = resource_root() / "sample_data" / "deepmimic.npz"
CODES = {key.name: key.code for key in KEYS}


@pytest.fixture
def player():
    return Player([swaying_clip(61, 0), swaying_clip(31, 1), swaying_clip(91, 2)])


def test_the_clock_runs_at_the_true_rate(player):
    for _ in range(60):
        player.advance(1.0 / 60.0)
    assert player.time == pytest.approx(1.0)
    player.advance(1.5)
    assert player.time == pytest.approx(0.5)
    fast = resample(swaying_clip(61, 0), 250.0)
    assert fast.num_frames == 501
    there, here = Player([fast]), Player([swaying_clip(61, 0)])
    there.advance(1.0)
    here.advance(1.0)
    np.testing.assert_allclose(there.reference().body.pos, here.reference().body.pos, atol=2e-3)


def test_keys(player):
    press(player, CODES["right"])
    assert player.clip.name == "sway_1"
    press(player, CODES["left"])
    press(player, CODES["left"])
    assert player.clip.name == "sway_2"
    press(player, CODES["space"])
    player.advance(1.0)
    assert player.time == 0.0
    press(player, CODES["space"])
    press(player, CODES["up"])
    player.advance(0.5)
    assert player.time == pytest.approx(1.0)
    for _ in range(9):
        press(player, CODES["down"])
    player.advance(1.0)
    assert player.time == pytest.approx(1.1)
    press(player, CODES["home"])
    press(player, CODES["keypad +"])
    assert player.time == pytest.approx(1 / 30)
    press(player, CODES["keypad -"])
    press(player, CODES["enter"])
    press(player, CODES["keypad -"])
    assert player.time == 0.0
    press(player, CODES["space"])
    for _ in range(9):
        press(player, CODES["up"])
    player.advance(100.0)
    assert player.time == player.clip.duration
    assert player.is_over
    press(player, ord("Q"))
    assert "sway_2" in player.status()
    assert "once" in player.status()


def test_keys_are_different():
    assert len({key.code for key in KEYS}) == len({key.name for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize("clip", [*load_motion_file(SAMPLES), swaying_clip(40, 5)], ids=lambda clip: clip.name)
def test_bodies_lie_on_their_markers(clip):
    player, puppet = Player([clip]), Puppet()
    for frame in range(0, clip.num_frames, 5):
        for time in (frame / 30.0, (frame + 0.4) / 30.0):
            player.time = min(time, clip.duration)
            puppet.place(player.reference())
            assert puppet.marker_error() < 1e-5
        player.time = frame / 30.0
        puppet.place(player.reference())
        np.testing.assert_allclose(puppet.marker_pos, player.reference().body.pos[0], atol=1e-5)


def test_rotation_vectors_as_hinge_angles_would_be_seen():
    """Three hinges about x, y and z turned by the components of a rotation vector: the original's mistake."""
    from scipy.spatial.transform import Rotation

    player, puppet = Player([swaying_clip(61, 3)]), Puppet()
    player.time = 1.0
    puppet.place(player.reference())
    vectors = player.reference().dof_pos[0].view(-1, 3).numpy()
    wrong = Rotation.from_euler("XYZ", vectors).as_quat()[:, [3, 0, 1, 2]]
    import mujoco

    puppet.data.qpos[7:] = wrong.reshape(-1)
    mujoco.mj_kinematics(puppet.model, puppet.data)
    assert puppet.marker_error() > 5e-3


def test_floor():
    clip = swaying_clip(61, 0)
    kept = Player([clip], sets_floor=False).reference().body.pos[0, 0, 2]
    assert kept == pytest.approx(float(clip.root_pos[0, 2]))
    assert Player([clip]).reference().body.pos[0, 0, 2] != pytest.approx(float(kept), abs=1e-3)


def drawing_works():
    from puffer_phc.view.offscreen import open_context

    try:
        open_context(64, 48).free()
    except Exception:
        return False
    return True


def run(monkeypatch, *arguments):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", ["vis_motion_mj.py", *map(str, arguments)])
    import vis_motion_mj

    return vis_motion_mj.main()


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_a_video_without_a_display(tmp_path, monkeypatch, ending):
    if not drawing_works():
        pytest.skip("no OpenGL here")
    import imageio.v3

    monkeypatch.delenv("DISPLAY", raising=False)
    path = tmp_path / f"a.{ending}"
    assert run(monkeypatch, "-m", SAMPLES, "-i", 14, "--video", path, "--width", 160, "--height", 128, "--fps", 10, "--seconds", 1) == 0
    frames = imageio.v3.imread(path)
    assert frames.shape == (10, 128, 160, 3)
    middle = frames[:, 24:104, 50:110].astype(float)
    assert middle.std(axis=(1, 2, 3)).min() > 10.0
    assert np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3)).min() > 0.2
    assert not list(tmp_path.glob(".*"))


def test_the_markers_are_drawn():
    if not drawing_works():
        pytest.skip("no OpenGL here")
    player, puppet = Player(load_motion_file(SAMPLES), 14), Puppet()
    (picture,) = pictures(player, puppet, (320, 240), 30.0, 0.01)
    red = (picture[..., 0] > 180) & (picture[..., 1] < 70) & (picture[..., 2] < 70)
    assert red.sum() > 30


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-m", "none.npz"), "does not exist"),
        (("-i", "15"), "clips 0 … 14"),
        (("-i", "-1"), "clips 0 … 14"),
        (("--video", "a.avi"), ".mp4 or .gif"),
        (("--speed", "0"), "more than 0"),
        ((), "--video clip.mp4"),
    ],
)
def test_mistakes_end_with_one_line(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if not arguments and not sys.platform.startswith("linux"):
        pytest.skip("windows open without these variables")
    assert run(monkeypatch, *arguments) == 2
    assert text in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_list(tmp_path, monkeypatch, capsys):
    save_motion_file(tmp_path / "a.npz", [swaying_clip(61, 0), swaying_clip(31, 1)])
    assert run(monkeypatch, "-m", tmp_path / "a.npz", "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    assert "sway_1" in lines[1]
    assert "1.00 s" in lines[1]

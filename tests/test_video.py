"""Videos: whole files or none, tiles that fill the picture, a humanoid where it should be."""

import os
import subprocess
import sys
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image
from playing import save_policy, small_session
from test_play import files  # noqa: F401

from puffer_phc.command_line import INTERRUPTED
from puffer_phc.errors import BackendError, ConfigError
from puffer_phc.main import main
from puffer_phc.play.session import PlaySession
from puffer_phc.view import offscreen
from puffer_phc.view.session import Settings
from puffer_phc.view.video import VideoFile, VideoRecorder, caption, tile_rectangles


@pytest.fixture(scope="module")
def has_opengl():
    try:
        offscreen.open_context(16, 16).free()
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture
def session(tmp_path):
    opened = small_session(tmp_path)
    yield opened
    opened.close()


def pictures_of(path):
    with imageio.get_reader(path) as reader:
        return [picture for picture in reader]  # noqa: C416 (list() asks an endless-looking reader for its length)


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_a_file_has_every_picture_at_its_rate_and_appears_when_it_is_whole(tmp_path, ending):
    path = tmp_path / f"out.{ending}"
    video = VideoFile(path, 64, 48, 30.0)
    for brightness in range(0, 200, 20):
        video.add(np.full((48, 64, 3), brightness, dtype=np.uint8))
    assert not path.exists()
    assert video.close() == str(path)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    if ending == "mp4":
        pictures = pictures_of(path)
        assert imageio.get_reader(path).get_meta_data()["fps"] == pytest.approx(30.0)
    else:
        with Image.open(path) as image:
            durations, pictures = [], []
            for index in range(image.n_frames):
                image.seek(index)
                durations.append(image.info["duration"])
                pictures.append(np.asarray(image.convert("RGB")))
        assert sum(durations) == pytest.approx(1000.0 * 10 / 30.0, abs=10.0)
    kept = range(0, 200, 20) if ending == "mp4" else range(0, 200, 40)
    assert len(pictures) == len(kept)
    for brightness, picture in zip(kept, pictures):
        assert abs(float(picture.mean()) - brightness) < 6.0


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_a_cancelled_file_leaves_nothing(tmp_path, ending):
    video = VideoFile(tmp_path / f"out.{ending}", 64, 48, 30.0)
    video.add(np.zeros((48, 64, 3), dtype=np.uint8))
    video.cancel()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_a_file_without_pictures_is_an_error_and_no_file(tmp_path, ending):
    with pytest.raises(ConfigError, match=f"out.{ending}' has no picture"):
        VideoFile(tmp_path / f"out.{ending}", 64, 48, 30.0).close()
    assert not list(tmp_path.iterdir())


def test_unknown_endings_and_unwritable_places_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.mp4 or \.gif"):
        VideoFile(tmp_path / "out.avi", 64, 48, 30.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"out\.mp4"):
        VideoFile(tmp_path / "file" / "out.mp4", 64, 48, 30.0)
    (tmp_path / "folder.mp4").mkdir()
    for path, reason in (("folder.mp4", "it is a folder"), (".", r"\.mp4 or \.gif")):
        with pytest.raises(ConfigError, match=reason):
            VideoFile(tmp_path / path, 64, 48, 30.0)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["file", "folder.mp4"]


@pytest.mark.parametrize("share", [0.999, 0.3])
@pytest.mark.parametrize("ending", ["mp4", "gif"])
def test_a_disk_that_fills_up_leaves_no_half_video(tmp_path, ending, share):
    """ffmpeg says so when it ends, after the last picture."""
    resource = pytest.importorskip("resource")
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 255, (240, 320, 3), dtype=np.uint8) for _ in range(20)]

    def write(path):
        video = VideoFile(path, 320, 240, 30.0)
        for picture in pictures:
            video.add(picture)
        video.close()

    write(tmp_path / f"whole.{ending}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * (tmp_path / f"whole.{ending}").stat().st_size), before[1]))
    try:
        with pytest.raises(ConfigError, match=f"can't write '.*half.{ending}'"):
            write(tmp_path / f"half.{ending}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [item.name for item in tmp_path.iterdir()] == [f"whole.{ending}"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16])
def test_tiles_lie_in_the_picture_without_overlap(count):
    covered = np.zeros((120, 162), dtype=int)
    for left, bottom, width, height in tile_rectangles(count, 162, 120):
        assert width > 0 and height > 0
        covered[bottom : bottom + height, left : left + width] += 1
    assert covered.max() == 1
    assert count not in (1, 2, 4, 16) or covered.min() == 1


def test_the_first_tile_is_at_the_top_left():
    assert tile_rectangles(4, 100, 80)[0] == (0, 40, 50, 40)


def test_captions_name_clip_time_and_error(session):
    frame = session.frame()._replace(errors=torch.tensor([0.0, 0.0123, 0.0]), times=torch.tensor([0.0, 0.5, 0.0]))
    assert caption(frame, 1) == "sway_1\n0.5 / 2.0 s   12 mm"


@pytest.mark.usefixtures("has_opengl")
def test_pictures_show_humanoids_in_their_colours_with_reference_and_markers(tmp_path, session):
    recorder = VideoRecorder(tmp_path / "x.mp4", 160, 120, 30.0, [0])
    plain = Settings(reference=False, markers=False)

    def picture(**changes):
        return recorder.picture(session.frame(), plain._replace(**changes)).astype(int)

    bare = picture()
    middle = bare[40:90, 60:100]
    assert (middle[..., 2] - middle[..., 0] > 25).sum() > 100, "the first humanoid is blue"
    orange = picture(colour_shift=1)[40:90, 60:100]
    assert (orange[..., 0] - orange[..., 2] > 25).sum() > 100
    red = picture(markers=True)
    assert ((red[..., 0] - red[..., 1] > 90).sum()) > 10 > (bare[..., 0] - bare[..., 1] > 90).sum()
    beside = picture(reference=True, beside=True)
    assert ((beside[..., 1] - beside[..., 0] > 25) & (beside[..., 1] - beside[..., 2] > 10)).sum() > 50
    recorder.cancel()


@pytest.mark.usefixtures("has_opengl")
def test_the_camera_follows(tmp_path, session):
    """A humanoid that is metres away is drawn where it was drawn before."""
    recorder = VideoRecorder(tmp_path / "x.mp4", 160, 120, 30.0, [0])
    settings, frame = Settings(reference=False, markers=False), session.frame()
    moved = frame._replace(body_pos=frame.body_pos + torch.tensor([4.0, 2.0, 0.0]))

    def centre(picture):
        blue = picture.astype(int)[25:, :, 2] - picture.astype(int)[25:, :, 0] > 25
        return np.argwhere(blue).mean(axis=0)

    np.testing.assert_allclose(centre(recorder.picture(moved, settings)), centre(recorder.picture(frame, settings)), atol=2.0)
    recorder.cancel()


@pytest.mark.usefixtures("has_opengl")
@pytest.mark.parametrize(("name", "count"), [("clip.mp4", 9), ("clip.gif", 5)])
def test_play_writes_a_video_without_a_display(files, tmp_path, capsys, name, count):  # noqa: F811
    sizes = ["--video.width", "160", "--video.height", "120", "--video.seconds", "0.3", "--play.num_envs", "2"]
    assert main([*files, "--viewer", "video", "--video.path", name, *sizes]) == 0
    assert [item.name for item in (tmp_path / "here").iterdir()] == [name]
    assert len(pictures_of(tmp_path / "here" / name)) == count
    assert name in capsys.readouterr().out


@pytest.mark.usefixtures("has_opengl")
def test_a_recording_is_a_video_in_the_output_folder(tmp_path, session):
    for _ in range(2):
        session.post("recording")
        session.obey()
        if session.settings.recording:
            session.advance(3 * session.control_dt)
    (path,) = tmp_path.glob("recording_*.mp4")
    assert len(pictures_of(path)) == 3


@pytest.mark.usefixtures("has_opengl")
def test_ctrl_c_leaves_no_video(files, monkeypatch, capsys):  # noqa: F811
    step, steps = PlaySession.step, []

    def interrupted(session):
        step(session)
        steps.append(session)
        if len(steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(PlaySession, "step", interrupted)
    assert main([*files, "--viewer", "video"]) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
    assert not list(Path.cwd().iterdir())


def test_without_opengl_the_error_names_what_was_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(offscreen, "candidates", lambda: ("no_such_binding", "nor_this"))
    with pytest.raises(BackendError, match=r"no_such_binding.*nor_this.*libosmesa6"):
        VideoRecorder(tmp_path / "x.mp4", 160, 120, 30.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("has_opengl")
def test_where_egl_has_no_device_the_next_one_is_tried(tmp_path):
    """In a process of its own, because PyOpenGL's platform is chosen once."""
    code = "from puffer_phc.view import offscreen; c = offscreen.open_context(16, 16); print(type(c).__module__); c.free()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MUJOCO_EGL_DEVICE_ID": "99"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        assert "BackendError" in done.stderr and "egl" in done.stderr
    else:
        assert done.stdout.split()[-1] != "mujoco.egl"


def test_the_checkpoint_is_not_touched_by_playing(tmp_path):
    path = save_policy(tmp_path / "model_000001.pt")
    before = path.read_bytes()
    small_session(tmp_path).close()
    assert path.read_bytes() == before

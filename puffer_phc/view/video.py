"""Videos: each tile of the picture follows one humanoid; .mp4 by ffmpeg, .gif by Pillow, whole files or none."""

import contextlib
import math
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from puffer_phc.errors import BackendError, ConfigError
from puffer_phc.files import make_new
from puffer_phc.view.scene import LOOK_HEIGHT, Focus, stage
from puffer_phc.view.session import Frame, Settings

FORMATS = (".mp4", ".gif")
_DISTANCE, _AZIMUTH, _ELEVATION = 3.6, 130.0, -12.0
_ASIDE = 0.6
"""m of the way to a reference that stands beside."""
_GIF_PICTURES_PER_SECOND = 15.0


class VideoFile:
    """A file of pictures of one size, ``fps`` a second; it appears under its name when it is whole.

    A .gif keeps one of so many pictures that no more than 15 a second are left: it hardly compresses.
    Raises ConfigError for an ending other than ``FORMATS`` and for a place where nothing can be written.
    """

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        self.path = path
        self._check_name()
        self._partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
        self._fps, self._stride = fps, math.ceil(fps / _GIF_PICTURES_PER_SECOND - 1e-6)
        self._pictures: List[Any] = []
        self._count = 0
        self._begin()
        try:
            self._ffmpeg = _Ffmpeg(self._partial, width, height, fps) if path.suffix == ".mp4" else None
        except BackendError:
            self._partial.unlink()
            raise

    def _check_name(self) -> None:
        if self.path.suffix not in FORMATS:
            raise ConfigError(f"video '{self.path}' has to end in {' or '.join(FORMATS)}")
        if self.path.is_dir():
            raise ConfigError(f"can't write '{self.path}': it is a folder")

    def _begin(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            make_new(self._partial)
        except OSError as error:
            raise ConfigError(f"can't write '{self.path}': {error.strerror}") from error

    def add(self, picture: np.ndarray) -> None:
        """Add a picture (height, width, 3) uint8."""
        if self._ffmpeg is not None:
            with self._errors():
                self._ffmpeg.add(picture)
        elif self._count % self._stride == 0:
            self._pictures.append(_quantized(picture))
        self._count += 1

    def close(self) -> str:
        """Finish the file; returns its path. Raises ConfigError, and leaves no file, where it can't be written or has no picture."""
        if self._count == 0:
            self.cancel()
            raise ConfigError(f"'{self.path}' has no picture: nothing was written")
        with self._errors():
            if self._ffmpeg is not None:
                self._ffmpeg.close()
            else:
                durations = _durations(len(self._pictures), self._fps / self._stride)
                first, *others = self._pictures
                first.save(self._partial, format="GIF", save_all=True, append_images=others, duration=durations, loop=0, optimize=False)
            self._partial.replace(self.path)
        return str(self.path)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What the system refuses, as a ConfigError; no file is left."""
        try:
            yield
        except OSError as error:
            self.cancel()
            raise ConfigError(f"can't write '{self.path}': {error.strerror or error}") from error

    def cancel(self) -> None:
        """Leave no file."""
        if self._ffmpeg is not None:
            self._ffmpeg.cancel()
        if self._partial.exists():
            self._partial.unlink()


class _Ffmpeg:
    """Takes pictures into an H.264 file. ``OSError`` with ffmpeg's last word where it gives up, at the end too."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        pictures = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-"]
        film = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "15", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"]
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (a pipe that is full would stop ffmpeg)
        try:
            self._process = subprocess.Popen(
                [_ffmpeg(), "-y", "-v", "error", *pictures, *film, str(path.absolute())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                start_new_session=True,  # Ctrl-C is for us: the film is finished all the same
            )
        except OSError as error:
            raise BackendError(f"ffmpeg cannot be started ({error}); write a .gif") from error

    def add(self, picture: np.ndarray) -> None:
        """Add a picture (height, width, 3) uint8."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(picture).data)
        except BrokenPipeError:
            raise self._failure() from None

    def close(self) -> None:
        """Wait until the file is whole."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        if self._process.returncode != 0:
            raise self._failure()

    def cancel(self) -> None:
        """Leave the file as it is."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()

    def _failure(self) -> OSError:
        self._process.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").splitlines()
        said = [line.rpartition("] ")[2] for line in lines if line.strip()]
        return OSError(said[-1] if said else f"ffmpeg ended with {self._process.returncode}")


def _ffmpeg() -> str:
    """The program."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise BackendError(f"no ffmpeg for .mp4 ({error}); install imageio[ffmpeg], or write a .gif") from error


def _quantized(picture: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(picture).quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _durations(count: int, fps: float) -> List[int]:
    """Milliseconds of each picture, in the hundredths of a second that a GIF knows, without drifting."""
    ends = [round(100.0 * (index + 1) / fps) for index in range(count)]
    return [10 * (end - start) for start, end in zip([0, *ends], ends)]


class VideoRecorder:
    """Draws frames into a file.

    ``tiles`` are the humanoids that get a part of the picture each, alone in it; None: everything, as the settings look at it.
    """

    def __init__(self, path: Path, width: int, height: int, fps: float, tiles: Optional[Sequence[int]] = None) -> None:
        from puffer_phc.view.mujoco_scene import Figures
        from puffer_phc.view.offscreen import Canvas

        self._file = VideoFile(path, width, height, fps)
        try:
            self._canvas = Canvas(width, height)
        except BackendError:
            self._file.cancel()
            raise
        self._figures, self._tiles, self._dt = Figures(), tiles, 1.0 / fps
        self._focus = [Focus() for _ in tiles or (0,)]

    def add(self, frame: Frame, settings: Settings) -> None:
        """Add the picture of ``frame``."""
        self._file.add(self.picture(frame, settings))

    def picture(self, frame: Frame, settings: Settings) -> np.ndarray:
        """(height, width, 3) uint8."""
        width, height = self._canvas.width, self._canvas.height
        tiles = [settings.humanoid] if self._tiles is None else list(self._tiles)
        rectangles = tile_rectangles(len(tiles), width, height)
        staged = stage(frame, settings)
        for humanoid, rectangle, focus in zip(tiles, rectangles, self._focus):
            looked_at = settings._replace(humanoid=humanoid)
            point = focus.move(staged.body_pos[:, 0], looked_at, self._dt)
            self._canvas.board.light_up(point)
            self._canvas.begin(_camera(point, settings.beside and settings.reference))
            self._figures.add(self._canvas.scene, frame, staged, settings, None if self._tiles is None else [humanoid])
            self._canvas.draw(*rectangle)
        return _with_captions(self._canvas.read(), frame, tiles, rectangles)

    def close(self) -> str:
        """Finish the file; returns its path."""
        self._canvas.close()
        return self._file.close()

    def cancel(self) -> None:
        """Leave no file."""
        self._canvas.close()
        self._file.cancel()


def _camera(point: Tensor, has_reference_beside: bool) -> Any:
    from puffer_phc.view.mujoco_scene import camera

    look_at = point + torch.tensor([0.0, _ASIDE if has_reference_beside else 0.0, LOOK_HEIGHT])
    return camera(look_at, _DISTANCE + (_ASIDE if has_reference_beside else 0.0), _AZIMUTH, _ELEVATION)


def tile_rectangles(count: int, width: int, height: int) -> List[Tuple[int, int, int, int]]:
    """(left, bottom, width, height) in pixels of ``count`` tiles that fill the picture, the first at the top left."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    rectangles = []
    for index in range(count):
        column, row = index % columns, index // columns
        left, right = width * column // columns, width * (column + 1) // columns
        bottom, top = height * (rows - 1 - row) // rows, height * (rows - row) // rows
        rectangles.append((left, bottom, right - left, top - bottom))
    return rectangles


def _with_captions(picture: np.ndarray, frame: Frame, tiles: Sequence[int], rectangles: Sequence[Tuple[int, int, int, int]]) -> np.ndarray:
    """The picture with each tile's clip, time and error at its top left."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(min(max(rectangles[0][2] // 20, 9), 15))
    for humanoid, (left, bottom, _, height) in zip(tiles, rectangles):
        corner = (left + 6, picture.shape[0] - bottom - height + 4)
        pen.text(corner, caption(frame, humanoid), fill=(20, 24, 30), font=font)
    return np.asarray(image)


def caption(frame: Frame, humanoid: int) -> str:
    """Clip, time and error of one humanoid in two lines."""
    time, duration, error = (float(values[humanoid]) for values in (frame.times, frame.durations, frame.errors))
    return f"{frame.clips[humanoid]}\n{time:.1f} / {duration:.1f} s   {1000.0 * error:.0f} mm"

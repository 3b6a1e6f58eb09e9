"""Single pictures of a humanoid and its reference, for reports."""

import io
from typing import Any, List, Sequence

from puffer_phc.errors import BackendError
from puffer_phc.view.scene import LOOK_HEIGHT, stage
from puffer_phc.view.session import Frame, Settings

_AZIMUTH, _ELEVATION, _DISTANCE = 130.0, -12.0, 2.9
_JPEG_QUALITY = 86


def stills(frame: Frame, humanoids: Sequence[int], width: int = 300, height: int = 330) -> List[bytes]:
    """A JPEG of each of the ``humanoids`` of ``frame``, alone with its translucent reference.

    Raises BackendError where nothing can be drawn.
    """
    try:
        from puffer_phc.view.mujoco_scene import Figures, camera
        from puffer_phc.view.offscreen import Canvas
    except ImportError as error:
        raise BackendError(f"pictures need MuJoCo ({error})") from error
    canvas, figures = Canvas(width, height), Figures()
    settings = Settings(markers=False)
    staged = stage(frame, settings)
    pictures = []
    for humanoid in humanoids:
        middle = (staged.body_pos[humanoid, 0] + staged.reference_pos[humanoid, 0]) / 2
        middle[2] = 0.0
        canvas.board.light_up(middle)
        middle[2] = LOOK_HEIGHT
        canvas.begin(camera(middle, _DISTANCE, _AZIMUTH, _ELEVATION))
        figures.add(canvas.scene, frame, staged, settings._replace(colour_shift=-humanoid), [humanoid])
        canvas.draw(0, 0, width, height)
        pictures.append(_jpeg(canvas.read()))
    canvas.close()
    return pictures


def _jpeg(picture: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()

"""CMU's Acclaim motion: AMC files, which do not say their rate."""

import logging
import re
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from puffer_phc.errors import MotionFileError
from puffer_phc.motion.asf import AsfSkeleton
from puffer_phc.motion.number_text import Words

logger = logging.getLogger(__name__)

_FRAME_NUMBER = re.compile(r"^[ \t]*\d+[ \t]*\r?$", re.MULTILINE)

_NAME = re.compile(r"^[ \t]*([A-Za-z_][\w.-]*)", re.MULTILINE)


class AmcMotion(NamedTuple):
    """An AMC file: the values of every frame."""

    layout: Tuple[Tuple[str, int], ...]
    """Bone names and how many values each has, in the order of the columns."""
    values: np.ndarray
    """(F, columns) as written."""
    is_degrees: Optional[bool]
    """What the file's own header says of its unit; None without one."""


def read_amc(path: Path, skeleton: AsfSkeleton) -> AmcMotion:
    """All frames of an AMC file whose bones are those of ``skeleton``; raises ``MotionFileError`` with the place of the first defect."""
    where = f"motion '{Path(path).name}'"
    try:
        text = Path(path).read_text(errors="replace")
    except OSError as error:
        raise MotionFileError(f"{where}: {error.strerror or error}") from None
    start = _FRAME_NUMBER.search(text)
    if start is None:
        raise MotionFileError(f"{where}: no frames; is it an AMC file?")
    header, body = text[: start.start()].upper(), text[start.start() :]
    layout = _frame_layout(body, skeleton, where)
    return AmcMotion(layout, _frame_values(body, layout, where), _unit(header))


def _unit(header: str) -> Optional[bool]:
    """True for degrees, False for radians, None where the header is silent."""
    if ":RADIANS" in header:
        return False
    return True if ":DEGREES" in header else None


def _frame_layout(body: str, skeleton: AsfSkeleton, where: str) -> Tuple[Tuple[str, int], ...]:
    """Names and value counts of the first frame, checked against the skeleton and against all other frames."""
    first = _FRAME_NUMBER.split(body, maxsplit=2)[1]
    names = _NAME.findall(first)
    counts = {bone.name: len(bone.dof) for bone in skeleton.bones}
    counts["root"] = len(skeleton.root_order)
    unknown = [name for name in names if name not in counts]
    if unknown:
        raise MotionFileError(f"{where}: bone '{unknown[0]}' is not in skeleton '{Path(skeleton.path).name}'")
    if "root" not in names:
        raise MotionFileError(f"{where}: the first frame has no root")
    return tuple((name, counts[name]) for name in names)


def _frame_values(body: str, layout: Tuple[Tuple[str, int], ...], where: str) -> np.ndarray:
    """(F, columns) numbers, the frame number dropped."""
    values = _columns(Words(body.encode("ascii", "replace")), layout)
    if values is not None:
        return values
    starts = list(_FRAME_NUMBER.finditer(body))
    if len(starts) > 2 and len(_NAME.findall(body, starts[-1].start())) < len(layout):
        values = _columns(Words(body[: starts[-1].start()].encode("ascii", "replace")), layout)
        if values is not None:
            logger.warning("%s: the last frame is cut off and left out", where)
            return values
    raise MotionFileError(f"{where}: {_first_defect(body, layout)}")


def _columns(words: Words, layout: Tuple[Tuple[str, int], ...]) -> Optional[np.ndarray]:
    """(F, columns) from the words of all frames, or None if they are not all alike; whole columns at a time, to be fast."""
    width = 1 + sum(1 + count for _, count in layout)
    if not len(words) or len(words) % width:
        return None
    numbers: List[int] = []
    place = 1
    for name, count in layout:
        if not words.are(name, slice(place, None, width)):
            return None
        numbers += range(place + 1, place + 1 + count)
        place += 1 + count
    places = np.arange(0, len(words), width)[:, None] + np.array(numbers)
    try:
        return words.numbers(places.reshape(-1)).reshape(places.shape)
    except ValueError:
        return None


def _are_numbers(words: List[str]) -> bool:
    """Whether all words are numbers."""
    try:
        return bool(np.isfinite([float(word) for word in words]).all())
    except ValueError:
        return False


def _first_defect(body: str, layout: Tuple[Tuple[str, int], ...]) -> str:
    """What is wrong with the first frame that is not like the first."""
    expected = dict(layout)
    seen: List[str] = []
    frame = "?"
    for line in body.splitlines():
        words = line.split()
        if not words:
            continue
        if len(words) == 1 and words[0].isdigit():
            if seen and len(seen) != len(layout):
                break
            frame, seen = words[0], []
            continue
        name, numbers = words[0], words[1:]
        if name not in expected:
            return f"frame {frame}: unexpected '{name}'"
        if len(numbers) != expected[name] or not _are_numbers(numbers):
            return f"frame {frame}, bone '{name}': needs {expected[name]} numbers, has '{' '.join(numbers)}'"
        seen.append(name)
    return f"frame {frame} has {len(seen)} of {len(layout)} bones; is the file cut off?"

"""Numbers in text, a whole file at a time.

Motion capture files are megabytes of short decimals, and reading them one by one took a third of the time of a conversion. Eight digits are
read at once, as the eight bytes of one integer. What is not a short decimal goes the ordinary way, so that every result is the one that
``float`` gives.
"""

from typing import Tuple

import numpy as np

_LANE = 8
"""Digits that one 64-bit integer holds as text."""

_PADDING = 4 * _LANE
"""Bytes before the text, so that a word's last eight bytes can be looked at wherever it stands."""

_ZEROS, _TENS = np.uint64(0x3030303030303030), np.uint64(0x7676767676767676)
_HIGH_BITS, _PAIRS = np.uint64(0x8080808080808080), np.uint64(0x000000FF000000FF)

_MASKS = np.array([(0xFFFFFFFFFFFFFFFF << (8 * (_LANE - count))) & 0xFFFFFFFFFFFFFFFF for count in range(_LANE + 1)], dtype=np.uint64)
"""What is left of eight bytes when only the last ``count`` of them are digits."""

_POWERS = np.array([10.0**exponent for exponent in range(23)])
"""Powers of ten that a double holds exactly."""

_MOST_DIGITS = 15
"""Integers of so many digits are exact in a double, and so is their product with an exact power of ten, rounded once."""


class Words:
    """The words of a text: runs of bytes between white space."""

    def __init__(self, text: bytes) -> None:
        self.text = np.frombuffer(b" " * _PADDING + text + b" ", dtype=np.uint8)
        edges = np.flatnonzero(np.diff(self.text <= ord(" "))) + 1
        self.starts, self.ends = edges[::2], edges[1::2]

    def __len__(self) -> int:
        return len(self.starts)

    def are(self, word: str, places: slice) -> bool:
        """Whether all words at ``places`` are ``word``."""
        wanted = np.frombuffer(word.encode(), dtype=np.uint8)
        starts = self.starts[places]
        if (self.ends[places] - starts != len(wanted)).any():
            return False
        return bool((self.text[starts[:, None] + np.arange(len(wanted))] == wanted).all())

    def numbers(self, places: np.ndarray) -> np.ndarray:
        """The words at ``places`` (N,) as numbers (N,) float64; raises ``ValueError`` if one of them is none."""
        starts, ends = self.starts[places], self.ends[places]
        values, is_read = _short_decimals(self.text, starts, ends)
        for index in np.flatnonzero(~is_read):
            values[index] = float(self.text[starts[index] : ends[index]].tobytes().decode("latin1"))
        return values


def numbers(text: str) -> np.ndarray:
    """All words of ``text`` as numbers (N,) float64; raises ``ValueError`` if one of them is none."""
    words = Words(text.encode("ascii", "replace"))
    return words.numbers(np.arange(len(words)))


def _marks(text: np.ndarray, mark: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(N,) where in each word the last byte of ``mark`` (a mask of the text) is; the word's end where it has none."""
    found = np.flatnonzero(mark)
    places = ends.copy()
    words = np.searchsorted(ends, found, side="right")
    inside = words < len(ends)
    inside[inside] = found[inside] >= starts[words[inside]]
    places[words[inside]] = found[inside]
    return places


def _digits(lanes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The integers (N,) int64 written from ``starts`` to ``ends``, and whether each is none but at most eight digits.

    The sum over digits pairs neighbours three times: 1, 2, 4 and 8 digits (Lemire 2021, Number Parsing at a Gigabyte per Second).
    """
    count = ends - starts
    digits = (lanes[ends - _LANE] ^ _ZEROS) & _MASKS[np.clip(count, 0, _LANE)]
    is_read = (count >= 0) & (count <= _LANE) & ((((digits + _TENS) | digits) & _HIGH_BITS) == 0)
    pairs = digits * np.uint64(10) + (digits >> np.uint64(8))
    low, high = (pairs & _PAIRS) * np.uint64(0x000F424000000064), ((pairs >> np.uint64(16)) & _PAIRS) * np.uint64(0x0000271000000001)
    return ((low + high) >> np.uint64(32)).astype(np.int64), is_read


def _signs(text: np.ndarray, starts: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Whether words begin with a minus, and where they go on after their sign."""
    first = text[starts]
    is_negative = first == ord("-")
    return is_negative, starts + (is_negative | (first == ord("+")))


def _exponents(text: np.ndarray, lanes: np.ndarray, marks: np.ndarray, ends: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Powers of ten (N,) written after ``marks``, 0 where a mark is the end, and whether they could be read."""
    values, is_read = np.zeros(len(ends), dtype=np.int64), np.ones(len(ends), dtype=bool)
    scaled = np.flatnonzero(marks < ends)
    is_negative, begin = _signs(text, marks[scaled] + 1)
    sizes, is_integer = _digits(lanes, begin, ends[scaled])
    values[scaled] = np.where(is_negative, -sizes, sizes)
    is_read[scaled] = is_integer & (begin < ends[scaled])
    return values, is_read


def _short_decimals(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The words from ``starts`` to ``ends`` (N,) as numbers (N,), and which of them are decimals short enough to be read here."""
    lanes = np.lib.stride_tricks.as_strided(text[:_LANE].view("<u8"), shape=(len(text) - _LANE + 1,), strides=(1,), writeable=False)
    marks = _marks(text, (text | 32) == ord("e"), starts, ends)
    points = np.minimum(_marks(text, text == ord("."), starts, ends), marks)
    is_negative, begin = _signs(text, starts)
    whole, is_whole = _digits(lanes, begin, points)
    fraction, is_fraction = _digits(lanes, np.minimum(points + 1, marks), marks)
    exponents, is_exponent = _exponents(text, lanes, marks, ends)
    places = np.maximum(marks - points - 1, 0)
    power = exponents - places
    digits = whole * (10 ** np.clip(places, 0, _LANE)) + fraction
    is_read = is_whole & is_fraction & is_exponent & (marks - begin > (points < marks))
    is_read &= (digits < 10**_MOST_DIGITS) & (np.abs(power) < len(_POWERS))
    scale = _POWERS[np.clip(np.abs(power), 0, len(_POWERS) - 1)]
    values = np.where(power < 0, digits / scale, digits * scale)
    return np.where(is_negative, -values, values), is_read

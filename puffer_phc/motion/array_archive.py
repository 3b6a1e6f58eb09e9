"""NumPy archives (.npz) of numbers and texts, read without believing what they say of their own size."""

import sys
import zipfile
from pathlib import Path
from types import TracebackType
from typing import IO, Dict, Optional, Tuple, Type

import numpy as np

UNPACKED_BYTES = 1 << 30
"""An array may always unpack to as much."""

UNPACKED_RATIO = 64
"""And to as many times the archive's size: motion packs to a half, nothing but zeros to a thousandth."""

_KINDS = "biufU"

_SURROGATES = (0xD800, 0xDFFF)
"""Code points that stand for no character."""


class ArrayArchive:
    """The arrays of an open archive by name.

    Memory for an array is taken when its header, its entry and the archive's own size agree that the numbers can be there. Arrays of
    Python objects are refused: they are pickles. A damaged archive raises anything; ``ValueError`` where this class finds the fault.
    """

    def __init__(self, path: Path) -> None:
        size = Path(path).stat().st_size
        if size == 0:
            raise ValueError("it is empty")
        self._limit = max(UNPACKED_BYTES, UNPACKED_RATIO * size)
        self._archive = zipfile.ZipFile(str(path))
        self._entries: Dict[str, zipfile.ZipInfo] = {
            entry.filename[: -len(".npy")]: entry for entry in self._archive.infolist() if entry.filename.endswith(".npy")
        }
        self.files = list(self._entries)
        """Names of the arrays."""

    def __enter__(self) -> "ArrayArchive":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self._archive.close()

    def header(self, name: str) -> Tuple[Tuple[int, ...], np.dtype]:
        """Shape and type that an array claims, checked against the size of its entry."""
        entry = self._entries[name]
        if entry.file_size > self._limit:
            raise ValueError(f"array '{name}' unpacks to {entry.file_size} bytes")
        with self._archive.open(entry) as stream:
            shape, dtype = _header(stream)
        if dtype.kind not in _KINDS:
            raise ValueError(f"array '{name}' holds {dtype}, neither numbers nor texts")
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        if not 0 < size <= entry.file_size and 0 not in shape:
            raise ValueError(f"array '{name}' claims shape {shape}, which its {entry.file_size} bytes cannot hold")
        return shape, dtype

    def __getitem__(self, name: str) -> np.ndarray:
        self.header(name)
        with self._archive.open(self._entries[name]) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
        if array.dtype.kind == "U" and not is_text(array):
            raise ValueError(f"array '{name}' has characters that there are not")
        return array


def is_text(array: np.ndarray) -> bool:
    """Whether all code points of texts are characters: NumPy keeps any, and Python fails on them."""
    if array.size * array.dtype.itemsize == 0:
        return True
    codes = np.ascontiguousarray(array).reshape(-1).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    is_surrogate = (codes >= _SURROGATES[0]) & (codes <= _SURROGATES[1])
    return bool((codes <= sys.maxunicode).all() and not is_surrogate.any())


def _header(stream: IO[bytes]) -> Tuple[Tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    if any(extent < 0 for extent in shape):
        raise ValueError(f"an array claims shape {shape}")
    return shape, dtype

"""Pickles in files as streams, unpacked on the way as their first bytes say, and no further than a limit."""

import bz2
import gzip
import io
import lzma
import pickle
import zlib
from pathlib import Path
from typing import IO, Any, Optional

READ_BYTES = 1 << 20
"""Asked of a file at a time."""


class _ZlibReader(io.RawIOBase):
    """The contents of a zlib stream, as joblib writes it, a piece at a time."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decompressor = zlib.decompressobj()

    def readable(self) -> bool:
        """Whether one can read, as files say it."""
        return True

    def readinto(self, target: Any) -> int:
        """Fill ``target`` with what comes next and return how many bytes it was; 0 at the end."""
        data = b""
        while not data and not self._decompressor.eof:
            compressed = self._decompressor.unconsumed_tail or self._stream.read(READ_BYTES)
            if not compressed:
                raise EOFError("the file ends early")
            data = self._decompressor.decompress(compressed, len(target))
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file beneath too."""
        self._stream.close()
        super().close()


def open_pickle(path: Path) -> IO[bytes]:
    """The pickle stream in a file, by its first bytes."""
    with path.open("rb") as stream:
        start = stream.read(6)
    if start[:2] == b"\x1f\x8b":
        return gzip.open(str(path), "rb")  # type: ignore[return-value]
    if start[:3] == b"BZh":
        return bz2.open(str(path), "rb")
    if start[:6] == b"\xfd7zXZ\x00" or start[:3] == b"]\x00\x00":
        return lzma.open(str(path), "rb")
    if start[:1] == b"\x78":
        return io.BufferedReader(_ZlibReader(path.open("rb")), READ_BYTES)
    return path.open("rb")


class Bounded(io.BufferedIOBase):
    """A stream that ends in an error after ``limit`` bytes: packed files can hold a thousand times their size."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self._left = stream, limit

    def _taken(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise pickle.UnpicklingError("unpacks to more than any motion")
        return data

    def read(self, size: Optional[int] = -1) -> bytes:
        """The next ``size`` bytes."""
        wanted = self._left + 1 if size is None or size < 0 else min(size, self._left + 1)
        return self._taken(self._stream.read(wanted))

    def readline(self, size: Optional[int] = -1) -> bytes:
        """What there is up to the end of the line."""
        return self._taken(self._stream.readline(self._left + 1 if size is None or size < 0 else size))

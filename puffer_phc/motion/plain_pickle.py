"""Pickles opened without running what they say.

A pickle is a program: unpickling may call any function. The unpickler here knows the few names that arrays, tensors and plain
containers need and refuses all others, before anything is called. Arrays in joblib's files lie in the stream behind a small wrapper object.
"""

import collections
import contextlib
import io
import pickle
import re
from pathlib import Path
from typing import IO, Any, Callable, ClassVar, Dict, Iterator, Sequence, Tuple

import numpy as np
import torch
from torch._utils import _rebuild_tensor_v2

from puffer_phc.errors import MotionFileError
from puffer_phc.motion.array_archive import UNPACKED_BYTES, UNPACKED_RATIO
from puffer_phc.motion.packed_stream import READ_BYTES, Bounded, open_pickle

MAX_ARRAY_BYTES = 1 << 32
"""A single array of an honest clip is a thousand times smaller."""


def load_plain_pickle(path: Path) -> Any:
    """What a pickle holds, joblib's included and whatever its compression, if it is made of numbers, arrays, tensors and containers.

    Raises MotionFileError when it is not; nothing in the file is executed.
    """
    with pickle_errors(f"motion file '{path}'", "a motion file"), open_pickle(path) as stream:
        limit = max(UNPACKED_BYTES, UNPACKED_RATIO * path.stat().st_size)
        bounded: Any = Bounded(stream, limit)
        return PlainUnpickler(bounded).load()


@contextlib.contextmanager
def pickle_errors(label: str, expected: str) -> Iterator[None]:
    """Whatever reading a pickle raises, as a MotionFileError that begins with ``label`` and says that the file is not ``expected``."""
    try:
        yield
    except MotionFileError:
        raise
    except OSError as error:
        raise MotionFileError(f"{label} cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise MotionFileError(f"{label}: {error}") from error
    except Exception as error:  # A damaged pickle fails anywhere and with any type.
        raise MotionFileError(f"{label} is damaged or not {expected} ({type(error).__name__}: {error})") from error


class _DType:
    """Stands in for ``numpy.dtype``, whose own way of being restored believes whatever it is told about memory."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biufcSU]\d+", code):
            raise pickle.UnpicklingError(f"holds numbers of type {code!r}")
        self._code = code
        self._order = "="

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"holds numbers in byte order {state[1]!r}")
        self._order = state[1]

    def real(self) -> np.dtype:
        """The type itself."""
        return np.dtype(self._order + self._code)


class _SubclassName:
    """Stands in for ``numpy.ndarray`` where a pickle only names it."""


class PlainArray:
    """Stands in for an array of a plain pickle until, and where the pickle refers to it again after, its numbers are there."""

    def __init__(self, subtype: type, *_: Any) -> None:
        if subtype is not _SubclassName:
            raise pickle.UnpicklingError("holds a special kind of array")
        self.value = np.empty(0)

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _DType) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("holds an array of Python objects")
        self.value = _shaped(np.frombuffer(data, dtype=dtype.real()).copy(), shape, is_fortran)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.value if dtype is None else self.value.astype(dtype)


def _shaped(numbers: np.ndarray, shape: Tuple[int, ...], is_fortran: bool) -> np.ndarray:
    return numbers.reshape(shape[::-1]).T if is_fortran else numbers.reshape(shape)


class _ArrayInStream:
    """Stands in for joblib's wrapper of an array, whose numbers follow in the stream."""

    shape: Tuple[int, ...]
    dtype: _DType
    order: str


def _read_array(wrapper: _ArrayInStream, stream: IO[bytes]) -> np.ndarray:
    """The array behind ``wrapper``."""
    if not isinstance(wrapper.dtype, _DType):
        raise pickle.UnpicklingError("holds an array of Python objects")
    dtype = wrapper.dtype.real()
    size = dtype.itemsize
    for extent in wrapper.shape:
        size *= int(extent)
    if not 0 <= size <= MAX_ARRAY_BYTES:
        raise pickle.UnpicklingError(f"holds an array of shape {tuple(wrapper.shape)}, larger than any motion")
    if getattr(wrapper, "numpy_array_alignment_bytes", None) is not None:
        _read_exactly(stream, _read_exactly(stream, 1)[0])
    return _shaped(np.frombuffer(_read_exactly(stream, size), dtype=dtype).copy(), wrapper.shape, wrapper.order == "F")


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    """The next ``size`` bytes; memory grows with what is really there."""
    pieces = []
    while size > 0:
        piece = stream.read(min(size, READ_BYTES))
        if not piece:
            raise EOFError("the file ends early")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Byte strings of old pickles."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("encodes something else than bytes")
    return text.encode("latin1")


def _tensor(storage: Any, offset: int, size: Tuple[int, ...], stride: Tuple[int, ...], *_: Any) -> Any:
    """A tensor with memory of its own: one that repeats a number a billion times would take it when it is used."""
    tensor = _rebuild_tensor_v2(storage, offset, size, stride, False, {})
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise pickle.UnpicklingError("holds a tensor larger than its memory")
    return tensor


def _ordered() -> Dict[Any, Any]:
    """An ordered dictionary, which pickles fill later."""
    return collections.OrderedDict()


def _storage(data: bytes) -> Any:
    """A tensor's memory, saved by torch in a pickle of its own, which torch reads under the same restriction."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _scalar(dtype: _DType, data: bytes) -> Any:
    """A NumPy number."""
    if not isinstance(dtype, _DType):
        raise pickle.UnpicklingError("holds a number that is an object")
    return np.frombuffer(data, dtype=dtype.real(), count=1)[0]


def _admitted() -> Dict[Tuple[str, str], Callable[..., Any]]:
    """Everything that a pickle may name, by module and name."""
    admitted: Dict[Tuple[str, str], Callable[..., Any]] = {
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): _ArrayInStream,
        ("collections", "OrderedDict"): _ordered,
        ("_codecs", "encode"): _encode,
        ("numpy", "ndarray"): _SubclassName,
        ("numpy", "dtype"): _DType,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch.storage", "_load_from_bytes"): _storage,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        admitted[module, "_reconstruct"] = PlainArray
        admitted[module, "scalar"] = _scalar
    return admitted


ADMITTED = _admitted()


_PythonUnpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]


class PlainUnpickler(_PythonUnpickler):
    """Python's own unpickler, limited to ``ADMITTED``, that reads joblib's arrays as they come."""

    dispatch: ClassVar[Dict[int, Callable[..., None]]] = dict(_PythonUnpickler.dispatch)

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(stream)
        self._file = stream

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the pickle stands for; refused unless it is admitted."""
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"asks for '{module}.{name}', which no motion needs; it was not run")
        return ADMITTED[module, name]

    def load_build(self) -> None:
        """Finish an object: only stand-ins, since this operation may set any attribute of anything."""
        if not isinstance(self.stack[-2], (_ArrayInStream, PlainArray, _DType)):
            raise pickle.UnpicklingError(f"changes an object of type {type(self.stack[-2]).__name__}, which no motion needs")
        super().load_build()
        if isinstance(self.stack[-1], _ArrayInStream):
            self.stack.append(_read_array(self.stack.pop(), self._file))
        elif isinstance(self.stack[-1], PlainArray):
            self.stack.append(self.stack.pop().value)

    dispatch[pickle.BUILD[0]] = load_build

    def load_setitem(self) -> None:
        """Add to a dictionary."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Add several pairs to a dictionary."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """Make a dictionary of pairs."""
        _check_keys(self.stack[::2])
        super().load_dict()

    def refuse_set(self) -> None:
        """Sets compare their elements as dictionaries do, and no motion has one."""
        raise pickle.UnpicklingError("holds a set, which no motion needs")

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.EMPTY_SET[0]] = dispatch[pickle.ADDITEMS[0]] = dispatch[pickle.FROZENSET[0]] = refuse_set


def _check_keys(keys: Sequence[Any]) -> None:
    """Raise where a key is no plain value: comparing tuples of tuples of tuples can take forever."""
    for key in keys:
        if not isinstance(key, (str, bytes, int, float, np.generic, type(None))):
            raise pickle.UnpicklingError(f"has a {type(key).__name__} for a key")

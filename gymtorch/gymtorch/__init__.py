"""Memory that another library owns, as a torch tensor, and torch's memory as others want it described. Nothing is copied.

Made for Isaac Gym, whose ``gymapi.Tensor`` is an address with a shape, and good for whatever has an address. Everything that is not
usable is an exception: ValueError for addresses, shapes and devices, TypeError for data types.

**Who keeps the memory alive.** A wrapped tensor keeps ``owner`` alive, and its views do too; where the owner frees its memory by itself
(Isaac Gym's ``destroy_sim``, ``free``), the tensor must not be used any more. What can be seen when a tensor is made is refused: an
address of 0, host pages that are not mapped (Linux), device memory that belongs to no allocation. What cannot be seen is small host
memory that was freed and lies in a page that is still mapped, and anything that happens after the call. In the other direction the
caller keeps the tensor alive as long as the description is used; a tensor whose storage was given up is refused.
"""

import math
from operator import index
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch.utils.dlpack import from_dlpack

from gymtorch import _memory

__all__ = ["Memory", "create_context", "dtype_code", "unwrap", "unwrap_tensor", "wrap", "wrap_tensor"]

CODES = {torch.float32: 1, torch.int32: 2, torch.int64: 3, torch.uint8: 4, torch.int16: 5}
"""Isaac Gym's TensorDataType by torch's: its uint32 and uint64 are read as int32 and int64, and it has no bool."""

MAX_DIMENSIONS = 8

_MAX_COUNT, _MAX_ADDRESS = 2**63 - 1, 2**64 - 1


class Memory(NamedTuple):
    """Where a tensor's numbers are."""

    address: int
    shape: Tuple[int, ...]
    dtype: torch.dtype
    device: int
    """−1 the host, else the CUDA ordinal."""


def wrap(
    address: int,
    shape: Sequence[int],
    dtype: torch.dtype,
    device: Union[str, torch.device] = "cpu",
    strides: Optional[Sequence[int]] = None,
    offset: int = 0,
    owner: Any = None,
) -> torch.Tensor:
    """The tensor of ``shape`` at ``address``, which shares the memory there and keeps ``owner`` alive.

    ``strides`` and ``offset`` count elements; without ``strides`` rows follow each other. Raises ValueError for memory that is not there
    or on another device, and for layouts that are none; TypeError for a data type that Isaac Gym has not, and for counts that are no
    whole numbers.
    """
    code, ordinal = dtype_code(dtype), _device_ordinal(device)
    sizes = [index(size) for size in shape]
    steps = _row_major(sizes) if strides is None else [index(stride) for stride in strides]
    if any(abs(count) > _MAX_COUNT for count in (*sizes, *steps)):
        raise ValueError(f"the shape {tuple(sizes)} with strides {tuple(steps)} reaches beyond any memory")
    return from_dlpack(_memory.lend(_start(address, offset, dtype), sizes, steps, code, ordinal, owner))


def unwrap(tensor: torch.Tensor) -> Memory:
    """Where ``tensor`` lies. The caller keeps it alive as long as the memory is used.

    Raises ValueError for a tensor that is not contiguous, has no memory (any more), or is neither on the host nor on a CUDA device;
    TypeError for a data type that Isaac Gym has not.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"only torch's tensors can be unwrapped, not {type(tensor).__name__}")
    dtype_code(tensor.dtype)
    if tensor.layout is not torch.strided or tensor.device.type not in ("cpu", "cuda"):
        raise ValueError(f"a {tensor.layout} tensor on '{tensor.device}' has no address to give")
    if tensor.dim() > MAX_DIMENSIONS:
        raise ValueError(f"a tensor has at most {MAX_DIMENSIONS} dimensions here, not {tensor.dim()}")
    if not tensor.is_contiguous():
        raise ValueError(f"the tensor of shape {tuple(tensor.shape)} and strides {tensor.stride()} is not contiguous")
    needed = (tensor.storage_offset() + tensor.numel()) * tensor.element_size()
    if tensor.numel() and tensor.untyped_storage().nbytes() < needed:
        raise ValueError(f"the tensor's storage has {tensor.untyped_storage().nbytes()} bytes of {needed}: its memory was given up")
    return Memory(tensor.data_ptr(), tuple(tensor.shape), tensor.dtype, -1 if tensor.device.type == "cpu" else _ordinal(tensor.device))


def wrap_tensor(gym_tensor: Any, offsets: Optional[Sequence[int]] = None, counts: Optional[Sequence[int]] = None) -> torch.Tensor:
    """An Isaac Gym tensor as a torch tensor, or the part of it of ``counts`` elements an axis that begins at ``offsets``.

    Keeps the descriptor alive, not the simulator: after ``destroy_sim`` the memory is gone. Raises as ``wrap``, and ValueError for a part
    that reaches beyond the whole.
    """
    shape = [int(size) for size in gym_tensor.shape]
    begins = [0] * len(shape) if offsets is None else [int(begin) for begin in offsets]
    sizes = [size - begin for size, begin in zip(shape, begins)] if counts is None else [int(count) for count in counts]
    if not len(shape) == len(begins) == len(sizes):
        raise ValueError(f"{len(begins)} offsets and {len(sizes)} counts do not fit a tensor of {len(shape)} dimensions")
    for begin, count, size in zip(begins, sizes, shape):
        if begin < 0 or count < 0 or begin + count > size:
            raise ValueError(f"offsets {tuple(begins)} and counts {tuple(sizes)} reach beyond the shape {tuple(shape)}")
    dtype, device = _dtype(int(gym_tensor.dtype)), int(gym_tensor.device)
    strides = _row_major(shape)
    offset = sum(begin * stride for begin, stride in zip(begins, strides)) if all(sizes) else 0
    return wrap(_address(gym_tensor), sizes, dtype, "cpu" if device < 0 else f"cuda:{device}", strides, offset, owner=gym_tensor)


def unwrap_tensor(torch_tensor: torch.Tensor) -> Any:
    """``torch_tensor`` as an ``isaacgym.gymapi.Tensor`` that shares its memory. The caller keeps it alive. Raises as ``unwrap``."""
    from isaacgym import gymapi

    memory = unwrap(torch_tensor)
    gym_tensor = gymapi.Tensor()
    gym_tensor.device = memory.device
    gym_tensor.dtype = gymapi.TensorDataType(dtype_code(memory.dtype))
    gym_tensor.shape = list(memory.shape)  # pyright: ignore[reportAttributeAccessIssue] -- NVIDIA's own code gives a list
    gym_tensor.data_address = memory.address
    gym_tensor.own_data = False
    return gym_tensor


def dtype_code(dtype: torch.dtype) -> int:
    """Isaac Gym's number of a data type. Raises TypeError for one that it has not."""
    if dtype not in CODES:
        raise TypeError(f"Isaac Gym has no {dtype}; there are {', '.join(str(known) for known in CODES)}")
    return CODES[dtype]


def create_context(device: Union[str, torch.device] = "cuda:0") -> None:
    """Have torch begin its work on ``device``, before another library does."""
    torch.zeros(1, device=device)


def _start(address: int, offset: int, dtype: torch.dtype) -> int:
    """The address of the first element."""
    if index(offset) < 0:
        raise ValueError(f"an offset must not be negative, but is {offset}")
    start = index(address) + offset * dtype.itemsize if address else 0
    if not 0 <= start <= _MAX_ADDRESS:
        raise ValueError(f"the address {address} with an offset of {offset} elements is none")
    return start


def _device_ordinal(device: Union[str, torch.device]) -> int:
    """−1 for the host, else the CUDA ordinal. Raises ValueError for a device that can't hold the memory or is not here."""
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"memory can be on cpu or cuda, not on '{device}'") from error
    if place.type not in ("cpu", "cuda"):
        raise ValueError(f"memory can be on cpu or cuda, not on '{place}'")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"the memory can't be on '{place}': torch finds no CUDA device here")
    return -1 if place.type == "cpu" else _ordinal(place)


def _dtype(code: int) -> torch.dtype:
    for dtype, known in CODES.items():
        if known == code:
            return dtype
    raise TypeError(f"data type code {code} is unknown; there are {', '.join(f'{known} {dtype}' for dtype, known in CODES.items())}")


def _address(gym_tensor: Any) -> int:
    """Isaac Gym gives the address in a capsule; a description without one as a number."""
    capsule = getattr(gym_tensor, "data_ptr", None)
    return int(gym_tensor.data_address) if capsule is None else _memory.capsule_address(capsule)


def _ordinal(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _row_major(shape: Sequence[int]) -> List[int]:
    """Strides in elements of rows that follow each other."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]

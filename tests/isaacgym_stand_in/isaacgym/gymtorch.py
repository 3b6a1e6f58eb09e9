"""The real one compiles itself here; this one borrows torch's reading of Python buffers, on the host only."""

import ctypes
import math

import torch

from isaacgym import gymapi

DTYPES = {
    torch.float32: gymapi.DTYPE_FLOAT32,
    torch.int32: gymapi.DTYPE_UINT32,
    torch.int64: gymapi.DTYPE_UINT64,
    torch.uint8: gymapi.DTYPE_UINT8,
    torch.int16: gymapi.DTYPE_INT16,
}


def wrap_tensor(gym_tensor):
    (dtype,) = (dtype for dtype, code in DTYPES.items() if code == gym_tensor.dtype)
    memory = (ctypes.c_char * (math.prod(gym_tensor.shape) * dtype.itemsize)).from_address(gym_tensor.data_address)
    return torch.frombuffer(memory, dtype=dtype).view(gym_tensor.shape)


def unwrap_tensor(torch_tensor):
    if not torch_tensor.is_contiguous():
        raise Exception("Input tensor must be contiguous")
    gym_tensor = gymapi.Tensor()
    gym_tensor.device = -1
    gym_tensor.dtype = DTYPES[torch_tensor.dtype]
    gym_tensor.shape = list(torch_tensor.shape)
    gym_tensor.data_address = torch_tensor.data_ptr()
    gym_tensor.own_data = False
    return gym_tensor

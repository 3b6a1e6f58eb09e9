"""Looking at what tensors hold: free for the host on a CPU, a wait for the device on a GPU.

Where looking is free, work is done on the rows that need it alone. Elsewhere it is done on all rows, to the same end.
"""

from typing import Union

import torch
from torch import Tensor

Rows = Union[slice, Tensor]
"""An index of rows to work on: all of them, or these (M,) int64."""


def is_free(device: torch.device) -> bool:
    """Whether the host may look at tensors of ``device`` without waiting."""
    return device.type == "cpu"


def rows_where(mask: Tensor) -> Rows:
    """Rows to work on for the sake of those that ``mask`` (N,) bool is true of."""
    return mask.nonzero().squeeze(1) if is_free(mask.device) else slice(None)


def finds_none(mask: Tensor) -> bool:
    """Whether a free look shows that ``mask`` (N,) bool is true of no row."""
    return is_free(mask.device) and not bool(mask.any())

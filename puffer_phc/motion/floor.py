"""Where the floor of a clip is, from the lowest points of the humanoid over time."""

import torch
from torch import Tensor

AIRBORNE = 0.05
"""m: a body whose lowest point is higher over the floor touches nothing."""


def floor_height(lowest: Tensor) -> Tensor:
    """Height () in m of the floor under a clip whose lowest points are ``lowest`` (F,) m: their median over the frames that touch.

    Flights are left out: a runner is in the air for half of the time, and the median over all frames would put his feet into the floor.
    Never waits for the device.
    """
    touches = lowest < torch.quantile(lowest, 0.25) + AIRBORNE
    return torch.where(touches, lowest, torch.full_like(lowest, torch.nan)).nanmedian()

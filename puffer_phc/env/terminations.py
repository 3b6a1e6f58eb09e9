"""When tracking has failed. Pure functions; B bodies, leading axes are free."""

import torch
from torch import Tensor

from puffer_phc.state import BodyState

STRICT_DISTANCE = 0.25
"""m: strict success allows no body to be farther than this from its reference."""
RELAXED_DISTANCE = 0.5
"""m: relaxed success allows the mean over all bodies no more than this."""

GRACE_STEPS = 1
"""Control steps of an episode in which a body cannot be lost: the state is still the one that the reset chose."""


def tracking_error(body: BodyState, reference: BodyState) -> Tensor:
    """Distance (..., B) in m of each body's origin from its reference."""
    return (body.pos - reference.pos).norm(dim=-1)


def is_lost(error: Tensor, distance: float) -> Tensor:
    """(...,) bool: some body's tracking error (..., B) exceeds ``distance`` m. The rule that ends training episodes."""
    return (error > distance).any(dim=-1)


def fails_strict(error: Tensor) -> Tensor:
    """(...,) bool: with these tracking errors (..., B) the frame breaks strict success: any body is over ``STRICT_DISTANCE``."""
    return is_lost(error, STRICT_DISTANCE)


def fails_relaxed(error: Tensor) -> Tensor:
    """(...,) bool: with these tracking errors (..., B) the frame breaks relaxed success: the mean is over ``RELAXED_DISTANCE``."""
    return error.mean(dim=-1) > RELAXED_DISTANCE


def is_finite(body: BodyState, power: Tensor) -> Tensor:
    """(N,) bool: neither the body states nor the joint powers (N, D) of a row hold a number that is infinite or none."""
    return torch.cat([*(part.flatten(1) for part in body), power], dim=-1).sum(dim=-1).isfinite()

"""Weights in eight bits: a quarter of the size, for checkpoints that are carried or published."""

from typing import Dict, NamedTuple

import torch
from torch import Tensor

EXEMPT = "obs_norm."
"""Prefix of what is never rounded: the normaliser's statistics span many orders of magnitude."""


class Quantized(NamedTuple):
    """Weights by name, matrices as codes."""

    weights: Dict[str, Tensor]
    """Matrices (rows, columns) as int8 codes from -127 to 127; everything else as it was."""
    scales: Dict[str, Tensor]
    """Names of those matrices to (rows, 1) float32: what one step of a row's codes is worth."""


def quantize(weights: Dict[str, Tensor]) -> Quantized:
    """``weights`` with every floating point matrix rounded to 255 levels, which each row spaces to its own largest magnitude.

    A layer's output is then off by about 0.8 % of its size, as if by noise without a mean.
    """
    matrices = {name: value.float() for name, value in weights.items() if _is_rounded(name, value)}
    scales = {name: value.abs().amax(1, keepdim=True) / 127.0 for name, value in matrices.items()}
    codes = {
        name: (value / scales[name].clamp(min=torch.finfo(torch.float32).tiny)).round().to(torch.int8) for name, value in matrices.items()
    }
    return Quantized({**weights, **codes}, scales)


def dequantize(quantized: Quantized) -> Dict[str, Tensor]:
    """The weights in float32, those that were not rounded as they are.

    Raises ``ValueError`` where codes and scales do not belong to each other: a network would take codes for weights without a word.
    """
    weights = dict(quantized.weights)
    for name, value in weights.items():
        if value.dtype is torch.int8 and name not in quantized.scales:
            raise ValueError(f"the codes of '{name}' have no scales")
    for name, scale in quantized.scales.items():
        codes = weights.get(name)
        if codes is None or codes.dtype is not torch.int8 or codes.dim() != 2 or tuple(scale.shape) != (codes.shape[0], 1):
            raise ValueError(f"the scales of '{name}' fit no weights")
        weights[name] = codes.float() * scale.float()
    return weights


def _is_rounded(name: str, value: Tensor) -> bool:
    return value.dim() == 2 and value.numel() > 0 and value.is_floating_point() and not name.startswith(EXEMPT)

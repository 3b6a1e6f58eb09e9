"""Training that repeats bit for bit on a GPU, for its price in speed. On a CPU it always does."""

import os
from typing import Any

import torch


def be_deterministic() -> None:
    """Have every operation of this process give the same bits each time, or raise RuntimeError; before anything runs on a GPU.

    Matrix products get workspaces of their own, sums a fixed order; torch.compile tries no variants by the clock. The MuJoCo Warp backend
    follows the same switch (``torch.are_deterministic_algorithms_enabled``) when it is made.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads what it did not write
    _measure_no_variants()


def _measure_no_variants() -> None:
    """Let torch.compile choose nothing that changes a sum by how long it takes: padded matrix products, block sizes of reductions.

    torch 2.9 has a switch for all of it; the others are what earlier versions measure.
    """
    import torch._inductor.config as compiler

    options: Any = compiler
    if hasattr(options, "deterministic"):
        options.deterministic = True
    options.shape_padding = False
    options.dynamic_scale_rblock = False

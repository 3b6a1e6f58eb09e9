"""Training that repeats bit for bit on a GPU, for its price in speed. On a CPU it always does."""

import os

import torch


def be_deterministic() -> None:
    """Have every operation of this process give the same bits each time, or raise RuntimeError; before anything runs on a GPU.

    Matrix products get workspaces of their own, sums a fixed order; torch.compile tries no variants by the clock. The MuJoCo Warp backend
    follows the same switch (``torch.are_deterministic_algorithms_enabled``) when it is made.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads what it did not write

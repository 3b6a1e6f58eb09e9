"""Fixtures that several test files share."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def single_torch_thread():
    """Small tensors gain nothing from more, and the tests' times stay comparable on a busy machine."""
    torch.set_num_threads(1)

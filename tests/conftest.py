"""Fixtures that several test files share."""

import pytest
import torch
from stand_in import forget_stand_in


@pytest.fixture(scope="session", autouse=True)
def single_torch_thread():
    """Small tensors gain nothing from more, and the tests' times stay comparable on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def no_stand_in_left():
    """A file's stand-in for Isaac Gym ends with the file."""
    yield
    forget_stand_in()


@pytest.fixture
def browser(tmp_path):
    """A headless Chromium with a page of its own."""
    from browser import Browser, find_chromium  # needs packages that the tests of Python 3.8 do without

    if find_chromium() is None:
        pytest.skip("no Chromium here")
    opened = Browser(tmp_path / "profile")
    yield opened
    opened.close()


@pytest.fixture
def deterministic(monkeypatch):
    """``train.deterministic``, whose switches belong to the process: back at their places afterwards."""
    import torch._inductor.config as compiler

    from puffer_phc.learn.determinism import be_deterministic

    for name in ("deterministic", "shape_padding", "dynamic_scale_rblock"):
        if hasattr(compiler, name):
            monkeypatch.setattr(compiler, name, getattr(compiler, name))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    be_deterministic()
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True

"""Finding and loading Isaac Gym, which refuses to be loaded after torch. This file loads neither by itself.

``puffer_phc.start`` calls ``load_early`` where a command line or config file asks for the backend, before anything imports torch.
"""

import importlib
import platform
import sys
from importlib.util import find_spec
from typing import Any, Callable, List, NamedTuple

from puffer_phc.errors import BackendError

ISAAC_GYM_STEPS = (
    "download Isaac Gym Preview 4 from https://developer.nvidia.com/isaac-gym (closed, an NVIDIA account; x86-64 Linux, Python 3.8), "
    "unpack it, and run: pip install -e isaacgym/python"
)
"""How Isaac Gym comes to a machine: no package registry has it."""

_failures: List[Exception] = []
"""Why the first attempt failed: the second one, after torch, would only complain about the order."""


def load_early() -> None:
    """Import Isaac Gym if it is installed. What goes wrong is kept for ``require_isaac_gym``, which can say so in its place."""
    try:
        if find_spec("isaacgym") is not None:
            importlib.import_module("isaacgym.gymapi")
    except Exception as error:  # RuntimeError for a Python without a binary, OSError and ImportError for missing libraries
        _failures.append(error)


def require_isaac_gym() -> None:
    """Raise BackendError where Isaac Gym can't be used, saying what is missing, or that torch was there first; else import it."""
    if find_spec("isaacgym") is None:
        raise BackendError(
            f"backend 'isaac_gym' needs Isaac Gym, which is not installed in this Python {platform.python_version()}: {ISAAC_GYM_STEPS}; "
            "or use --env.backend auto"
        )
    if _failures:
        raise _unusable(_failures[0])
    if "isaacgym.gymapi" not in sys.modules and "torch" in sys.modules:
        raise BackendError(
            "backend 'isaac_gym': Isaac Gym has to be imported before torch; start with scripts/train.py, which does so, or put "
            "'from isaacgym import gymapi' before every other import of your program"
        )
    try:
        importlib.import_module("isaacgym.gymapi")
    except Exception as error:
        raise _unusable(error) from error


def _unusable(error: Exception) -> BackendError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return BackendError(
        f"backend 'isaac_gym': Isaac Gym is installed but can't be loaded in Python {platform.python_version()}: {reason}; it has binaries "
        "for Python 3.6 to 3.8 only, and needs libpython3.8.so.1.0 on LD_LIBRARY_PATH"
    )


def must(result: bool, call: str) -> None:
    """Raise BackendError where a call of Isaac Gym says that it failed: it prints the reason and goes on."""
    if result is False:
        raise BackendError(f"backend 'isaac_gym': {call} failed; what Isaac Gym printed says why")


class TensorBridge(NamedTuple):
    """Isaac Gym's tensors as torch's and back, without copies."""

    wrap: Callable[[Any], Any]
    unwrap: Callable[[Any], Any]
    """The result is only an address: the caller keeps the tensor alive until the simulator has read it."""


def import_bridge() -> TensorBridge:
    """This project's ``gymtorch``, or else Isaac Gym's own, which compiles itself at its first import.

    Raises BackendError where neither can be had.
    """
    try:
        from gymtorch import unwrap_tensor, wrap_tensor

        return TensorBridge(wrap_tensor, unwrap_tensor)
    except ImportError:
        pass
    try:
        own = importlib.import_module("isaacgym.gymtorch")
    except Exception as error:
        raise BackendError(
            f"backend 'isaac_gym' needs gymtorch, and Isaac Gym's own can't be built here ({error}); "
            "run in the repository: pip install setuptools wheel && pip install --no-build-isolation ./gymtorch"
        ) from error
    return TensorBridge(own.wrap_tensor, own.unwrap_tensor)

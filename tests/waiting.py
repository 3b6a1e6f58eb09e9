"""A rule that a GPU checks by itself, on a CPU: nothing that is called may make the host wait for the device.

On a GPU the host waits where it needs to know what a tensor holds (a number, a condition, how many rows a mask has), and where it hands
over numbers of its own. A CPU does all of it without a word, so that such a line is else only found out where there is a GPU.
"""

import contextlib
from typing import Any, Callable, Dict, Iterator, Sequence, Tuple
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from puffer_phc import looking

ASKS_FOR_CONTENTS = frozenset(
    {
        *("_local_scalar_dense", "item", "is_nonzero", "equal"),
        *("nonzero", "masked_select", "bincount", "_unique2", "unique_dim", "unique_consecutive", "_unique"),
        *("_linalg_check_errors", "linalg_svd", "_linalg_svd"),
    }
)
"""Operators of ATen whose result is a number on the host, or a tensor whose size depends on the contents of others."""

BRINGS_FROM_HOST = frozenset({"lift_fresh", "lift_fresh_copy"})
"""Operators that every tensor of a Python list or number goes through (``torch.tensor``, an index that is a list)."""

LEAVES_TORCH = frozenset({"cpu", "numpy", "tolist", "__array__", "__dlpack__", "from_numpy", "as_tensor", "asarray", "frombuffer"})
"""Functions that ATen does not hear of on a CPU, or of which nobody can say there whether they would copy."""


@contextlib.contextmanager
def looking_costs() -> Iterator[None]:
    """A time in which the program takes a GPU's way, on which it works on all rows instead of looking which ones need it."""
    with mock.patch.object(looking, "is_free", lambda device: False):
        yield


class WaitedError(AssertionError):
    """Something asked for what is on the device, or brought something there."""


class NothingWaits(TorchDispatchMode):
    """While it is on, an operator that would wait for a GPU raises ``WaitedError``, in backward passes, too.

    ``paused`` is for engines on a CPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_paused = False
        self._functions = _NothingLeaves(self)

    @property
    def is_paused(self) -> bool:
        return self._is_paused

    def __enter__(self) -> "NothingWaits":
        self._functions.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._functions.__exit__(*error)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def allowing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, which may wait."""

        def allowed(*arguments: Any, **named: Any) -> Any:
            with self.paused():
                return function(*arguments, **named)

        return allowed

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self._is_paused:
            _check(func, args, kwargs)
        return func(*args, **kwargs)


class _NothingLeaves(TorchFunctionMode):
    """The part of the rule about what ATen does not hear of."""

    def __init__(self, rule: NothingWaits) -> None:
        super().__init__()
        self._rule = rule

    def __torch_function__(self, func: Any, types: Sequence[type], args: Tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in LEAVES_TORCH and not self._rule.is_paused:
            raise WaitedError(f"{name} would wait for a GPU")
        return func(*args, **(kwargs or {}))


def _check(func: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> None:
    name = func.overloadpacket.__name__
    if name in ASKS_FOR_CONTENTS:
        raise WaitedError(f"{func} has to know what a tensor holds")
    if name in BRINGS_FROM_HOST:
        raise WaitedError(f"{func} brings numbers from the host")
    if name in ("index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_") and any(_is_mask(one) for one in args[1]):
        raise WaitedError(f"{func} by a mask has to know how many rows are true")
    if name == "repeat_interleave" and kwargs.get("output_size") is None:
        raise WaitedError(f"{func} has to know how many rows there will be; output_size says so")


def _is_mask(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)

"""What makes MuJoCo Warp's deterministic mode possible for a thousand and more environments of this humanoid.

In that mode each atomic addition writes a record, and the records are sorted before they are summed. Room is set aside for as many as a
kernel could write whatever the model: for the Hessian of Newton's method over a million an environment, more than the engine can count
beyond 1,900 environments, where a few thousand are written. Two facts about the model do without:

- The order of the additions to a Hessian varies because several groups of threads share one humanoid's constraints. One warp can take
  them all, block after block: what is added to one entry then comes from instructions that one warp issues one after the other.
- An actuator of a ball joint acts on three coordinates, and so adds to three entries above the diagonal.
"""

import functools
import inspect
from typing import Any, Callable, Dict, Tuple

import torch
from mujoco_warp._src import solver

_COORDINATES_OF_AN_ACTUATOR = 3
_GROUPS = "_jtdaj_groups_per_world"
_ARGUMENTS: Dict[str, Callable[..., Tuple[Any, ...]]] = {
    "_JTDACJ_sparse": lambda *given: given[:4],
    "_update_gradient_h_incremental_sparse": lambda *given: given[:1],
    "_add_actuator_metric_dense": lambda size, *mode: (min(size, _COORDINATES_OF_AN_ACTUATOR), *mode),
}
"""Makers of the solver's kernels, by name: the arguments to call them with, for those that the engine gives, records being the last."""

_PARAMETERS = {
    "_JTDACJ_sparse": ("compact", "cone_type", "max_condim", "block_dim", "max_records", "deterministic"),
    "_update_gradient_h_incremental_sparse": ("compact", "max_records", "deterministic"),
    "_add_actuator_metric_dense": ("nv", "deterministic"),
    _GROUPS: ("nworld", "njmax", "kernel"),
}
"""What these take in the versions of the engine that this is written for."""

_is_ordered = False


def order_sums() -> None:
    """From now on the engine's deterministic mode is as above; no other of its modes changes.

    An engine that no longer has these parts, or has others, keeps its own way. Safe to call again.
    """
    global _is_ordered
    if _is_ordered or not all(map(_is_known, _PARAMETERS)):
        return
    for name, arguments in _ARGUMENTS.items():
        setattr(solver, name, _called_with(arguments, getattr(solver, name)))
    setattr(solver, _GROUPS, _one_group(getattr(solver, _GROUPS)))
    _is_ordered = True


def _is_known(name: str) -> bool:
    """Whether the engine has the function ``name``, with the parameters that it had."""
    function = getattr(solver, name, None)
    return function is not None and tuple(inspect.signature(function).parameters) == _PARAMETERS[name]


def _called_with(arguments: Callable[..., Tuple[Any, ...]], make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def kernel(*given: Any) -> Any:
        return make(*arguments(*given))

    return kernel


def _one_group(count: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(count)
    def groups_per_world(*given: Any) -> int:
        return 1 if torch.are_deterministic_algorithms_enabled() else count(*given)

    return groups_per_world

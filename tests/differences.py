"""Where two states differ first: what the tests of repeated runs say instead of that they differ."""

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import torch

from puffer_phc.report.metrics_log import METRICS, OF_THE_CLOCK


def named_tensors(state: Any, name: str = "") -> Iterator[Tuple[str, torch.Tensor]]:
    """The tensors and numbers in dictionaries, lists and named tuples, in order."""
    if hasattr(state, "_asdict"):
        state = state._asdict()
    if isinstance(state, dict):
        for key, value in state.items():
            yield from named_tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(state, (list, tuple)):
        for i, value in enumerate(state):
            yield from named_tensors(value, f"{name}[{i}]")
    elif isinstance(state, torch.Tensor):
        yield name, state
    elif isinstance(state, (bool, int, float)):
        yield name, torch.tensor(state)


def differences(first: Any, second: Any) -> Dict[str, str]:
    """What differs by a bit, by name, and how: rows (of the first axis) that do and the largest difference. NaN equals NaN."""
    others, found = dict(named_tensors(second)), {}
    for name, a in named_tensors(first):
        b = others.pop(name, None)
        if b is None or a.shape != b.shape or a.dtype != b.dtype:
            found[name] = "is missing in one, or of another shape or type"
            continue
        is_other = ~((a == b) | (a != a) & (b != b))
        if is_other.any():
            rows = is_other.reshape(len(a), -1).any(-1).sum().item() if a.dim() else 1
            largest = (a.double() - b.double()).abs().nan_to_num(torch.inf)[is_other].max().item()
            found[name] = f"{rows} of {len(a) if a.dim() else 1} rows, {int(is_other.sum())} numbers, by up to {largest:.3g}"
    found.update(dict.fromkeys(others, "is missing in one"))
    return found


def assert_same(first: Any, second: Any, when: str) -> None:
    """That nothing differs; else all that does is named, what comes first first."""
    found = differences(first, second)
    assert not found, f"{when}: " + "; ".join(f"{name}: {how}" for name, how in found.items())


def logged_figures(run: Path) -> List[Dict[str, Any]]:
    """The lines of a run's log without the figures of the clock."""
    lines = [json.loads(line) for line in (run / METRICS).read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(OF_THE_CLOCK)} for line in lines]

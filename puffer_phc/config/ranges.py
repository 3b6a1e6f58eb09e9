"""What every section asks of its options: choices that exist, numbers that are finite and in their range."""

import math
import typing
from typing import Any, Sequence

from typing_extensions import Literal

from puffer_phc.errors import ConfigError


def check(
    section: str,
    options: Any,
    counts: Sequence[str] = (),
    positive: Sequence[str] = (),
    not_negative: Sequence[str] = (),
    shares: Sequence[str] = (),
) -> None:
    """Raise ConfigError for a choice that does not exist, a number that is not finite, and one outside its range. None passes."""
    for name, hint in typing.get_type_hints(type(options)).items():
        value, choices = getattr(options, name), typing.get_args(hint)
        if typing.get_origin(hint) is Literal and value not in choices:
            raise ConfigError(f"{section}.{name} is {value!r}; choose {', '.join(choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{section}.{name} is {value}, must be finite")
    ranges = ((counts, 1, math.inf, "at least 1"), (not_negative, 0, math.inf, "at least 0"), (shares, 0, 1, "between 0 and 1"))
    for names, lowest, highest, text in ranges:
        for name in names:
            value = getattr(options, name)
            if value is not None and not lowest <= value <= highest:
                raise ConfigError(f"{section}.{name} is {value}, must be {text}")
    for name in positive:
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise ConfigError(f"{section}.{name} is {value}, must be more than 0")


def check_sizes(section: str, options: Any, names: Sequence[str]) -> None:
    """Raise ConfigError for layers without a width."""
    for name in names:
        sizes = getattr(options, name) or ()
        if any(size < 1 for size in sizes):
            raise ConfigError(f"{section}.{name} is {' '.join(map(str, sizes))}, each must be at least 1")

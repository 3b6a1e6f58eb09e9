"""What a clip may be called, and what becomes of file names that are called otherwise."""

from typing import Dict, List, Sequence, Set

LONGEST_NAME = 200
"""Characters of a clip's name."""

_LONGEST_GIVEN = LONGEST_NAME - 20
"""The same of a name that we make: mirror images and equal names get endings."""

_SLASHES = "/\\"


def is_plain(name: str) -> bool:
    """Whether a clip's name can stand in a table, on a terminal and in the name of a file without being anything else there."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and not set(name) & set(_SLASHES) and name not in (".", "..")


def plain_text(text: str) -> str:
    """``text`` with ``_`` for what is no printable character: line ends, control codes, bytes of a file's name that are no text."""
    return "".join(character if character.isprintable() else "_" for character in text)


def plain_name(text: str) -> str:
    """The name of a clip that comes nearest to ``text``, with room for endings."""
    name = "".join("_" if character in _SLASHES else character for character in plain_text(text))[:_LONGEST_GIVEN]
    return name if is_plain(name) else "_" * max(1, len(name))


def distinct(names: Sequence[str]) -> List[str]:
    """The plain ``names``, those after the first of equal ones with a number behind them."""
    taken: Set[str] = set(names)
    numbers: Dict[str, int] = {}
    given: List[str] = []
    for name in names:
        candidate = name
        if name in numbers:
            while candidate in taken:
                numbers[name] += 1
                candidate = f"{name}_{numbers[name]}"
            taken.add(candidate)
        numbers.setdefault(name, 1)
        given.append(candidate)
    return given

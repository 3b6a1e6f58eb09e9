"""The table of promises names tests that exist."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def test_every_promise_names_tests_that_exist() -> None:
    promises = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", promises))
    defined = set()
    for path in (REPOSITORY / "tests").glob("test_*.py"):
        defined |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(named) > 50
    assert named <= defined, named - defined

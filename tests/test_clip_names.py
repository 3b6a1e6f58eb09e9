"""Names of files as names of clips."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puffer_phc.motion.clip_names import LONGEST_NAME, distinct, is_plain, plain_name, plain_text

TEXTS = st.text(st.characters(exclude_categories=()))


@given(TEXTS)
def test_any_text_becomes_a_plain_name(text):
    name = plain_name(text)
    assert is_plain(name) and is_plain(name + "_mirrored")
    assert name == text or not is_plain(text) or len(text) > LONGEST_NAME - 20
    assert len(plain_text(text)) == len(text) and plain_text(text).isprintable()


@given(st.lists(st.sampled_from(["a", "b", "a_2", "a_2_2", "a_3", "A", "x" * 180])))
def test_equal_names_are_told_apart(names):
    given_names = distinct(names)
    assert len(set(given_names)) == len(names)
    assert all(is_plain(name) for name in given_names)
    assert all(after == before for place, (before, after) in enumerate(zip(names, given_names)) if before not in names[:place])


@pytest.mark.parametrize(
    ("text", "name"),
    [("walk 05", "walk 05"), ("a/b\\c", "a_b_c"), ("..", "__"), ("", "_"), ("line\nend", "line_end"), ("Überschlag", "Überschlag")],
)
def test_examples(text, name):
    assert plain_name(text) == name

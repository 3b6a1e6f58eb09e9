import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puffer_phc.motion.number_text import Words, numbers

WRITTEN = st.sampled_from(["{!r}", "{:.6f}", "{:g}", "{:e}", "{:.4f}", "{:+.3E}", "{:.8g}", "{:.0f}"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(WRITTEN, st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=30))
def test_numbers_are_those_that_float_gives(pairs):
    words = [written.format(value) for written, value in pairs]
    found, expected = numbers(" \n".join(words)), np.array([float(word) for word in words])
    assert np.array_equal(found, expected)
    assert np.array_equal(np.signbit(found), np.signbit(expected))


@pytest.mark.parametrize(
    "word",
    ["0", "-0", ".5", "5.", "-.5e3", "1E5", "1e005", "+3", "00012.50", "inf", "1e400", "9" * 15, "9" * 16, "1.123456789", "123456789.1"],
)
def test_unusual_spellings_are_read_as_float_reads_them(word):
    assert math.copysign(1.0, numbers(f"7 {word} 8")[1]) == math.copysign(1.0, float(word))
    assert numbers(f"7 {word} 8").tolist() == [7.0, float(word), 8.0]


def test_not_a_number_is_read_as_such():
    assert math.isnan(numbers("1 nan")[1])


@pytest.mark.parametrize(
    "word", [".", "-", "e5", "1.2.3", "1e", "1e+", "--1", "1-2", "a", "1,5", "..", "1.e", "1e5e5", "1e1.5", "/.5", "0x1"]
)
def test_what_is_no_number_is_refused(word):
    with pytest.raises(ValueError):
        float(word)
    with pytest.raises(ValueError):
        numbers(f"1 {word} 2")


def test_empty_text_has_no_numbers():
    assert len(numbers("")) == len(numbers(" \n\t")) == 0


def test_words_are_compared_whole():
    words = Words(b"root 1 root 2 roots 3")
    assert words.are("root", slice(0, 4, 2))
    assert not words.are("root", slice(0, None, 2))
    assert not words.are("ro", slice(0, 1))
    assert words.numbers(np.array([1, 3, 5])).tolist() == [1.0, 2.0, 3.0]

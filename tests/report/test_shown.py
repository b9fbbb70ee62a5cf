import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.report.shown import LONGEST, NOTHING, catalogue_text, interval, number, percent, printable, signed

HIDING = [
    *map(chr, range(32)),
    "\x7f",
    "\x85",
    "\u200b",
    "\u200f",
    "\u202e",
    "\u2066",
    "\u2028",
    "\ufeff",
    "\ue000",
    "\ud800",
]


@given(st.text(st.sampled_from([*HIDING, *"aあ<👍"])))
def test_nothing_that_hides_or_reorders_is_left_and_all_else_stays(text):
    shown = printable(text)
    assert all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") for c in shown)
    shown.encode()
    assert [c for c in shown if c in "あ<👍"] == [c for c in text if c in "あ<👍"]


@pytest.mark.parametrize("text", ["夜明けの歌 (Remix) #1 <b>", "👩\u200d🎤 ポップス", "é が Ω"])
def test_what_people_write_is_shown_as_it_is(text):
    assert printable(text) == catalogue_text(text) == text


def test_a_long_text_is_cut_and_says_how_long_it_is():
    assert catalogue_text("あ" * LONGEST) == "あ" * LONGEST
    assert catalogue_text("あ" * 2500) == "あ" * LONGEST + " … (2,500 characters)"


FLOATS = st.none() | st.floats(-1e15, 1e15) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0])


@given(FLOATS, FLOATS)
def test_no_number_is_shown_as_nan_or_infinite(low, high):
    for text in (number(low), signed(low), percent(low), interval(low, high), interval(low, high, sign=True)):
        assert "nan" not in text.lower() and "inf" not in text.lower() and "-" not in text
    for show in (number, signed, percent):
        assert (show(low) == NOTHING) == (low is None or not math.isfinite(low))


@given(st.floats(-1e6, 1e6))
def test_a_difference_has_the_sign_that_its_digits_have(value):
    text = signed(value)
    shown = float(text.replace("−", "-"))
    assert shown == pytest.approx(value, abs=0.0006)
    assert text.startswith("+") == (shown > 0)
    assert text.startswith("−") == (shown < 0)

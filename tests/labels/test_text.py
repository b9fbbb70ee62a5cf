import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from tagfleet.labels.text import fold

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates too: Python's str has them


@given(ANY_TEXT)
@example("\u03b1\u0345\u0308")  # casefold makes a letter of the iota, which then takes the dots
def test_folding_twice_is_folding_once(text):
    assert fold(fold(text)) == fold(text)


@given(st.text())
def test_the_unicode_form_that_someone_typed_in_makes_no_difference(text):
    forms = {fold(unicodedata.normalize(form, text)) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    assert forms == {fold(text)}


def test_width_case_dashes_waves_and_spaces_are_one():
    assert fold("ﾋﾟｱﾉ") == fold("ピアノ") == fold("  ピアノ\u3000")
    assert len({fold(f"j{dash}POP") for dash in "-－−‐‑–—"}) == 1
    assert fold("朝〜夜") == fold("朝～夜") == "朝~夜"
    assert fold("city \t pop") == "city pop"


def test_the_long_vowel_mark_is_no_dash():
    assert fold("ギター") == "ギター"

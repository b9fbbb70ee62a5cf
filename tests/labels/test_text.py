import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tagfleet.labels.text import MAX_CLAUSE, fold, fold_with_places, key_with_places, match_key, read_prose, tokenize

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates too: Python's str has them
JAPANESE = st.text(
    st.sampled_from("明るい暗くない、。！\n ピアノｷﾞﾀｰーﾞはがのA-zＡ①㈱髙〜~・\u3099\u200d\u202e🎸\ud800ǅﬀ가각ㅏ ½"),
    max_size=60,
)


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


@given(ANY_TEXT | JAPANESE)
def test_every_folded_character_comes_from_somewhere_in_the_original(text):
    folded = fold_with_places(text)
    assert folded.text == fold(text)
    assert len(folded.starts) == len(folded.ends) == len(folded.text)
    for place in range(len(folded.text)):
        start, end = folded.span(place, place + 1)
        assert 0 <= start < end <= len(text)
    assert list(folded.starts) == sorted(folded.starts)


@given(JAPANESE)
def test_the_original_of_a_span_folds_to_the_span(text):
    folded = fold_with_places(text)
    for place, character in enumerate(folded.text):
        start, end = folded.span(place, place + 1)
        if character.strip():
            assert character in fold(text[start:end])


def test_half_width_marks_belong_to_their_letter():
    folded = fold_with_places("夜のﾋﾟｱﾉ曲")
    assert folded.text == "夜のピアノ曲"
    assert folded.span(2, 5) == (2, 6)


@given(ANY_TEXT | JAPANESE)
def test_the_key_with_places_is_the_key(text):
    folded = fold(text)
    key, places = key_with_places(folded)
    assert key == match_key(folded)
    assert all(match_key(folded[place]) == character for place, character in zip(places, key, strict=True))


def test_kana_are_one_and_separators_are_none():
    assert match_key("ろっく・アンド-ろーる") == match_key("ロックアンドロール")
    assert match_key("hip-hop") == match_key("hip hop") == match_key("hiphop")


@given(ANY_TEXT | JAPANESE)
def test_tokens_stand_where_they_say(text):
    folded = fold(text)
    place = 0
    for token in tokenize(folded):
        assert place <= token.start < token.end
        surface = folded[token.start : token.end]
        # What MeCab cannot take (controls, lone surrogates) is white space to it.
        assert token.surface == surface
        place = token.end


def test_a_token_has_base_lemma_reading_and_part_of_speech():
    dark, negator = tokenize("暗くない")
    assert (dark.base, dark.lemma, dark.reading, dark.pos) == ("暗い", "暗い", "クライ", "形容詞")
    assert (negator.lemma, negator.pos) == ("無い", "形容詞")


def test_the_tokenizer_is_loaded_once():
    from tagfleet.labels import text

    assert text._tagger() is text._tagger()


@pytest.mark.timeout(60)  # MeCab alone would take hours over the first two
@pytest.mark.parametrize(
    "unit", ["ロック", "あ", "a", "漢", "ドラムはあ", "😀", "の ", "\x00\ud800\u202e", "a\u0301", "、"]
)
def test_a_million_characters_end_in_bounded_time(unit):
    text = (unit * (1_000_000 // len(unit)))[:1_000_000]
    prose = read_prose(text)
    assert all(prose.folded.text[token.start : token.end] == token.surface for token in prose.tokens[:1000])


def test_a_long_text_is_cut_at_clauses_first():
    sentence = "明るいピアノの曲です。"
    text = sentence * (MAX_CLAUSE // len(sentence) * 3)
    assert [token.surface for token in tokenize(text)] == [token.surface for token in tokenize(sentence)] * (
        text.count("。")
    )

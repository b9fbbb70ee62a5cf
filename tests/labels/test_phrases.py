from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.labels.phrases import Hit, Phrase, PhraseIndex, phrases_of, resolve
from tagfleet.labels.text import read_prose
from tests.labels.test_text import ANY_TEXT, JAPANESE
from tests.labels.words import TAXONOMY

INDEX = PhraseIndex(phrases_of(TAXONOMY))


def found(text):
    prose = read_prose(text)
    return [(hit.phrase.label, prose.words(hit.start, hit.end)) for hit in resolve(INDEX.find(prose)).kept]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("暗くて悲しかった", [("dark", "暗く"), ("sad", "悲しかっ")]),
        ("明るさと悲しげな音", [("bright", "明るさ"), ("sad", "悲しげ")]),
        ("ﾊｰﾄﾞﾛｯｸの J‐POP", [("rock", "ﾊｰﾄﾞﾛｯｸ"), ("pops", "J‐POP")]),
        ("はーどろっく", [("rock", "はーどろっく")]),
        ("ハード・ロック", [("rock", "ハード・ロック")]),
        ("a rocket, bedrock and rocks", []),
        ("Hard Rock? ROCK!", [("rock", "Rock"), ("rock", "ROCK")]),
        ("drum'n'bass", [("drums", "drum"), ("bass", "bass")]),
        ("ブロックの上弦の月", []),
        ("ローファイヒップホップ", [("lofi", "ローファイヒップホップ")]),
    ],
)
def test_phrases_are_found_as_words_in_any_spelling_and_inflection(text, expected):
    assert found(text) == expected


def test_a_description_of_moods_keeps_the_order_of_the_text():
    assert [label for label, _ in found("悲しい、明るい、不気味")] == ["sad", "bright", "ominous"]


def test_two_axes_do_not_hide_each_other():
    assert {label for label, _ in found("ピアノバラード")} == {"ballad", "piano"}


def test_one_label_per_place_on_an_axis():
    phrase = [Phrase("genre", name, "name", name) for name in "abc"]
    hits = [Hit(phrase[0], 0, 4), Hit(phrase[1], 2, 8), Hit(phrase[2], 7, 9)]
    assert [hit.phrase.label for hit in resolve(hits).kept] == ["b"]
    assert [hit.phrase.label for hit in resolve([hits[0], hits[2]]).kept] == ["a", "c"]


def test_a_stop_phrase_hides_its_label_only_where_it_is_longer():
    rock, stop = Phrase("genre", "rock", "name", "ロック"), Phrase("genre", "rock", "stop", "ロックを解除")
    other = Phrase("genre", "pops", "name", "ロック")
    hits = [Hit(rock, 0, 3), Hit(stop, 0, 6), Hit(rock, 10, 13)]
    assert resolve(hits).kept == [hits[2]]
    assert resolve(hits).stopped == [(hits[0], hits[1])]
    assert resolve([Hit(other, 0, 3), hits[1]]).kept == [Hit(other, 0, 3)]


@given(ANY_TEXT | JAPANESE | st.lists(st.sampled_from([p.spelling for p in phrases_of(TAXONOMY)])).map("".join))
def test_any_text_gives_hits_that_point_into_the_original(text):
    prose = read_prose(text)
    kept, stopped = resolve(INDEX.find(prose))
    for hit in [*kept, *(hit for hit, _ in stopped)]:
        start, end = prose.folded.span(hit.start, hit.end)
        assert 0 <= start < end <= len(text)
    by_axis = {}
    for hit in kept:
        by_axis.setdefault(hit.phrase.axis, []).append((hit.start, hit.end))
    for spans in by_axis.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


@pytest.mark.parametrize("text", ["", " ", "\u3000", "。", "\u200b", "\ud800", "\x00"])
def test_a_text_without_words_has_none(text):
    assert found(text) == []


def test_five_thousand_phrases_are_found_like_one():
    many = [Phrase("genre", f"g{n}", "name", f"ことば{n}号") for n in range(5000)]
    index = PhraseIndex([*many, Phrase("genre", "rock", "name", "ロック")])
    prose = read_prose("ロックの曲、ことば4321号")
    assert [hit.phrase.label for hit in resolve(index.find(prose)).kept] == ["rock", "g4321"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("エモくて", ["emotional"]),
        ("エモさ", ["emotional"]),
        ("エモかった", ["emotional"]),
        ("チルくて", ["relaxed"]),
        ("かっこよく", ["cool"]),
        ("かっこよさ", ["cool"]),
        ("カッコ良い", ["cool"]),
        ("ロック 画面を彩る", ["rock"]),
        ("ポップ・アップテンポな曲", ["pops"]),
    ],
)
def test_forms_of_colloquial_words_and_stop_phrases_with_something_between(text, expected):
    assert sorted({label for label, _ in found(text)}) == expected

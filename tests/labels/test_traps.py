"""FIELD_NOTES, "Labels in Japanese": each thing that went wrong once is a test here."""

import pytest

from tagfleet.labels.reading import TrackReader
from tagfleet.labels.text import fold, tokenize
from tests.labels.words import READER, TAXONOMY, labels_in, labels_of_tags


def test_the_longest_phrase_wins_over_tokens_and_substrings():
    assert labels_in("エレキギターの曲") == {"electric_guitar", "guitar"}
    assert labels_in("ロックバラードです") == {"ballad"}
    assert labels_in("エレキベースの曲") == {"bass"}


def test_electric_guitar_is_a_guitar_by_decision_not_by_accident_of_tokens():
    claims = READER.matcher.held(READER.read(["エレキギター"], "").claims)
    assert [(claim.label, claim.rule) for claim in claims] == [("electric_guitar", "name"), ("guitar", "parent")]


@pytest.mark.parametrize(
    ("text", "label"),
    [("不気味な夜", "ominous"), ("疾走感あふれる", "driving"), ("三味線の音", "shamisen"), ("かっこいい曲", "cool")],
)
def test_words_that_unidic_splits_are_found(text, label):
    assert label in labels_in(text)


@pytest.mark.parametrize(("text", "label"), [("エモい曲です", "emotional"), ("チルい夜に", "relaxed")])
def test_words_that_unidic_turns_into_letters_are_found(text, label):
    assert label in labels_in(text)


def test_words_without_a_lemma_have_their_surface():
    for word in ("J-POP", "EDM", "BGM"):
        assert all(token.lemma for token in tokenize(fold(word)))
    assert labels_in("最新のJ-POPです") == {"pops"}
    assert labels_in("EDMのBGM") == {"edm"}


def test_lemmas_carry_no_gloss_and_no_trailing_space():
    (rock,) = tokenize("ロック")
    assert rock.lemma == "ロック"
    (brass,) = tokenize("ブラス")
    assert brass.lemma == brass.lemma.strip() and "-" not in brass.lemma


def test_pop_and_pops_share_a_lemma_and_are_told_apart_by_their_spelling():
    assert labels_in("ポップな曲") == {"pops"} == labels_in("ポップスの曲")


@pytest.mark.parametrize(
    "text",
    [
        "暗くない曲",
        "暗くはありません",
        "暗すぎない曲",
        "ロックではありません",
        "ドラムなしの曲",
        "ドラムレスの曲",
        "ピアノ抜きの曲",
    ],
)
def test_the_six_forms_of_negation(text):
    assert labels_in(text) == set()
    assert any(claim.verdict == "denied" for claim in READER.read((), text).claims)


@pytest.mark.parametrize("text", ["非ロック", "ノーロック", "ノンロック", "ノー・ボーカル", "ノンボーカル"])
def test_the_three_prefixes(text):
    assert labels_of_tags(text) == set() == labels_in(f"{text}の曲です")
    assert any(claim.verdict == "denied" for claim in READER.read([text], "").claims)


@pytest.mark.parametrize(("text", "label"), [("切ない曲", "bittersweet"), ("さりげない曲", "casual")])
def test_words_that_end_like_a_negation_and_are_none(text, label):
    assert labels_in(text) == {label}


@pytest.mark.parametrize("text", ["ロックを解除する", "ロック画面の音", "ポップアップの音"])
def test_wrong_senses_are_stopped(text):
    assert labels_in(text) == set()
    assert labels_of_tags(text) == set()


def test_a_classical_guitar_is_no_classical_music():
    assert labels_in("クラシックギターの曲") == {"acoustic_guitar", "guitar"}
    assert labels_of_tags("クラシックギター") == {"acoustic_guitar", "guitar"}
    assert labels_of_tags("クラシックギター", "クラシック") == {"acoustic_guitar", "guitar", "classical"}


def test_an_electric_bass_is_no_electric_guitar():
    assert labels_of_tags("エレキベース") == {"bass"}


def test_width_is_folded_before_anything_else():
    assert labels_of_tags("ﾋﾟｱﾉ", "Ｊ－ＰＯＰ") == {"piano", "pops"}
    assert labels_in("ﾋﾟｱﾉの曲") == {"piano"}


@pytest.mark.parametrize("dash", "−－‐–—-")
def test_all_dashes_are_one(dash):
    assert labels_of_tags(f"J{dash}POP") == {"pops"}


def test_about_is_not_dark():
    """くらい is a particle in 3分くらい, and a mood as a tag."""
    assert labels_in("3分くらいの曲です") == set()
    assert labels_of_tags("くらい") == {"dark"}


def test_the_first_tag_weighs_most():
    claims = READER.matcher.held(READER.read(["ピアノ", "夏", "ドラム"], "弦も入ります").claims)
    assert [(claim.label, claim.position, claim.weight) for claim in claims] == [
        ("piano", 0, 1.0),
        ("drums", 2, 1 / 3),
        ("strings", 3, 1 / 4),
    ]


def test_a_reader_without_scores_reads_no_mood_words():
    words_only = TAXONOMY.model_copy(update={"axes": TAXONOMY.axes[:3]})
    assert TrackReader(words_only).read(["明るい"], "").words == []

import pytest

from tagfleet.cli.explanation import explanation_as_plain, explanation_lines
from tagfleet.labels.build import build_labels
from tagfleet.labels.config import LabelsConfig
from tagfleet.labels.explain import explain_track
from tests.labels.words import READER, TAXONOMY, tracks

TABLE = tracks(
    {
        "track_id": "1",
        "title": "夜\x1b[31m",
        "tags": ["バラード", "ﾋﾟｱﾉ", "クラシックギター", "ロック"],
        "description": "暗くない曲。ドラムは\u202e入っていません。",
    },
    ("2", ["夏"], "海"),
    ("3", None, "明るい曲"),
)


def explained(track_id, **options):
    labels = build_labels(TABLE, TAXONOMY, LabelsConfig(), READER).labels.to_pylist()
    track = next(row for row in TABLE.to_pylist() if row["track_id"] == track_id)
    stored = [row for row in labels if row["track_id"] == track_id]
    return explain_track(track, TAXONOMY, READER, **{"stored": stored, **options})


def reasons(explanation, axis):
    found = next(found for found in explanation.axes if found.axis == axis)
    return [(reason.kind, reason.label) for reason in found.reasons]


def test_every_axis_says_what_decided():
    explanation = explained("1")
    assert reasons(explanation, "genre") == [("said", "ballad"), ("lost", "rock"), ("stopped", "classical")]
    assert reasons(explanation, "instrument") == [
        ("said", "piano"),
        ("said", "acoustic_guitar"),
        ("said", "guitar"),
        ("denied", "drums"),
    ]
    assert reasons(explanation, "mood") == [("denied", "dark")]


def test_no_label_has_its_reason_too():
    explanation = explained("2")
    assert reasons(explanation, "genre") == [("silent", None)]
    assert reasons(explanation, "polarity") == [("unscored", None)]
    assert reasons(explained("3"), "polarity") == [("scored", None), ("between", None)]


def test_labels_that_are_left_out_or_out_of_date_are_told():
    assert reasons(explained("3", stored=[], report={"rare": {"mood:bright": 1}}), "mood") == [("rare", "bright")]
    assert reasons(explained("3", stored=[]), "mood") == [("stale", "bright")]
    old = {"axis": "mood", "label": "dark", "rule": "name", "evidence": "暗い", "split": "train"}
    assert reasons(explained("3", stored=[old]), "mood") == [("stale", "bright"), ("stale", "dark")]
    skipped = explained("1", stored=[], report={"config": {"conflicts": "skip"}})
    assert reasons(skipped, "genre")[:2] == [("conflict", "ballad"), ("conflict", "rock")]
    over = explained("1", stored=[], report={"axes": {"genre": {"n_over": {"ballad": 3}}}})
    assert reasons(over, "genre")[:2] == [("over", "ballad"), ("lost", "rock")]


def test_before_anything_was_built_the_words_are_explained():
    explanation = explained("1", stored=None)
    assert reasons(explanation, "genre")[:2] == [("said", "ballad"), ("lost", "rock")]
    assert reasons(explanation, "polarity") == [("scored", None), ("planned", None)]


def test_a_score_that_changed_since_is_out_of_date():
    end = {"axis": "polarity", "label": "positive", "rule": "polarity", "evidence": "0.8: 明るい", "split": "train"}
    assert reasons(explained("3", stored=[end]), "polarity") == [("scored", "positive")]
    old = {**end, "evidence": "-0.1: 暗い"}
    assert reasons(explained("3", stored=[old]), "polarity") == [("scored", "positive"), ("stale", "positive")]
    few = explained("3", stored=[], report={"rare": {"polarity:positive": 1}})
    assert reasons(few, "polarity") == [("scored", None), ("rare", None)]


def test_a_persons_word_is_all_there_is_to_say():
    said = {"axis": "genre", "label": "none", "note": "効果音"}
    assert reasons(explained("1", corrections=[said]), "genre") == [("corrected", "none")]


def test_ten_thousand_tags_are_explained():
    track = {"track_id": "1", "title": None, "tags": [f"ピアノ{n}" for n in range(10_000)], "description": "明るい"}
    explanation = explain_track(track, TAXONOMY, READER, None)
    assert len(list(explanation_lines(explanation, TAXONOMY, "ja"))) > 20_000


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (
            "ja",
            [
                "タグ1: ⟦バラード⟧",
                "ドラムではない: 説明の7文字目の「ドラム」は「は\\u202e入っていません」で否定",
                "クラシックではない",
                "分割: ",
            ],
        ),
        (
            "en",
            [
                "tag 1: ⟦バラード⟧",
                "not drums: 'ドラム' in description, character 7 is denied by 'は\\u202e入っていません'",
                "split: ",
            ],
        ),
    ],
)
def test_the_explanation_reads_in_both_languages_and_cannot_harm_a_terminal(language, expected):
    text = "\n".join(explanation_lines(explained("1"), TAXONOMY, language))
    for words in expected:
        assert words in text
    assert "\x1b" not in text and "\u202e" not in text
    assert "⟦暗く⟧ない曲" in text


def test_every_reason_has_words_in_both_languages():
    from typing import get_args

    from tagfleet.cli.explanation import _TEXTS
    from tagfleet.labels.explain import ReasonKind

    assert set(get_args(ReasonKind)) <= _TEXTS["ja"].keys() == _TEXTS["en"].keys()


def test_the_plain_form_has_places_in_the_original():
    plain = explanation_as_plain(explained("1"))
    texts = [*plain["tags"], plain["description"]]
    assert plain["matches"]
    for match in plain["matches"]:
        assert texts[match["position"]][match["start"] : match["end"]] == match["evidence"]

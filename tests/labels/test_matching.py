import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.labels.reading import TrackReader
from tagfleet.labels.taxonomy import load_taxonomy
from tests.labels.test_text import ANY_TEXT, JAPANESE
from tests.labels.words import READER, TAXONOMY, labels_of_tags

PACKAGED = load_taxonomy()
PACKAGED_READER = TrackReader(PACKAGED.model_copy(update={"axes": tuple(a for a in PACKAGED.axes if not a.polarity)}))
SPELLINGS = [
    (axis.axis, label.id, spelling)
    for axis in PACKAGED.axes
    if not axis.polarity
    for label in axis.labels
    for spelling, _ in label.spellings
]
TEXTS = (
    ANY_TEXT | JAPANESE | st.sampled_from(["ピアノ", "暗くない", "クラシックギター", "ﾛｯｸ", "no drums", "ピアノなし"])
)


def test_every_spelling_of_the_packaged_taxonomy_is_its_label():
    for axis, label, spelling in SPELLINGS:
        for typed in (spelling, spelling.upper(), f" {spelling} "):
            held = PACKAGED_READER.matcher.held(PACKAGED_READER.read([typed], "").claims)
            assert (axis, label) in [claim[:2] for claim in held], typed


def test_a_claim_says_why():
    name, synonym = READER.matcher.held(READER.read(["作業用BGM", " ﾋﾟｱﾉ", "ハードロック!"], "").claims)
    assert (name.label, name.rule, name.source, name.evidence, name.position) == ("piano", "name", "tag", "ﾋﾟｱﾉ", 1)
    assert (name.start, name.end, name.weight) == (1, 5, 1 / 2)
    assert (synonym.label, synonym.rule, synonym.evidence, synonym.position) == ("rock", "synonym", "ハードロック", 2)


def test_a_label_named_twice_is_held_by_its_first_tag():
    (held,) = READER.matcher.held(READER.read(["Piano", "ピアノ"], "ピアノ").claims)
    assert (held.evidence, held.source) == ("Piano", "tag")


def test_a_tag_is_read_like_prose_where_it_is_more_than_a_spelling():
    assert labels_of_tags("明るいピアノ") == {"bright", "piano"}
    assert labels_of_tags("ロックじゃない", "popular", "") == set()


def test_the_stop_phrase_and_the_denial_are_named():
    stopped, denied = READER.read(["クラシックギター", "ドラムレス"], "").claims[-2:]
    claims = {
        (claim.label, claim.verdict): claim.because
        for claim in READER.read(["クラシックギター", "ドラムレス"], "").claims
    }
    assert claims["classical", "stopped"] == "クラシックギター"
    assert claims["drums", "denied"] == "レス"
    assert {stopped.verdict, denied.verdict} == {"stopped", "denied"}


@given(st.lists(TEXTS, max_size=6), TEXTS)
def test_any_texts_give_claims_with_their_words_in_the_original(tags, description):
    claims, words = READER.read(tags, description)
    texts = [*tags, description]
    for claim in claims:
        assert texts[claim.position][claim.start : claim.end] == claim.evidence != ""
        assert 0 < claim.weight <= 1
        assert (claim.source == "tag") == (claim.position < len(tags))
    for word in words:
        assert texts[word.position][word.start : word.end] == word.words
        assert -1 <= word.valence <= 1
    held = READER.matcher.held(claims)
    assert len({claim[:2] for claim in held}) == len(held)
    for claim in held:
        axis = TAXONOMY.axis(claim.axis)
        assert set(axis.ancestors(claim.label)) <= {other.label for other in held if other.axis == claim.axis}


@given(st.lists(TEXTS, max_size=6), TEXTS)
def test_reading_twice_is_reading_once(tags, description):
    assert READER.read(tags, description) == TrackReader(TAXONOMY, ()).read(tags, description)._replace(
        words=READER.read(tags, description).words
    )


@pytest.mark.parametrize("text", ["", "。", "\ud800", "\u202e\u202d", "\x00" * 10])
def test_an_empty_text_gives_no_label(text):
    assert READER.read([text], text) == ([], [])


def test_ten_thousand_tags_are_read():
    tags = [f"ピアノ{n}" for n in range(10_000)]
    claims = READER.read(tags, "").claims
    assert len(claims) == 10_000
    assert [claim.label for claim in READER.matcher.held(claims)] == ["piano"]


def test_right_to_left_marks_and_controls_hide_nothing():
    assert labels_of_tags("\u202eピアノ\u202c", "ロ\u200bック") == {"piano", "rock"}

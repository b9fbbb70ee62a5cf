import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.labels.matching import Matcher
from tagfleet.labels.taxonomy import load_taxonomy
from tests.labels.test_text import ANY_TEXT

TAXONOMY = load_taxonomy()
MATCHER = Matcher(TAXONOMY)
SPELLINGS = [
    (axis.axis, label.id, name)
    for axis in TAXONOMY.axes
    for label in axis.labels
    for name in (label.id, label.ja, label.en, *label.synonyms)
]


@pytest.mark.parametrize(("axis", "label", "spelling"), SPELLINGS)
def test_every_spelling_of_the_taxonomy_is_its_label(axis, label, spelling):
    for typed in (spelling, spelling.upper(), f" {spelling} "):
        assert (axis, label) in [(match.axis, match.label) for match in MATCHER.match([typed])]


def test_a_match_says_why():
    name, synonym = MATCHER.match(["作業用BGM", "ﾋﾟｱﾉ", "邦ロック"])
    assert (name.label, name.rule, name.evidence, name.position, name.weight) == ("piano", "name", "ﾋﾟｱﾉ", 1, 1 / 2)
    assert (synonym.label, synonym.rule, synonym.evidence, synonym.position) == ("rock", "synonym", "邦ロック", 2)


def test_a_label_named_twice_is_matched_by_its_first_tag():
    (match,) = MATCHER.match(["Piano", "ピアノ"])
    assert match.evidence == "Piano"


def test_a_tag_that_only_holds_a_spelling_is_none():
    assert MATCHER.match(["ロックじゃない", "popular", ""]) == []


@given(st.lists(ANY_TEXT | st.sampled_from([spelling for *_, spelling in SPELLINGS])))
def test_any_tags_give_matches_in_their_order_with_their_words(tags):
    matches = MATCHER.match(tags)
    assert [match.position for match in matches] == sorted(match.position for match in matches)
    assert all(tags[match.position] == match.evidence and 0 < match.weight <= 1 for match in matches)
    assert len({(match.axis, match.label) for match in matches}) == len(matches)

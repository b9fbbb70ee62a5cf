from tagfleet.labels.check import check_taxonomy
from tagfleet.labels.taxonomy import LabelSet, Taxonomy, load_taxonomy
from tests.labels.words import TAXONOMY, label


def remarks(*labels, other=()):
    axes = [LabelSet(axis="genre", exclusive=True, labels=labels)]
    axes += [LabelSet(axis="instrument", exclusive=False, labels=other)] if other else []
    return {(r.kind, r.label, r.spelling) for r in check_taxonomy(Taxonomy(name="t", axes=tuple(axes)))}


def test_a_spelling_inside_anothers_is_an_overlap():
    assert ("overlap", "ballad", "ロックバラード") in remarks(
        label("rock", "ロック"), label("ballad", "ロックバラード")
    )


def test_a_word_of_two_axes_is_told():
    assert ("two-axes", "organ", "オルガン") in remarks(label("organ", "オルガン"), other=(label("pipe", "オルガン"),))


def test_a_stop_phrase_that_stops_nothing_is_told():
    found = remarks(label("rock", "ロック", stop=("ロックを解除", "ブロック塀")))
    assert {item for item in found if item[0] == "useless-stop"} == {("useless-stop", "rock", "ブロック塀")}


def test_a_quiet_taxonomy_has_no_remarks():
    assert remarks(label("rock", "ロック"), label("jazz", "ジャズ")) == set()


def test_the_shipped_taxonomies_have_no_useless_stop_phrase():
    for taxonomy in (TAXONOMY, load_taxonomy()):
        assert [r for r in check_taxonomy(taxonomy) if r.kind == "useless-stop"] == []

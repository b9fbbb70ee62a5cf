import pytest

from tagfleet.errors import TaxonomyError
from tagfleet.labels.taxonomy import load_taxonomy, parse_taxonomy


def plain(*labels, axis="genre", exclusive=True):
    return {"name": "t", "axes": [{"axis": axis, "exclusive": exclusive, "labels": list(labels)}]}


ROCK = {"id": "rock", "ja": "ロック", "en": "Rock", "synonyms": ["邦ロック"]}
POPS = {"id": "pops", "ja": "ポップス", "en": "Pops"}


def test_the_packaged_taxonomy_is_valid_and_says_which_axes_exclude():
    taxonomy = load_taxonomy()
    exclusive = {axis.axis: axis.exclusive for axis in taxonomy.axes}
    assert exclusive == {"genre": True, "instrument": False, "mood": False, "polarity": True}
    assert taxonomy.version.startswith("default-")


def test_the_packaged_taxonomy_is_large_enough_for_a_library():
    taxonomy = load_taxonomy()
    names = {axis.axis: {label.ja for label in axis.labels} for axis in taxonomy.axes}
    assert len(names["genre"]) >= 18 and names["genre"] >= {
        "ロック",
        "フュージョン",
        "バラード",
        "ポップス",
        "クラシック",
    }
    assert len(names["instrument"]) >= 20
    assert names["instrument"] >= {"ピアノ", "シンセサイザー", "ギター", "エレキギター"}
    assert len(names["mood"]) >= 30
    for label in taxonomy.axis("mood").labels:
        assert label.valence is not None and label.arousal is not None
    assert taxonomy.axis("instrument").label("electric_guitar").parent == "guitar"


def test_plain_values_there_and_back_are_the_same_version():
    taxonomy = load_taxonomy()
    again = parse_taxonomy(taxonomy.model_dump(mode="json"))
    assert again == taxonomy
    assert again.version == taxonomy.version


def test_another_synonym_is_another_version():
    more = parse_taxonomy(plain({**ROCK, "synonyms": ["邦ロック", "ロックンロール"]}, POPS))
    assert more.version != parse_taxonomy(plain(ROCK, POPS)).version


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (plain(), "genre|axes"),
        (plain({**ROCK, "id": "ロック"}), "id"),
        (plain(ROCK, ROCK), "stands twice"),
        (plain(ROCK, {**POPS, "synonyms": ["ﾛｯｸ"]}), "'ﾛｯｸ' means rock and pops"),
        (plain({**ROCK, "synonyms": ["\u3000"]}), "empty spelling"),
        (plain({**ROCK, "synonym": []}), "synonym"),
        (plain({**ROCK, "id": "none"}), "'none' is what corrections call no label"),
        (plain({**ROCK, "parent": "pops"}, POPS), "rock has a parent, but"),
        (plain({**ROCK, "parent": "metal"}, POPS, exclusive=False), "there is no parent 'metal'"),
        (plain({**ROCK, "parent": "pops"}, {**POPS, "parent": "rock"}, exclusive=False), "its own ancestor"),
        (plain({**ROCK, "stop": ["邦 ロック"]}), "kills its own label rock"),
        (plain({**ROCK, "stop": ["・"]}), "empty stop phrase"),
        (plain(ROCK, {**POPS, "synonyms": ["ろっく"]}), "means rock and pops"),
        (plain({**ROCK, "valence": 2}), "valence"),
        (
            {"name": "t", "axes": [{"axis": "p", "exclusive": True, "polarity": "valence", "labels": [POPS]}]},
            "two labels",
        ),
        ({"name": "t", "axes": []}, "axes"),
        ({"name": "t", "axes": plain(ROCK)["axes"] * 2}, "axis genre stands twice"),
    ],
)
def test_a_contradiction_is_refused_and_named(values, words):
    with pytest.raises(TaxonomyError, match=words):
        parse_taxonomy(values)


def test_one_word_may_stand_on_two_axes():
    organ = {"id": "organ", "ja": "オルガン", "en": "Organ"}
    axes = [plain(organ, axis=name)["axes"][0] for name in ("genre", "instrument")]
    assert len(parse_taxonomy({"name": "t", "axes": axes}).axes) == 2


def test_an_unknown_axis_is_answered_with_those_that_exist():
    with pytest.raises(TaxonomyError, match="no axis 'tempo'; there are genre, instrument, mood, polarity"):
        load_taxonomy().axis("tempo")


@pytest.mark.parametrize("content", [b"name = ", b"name = '\x93\xfa'"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(TaxonomyError, match=r"mine\.toml is not valid TOML"):
        load_taxonomy(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TaxonomyError, match="cannot read"):
        load_taxonomy(tmp_path / "none.toml")


def test_all_contradictions_are_told_at_once():
    with pytest.raises(TaxonomyError) as caught:
        parse_taxonomy(plain({**ROCK, "stop": ["ロック"]}, {**POPS, "synonyms": ["ロック"], "parent": "rock"}))
    for words in ("kills its own", "means rock and pops", "has a parent"):
        assert words in caught.value.message


def test_a_taxonomy_without_some_labels_is_a_revision_of_it():
    taxonomy = load_taxonomy()
    present = {("instrument", "electric_guitar"), ("genre", "rock"), ("polarity", "positive")}
    smaller = taxonomy.only(present)
    assert [(axis.axis, [label.id for label in axis.labels]) for axis in smaller.axes] == [
        ("genre", ["rock"]),
        ("instrument", ["electric_guitar"]),
    ]
    assert smaller.axis("instrument").labels[0].parent is None
    assert smaller.parents == (taxonomy.version,)
    assert parse_taxonomy(smaller.model_dump(mode="json")) == smaller
    assert smaller.only({("instrument", "electric_guitar"), ("genre", "rock")}) is smaller

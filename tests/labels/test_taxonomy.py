import pytest

from tagfleet.errors import TaxonomyError
from tagfleet.labels.taxonomy import load_taxonomy, parse_taxonomy


def plain(*labels, axis="genre", exclusive=True):
    return {"name": "t", "axes": [{"axis": axis, "exclusive": exclusive, "labels": list(labels)}]}


ROCK = {"id": "rock", "ja": "ロック", "en": "Rock", "synonyms": ["邦ロック"]}
POPS = {"id": "pops", "ja": "ポップス", "en": "Pops"}


def test_the_packaged_taxonomy_is_valid_and_says_which_axes_exclude():
    taxonomy = load_taxonomy()
    assert {axis.axis: axis.exclusive for axis in taxonomy.axes} == {"genre": True, "instrument": False, "mood": True}
    assert taxonomy.version.startswith("demo-")


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
        (plain(ROCK, {**POPS, "synonyms": ["ﾛｯｸ"]}), "'ロック' means rock and pops"),
        (plain({**ROCK, "synonyms": ["\u3000"]}), "empty spelling"),
        (plain({**ROCK, "synonym": []}), "synonym"),
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
    with pytest.raises(TaxonomyError, match="no axis 'tempo'; there are genre, instrument, mood"):
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

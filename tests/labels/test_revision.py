import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.errors import TaxonomyError
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.revision import TaxonomyChange, load_change, revise
from tagfleet.labels.taxonomy import parse_taxonomy
from tests.labels.words import TAXONOMY, labels_of_tags


def revised(**steps):
    return revise(TAXONOMY, TaxonomyChange.model_validate(steps))


def ids(taxonomy, axis):
    return [label.id for label in taxonomy.axis(axis).labels]


def of_tags(taxonomy, *tags):
    return labels_of_tags(*tags, reader=TrackReader(taxonomy))


def test_a_dropped_label_means_nothing_any_more():
    new = revised(drop=[{"axis": "genre", "label": "edm"}])
    assert "edm" not in ids(new, "genre")
    assert of_tags(new, "EDM") == set()
    assert new.became == {"genre:edm": "none"}


def test_a_dropped_parent_hands_its_children_up():
    new = revised(drop=[{"axis": "instrument", "label": "guitar"}])
    assert of_tags(new, "エレキギター") == {"electric_guitar"}


def test_merged_labels_share_their_spellings_under_one_of_them():
    new = revised(merge=[{"axis": "genre", "labels": ["rock", "ballad"], "into": "rock"}])
    assert of_tags(new, "ピアノバラード") == {"rock", "piano"}
    assert new.became == {"genre:ballad": "rock"}
    assert ids(new, "genre").index("rock") == ids(TAXONOMY, "genre").index("rock")


def test_merged_labels_may_have_a_new_name():
    merge = {"axis": "mood", "labels": ["dark", "sad"], "into": "gloomy", "ja": "陰気", "en": "Gloomy"}
    new = revised(merge=[merge])
    assert of_tags(new, "暗い") == of_tags(new, "陰気") == {"gloomy"}
    assert new.became == {"mood:dark": "gloomy", "mood:sad": "gloomy"}
    assert new.axis("mood").label("gloomy").valence == pytest.approx(-0.7)


def test_children_of_a_merged_label_follow_it():
    merge = {"axis": "instrument", "labels": ["guitar", "bass"], "into": "plucked", "ja": "撥弦", "en": "Plucked"}
    assert of_tags(revised(merge=[merge]), "エレキギター") == {"electric_guitar", "plucked"}
    own = revised(merge=[{"axis": "instrument", "labels": ["guitar", "electric_guitar"], "into": "electric_guitar"}])
    assert of_tags(own, "ギター") == {"electric_guitar"}


def test_a_renamed_label_keeps_its_old_names_as_synonyms():
    new = revised(rename=[{"axis": "genre", "label": "pops", "id": "jpop", "ja": "Jポップ"}])
    assert of_tags(new, "ポップス") == of_tags(new, "pops") == {"jpop"}
    assert new.became == {"genre:pops": "jpop"}
    again = revise(new, TaxonomyChange.model_validate({"rename": [{"axis": "genre", "label": "jpop", "id": "pops"}]}))
    assert again.became == {"genre:jpop": "pops"}
    assert again.parents == (TAXONOMY.version, new.version)


SPLIT = {
    "axis": "genre",
    "label": "ballad",
    "into": [
        {"id": "piano_ballad", "ja": "ピアノバラード", "en": "Piano ballad", "phrases": ["バラード"]},
        {"id": "rock_ballad", "ja": "ロックバラード", "en": "Rock ballad", "phrases": ["パワーバラード"]},
    ],
    "leave_out": ["ballad"],
}


def test_a_label_is_split_by_its_phrases():
    new = revised(split=[SPLIT])
    assert of_tags(new, "ロックバラード") == of_tags(new, "パワーバラード") == {"rock_ballad"}
    assert of_tags(new, "バラード") == {"piano_ballad"}
    assert of_tags(new, "ballad") == set()
    assert new.became == {"genre:ballad": "none"}


def test_a_split_that_loses_a_spelling_is_refused():
    with pytest.raises(TaxonomyError, match="'ballad' are in no part"):
        revised(split=[{**SPLIT, "leave_out": []}])


def test_an_axis_may_become_one_of_several_labels():
    assert not revised(make_multi=[{"axis": "genre"}]).axis("genre").exclusive


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({}, "changes nothing"),
        ({"drop": [{"axis": "tempo", "label": "x"}]}, "axis 'tempo'"),
        ({"drop": [{"axis": "genre", "label": "x"}]}, "no label 'x' on axis genre"),
        ({"drop": [{"axis": "polarity", "label": "positive"}]}, "made of a score"),
        ({"merge": [{"axis": "genre", "labels": ["rock"], "into": "new"}]}, "needs `ja` and `en`"),
        ({"merge": [{"axis": "genre", "labels": ["rock"], "into": "rock"}]}, "names one label"),
        ({"rename": [{"axis": "genre", "label": "rock", "id": "pops"}]}, "there is such a label"),
        ({"rename": [{"axis": "genre", "label": "rock", "ja": "バラード"}]}, "means"),
        ({"make_multi": [{"axis": "mood"}]}, "changes nothing"),
        (
            {"parent": "words-00000000", "drop": [{"axis": "genre", "label": "rock"}]},
            "was made for taxonomy words-0000",
        ),
    ],
)
def test_a_step_that_cannot_be_taken_is_refused(steps, said):
    with pytest.raises(TaxonomyError, match=said):
        revised(**steps)


def test_a_change_is_a_toml_file(tmp_path):
    path = tmp_path / "change.toml"
    path.write_text(f'parent = "{TAXONOMY.version}"\nnote = "rare"\n[[drop]]\naxis = "genre"\nlabel = "edm"\n')
    new = revise(TAXONOMY, load_change(path))
    assert new.parents == (TAXONOMY.version,)
    assert parse_taxonomy(new.model_dump(mode="json")).version == new.version
    path.write_text("[[dropp]]")
    with pytest.raises(TaxonomyError, match="dropp"):
        load_change(path)
    path.write_text("drop")
    with pytest.raises(TaxonomyError, match="not valid TOML"):
        load_change(path)
    with pytest.raises(TaxonomyError, match="cannot read"):
        load_change(tmp_path / "none.toml")


@given(
    st.lists(st.sampled_from([label.id for label in TAXONOMY.axis("mood").labels]), min_size=1, max_size=5, unique=True)
)
def test_dropping_one_by_one_is_dropping_at_once(names):
    at_once = revised(drop=[{"axis": "mood", "label": name} for name in names])
    one_by_one = TAXONOMY
    for name in names:
        one_by_one = revise(one_by_one, TaxonomyChange.model_validate({"drop": [{"axis": "mood", "label": name}]}))
    assert one_by_one.axes == at_once.axes
    assert one_by_one.became == at_once.became
    assert len(one_by_one.parents) == len(names)

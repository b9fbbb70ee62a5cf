import random
import unicodedata

import pytest

from tagfleet.demo.arrange import CHOICES, GENRES, MOODS
from tagfleet.demo.names import JUNK, SPELLINGS, file_name, title, twin_name, words_for
from tagfleet.demo.plan import TAXONOMY_FILE
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy(TAXONOMY_FILE)
READER = TrackReader(TAXONOMY)


def held(tags, description=""):
    return READER.matcher.held(READER.read(tags, description).claims)


@pytest.mark.parametrize("label", SPELLINGS)
def test_the_taxonomy_knows_every_spelling_that_the_creators_use(label):
    assert [claim.label for tag in SPELLINGS[label] for claim in held([tag])] == [label] * len(SPELLINGS[label])


def test_junk_is_no_label():
    assert held(JUNK) == []


def test_what_is_played_and_what_can_be_labelled_are_the_same():
    ids = {axis.axis: [label.id for label in axis.labels] for axis in TAXONOMY.axes}
    played = {name for c in CHOICES.values() for role in (c.chords, c.pad, c.lead) for name in role} - {""}
    assert ids == {"genre": list(GENRES), "instrument": ids["instrument"], "mood": list(MOODS)}
    assert set(ids["instrument"]) == played | {"drums"}


def test_most_tags_are_true_and_some_are_wrong_or_missing():
    rng = random.Random(1)
    words = [words_for("rock", "dark", ("drums", "guitar"), rng) for _ in range(1000)]
    said = [held(each.tags, each.description) for each in words]
    genres = [[match.label for match in matches if match.axis == "genre"] for matches in said]
    assert 0.80 < genres.count(["rock"]) / 1000 < 0.90
    assert 0.06 < genres.count([]) / 1000 < 0.14
    first_positions = {matches[0].position for matches in said if matches}
    assert len(first_positions) > 1


def test_file_names_differ_and_stay_in_their_folder():
    rng = random.Random(2)
    names = [file_name(title(rng), number, "mp3", rng) for number in range(300)]
    assert len(set(names)) == 300
    assert all("/" not in name and name.endswith(".mp3") for name in names)
    assert set("#?%&+[] ") <= set("".join(names))


def test_twins_look_alike_and_are_two():
    one, other = twin_name("mp3", composed=True), twin_name("mp3", composed=False)
    assert one.encode() != other.encode()
    assert unicodedata.normalize("NFC", other) == one

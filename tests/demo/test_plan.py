import unicodedata
from collections import Counter

import pytest

from tagfleet.demo.arrange import GENRES, MOODS
from tagfleet.demo.creators import CREATORS
from tagfleet.demo.plan import MIN_TRACKS, plan_demo
from tagfleet.errors import ConfigError
from tagfleet.labels.split import split_of


def side(track):
    return split_of(f"creator {track.creator.id}")


def test_the_creators_are_seven_two_and_three():
    assert Counter(split_of(f"creator {creator.id}") for creator in CREATORS) == {
        "train": 7,
        "validation": 2,
        "test": 3,
    }


def test_the_same_seed_is_the_same_plan_and_another_is_not():
    assert plan_demo(40, 1) == plan_demo(40, 1)
    assert [track.words for track in plan_demo(40, 1)] != [track.words for track in plan_demo(40, 2)]


@pytest.mark.parametrize("n_tracks", [40, 120])
def test_ids_and_paths_are_unique_and_four_files_are_bad(n_tracks):
    tracks = plan_demo(n_tracks)
    assert [track.track_id for track in tracks] == [f"{n:03d}" for n in range(1, n_tracks + 1)]
    assert len({track.path for track in tracks}) == n_tracks
    assert [track.bad for track in tracks if track.bad] == ["empty", "cut", "text", "silent"]
    twins = Counter(unicodedata.normalize("NFC", track.path) for track in tracks)
    assert sorted(twins.values())[-2:] == [1, 2]


@pytest.mark.parametrize("n_tracks", [40, 120])
def test_every_side_has_tracks(n_tracks):
    assert {side(track) for track in plan_demo(n_tracks) if track.arrangement} == {"train", "validation", "test"}


@pytest.mark.parametrize("n_tracks", [40, 120])
def test_every_genre_and_mood_is_on_every_side(n_tracks):
    good = [track for track in plan_demo(n_tracks) if track.bad is None]
    for split in ("train", "validation", "test"):
        assert {track.genre for track in good if side(track) == split} == set(GENRES)
        assert {track.mood for track in good if side(track) == split} == set(MOODS)


def test_every_creator_makes_everything():
    good = [track for track in plan_demo(124) if track.bad is None]
    pairs = Counter((track.creator.id, track.genre, track.mood) for track in good)
    assert len(pairs) == len(CREATORS) * len(GENRES) * len(MOODS)


def test_too_few_tracks_are_refused():
    with pytest.raises(ConfigError, match=f"at least {MIN_TRACKS}"):
        plan_demo(MIN_TRACKS - 1)

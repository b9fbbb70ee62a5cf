import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.errors import TaxonomyError
from tagfleet.labels.split import FRACTIONS, assign_splits, check_splits, split_of
from tagfleet.labels.taxonomy import load_taxonomy
from tagfleet.schemas import LABELS, TRACKS, conform

PINNED = "trtrtrtrtrtrtrtrtetrvatrtrtrtrtetrtrvatr"
NAMES = st.none() | st.text("ab", max_size=2)
TRACK_ROWS = st.lists(
    st.fixed_dictionaries({"track_id": st.text("0123", min_size=1), "creator_id": NAMES, "album_id": NAMES}),
    unique_by=lambda row: row["track_id"],
    max_size=10,
)


def tracks(rows):
    return conform(pa.Table.from_pylist([{**row, "uri": "x.mp3"} for row in rows], schema=TRACKS), TRACKS)


def sides(rows):
    splits = assign_splits(tracks(rows))
    return dict(zip(splits["track_id"].to_pylist(), splits["split"].to_pylist(), strict=True))


def test_the_shares_of_many_creators_are_those_asked_for():
    drawn = [split_of(f"creator {n}") for n in range(4000)]
    for split, fraction in FRACTIONS:
        assert drawn.count(split) / len(drawn) == pytest.approx(fraction, abs=0.025)  # more than 3 sigma


@given(TRACK_ROWS)
def test_no_creator_is_on_two_sides(rows):
    side = sides(rows)
    by_creator = {}
    for row in rows:
        if row["creator_id"]:
            by_creator.setdefault(row["creator_id"], set()).add(side[row["track_id"]])
    assert all(len(of_one) == 1 for of_one in by_creator.values())


@given(TRACK_ROWS, st.randoms())
def test_neither_order_nor_further_tracks_move_anybody(rows, rng):
    before = sides(rows)
    more = [*rows, {"track_id": "new", "creator_id": "new", "album_id": None}]
    rng.shuffle(more)
    assert sides(more).items() >= before.items()


def test_without_a_creator_the_album_stays_together():
    side = sides([{"track_id": str(n), "creator_id": None, "album_id": "a"} for n in range(50)])
    assert len(set(side.values())) == 1
    alone = sides([{"track_id": str(n), "creator_id": None, "album_id": None} for n in range(50)])
    assert len(set(alone.values())) == 3


def test_a_label_without_a_training_track_is_refused_by_name():
    taxonomy = load_taxonomy()
    every = [(axis.axis, label.id) for axis in taxonomy.axes for label in axis.labels]
    rows = [
        {"track_id": "1" if label != "organ" else "2", "axis": axis, "label": label, "rule": "name", "evidence": label}
        | {"position": 0, "weight": 1.0, "taxonomy_version": taxonomy.version}
        for axis, label in every
    ]
    labels = pa.Table.from_pylist(rows, schema=LABELS)
    splits = pa.table({"track_id": ["1", "2"], "split": ["train", "test"]})
    with pytest.raises(TaxonomyError, match=r"no training track has instrument:organ$"):
        check_splits(splits, labels, taxonomy)
    check_splits(pa.table({"track_id": ["1", "2"], "split": ["train", "train"]}), labels, taxonomy)


def test_the_draw_never_changes():
    """Models were trained on it: another hash, salt or share would let their test creators leak into training."""
    drawn = "".join(split_of(f"creator {n}")[:2] for n in range(20))
    assert drawn == PINNED


def test_an_album_is_another_group_than_a_creator_of_that_name():
    rows = [{"track_id": str(n), "creator_id": None, "album_id": f"name {n}"} for n in range(40)]
    splits = assign_splits(tracks(rows)).sort_by("track_id")
    by_album = [
        split
        for _, split in sorted(zip(map(int, splits["track_id"].to_pylist()), splits["split"].to_pylist(), strict=True))
    ]
    assert by_album == [split_of(f"album name {n}") for n in range(40)]
    assert by_album != [split_of(f"creator name {n}") for n in range(40)]

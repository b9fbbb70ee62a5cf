import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.errors import ConfigError, TaxonomyError
from tagfleet.labels.split import (
    FRACTIONS,
    assign_splits,
    balance_of,
    check_splits,
    core_title,
    split_of,
    without_rare,
)
from tagfleet.schemas import LABELS, TRACKS, conform
from tests.labels.words import TAXONOMY

PINNED = "trtrtrtrtrtrtrtrtetrvatrtrtrtrtetrtrvatr"
NAMES = st.none() | st.text("ab", max_size=2)
TRACK_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "track_id": st.text("0123", min_size=1),
            "creator_id": NAMES,
            "album_id": NAMES,
            "title": st.sampled_from([None, "朝", "朝 (short ver.)", "夜"]),
            "etag": st.sampled_from([None, "e1", "e2"]),
            "size_bytes": st.sampled_from([None, 1, 2]),
        }
    ),
    unique_by=lambda row: row["track_id"],
    max_size=10,
)


def tracks(rows):
    return conform(pa.Table.from_pylist([{"uri": "x.mp3", **row} for row in rows], schema=TRACKS), TRACKS)


def sides(rows, **options):
    splits = assign_splits(tracks(rows), **options)
    return dict(zip(splits["track_id"].to_pylist(), splits["split"].to_pylist(), strict=True))


def row(track_id, **more):
    return {"track_id": track_id, "creator_id": None, "album_id": None, **more}


def test_the_shares_of_many_creators_are_those_asked_for():
    drawn = [split_of(f"creator {n}") for n in range(4000)]
    for split, fraction in FRACTIONS:
        assert drawn.count(split) / len(drawn) == pytest.approx(fraction, abs=0.025)  # more than 3 sigma


@given(TRACK_ROWS, st.sampled_from(["creator", "album", "track"]))
def test_no_creator_and_no_recording_is_on_two_sides(rows, group_by):
    side = sides(rows, group_by=group_by)
    together = {}
    for one in rows:
        if one["creator_id"] and group_by == "creator":
            together.setdefault(("creator", one["creator_id"]), set()).add(side[one["track_id"]])
        if one["etag"] and one["size_bytes"]:
            together.setdefault(("bytes", one["etag"], one["size_bytes"]), set()).add(side[one["track_id"]])
        if one["creator_id"] and one["title"]:
            work = ("title", one["creator_id"], core_title(one["title"]))
            together.setdefault(work, set()).add(side[one["track_id"]])
    assert all(len(of_one) == 1 for of_one in together.values())


@given(TRACK_ROWS, st.randoms())
def test_neither_order_nor_unrelated_tracks_move_anybody(rows, rng):
    before = sides(rows)
    more = [*rows, row("new", creator_id="new")]
    rng.shuffle(more)
    assert sides(more).items() >= before.items()


def test_without_a_creator_the_album_stays_together():
    side = sides([row(str(n), album_id="a") for n in range(50)])
    assert len(set(side.values())) == 1
    alone = sides([row(str(n)) for n in range(50)])
    assert len(set(alone.values())) == 3


def test_groups_can_be_albums_or_come_from_a_column():
    rows = [row(str(n), creator_id="c", album_id=f"a{n}") for n in range(50)]
    assert len(set(sides(rows).values())) == 1
    assert len(set(sides(rows, group_by="album").values())) == 3
    table = tracks(rows).append_column("near", pa.array(["one"] * 50))
    assert len(set(assign_splits(table, group_by="album", group_column="near")["split"].to_pylist())) == 1
    with pytest.raises(ConfigError, match="no column 'nearby'"):
        assign_splits(table, group_column="nearby")


def test_the_same_bytes_stay_together_whoever_uploaded_them():
    rows = [row(str(n), creator_id=f"c{n}", etag="same", size_bytes=7) for n in range(50)]
    assert len(set(sides(rows).values())) == 1
    other_sizes = [{**one, "size_bytes": n + 1} for n, one in enumerate(rows)]
    assert len(set(sides(other_sizes).values())) == 3


def test_files_of_one_second_are_not_one_recording():
    """A local file has no hash: the time of change counts only with a fraction, which a copy keeps."""
    second = [row(str(n), creator_id=f"c{n}", etag="mtime-1700000000000000000", size_bytes=7) for n in range(50)]
    assert len(set(sides(second).values())) == 3
    fraction = [{**one, "etag": "mtime-1700000000123456789"} for one in second]
    assert len(set(sides(fraction).values())) == 1


@pytest.mark.parametrize(
    "title",
    [
        "朝の散歩 (60sec)",
        "朝の散歩（ショートver.）",
        "朝の散歩 ループ版",
        "朝の散歩_30秒",
        "朝の散歩【Loop】",
        "朝の散歩 -short ver.-",
    ],
)
def test_edits_have_the_title_of_their_work(title):
    assert core_title(title) == core_title("朝の散歩")


@pytest.mark.parametrize("title", ["朝の散歩 2", "朝の散歩道", "夜の散歩", "Short", "Loop", "120"])
def test_other_works_do_not(title):
    assert core_title(title) not in ("", core_title("朝の散歩"))


@pytest.mark.timeout(20)
def test_a_hostile_title_ends():
    for unit in ("(", "short ", "1s", "(a)", "・", "ver.1"):
        core_title(unit * 200_000)


def labels_on(sides_of_label):
    rows = [
        {"track_id": f"{label}{side}", "axis": axis, "label": label, "rule": "name", "evidence": label, "source": "tag"}
        | {"position": 0, "weight": 1.0, "split": side, "taxonomy_version": "v"}
        for (axis, label), found in sides_of_label.items()
        for side in found
    ]
    return pa.Table.from_pylist(rows, schema=LABELS)


EVERYWHERE = {(axis.axis, label.id): ["train", "validation", "test"] for axis in TAXONOMY.axes for label in axis.labels}


@pytest.mark.parametrize("side", ["train", "validation", "test"])
def test_a_label_that_a_side_misses_is_refused_by_name(side):
    check_splits(labels_on(EVERYWHERE), TAXONOMY)
    there = [name for name in ("train", "validation", "test") if name != side]
    with pytest.raises(TaxonomyError, match=rf"instrument:piano \(no {side} track\)$") as caught:
        check_splits(labels_on({**EVERYWHERE, ("instrument", "piano"): there}), TAXONOMY)
    assert "--min-per-side 1" in caught.value.hint


def test_rare_labels_are_left_out_and_both_ends_of_a_score_together():
    some = {**EVERYWHERE, ("instrument", "piano"): ["train"], ("polarity", "positive"): ["train", "test"]}
    kept, rare = without_rare(labels_on(some), TAXONOMY, 1)
    assert rare == {"instrument:piano": 1, "polarity:negative": 3, "polarity:positive": 2}
    names = set(zip(kept["axis"].to_pylist(), kept["label"].to_pylist(), strict=True))
    assert names == EVERYWHERE.keys() - {("instrument", "piano"), ("polarity", "positive"), ("polarity", "negative")}
    check_splits(kept, TAXONOMY.only(names))


def test_the_balance_names_a_group_that_makes_it_lopsided():
    rows = [row(str(n), creator_id="giant" if n % 2 else f"c{n}") for n in range(40)]
    balance = balance_of(assign_splits(tracks(rows)))
    assert (balance.largest, balance.largest_share, balance.lopsided) == ("creator giant", 0.5, True)
    assert sum(balance.n_tracks.values()) == 40
    assert sum(balance.n_groups.values()) == 21
    assert not balance_of(assign_splits(tracks([row(str(n)) for n in range(40)]))).lopsided
    assert balance_of(assign_splits(tracks([]))).largest_share == 0


def test_the_draw_never_changes():
    """Models were trained on it: another hash, salt or share would let their test creators leak into training."""
    drawn = "".join(split_of(f"creator {n}")[:2] for n in range(20))
    assert drawn == PINNED


def test_an_album_is_another_group_than_a_creator_of_that_name():
    rows = [row(str(n), album_id=f"name {n}") for n in range(40)]
    side = sides(rows)
    by_album = [side[str(n)] for n in range(40)]
    assert by_album == [split_of(f"album name {n}") for n in range(40)]
    assert by_album != [split_of(f"creator name {n}") for n in range(40)]

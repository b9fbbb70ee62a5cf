import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.labels.build import build_labels, encode_targets
from tagfleet.labels.taxonomy import load_taxonomy
from tagfleet.schemas import LABELS, TRACKS, conform

TAXONOMY = load_taxonomy()
TAGS = st.none() | st.lists(
    st.sampled_from(["ロック", "ﾊﾞﾗｰﾄﾞ", "Pop", "ピアノ", "弦", "ドラム", "明るい", "暗い", "夏", ""])
)


def catalogue(tags_by_track):
    rows = [{"track_id": name, "uri": f"{name}.mp3", "tags": tags} for name, tags in tags_by_track.items()]
    return conform(pa.Table.from_pylist(rows, schema=TRACKS), TRACKS)


def test_the_first_genre_wins_and_the_conflict_is_counted():
    built = build_labels(catalogue({"1": ["ピアノ", "バラード", "ロック"], "2": ["夏"], "3": None}), TAXONOMY)
    assert [(row["track_id"], row["axis"], row["label"]) for row in built.labels.to_pylist()] == [
        ("1", "genre", "ballad"),
        ("1", "instrument", "piano"),
    ]
    assert built.conflicts == {"genre": 1, "mood": 0}
    assert built.n_unlabelled == {"genre": 2, "instrument": 2, "mood": 3}
    assert built.counts["genre", "ballad"] == 1
    assert built.counts["genre", "rock"] == 0


def test_no_tracks_give_no_labels():
    built = build_labels(catalogue({}), TAXONOMY)
    assert built.labels.schema == LABELS
    assert built.labels.num_rows == 0


@given(st.dictionaries(st.text("0123", min_size=1), TAGS, max_size=8))
def test_rows_are_sorted_unique_and_agree_with_the_counts(tags_by_track):
    built = build_labels(catalogue(tags_by_track), TAXONOMY)
    keys = list(zip(*(built.labels[name].to_pylist() for name in ("track_id", "axis", "label")), strict=True))
    assert keys == sorted(set(keys))
    assert sum(built.counts.values()) == len(keys)
    for axis, n_unknown in built.n_unlabelled.items():
        assert n_unknown + len({track for track, of, _ in keys if of == axis}) == len(tags_by_track)
    exclusive = [(track, axis) for track, axis, _ in keys if axis != "instrument"]
    assert len(exclusive) == len(set(exclusive))


@given(st.dictionaries(st.text("0123", min_size=1), TAGS, max_size=8), st.randoms())
def test_the_order_of_the_catalogue_makes_no_difference(tags_by_track, rng):
    shuffled = list(tags_by_track.items())
    rng.shuffle(shuffled)
    one, other = (build_labels(catalogue(tags), TAXONOMY) for tags in (tags_by_track, dict(shuffled)))
    assert one == other


@given(st.dictionaries(st.text("0123", min_size=1), TAGS, max_size=8))
def test_targets_are_the_labels_and_nan_where_nothing_is_known(tags_by_track):
    labels = build_labels(catalogue(tags_by_track), TAXONOMY).labels
    track_ids = sorted(tags_by_track)
    targets = encode_targets(labels, TAXONOMY, track_ids)
    there = set()
    for axis in TAXONOMY.axes:
        matrix = targets[axis.axis]
        assert matrix.shape == (len(track_ids), len(axis.labels))
        assert matrix.dtype == np.float32
        unknown = np.isnan(matrix)
        assert (unknown.all(axis=1) == unknown.any(axis=1)).all()
        there |= {(track_ids[n], axis.axis, axis.labels[k].id) for n, k in np.argwhere(matrix == 1)}
        if axis.exclusive:
            assert set(np.nansum(matrix, axis=1)[~unknown.any(axis=1)]) <= {1.0}
    rows = zip(*(labels[name].to_pylist() for name in ("track_id", "axis", "label")), strict=True)
    assert there == set(rows)


def test_labels_of_other_tracks_and_of_dropped_labels_are_passed_over():
    labels = build_labels(catalogue({"1": ["ロック"], "2": ["クラシック"]}), TAXONOMY).labels
    genre = TAXONOMY.axis("genre")
    smaller = TAXONOMY.model_copy(update={"axes": (genre.model_copy(update={"labels": genre.labels[:4]}),)})
    targets = encode_targets(labels, smaller, ["0", "2", "1"])["genre"]
    assert np.isnan(targets[:2]).all()
    assert targets[2].tolist() == [1, 0, 0, 0]

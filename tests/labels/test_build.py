import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.labels.build import build_labels, match_tracks, settle_labels
from tagfleet.labels.config import LabelsConfig
from tagfleet.labels.targets import encode_targets
from tagfleet.schemas import LABELS, MATCHES
from tests.labels.test_text import JAPANESE
from tests.labels.words import READER, TAXONOMY, tracks

TAGS = st.none() | st.lists(
    st.sampled_from(["ロック", "ﾊﾞﾗｰﾄﾞ", "Pop", "ピアノ", "弦", "ドラムレス", "明るい", "暗い", "夏", ""])
)
CATALOGUE = st.dictionaries(
    st.text("0123", min_size=1), st.tuples(TAGS, JAPANESE.filter(lambda text: "\ud800" not in text)), max_size=8
)
CONFIG = LabelsConfig()


def build(table, config=CONFIG, **options):
    return build_labels(table, TAXONOMY, config, READER, **options)


def catalogue(texts):
    return tracks(*((name, tags, description) for name, (tags, description) in texts.items()))


def rows_of(built):
    return [(row["track_id"], row["axis"], row["label"]) for row in built.labels.to_pylist()]


CONFLICT = tracks(("1", ["ピアノ", "バラード", "ロック"]), ("2", ["夏"]), ("3", None), ("4", ["ロック"]))


def test_the_first_genre_wins_and_the_conflict_is_counted():
    built = build(CONFLICT)
    assert rows_of(built) == [("1", "genre", "ballad"), ("1", "instrument", "piano"), ("4", "genre", "rock")]
    genre = built.axes["genre"]
    assert (genre.n_conflicting, genre.conflicts) == (1, {("ballad", "rock"): 1})
    assert (genre.n_labelled, genre.n_unlabelled) == (2, 2)
    assert built.counts["genre", "ballad"]["n_tracks"] == 1
    assert built.counts["genre", "pops"]["n_tracks"] == 0


def test_a_conflict_may_be_skipped_or_kept():
    skipped = build(CONFLICT, LabelsConfig(conflicts="skip"))
    assert rows_of(skipped) == [("1", "instrument", "piano"), ("4", "genre", "rock")]
    kept = build(CONFLICT, LabelsConfig(conflicts="multi"))
    assert rows_of(kept)[:2] == [("1", "genre", "ballad"), ("1", "genre", "rock")]
    assert kept.axes["genre"].n_conflicting == skipped.axes["genre"].n_conflicting == 1
    targets = encode_targets(kept.labels, TAXONOMY, ["1"])["genre"]
    assert targets.sum() == 1 and targets.max() == 0.5


def test_a_row_says_which_words_where_and_by_which_rule():
    (row,) = (
        build(tracks({"track_id": "1", "tags": ["夏"], "description": "とても暗い、", "creator_id": "c"}))
        .labels.filter(pa.compute.field("axis") == "mood")
        .to_pylist()
    )
    assert row == {
        "track_id": "1",
        "axis": "mood",
        "label": "dark",
        "rule": "name",
        "source": "description",
        "evidence": "暗い",
        "position": 1,
        "start": 3,
        "end": 5,
        "weight": 0.5,
        "split": row["split"],
        "taxonomy_version": TAXONOMY.version,
    }


def test_a_parent_is_a_row_of_its_own_rule():
    rows = build(tracks(("1", ["エレキギター"]))).labels.to_pylist()
    assert [(row["label"], row["rule"], row["evidence"]) for row in rows] == [
        ("electric_guitar", "name", "エレキギター"),
        ("guitar", "parent", "エレキギター"),
    ]


def test_what_was_denied_and_stopped_is_counted():
    built = build(tracks(("1", ["ドラムレス", "クラシックギター"]), ("2", None, "ピアノは入っていません。")))
    assert (built.axes["instrument"].n_denied, built.axes["genre"].n_stopped) == (2, 1)


def moods(n):
    """Tracks of n creators each, bright, dark and without a mood word."""
    texts = {"b": "明るい曲", "d": "暗い曲", "n": "夏の曲", "m": "明るい、暗い、楽しい曲"}
    return tracks(
        *(
            {"track_id": f"{kind}{k}", "description": text, "creator_id": f"c{kind}{k}"}
            for kind, text in texts.items()
            for k in range(n)
        )
    )


def test_the_ends_of_a_score_are_labels_and_the_middle_is_unknown():
    built = build(moods(10), per_class=5)
    ends = [(track, label) for track, axis, label in rows_of(built) if axis == "polarity"]
    assert len(ends) == 10
    assert {(track[0], label) for track, label in ends} == {("b", "positive"), ("d", "negative")}
    report = built.scores["polarity"]
    assert (len(report.scores), report.n_unscored) == (30, 10)
    row = next(row for row in built.labels.to_pylist() if row["label"] == "negative")
    assert (row["rule"], row["source"], row["evidence"]) == ("polarity", "score", "-0.7: 暗い")


def test_a_label_may_have_a_limited_number_of_tracks():
    table = tracks(*((str(n), ["ロック", "ピアノ"]) for n in range(20)))
    built = build(table, per_class=5)
    assert built.counts["genre", "rock"]["n_tracks"] == 5
    assert built.counts["instrument", "piano"]["n_tracks"] == 20  # other labels do not exclude it
    assert built.axes["genre"].n_over == {"rock": 15}


def test_rare_labels_are_left_out_with_their_number():
    table = tracks(*((str(n), ["ロック"] + ["ピアノ"] * (n < 2)) for n in range(40)))
    built = build(table, LabelsConfig(min_per_side=1))
    assert built.rare == {"instrument:piano": 2}
    assert {label for _, _, label in rows_of(built)} == {"rock"}


def test_no_tracks_give_no_labels():
    built = build(tracks())
    assert built.labels.schema == LABELS
    assert built.labels.num_rows == 0


@given(CATALOGUE)
def test_rows_are_sorted_unique_and_agree_with_the_counts(texts):
    built = build(catalogue(texts))
    keys = rows_of(built)
    assert keys == sorted(set(keys))
    assert sum(counts["n_tracks"] for counts in built.counts.values()) == len(keys)
    for axis, report in built.axes.items():
        known = len({track for track, of, _ in keys if of == axis})
        assert (report.n_labelled, report.n_unlabelled) == (known, len(texts) - known)
    exclusive = [(track, axis) for track, axis, _ in keys if axis in ("genre", "polarity")]
    assert len(exclusive) == len(set(exclusive))


@given(CATALOGUE, st.randoms())
def test_neither_the_order_of_the_catalogue_nor_blocks_make_a_difference(texts, rng):
    shuffled = list(texts.items())
    rng.shuffle(shuffled)
    whole = build(catalogue(texts))
    parts = [match_tracks(catalogue(dict([item])), READER, TAXONOMY) for item in shuffled]
    matches = pa.concat_tables([MATCHES.empty_table(), *parts])
    again = settle_labels(matches, catalogue(dict(shuffled)), TAXONOMY, CONFIG)
    assert again.labels.equals(whole.labels)
    assert (again.counts, again.axes, again.balance) == (whole.counts, whole.axes, whole.balance)


@given(CATALOGUE)
def test_targets_are_the_labels_and_nan_where_nothing_is_known(texts):
    labels = build(catalogue(texts)).labels
    track_ids = sorted(texts)
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


def test_no_label_is_all_negative_where_labels_do_not_exclude_and_masked_where_they_do():
    rows = [
        {"track_id": "1", "axis": axis, "label": "none", "rule": "correction", "source": "person", "evidence": ""}
        | {"position": 0, "weight": 1.0, "split": "train", "taxonomy_version": "v"}
        for axis in ("genre", "instrument")
    ]
    targets = encode_targets(pa.Table.from_pylist(rows, schema=LABELS), TAXONOMY, ["1"])
    assert np.isnan(targets["genre"]).all()
    assert (targets["instrument"] == 0).all()
    assert np.isnan(targets["mood"]).all()


def test_labels_of_other_tracks_and_of_dropped_labels_are_passed_over():
    labels = build(tracks(("1", ["ロック"]), ("2", ["EDM"]))).labels
    smaller = TAXONOMY.only({("genre", label) for label in ("rock", "pops", "ballad")})
    targets = encode_targets(labels, smaller, ["0", "2", "1"])["genre"]
    assert np.isnan(targets[:2]).all()
    assert targets[2].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "value", [{"conflicts": "last"}, {"max_creator_share": 0}, {"threshold": 2}, {"min_tracks": 1}]
)
def test_a_setting_that_makes_no_sense_is_refused(value):
    with pytest.raises(ValueError, match=next(iter(value))):
        LabelsConfig(**value)

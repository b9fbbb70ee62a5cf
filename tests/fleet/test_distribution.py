import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.fleet.distribution import UNKNOWN, distribution, label_texts, total_of, without
from tagfleet.schemas import TAG

AXES = ("genre", "instrument")
words = st.tuples(st.sampled_from(AXES), st.sampled_from(["rock", "piano", "x"]))
rows = st.lists(st.none() | st.lists(words, max_size=3), max_size=8)


def tags_of(rows):
    values = [
        None if row is None else [{"axis": a, "label": label, "probability": 0.5} for a, label in row] for row in rows
    ]
    return pa.chunked_array([pa.array(values, pa.list_(TAG))])


def test_texts_keep_the_order_and_tell_nothing_from_failed():
    texts = label_texts(tags_of([[("genre", "rock"), ("instrument", "piano")], [], None, [("genre", "x")]]))
    assert texts.to_pylist() == ["genre:rock instrument:piano", "", None, "genre:x"]


@given(rows, rows)
def test_slices_and_chunks_change_nothing(first, second):
    whole = label_texts(tags_of([*first, *second]))
    both = pa.chunked_array([*tags_of(first).chunks, *tags_of([*first, *second]).slice(len(first)).chunks])
    assert label_texts(both).to_pylist() == whole.to_pylist()


@given(rows)
def test_every_tagged_track_has_a_label_or_is_unknown_on_each_axis(rows):
    counted = distribution(label_texts(tags_of(rows)), AXES)
    tagged = [row for row in rows if row is not None]
    for axis in AXES:
        n_known = sum(any(a == axis for a, _ in row) for row in tagged)
        assert counted[axis].get(UNKNOWN, 0) == len(tagged) - n_known
        n_labels = sum(n for label, n in counted[axis].items() if label != UNKNOWN)
        assert n_labels == sum(a == axis for row in tagged for a, _ in row)


@given(rows, rows)
def test_what_is_added_can_be_taken_away(first, second):
    one, two = (distribution(label_texts(tags_of(x)), AXES) for x in (first, second))
    assert without(total_of([one, two]), two) == one

"""How many tracks have which label: counted from one text per track, "genre:rock instrument:piano instrument:organ"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

UNKNOWN = "unknown"
"""Of a tagged track without any label on the axis."""

Distribution = dict[str, dict[str, int]]
"""Per axis: label -> tracks that have it, and `unknown` -> tracks that have none."""


def label_texts(tags: pa.ChunkedArray) -> pa.ChunkedArray:
    """Of each `tags` of PREDICTIONS rows the accepted labels as one text, in their order; null where `tags` is."""
    return pa.chunked_array([_texts(chunk) for chunk in tags.chunks], pa.string())


def _texts(tags: pa.ListArray) -> pa.Array:
    labels = tags.flatten()  # of lists that are not null: what a null one covers is left out
    words = pc.binary_join_element_wise(labels.field("axis"), labels.field("label"), ":")
    lengths = pc.fill_null(pc.list_value_length(tags), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    return pc.if_else(pc.is_null(tags), None, pc.binary_join(pa.ListArray.from_arrays(offsets, words), " "))


def distribution(texts: pa.Array | pa.ChunkedArray, axes: Sequence[str]) -> Distribution:
    """How often each label of `axes` stands in `texts`; nulls are tracks that are not tagged and count nowhere."""
    counted: Distribution = {axis: {} for axis in axes}
    for entry in pc.value_counts(pc.drop_null(texts)).to_pylist():
        for axis, labels in by_axis(entry["values"], axes).items():
            for label in labels or (UNKNOWN,):
                counted[axis][label] = counted[axis].get(label, 0) + entry["counts"]
    return counted


def by_axis(text: str, axes: Sequence[str]) -> dict[str, list[str]]:
    """The labels of one text on each of `axes`.

    >>> by_axis("genre:rock instrument:piano", ["genre", "mood"])
    {'genre': ['rock'], 'mood': []}
    """
    found: dict[str, list[str]] = {axis: [] for axis in axes}
    for word in text.split():
        axis, _, label = word.partition(":")
        if axis in found:
            found[axis].append(label)
    return found


def total_of(parts: Iterable[Mapping[str, Mapping[str, int]]]) -> Distribution:
    """The sum."""
    summed: Distribution = {}
    for part in parts:
        for axis, labels in part.items():
            mine = summed.setdefault(axis, {})
            for label, n in labels.items():
                mine[label] = mine.get(label, 0) + n
    return summed


def without(whole: Mapping[str, Mapping[str, int]], part: Mapping[str, Mapping[str, int]]) -> Distribution:
    """What is left of `whole`; labels that nobody has are left out."""
    left = {
        axis: {label: n - part.get(axis, {}).get(label, 0) for label, n in labels.items()}
        for axis, labels in whole.items()
    }
    return {axis: {label: n for label, n in labels.items() if n} for axis, labels in left.items()}

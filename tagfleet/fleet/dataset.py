"""What training sees: which tracks on which side of the split with which targets, and where their features lie."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagfleet.fleet.excerpts import Place
from tagfleet.labels.targets import encode_targets, encode_weights
from tagfleet.labels.taxonomy import Taxonomy

EXAMPLES = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # train | validation | test
        pa.field("targets", pa.list_(pa.float32()), nullable=False),  # all axes one after the other, NaN = unknown
        pa.field("weights", pa.list_(pa.float32()), nullable=False),  # of the targets: 1 / place of the tag
    ]
)
"""Tracks of which at least one axis is known."""


def make_examples(tracks: pa.Table, labels: pa.Table, taxonomy: Taxonomy) -> pa.Table:
    """EXAMPLES rows of the tracks that have a label on any axis, on the side of the split that their labels say, sorted
    by id: the same table for any input order.
    """
    tracks = tracks.sort_by("track_id")
    track_ids = tracks["track_id"].to_pylist()
    targets, weights = (
        np.concatenate([by_axis[axis.axis] for axis in taxonomy.axes], axis=1)
        for by_axis in (encode_targets(labels, taxonomy, track_ids), encode_weights(labels, taxonomy, track_ids))
    )
    split = labels["split"].combine_chunks().take(pc.index_in(tracks["track_id"], labels["track_id"].combine_chunks()))
    known = pa.array(~np.isnan(targets).all(axis=1))
    columns = [tracks["track_id"], split, list_column(targets), list_column(weights)]
    return pa.table([column.filter(known) for column in columns], schema=EXAMPLES)


def examples_digest(examples: pa.Table) -> str:
    """Of ids, splits, targets and weights; 16 hex digits."""
    hasher = hashlib.sha256()
    for track_id, split in zip(examples["track_id"].to_pylist(), examples["split"].to_pylist(), strict=True):
        hasher.update(f"{track_id}\0{split}\0".encode("utf-8", "surrogatepass"))
    for column in ("targets", "weights"):
        hasher.update(matrix_of(examples, column).tobytes())
    return hasher.hexdigest()[:16]


def list_column(matrix: NDArray[np.float32]) -> pa.ListArray:
    """A (n_rows, n) matrix as a column of lists."""
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel(), from_pandas=False))


def matrix_of(examples: pa.Table, column: str) -> NDArray[np.float32]:
    """The `targets` or `weights` column as (n_rows, n_labels of all axes)."""
    values: NDArray[np.float32] = examples[column].combine_chunks().flatten().to_numpy()
    return values.reshape(examples.num_rows, len(values) // max(1, examples.num_rows))


def split_axes(targets: NDArray[np.float32], taxonomy: Taxonomy) -> dict[str, NDArray[np.float32]]:
    """(n_rows, n_labels of all axes) -> per axis (n_rows, n_labels)."""
    ends = np.cumsum([len(axis.labels) for axis in taxonomy.axes])
    return {axis.axis: part for axis, part in zip(taxonomy.axes, np.split(targets, ends[:-1], axis=1), strict=True)}


def rows_of(examples: pa.Table, split: str) -> pa.Table:
    """The EXAMPLES rows of one side of the split."""
    return examples.filter(pc.equal(examples["split"], split))


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Examples whose features are stored; what training and evaluation work on. Element n of each is one track."""

    track_ids: list[str]
    places: list[Place]
    targets: NDArray[np.float32]
    """(n_tracks, n_labels of all axes), NaN = unknown."""
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.track_ids)


def stored_examples(examples: pa.Table, index: pa.Table) -> Stored:
    """The EXAMPLES rows that have a log-mel, with where it lies; `index` has FEATURE_INDEX rows of at least them."""
    index = index.take(pc.index_in(examples["track_id"], index["track_id"].combine_chunks()))
    heard = pc.greater(index["n_frames"], 0)
    mask = heard.to_numpy()
    columns = (index[name].filter(heard).to_pylist() for name in Place._fields)
    return Stored(
        track_ids=examples["track_id"].filter(heard).to_pylist(),
        places=[Place(*values) for values in zip(*columns, strict=True)],
        targets=matrix_of(examples, "targets")[mask],
        weights=matrix_of(examples, "weights")[mask],
    )

"""What training sees: which tracks in which split with which targets, and the Ray Data dataset that feeds them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tagfleet.audio.config import AudioConfig
from tagfleet.fleet.excerpts import planned_clips, read_log_mel
from tagfleet.labels.build import encode_targets
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.store.objects import Storage

if TYPE_CHECKING:
    import ray.data

EXAMPLES = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # train | validation | test
        pa.field("targets", pa.list_(pa.float32()), nullable=False),  # all axes one after the other, NaN = unknown
    ]
)
"""Tracks of which at least one axis is known."""

FEEDS = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("targets", pa.list_(pa.float32()), nullable=False),
        pa.field("log_mel", pa.binary(), nullable=False),  # as in FEATURES
    ]
)
"""What a training worker receives."""


def make_examples(tracks: pa.Table, labels: pa.Table, taxonomy: Taxonomy) -> pa.Table:
    """EXAMPLES rows of the tracks that have a label on any axis, on the side of the split that their labels say, sorted
    by id: the same table for any input order.
    """
    tracks = tracks.sort_by("track_id")
    by_axis = encode_targets(labels, taxonomy, tracks["track_id"].to_pylist())
    targets = np.concatenate([by_axis[axis.axis] for axis in taxonomy.axes], axis=1)
    split = labels["split"].combine_chunks().take(pc.index_in(tracks["track_id"], labels["track_id"].combine_chunks()))
    known = pa.array(~np.isnan(targets).all(axis=1))
    columns = [column.filter(known) for column in (tracks["track_id"], split, list_column(targets))]
    return pa.table(columns, schema=EXAMPLES)


def examples_digest(examples: pa.Table) -> str:
    """Of ids, splits and targets; 16 hex digits."""
    hasher = hashlib.sha256()
    for track_id, split in zip(examples["track_id"].to_pylist(), examples["split"].to_pylist(), strict=True):
        hasher.update(f"{track_id}\0{split}\0".encode())
    hasher.update(target_matrix(examples).tobytes())
    return hasher.hexdigest()[:16]


def list_column(matrix: NDArray[np.float32]) -> pa.ListArray:
    """A (n_rows, n) matrix as a column of lists."""
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel(), from_pandas=False))


def target_matrix(rows: pa.Table) -> NDArray[np.float32]:
    """The `targets` column as (n_rows, n_labels of all axes)."""
    values: NDArray[np.float32] = rows["targets"].combine_chunks().flatten().to_numpy()
    return values.reshape(rows.num_rows, -1)


def split_axes(targets: NDArray[np.float32], taxonomy: Taxonomy) -> dict[str, NDArray[np.float32]]:
    """(n_rows, n_labels of all axes) -> per axis (n_rows, n_labels)."""
    ends = np.cumsum([len(axis.labels) for axis in taxonomy.axes])
    return {axis.axis: part for axis, part in zip(taxonomy.axes, np.split(targets, ends[:-1], axis=1), strict=True)}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """From rows that say where features lie (INDEX columns and targets) to FEEDS rows."""

    root: Storage

    def __call__(self, places: pa.Table) -> pa.Table:
        """Read the features of one file; `places` all name the same one."""
        filesystem, base = self.root.arrow_filesystem()
        path = f"{base}/{places['file'][0].as_py()}"
        log_mels = pq.read_table(path, columns=["log_mel"], filesystem=filesystem)["log_mel"].take(places["row"])
        columns = [places[name] for name in FEEDS.names[:-1]]
        return pa.table([*columns, log_mels], schema=FEEDS)


def places_of(index: pa.Table, examples: pa.Table) -> list[pa.Table]:
    """Where the features of EXAMPLES rows lie, one small table per feature file, in an order that is always the same.

    `index` has the INDEX rows of at least these tracks.
    """
    index = index.take(pc.index_in(examples["track_id"], index["track_id"].combine_chunks()))
    places = index.select(["track_id", "duration_s", "file", "row"]).append_column("targets", examples["targets"])
    places = places.sort_by([("file", "ascending"), ("row", "ascending")])
    return [places.filter(pc.equal(places["file"], name)) for name in pc.unique(places["file"]).to_pylist()]


def feed(root: Storage, places: list[pa.Table]) -> ray.data.Dataset:
    """FEEDS rows as a dataset that is read anew, file by file, each time it is iterated over."""
    import ray.data

    reading = Reading(root=root)
    return ray.data.from_arrow(places).map_batches(reading, batch_size=None, batch_format="pyarrow", num_cpus=0.5)


def held_out(
    root: Storage, places: list[pa.Table], audio: AudioConfig
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Track by track, the (n_clips, n_mels, clip_frames) clips that tagging would take, and its row of targets.

    Of a track that is longer than what is stored (`train.max_track_s`), the clips are spread over what is stored.
    """
    for feeds in map(Reading(root=root), places):
        targets = target_matrix(feeds)
        for n, (log_mel, duration_s) in enumerate(zip(feeds["log_mel"], feeds["duration_s"].to_pylist(), strict=True)):
            yield planned_clips(read_log_mel(log_mel, audio.log_mel.n_mels), duration_s, audio), targets[n]

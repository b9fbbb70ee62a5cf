"""Two snapshots compared for people: what differs, and how the labels of all tracks are distributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from tagfleet.fleet.distribution import Distribution, distribution, label_texts
from tagfleet.fleet.gate import stability_index
from tagfleet.store.changes import Difference, Which, difference, flipped_tracks
from tagfleet.store.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class AxisMove:
    """How one axis moved."""

    before: Mapping[str, int]
    after: Mapping[str, int]
    stability_index: float | None
    """None where one side has no tagged track."""
    n_flipped: int
    examples: Sequence[Mapping[str, Any]]

    def rows(self) -> list[tuple[str, int, int]]:
        """(label, tracks before, tracks after), the most frequent first."""
        labels = sorted(self.before.keys() | self.after.keys(), key=lambda x: (-self.after.get(x, 0), x))
        return [(label, self.before.get(label, 0), self.after.get(label, 0)) for label in labels]


@dataclass(frozen=True, kw_only=True)
class SnapshotDiff:
    """What `predictions diff` shows."""

    difference: Difference
    axes: Mapping[str, AxisMove]


def compare_snapshots(predictions: Predictions, old: Which, new: Which, *, limit: int = 5) -> SnapshotDiff:
    """Compare two snapshots; `limit` example tracks for each axis.

    Raises NotFoundError for a snapshot that is not there or no longer kept.
    """
    before, after = _labels(predictions.dataset(old)), _labels(predictions.dataset(new))
    axes = tuple(sorted(before.keys() | after.keys()))
    found = difference(predictions, old, new, axes)
    moves = {}
    for axis in axes:
        was, now = before.get(axis, {}), after.get(axis, {})
        n_flipped = sum(n for _, _, n in found.flows[axis])
        moves[axis] = AxisMove(
            before=was,
            after=now,
            stability_index=stability_index(was, now) if was and now else None,
            n_flipped=n_flipped,
            examples=flipped_tracks(predictions, old, new, axis, limit) if n_flipped and limit else [],
        )
    return SnapshotDiff(difference=found, axes=moves)


def _labels(rows: ds.Dataset) -> Distribution:
    """Labels of a snapshot, on every axis that any row has."""
    texts, axes = [], set()
    for batch in rows.to_batches(columns=["status", "tags", "probabilities"]):
        tags = pa.chunked_array([pc.if_else(pc.equal(batch["status"], "tagged"), batch["tags"], None)])
        texts.extend(label_texts(tags).chunks)
        axes.update(pc.unique(batch["probabilities"].flatten().field("axis")).to_pylist())
    return distribution(pa.chunked_array(texts, pa.string()), sorted(axes))

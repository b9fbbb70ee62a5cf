"""Two snapshots compared for people: what differs, and how the labels of all tracks are distributed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from tagfleet.fleet.distribution import UNKNOWN, Distribution, distribution, label_texts, total_of
from tagfleet.fleet.gate import stability_index
from tagfleet.store.changes import Difference, Which, difference, flipped_tracks
from tagfleet.store.parts import FOLDER
from tagfleet.store.predictions import Predictions
from tagfleet.store.s3 import arrow_errors


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
    with arrow_errors(predictions.root.uri(FOLDER)):
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
    """Labels of a snapshot, on every axis that any row has; tracks that were tagged before an axis was are unknown."""
    counts: Distribution = {}
    n_tagged, n_on = 0, Counter[str]()
    for batch in rows.to_batches(columns=["status", "tags", "probabilities"]):
        tags = pc.if_else(pc.equal(batch["status"], "tagged"), batch["tags"], None)
        axes = sorted(pc.unique(batch["probabilities"].flatten().field("axis")).to_pylist())
        counts = total_of([counts, distribution(label_texts(pa.chunked_array([tags])), axes)])
        n = len(tags) - tags.null_count
        n_tagged += n
        n_on.update(dict.fromkeys(axes, n))
    return total_of([counts, {axis: {UNKNOWN: n_tagged - n} for axis, n in n_on.items() if n < n_tagged}])

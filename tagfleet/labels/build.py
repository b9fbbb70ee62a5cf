"""The labels of a whole catalogue, and the targets that a network is trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagfleet.labels.matching import Match, Matcher
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.schemas import LABELS


@dataclass(frozen=True, kw_only=True)
class LabelBuild:
    """LABELS rows sorted by track, axis and label, and what was counted on the way."""

    labels: pa.Table
    counts: Mapping[tuple[str, str], int]
    """Tracks per (axis, label), every label of the taxonomy."""
    n_unlabelled: Mapping[str, int]
    """Tracks per axis of which nothing is known."""
    conflicts: Mapping[str, int]
    """Tracks per exclusive axis whose tags named several labels."""


def build_labels(tracks: pa.Table, taxonomy: Taxonomy) -> LabelBuild:
    """Match the tags of TRACKS rows. On an exclusive axis the first tag wins, and the conflict is counted."""
    matcher = Matcher(taxonomy)
    version = taxonomy.version  # a digest over all of it: once, not per track
    exclusive = {axis.axis for axis in taxonomy.axes if axis.exclusive}
    rows: list[dict[str, object]] = []
    known: Counter[str] = Counter()
    conflicts: Counter[str] = Counter(dict.fromkeys(exclusive, 0))
    for track_id, tags in zip(tracks["track_id"].to_pylist(), tracks["tags"].to_pylist(), strict=True):
        by_axis: dict[str, list[Match]] = {}
        for match in matcher.match(tags or []):
            by_axis.setdefault(match.axis, []).append(match)
        for axis, matches in by_axis.items():
            known[axis] += 1
            if axis in exclusive and len(matches) > 1:
                conflicts[axis] += 1
                del matches[1:]
            rows.extend({"track_id": track_id, "taxonomy_version": version, **vars(m)} for m in matches)
    labels = pa.Table.from_pylist(rows, schema=LABELS)
    counted = Counter(zip(labels["axis"].to_pylist(), labels["label"].to_pylist(), strict=True))
    return LabelBuild(
        labels=labels.sort_by([("track_id", "ascending"), ("axis", "ascending"), ("label", "ascending")]),
        counts={(axis.axis, label.id): counted[axis.axis, label.id] for axis in taxonomy.axes for label in axis.labels},
        n_unlabelled={axis.axis: tracks.num_rows - known[axis.axis] for axis in taxonomy.axes},
        conflicts=dict(conflicts),
    )


def encode_targets(labels: pa.Table, taxonomy: Taxonomy, track_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Per axis a (n_tracks, n_labels) matrix of 0 and 1; a row of NaN where the axis is unknown (masked).

    Rows are those of `track_ids`, which must differ, columns the labels in the taxonomy's order. Labels of other
    tracks, or that the taxonomy no longer has, are left out.
    """
    rows = pc.index_in(labels["track_id"], pa.array(track_ids, pa.string()))
    targets = {}
    for axis in taxonomy.axes:
        columns = pc.index_in(labels["label"], pa.array([label.id for label in axis.labels], pa.string()))
        here = pc.and_(pc.equal(labels["axis"], axis.axis), pc.and_(pc.is_valid(rows), pc.is_valid(columns)))
        row, column = rows.filter(here).to_numpy(), columns.filter(here).to_numpy()
        matrix = np.full((len(track_ids), len(axis.labels)), np.nan, dtype=np.float32)
        matrix[row] = 0.0
        matrix[row, column] = 1.0
        targets[axis.axis] = matrix
    return targets

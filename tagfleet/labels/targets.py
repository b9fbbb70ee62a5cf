"""Labels as numbers: the targets that a network is trained on, and how much each of them weighs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagfleet.labels.taxonomy import NO_LABEL, Taxonomy


def encode_targets(labels: pa.Table, taxonomy: Taxonomy, track_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Per axis a (n_tracks, n_labels) matrix; a row of NaN where the axis is unknown (masked).

    On an exclusive axis a row sums to 1 (a track with two labels is half each), elsewhere it is 0 and 1. A person's
    `none` is a row of zeros, and masked on an exclusive axis, where there is no answer to learn. Rows are those of
    `track_ids`, which must differ, columns the labels in the taxonomy's order. Labels of other tracks, or that the
    taxonomy no longer has, are left out.
    """
    rows = pc.index_in(labels["track_id"], pa.array(track_ids, pa.string()))
    targets = {}
    for axis in taxonomy.axes:
        columns = pc.index_in(labels["label"], pa.array([label.id for label in axis.labels], pa.string()))
        on_axis = pc.and_(pc.equal(labels["axis"], axis.axis), pc.is_valid(rows))
        here = pc.and_(on_axis, pc.is_valid(columns))
        row, column = rows.filter(here).to_numpy(), columns.filter(here).to_numpy()
        matrix = np.full((len(track_ids), len(axis.labels)), np.nan, dtype=np.float32)
        if not axis.exclusive:
            matrix[rows.filter(pc.and_(on_axis, pc.equal(labels["label"], NO_LABEL))).to_numpy()] = 0.0
        matrix[row] = 0.0
        matrix[row, column] = 1.0
        targets[axis.axis] = matrix / matrix.sum(axis=1, keepdims=True) if axis.exclusive else matrix
    return targets


def encode_weights(labels: pa.Table, taxonomy: Taxonomy, track_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Per axis a (n_tracks, n_labels) matrix of the labels' weights (1 / place of the tag), 1 where there is no label.

    Rows and columns as in `encode_targets`.
    """
    rows = pc.index_in(labels["track_id"], pa.array(track_ids, pa.string()))
    weights = {}
    for axis in taxonomy.axes:
        columns = pc.index_in(labels["label"], pa.array([label.id for label in axis.labels], pa.string()))
        here = pc.and_(pc.equal(labels["axis"], axis.axis), pc.and_(pc.is_valid(rows), pc.is_valid(columns)))
        matrix = np.ones((len(track_ids), len(axis.labels)), dtype=np.float32)
        matrix[rows.filter(here).to_numpy(), columns.filter(here).to_numpy()] = labels["weight"].filter(here).to_numpy()
        weights[axis.axis] = matrix
    return weights

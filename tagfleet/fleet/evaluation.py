"""A tagger measured on tracks that it has not heard, from their stored features."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tagfleet.fleet.dataset import held_out, places_of, split_axes, target_matrix
from tagfleet.model.metrics import AxisMetrics, axis_metrics
from tagfleet.model.tagger import Tagger
from tagfleet.store.objects import Storage


def evaluate(
    root: Storage, tagger: Tagger, index: pa.Table, test: pa.Table, train: pa.Table
) -> tuple[AxisMetrics, ...]:
    """How right `tagger` is on the EXAMPLES rows `test`, per axis, tagging them as a re-tag would.

    index: INDEX rows of at least these tracks. train: the rows it was trained on; they tell what guessing gives.
    """
    tracks = [
        (tagger.probabilities(clips), targets)
        for clips, targets in held_out(root, places_of(index, test), tagger.audio)
    ]
    targets = split_axes(np.stack([targets for _, targets in tracks]), tagger.taxonomy)
    train_targets = split_axes(target_matrix(train), tagger.taxonomy)
    return tuple(
        axis_metrics(
            axis.axis,
            exclusive=axis.exclusive,
            probabilities=np.stack([probabilities[axis.axis] for probabilities, _ in tracks]),
            targets=targets[axis.axis],
            train_targets=train_targets[axis.axis],
        )
        for axis in tagger.taxonomy.axes
    )

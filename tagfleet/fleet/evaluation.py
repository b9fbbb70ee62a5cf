"""A tagger measured on tracks that it has not heard, from their stored features."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tagfleet.fleet.dataset import read_feeds, split_axes, target_matrix
from tagfleet.fleet.excerpts import planned_clips, read_log_mel
from tagfleet.model.metrics import AxisMetrics, axis_metrics
from tagfleet.model.tagger import Tagger
from tagfleet.store.objects import Storage


def evaluate(
    root: Storage, tagger: Tagger, index: pa.Table, test: pa.Table, train: pa.Table
) -> tuple[AxisMetrics, ...]:
    """How right `tagger` is on the EXAMPLES rows `test`, per axis, tagging them as a re-tag would.

    index: INDEX rows of at least these tracks. train: the rows it was trained on; they tell what guessing gives.
    """
    targets, probabilities = [], []
    for feeds in read_feeds(root, index, test):
        targets.append(target_matrix(feeds))
        for log_mel, duration_s in zip(feeds["log_mel"], feeds["duration_s"].to_pylist(), strict=True):
            frames = read_log_mel(log_mel, tagger.audio.log_mel.n_mels)
            probabilities.append(tagger.probabilities(planned_clips(frames, duration_s, tagger.audio)))
    by_axis = split_axes(np.concatenate(targets), tagger.taxonomy)
    train_by_axis = split_axes(target_matrix(train), tagger.taxonomy)
    return tuple(
        axis_metrics(
            axis.axis,
            exclusive=axis.exclusive,
            probabilities=np.stack([track[axis.axis] for track in probabilities]),
            targets=by_axis[axis.axis],
            train_targets=train_by_axis[axis.axis],
        )
        for axis in tagger.taxonomy.axes
    )

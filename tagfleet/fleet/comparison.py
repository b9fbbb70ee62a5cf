"""Two models on the same tracks: what one has learnt from measures neither."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tagfleet.audio.config import DecodeLimits
from tagfleet.errors import NotFoundError
from tagfleet.fleet.dataset import Stored, rows_of, split_axes, stored_examples
from tagfleet.fleet.evaluate_model import data_of, feature_index
from tagfleet.fleet.evaluation import hear
from tagfleet.fleet.resources import RayConfig
from tagfleet.fleet.runs import unwatched
from tagfleet.fleet.taggers import load_tagger, split_file
from tagfleet.fleet.training_data import TrainingData
from tagfleet.labels.taxonomy import LabelSet
from tagfleet.model.metrics import Difference, paired_difference
from tagfleet.model.tagger import Tagger
from tagfleet.store.objects import Storage


def compare_models(
    root: Storage, model: str, other: str, *, limits: DecodeLimits, ray_config: RayConfig
) -> dict[str, Difference]:
    """Per axis that both have, `model` minus `other` in accuracy (PR-AUC on multi axes), by paired bootstrap.

    On the test tracks of `model` that `other` has neither learnt from nor been tuned on, and over the labels that both
    have: on an exclusive axis the others' tracks are left out and both choose among the shared ones.
    """
    ref, tagger = load_tagger(root, model)
    other_ref, other_tagger = load_tagger(root, other)
    data = data_of(root, tagger)
    known = split_file(root, str(other_ref))
    test = rows_of(data.examples, "test")
    unheard = [known.get(track_id, "test") == "test" for track_id in test["track_id"].to_pylist()]
    test = test.filter(pa.array(unheard, pa.bool_()))
    if not test.num_rows:
        both = {axis.axis for axis in tagger.taxonomy.axes} & {axis.axis for axis in other_tagger.taxonomy.axes}
        return {axis: Difference(value=None) for axis in both}
    other_data = replace(data, recipe=data.recipe.model_copy(update={"audio": other_tagger.audio}))

    def probabilities(which: Tagger, behind: TrainingData) -> tuple[Stored, dict[str, NDArray[np.float32]]]:
        index = feature_index(root, behind, limits=limits, ray_config=ray_config, watch=unwatched)
        stored = stored_examples(test, index)
        return stored, _probabilities(root, which, stored)

    stored, mine = probabilities(tagger, data)
    other_stored, theirs = probabilities(other_tagger, other_data)
    if stored.track_ids != other_stored.track_ids:
        raise NotFoundError(f"{ref} and {other_ref} cannot hear the same tracks", hint="make the features again")
    group_of = data.groups()
    groups = [group_of[track_id] for track_id in stored.track_ids]
    targets = split_axes(stored.targets, tagger.taxonomy)
    other_axes = {axis.axis: axis for axis in other_tagger.taxonomy.axes}
    differences = {}
    for axis in tagger.taxonomy.axes:
        if axis.axis not in other_axes:
            continue
        shared, my_columns, their_columns = shared_labels(axis, other_axes[axis.axis])
        if shared is not None:
            true = targets[axis.axis][:, my_columns].copy()
            if axis.exclusive:
                true[~(true.sum(axis=1) > 0)] = np.nan
            differences[axis.axis] = paired_difference(
                shared, mine[axis.axis][:, my_columns], theirs[axis.axis][:, their_columns], true, groups=groups
            )
    return differences


def _probabilities(root: Storage, tagger: Tagger, stored: Stored) -> dict[str, NDArray[np.float32]]:
    # The targets are those of another taxonomy: only what the network says is wanted.
    blank = np.full((len(stored), sum(len(axis.labels) for axis in tagger.taxonomy.axes)), np.nan, np.float32)
    heard = hear(root, tagger, Stored(track_ids=stored.track_ids, places=stored.places, targets=blank, weights=blank))
    return heard.probabilities(tagger.taxonomy, tagger.calibration)


def shared_labels(mine: LabelSet, theirs: LabelSet) -> tuple[LabelSet | None, list[int], list[int]]:
    """The labels that two axes share, and their columns in each; None when there are fewer than two (one, on a multi
    axis) or the axes are not of one kind.
    """
    ids = [label.id for label in theirs.labels]
    columns = [(n, ids.index(label.id)) for n, label in enumerate(mine.labels) if label.id in ids]
    if mine.exclusive != theirs.exclusive or len(columns) < (2 if mine.exclusive else 1):
        return None, [], []
    labels = tuple(mine.labels[n].model_copy(update={"parent": None}) for n, _ in columns)
    shared = LabelSet(axis=mine.axis, exclusive=mine.exclusive, labels=labels)
    return shared, [n for n, _ in columns], [n for _, n in columns]

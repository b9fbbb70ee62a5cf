"""Out-of-fold probabilities: every track outside the test side, heard by a network that has not learnt from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.errors import ConfigError
from tagfleet.fleet.config import Recipe
from tagfleet.fleet.dataset import Stored, stored_examples
from tagfleet.fleet.evaluation import Heard, healths, hear
from tagfleet.fleet.excerpts import stable_seed
from tagfleet.fleet.runs import Report
from tagfleet.fleet.train_loop import WorkerJob
from tagfleet.fleet.training_data import TrainingData
from tagfleet.model.calibration import Calibration
from tagfleet.model.health import AxisHealth
from tagfleet.model.tagger import Tagger
from tagfleet.store.objects import Storage


def fold_health(
    root: Storage, tagger: Tagger, data: TrainingData, index: pa.Table, n_folds: int, *, report: Report
) -> tuple[list[AxisHealth], str]:
    """Class health from out-of-fold probabilities, and in words where it comes from.

    Trains `n_folds` networks by the tagger's recipe, each without one fold of the creators and for as many epochs as
    were best for the tagger itself, so that no held-out track chooses anything. What was trained before, below the
    run's folder, is not trained again. The test side stays unheard. Must be called with Ray connected.
    Raises ConfigError for a model with a parent, and when there are fewer creators than folds.
    """
    from tagfleet.fleet.fit import fit

    if tagger.facts.parent:
        raise ConfigError(
            f"this model began with the weights of {tagger.facts.parent}, which know the tracks of every fold",
            hint=f"look at the class health of {tagger.facts.parent}, or train the recipe from scratch"
            " (-s train.init_from='')",
        )
    examples = data.examples.filter(pc.not_equal(data.examples["split"], "test"))
    group_of = data.groups()
    fold = np.array(folds_of([group_of[track_id] for track_id in examples["track_id"].to_pylist()], n_folds))
    recipe = shortened(data.recipe, tagger.facts.epoch)
    heard = []
    for k in range(n_folds):
        report({"fold": k + 1, "n_folds": n_folds})
        inside, outside = (stored_examples(examples.filter(pa.array(mask)), index) for mask in (fold != k, fold == k))
        job = WorkerJob(root=root, recipe=recipe, train=inside, validation=nobody(outside))
        best = fit(job, f"{tagger.facts.run_id}/fold-{k + 1}-of-{n_folds}-{recipe.digest[:8]}")
        network = Tagger(
            audio=tagger.audio,
            network=tagger.network,
            taxonomy=tagger.taxonomy,
            weights=best.weights,
            facts=tagger.facts,
        )
        heard.append(hear(root, network, outside))
    targets, probabilities = joined(tagger, heard)
    source = f"{n_folds} folds over the {sum(len(part.track_ids) for part in heard)} training and validation tracks"
    return healths(tagger.taxonomy, probabilities, targets), source


def joined(tagger: Tagger, heard: Sequence[Heard]) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Targets and uncalibrated probabilities per axis, of all folds together."""
    parts = [fold.probabilities(tagger.taxonomy, Calibration()) for fold in heard]
    names = [axis.axis for axis in tagger.taxonomy.axes]
    targets = {name: np.concatenate([fold.targets[name] for fold in heard]) for name in names}
    return targets, {name: np.concatenate([part[name] for part in parts]) for name in names}


def folds_of(groups: Sequence[str], n_folds: int) -> list[int]:
    """The fold of each track: all of a creator's in one, folds about equal in tracks, the same in every call.

    Raises ConfigError when there are fewer creators than folds.
    """
    sizes = Counter(groups)
    if len(sizes) < n_folds:
        raise ConfigError(
            f"{n_folds} folds need as many creators outside the test side; there are {len(sizes)}",
            hint="ask for fewer --folds",
        )
    filled = [0] * n_folds
    fold = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], stable_seed("fold", name))):
        fold[group] = filled.index(min(filled))
        filled[fold[group]] += sizes[group]
    return [fold[group] for group in groups]


def shortened(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe with so many epochs, all of them trained."""
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": epochs, "patience": 0})})


def nobody(stored: Stored) -> Stored:
    """No tracks, of the same shape."""
    return Stored(track_ids=[], places=[], targets=stored.targets[:0], weights=stored.weights[:0])

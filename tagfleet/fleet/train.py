"""Train a tagger: from labelled tracks to a published model, or to the epoch from which the run can go on."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.config import Section
from tagfleet.errors import ConfigError
from tagfleet.fleet.cluster import ray_job
from tagfleet.fleet.config import Recipe, TrainConfig
from tagfleet.fleet.dataset import examples_digest, make_examples
from tagfleet.fleet.evaluation import evaluate
from tagfleet.fleet.features import make_features
from tagfleet.fleet.resources import RayConfig
from tagfleet.fleet.runs import Report, open_run, read_result, reported, write_result
from tagfleet.labels.split import SPLITS, check_splits
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.model.config import NetworkConfig
from tagfleet.model.metrics import AxisMetrics
from tagfleet.model.tagger import Tagger, TrainingFacts
from tagfleet.store.models import ModelRef, ModelStore
from tagfleet.store.objects import Storage


class TrainResult(Section):
    """What a finished run made."""

    run_id: str
    model: str
    """name:version in the model store."""
    model_id: str
    epoch: int
    """The epoch with the lowest validation loss; its weights were published."""
    metrics: tuple[AxisMetrics, ...]
    """On the test split: creators that neither training nor the choice of the epoch has heard."""
    n_train: int
    n_validation: int
    n_test: int
    n_failed: int
    """Labelled tracks without features, left out of all splits."""
    already_finished: bool = False
    """Nothing was done now: the run had been finished before."""


def train(
    root: Storage,
    tracks: pa.Table,
    labels: pa.Table,
    taxonomy: Taxonomy,
    *,
    config: TrainConfig,
    audio: AudioConfig,
    network: NetworkConfig,
    limits: DecodeLimits,
    ray_config: RayConfig,
    run_id: str,
    resume: bool = False,
    advance: Callable[[int, int], None] = lambda done, failed: None,
    report: Report = lambda line: None,
) -> TrainResult:
    """Make features, train, measure on held-out creators, publish; production if nothing is in production yet.

    tracks: TRACKS rows; labels: LABELS rows. advance: called with (tracks done, failed) while features are made.
    report: called with each epoch's line of `metrics.jsonl`. With `resume`, epochs that are finished are not repeated.
    Raises ConfigError when a split is too small, ConflictError when the run id is taken, DigestMismatch when a
    resumed run had another recipe, JobError when a stage, a worker or the loss fails.
    """
    examples = make_examples(tracks, labels, taxonomy)
    recipe = Recipe(
        train=config, audio=audio, network=network, taxonomy=taxonomy, examples_digest=examples_digest(examples)
    )
    check_sizes(examples, config)
    check_splits(labels.filter(pc.is_in(labels["track_id"], examples["track_id"].combine_chunks())), taxonomy)
    open_run(root, run_id, recipe, resume=resume)
    if finished := read_result(root, run_id):
        return TrainResult.model_validate({**finished, "already_finished": True})
    with ray_job(ray_config):
        from tagfleet.fleet.fit import fit  # ray.train.torch costs seconds that a refused call need not wait

        labelled = tracks.filter(pc.is_in(tracks["track_id"], examples["track_id"].combine_chunks()))
        index = make_features(root, labelled, audio, limits=limits, config=config, advance=advance)
        usable = with_features(examples, index)
        check_sizes(usable, config)
        with reported(root, run_id, report):
            best = fit(root, recipe, index, rows_of(usable, "train"), rows_of(usable, "validation"), run_id)
    facts = TrainingFacts(
        run_id=run_id, recipe_digest=recipe.digest, epoch=best.epoch, n_train_tracks=rows_of(usable, "train").num_rows
    )
    tagger = Tagger(audio=audio, network=network, taxonomy=taxonomy, weights=best.weights, facts=facts)
    metrics = evaluate(root, tagger, index, rows_of(usable, "test"), rows_of(usable, "train"))
    tagger.facts = facts.model_copy(update={"metrics": metrics})
    result = TrainResult(
        run_id=run_id,
        model=str(publish(root, config.model, tagger)),
        model_id=tagger.model_id,
        epoch=best.epoch,
        metrics=metrics,
        **{f"n_{split}": rows_of(usable, split).num_rows for split in SPLITS},
        n_failed=examples.num_rows - usable.num_rows,
    )
    write_result(root, run_id, result.model_dump(mode="json"))
    return result


def plan_training(tracks: pa.Table, labels: pa.Table, taxonomy: Taxonomy, config: TrainConfig) -> dict[str, int]:
    """What `train` would do: labelled tracks per split, and optimiser steps. Refuses as `train` would."""
    examples = make_examples(tracks, labels, taxonomy)
    check_sizes(examples, config)
    check_splits(labels.filter(pc.is_in(labels["track_id"], examples["track_id"].combine_chunks())), taxonomy)
    sizes = {f"n_{split}": rows_of(examples, split).num_rows for split in SPLITS}
    return {**sizes, "epochs": config.epochs, "steps": config.epochs * max(1, sizes["n_train"] // config.batch_size)}


def rows_of(examples: pa.Table, split: str) -> pa.Table:
    """The EXAMPLES rows of one split."""
    return examples.filter(pc.equal(examples["split"], split))


def with_features(examples: pa.Table, index: pa.Table) -> pa.Table:
    """The EXAMPLES rows whose tracks have a log-mel."""
    heard = index.filter(pc.greater(index["n_frames"], 0))
    return examples.filter(pc.is_in(examples["track_id"], heard["track_id"].combine_chunks()))


def check_sizes(examples: pa.Table, config: TrainConfig) -> None:
    """Raise ConfigError when a split has too few tracks to train, to choose the epoch or to measure."""
    for split in SPLITS:
        needed = config.n_workers if split == "train" else 1
        found = rows_of(examples, split).num_rows
        if found < needed:
            raise ConfigError(
                f"the {split} split has {found} labelled tracks, at least {needed} needed",
                hint="splits are drawn by creator: label tracks of more creators",
            )


def publish(root: Storage, name: str, tagger: Tagger) -> ModelRef:
    """Store `tagger` as the next version of `name`; it becomes production when nothing is yet.

    A run that ended after publishing, before it could say so, finds what it has published.
    """
    models = ModelStore(root)
    same = [old.ref for old in models.published() if old.ref.name == name and old.model_id == tagger.model_id]
    mine = [ref for ref in same if Tagger.from_files(models.load(str(ref))[1]).facts.run_id == tagger.facts.run_id]
    ref = mine[-1] if mine else models.publish(name, tagger.to_files(), tagger.model_id)
    if models.production() is None:
        models.promote(ref)
    return ref

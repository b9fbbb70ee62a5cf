"""Train a tagger: from labelled tracks to a published model, or to the epoch from which the run can go on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from torch import Tensor

from tagfleet.audio.config import DecodeLimits
from tagfleet.config import Section
from tagfleet.errors import DigestMismatch
from tagfleet.fleet.cluster import ray_job
from tagfleet.fleet.config import Recipe, TrainSettings
from tagfleet.fleet.dataset import rows_of, stored_examples
from tagfleet.fleet.evaluation import calibrated, evaluate, evaluation_folder, hear, write_evaluation
from tagfleet.fleet.features import make_features
from tagfleet.fleet.model_card import model_card
from tagfleet.fleet.resources import RayConfig
from tagfleet.fleet.runs import (
    Report,
    Watch,
    open_run,
    read_recipe,
    read_result,
    reported,
    unwatched,
    write_json,
)
from tagfleet.fleet.taggers import (
    CARD_FILE,
    METRICS_FILE,
    SPLITS_FILE,
    learnt_from,
    load_tagger,
    refuse_leak,
    splits_file,
)
from tagfleet.fleet.tracking import environment, tracked, write_curves
from tagfleet.fleet.train_loop import WorkerJob
from tagfleet.fleet.training_data import TrainingData, check_sizes, reread, resolve
from tagfleet.labels.split import SPLITS
from tagfleet.model.evaluation import Evaluation
from tagfleet.model.network import cost_of
from tagfleet.model.tagger import Tagger, TrainingFacts, n_labels
from tagfleet.model.warmstart import WarmStart, warm_start
from tagfleet.store.models import ModelRef, ModelStore
from tagfleet.store.objects import Storage


class TrainResult(Section):
    """What a finished run made."""

    run_id: str
    model: str
    """name:version in the model store."""
    model_id: str
    recipe_digest: str
    epoch: int
    """The epoch with the best validation metric; its weights were published."""
    n_epochs: int
    """How many there were: fewer than asked for when the last ones brought nothing."""
    evaluation: Evaluation
    """On the test split: creators that neither training, nor the choice of the epoch, nor calibration has heard."""
    already_finished: bool = False
    """Nothing was done now: the run had been finished before."""


@dataclass(frozen=True, kw_only=True)
class TrainPlan:
    """What a training would see and do."""

    recipe: Recipe
    n_tracks: dict[str, int]
    """Labelled tracks per side of the split."""
    n_steps: int
    """Optimiser steps, at most."""
    n_parameters: int
    n_multiply_adds: int
    """Of one clip's forward."""
    copied: Sequence[str]
    new: Sequence[str]
    dropped: Sequence[str]
    """Warm start: rows of the heads, as axis:label."""


def plan_training(root: Storage, settings: TrainSettings, *, recipe: str = "") -> TrainPlan:
    """What `train` would do; refuses what it would refuse before it costs machine time."""
    data = resolve(root, settings, recipe=recipe)
    start = _parent(root, data)
    network, audio = data.recipe.network, data.recipe.audio
    heads = n_labels(data.recipe.taxonomy)
    cost = cost_of(network, heads, n_mels=audio.log_mel.n_mels, n_frames=audio.clip_frames)
    n_tracks: dict[str, int] = {split: rows_of(data.examples, split).num_rows for split in SPLITS}
    train_config = data.recipe.train
    return TrainPlan(
        recipe=data.recipe,
        n_tracks=n_tracks,
        n_steps=train_config.epochs * max(1, n_tracks["train"] // train_config.batch_size),
        n_parameters=cost.n_parameters,
        n_multiply_adds=cost.n_multiply_adds,
        **{name: getattr(start, name) if start else () for name in ("copied", "new", "dropped")},
    )


def train(
    root: Storage,
    settings: TrainSettings,
    *,
    recipe: str = "",
    limits: DecodeLimits,
    ray_config: RayConfig,
    run_id: str,
    watch: Watch = unwatched,
    report: Report = lambda line: None,
) -> TrainResult:
    """Make features, train, calibrate on validation, measure on held-out creators, publish the next version.

    watch: shows how features are made. report: called with each epoch's line of `metrics.jsonl`.
    Raises what `resolve` raises, LeakError and DigestMismatch for a parent that does not fit,
    ConflictError when the run id is taken, JobError when a stage, a worker or the loss fails.
    """
    data = resolve(root, settings, recipe=recipe)
    start = _parent(root, data)
    open_run(root, run_id, data.recipe)
    return _run(root, data, start, run_id, limits=limits, ray_config=ray_config, watch=watch, report=report)


def resume(
    root: Storage,
    run_id: str,
    *,
    limits: DecodeLimits,
    ray_config: RayConfig,
    watch: Watch = unwatched,
    report: Report = lambda line: None,
) -> TrainResult:
    """Go on with a run, by the recipe that it began with; epochs that are finished are not repeated.

    Raises NotFoundError when there is no such run, DigestMismatch when its labels or tracks are no longer there, and
    what `train` raises.
    """
    recipe = read_recipe(root, run_id)
    if finished := read_result(root, run_id):
        return TrainResult.model_validate({**finished, "already_finished": True})
    data = reread(root, recipe)
    start = _parent(root, data)
    return _run(root, data, start, run_id, limits=limits, ray_config=ray_config, watch=watch, report=report)


def _run(
    root: Storage,
    data: TrainingData,
    start: WarmStart | None,
    run_id: str,
    *,
    limits: DecodeLimits,
    ray_config: RayConfig,
    watch: Watch,
    report: Report,
) -> TrainResult:
    recipe = data.recipe
    if not root.exists(f"runs/{run_id}/environment.json"):
        write_json(root, run_id, "environment.json", environment(start))
    with ray_job(ray_config):
        from tagfleet.fleet.fit import fit  # ray.train.torch costs seconds that a refused call need not wait

        with watch("Making features", None) as advance:
            index = make_features(
                root,
                data.tracks,
                recipe.audio,
                limits=limits,
                data=recipe.data,
                workers=recipe.workers,
                advance=advance,
            )
        examples = heard_examples(root, run_id, data.examples, index)
        sides = {split: stored_examples(rows_of(examples, split), index) for split in SPLITS}
        check_sizes({split: len(side) for split, side in sides.items()}, recipe)
        job = WorkerJob(
            root=root,
            recipe=recipe,
            train=sides["train"],
            validation=sides["validation"],
            initial=start.weights if start else {},
        )
        with tracked(root, run_id, recipe) as track, reported(root, run_id, report, track):
            best = fit(job, run_id)
    write_curves(root, run_id, best.history)
    tagger = make_tagger(root, recipe, job, best.weights, run_id=run_id, epoch=best.epoch)
    found = evaluate(root, tagger, data, index, model=recipe.train.model)
    write_evaluation(root, evaluation_folder(run_id, "test"), found)
    result = TrainResult(
        run_id=run_id,
        model=str(publish(root, tagger, found.evaluation, data)),
        model_id=tagger.model_id,
        recipe_digest=recipe.digest,
        epoch=best.epoch,
        n_epochs=len(best.history),
        evaluation=found.evaluation,
    )
    write_json(root, run_id, "result.json", result.model_dump(mode="json"))
    return result


def heard_examples(root: Storage, run_id: str, examples: pa.Table, index: pa.Table) -> pa.Table:
    """The EXAMPLES rows that had features when the run was first started: what could be heard only later stays out, so
    that a resumed run draws what an unbroken one would have. Raises DigestMismatch when features are gone since.
    """
    heard = set(index.filter(pc.greater(index["n_frames"], 0))["track_id"].to_pylist())
    key = f"runs/{run_id}/tracks.json"
    if root.create(key, json.dumps(sorted(heard), ensure_ascii=False).encode()):
        before = heard
    else:
        before = set(json.loads(root.read(key)))
    if gone := before - heard:
        raise DigestMismatch(
            f"{len(gone)} tracks that run {run_id} began with have no features any more, e.g. {min(gone)}",
            hint="make their audio readable again, or start a new run",
        )
    return examples.filter(pc.is_in(examples["track_id"], pa.array(sorted(before), pa.string())))


def _parent(root: Storage, data: TrainingData) -> WarmStart | None:
    """The weights to begin with; refuses a parent that does not fit, or that knows what shall measure its child."""
    recipe = data.recipe
    if not recipe.train.init_from:
        return None
    ref, parent = load_tagger(root, recipe.train.init_from)
    if parent.model_id != recipe.parent_id:
        raise DigestMismatch(f"{ref} is not the model that this run began from", hint="start a new run")
    start = warm_start(parent, recipe.audio, recipe.network, recipe.taxonomy, seed=recipe.train.seed)
    refuse_leak(data.examples, learnt_from(root, str(ref)), str(ref))
    return start


def make_tagger(
    root: Storage, recipe: Recipe, job: WorkerJob, weights: Mapping[str, Tensor], *, run_id: str, epoch: int
) -> Tagger:
    """The trained network with what it needs to tag, calibrated on the validation tracks."""
    tagger = Tagger(
        audio=recipe.audio,
        network=recipe.network,
        taxonomy=recipe.taxonomy,
        weights=weights,
        facts=TrainingFacts(
            run_id=run_id,
            recipe_digest=recipe.digest,
            epoch=epoch,
            n_train_tracks=len(job.train),
            parent=recipe.train.init_from,
            labels_version=recipe.data.labels_version,
            catalog_version=recipe.data.catalog_version,
        ),
    )
    return calibrated(tagger, hear(root, tagger, job.validation), target_accuracy=recipe.train.target_accuracy)


def publish(root: Storage, tagger: Tagger, evaluation: Evaluation, data: TrainingData) -> ModelRef:
    """Store `tagger` with its metrics, its card and the tracks it knows as the next version of its name.

    A run that ended after publishing, before it could say so, finds what it has published.
    """
    models = ModelStore(root)
    name = data.recipe.train.model
    for old in models.published():
        same = old.ref.name == name and old.model_id == tagger.model_id
        if same and load_tagger(root, str(old.ref))[1].facts.run_id == tagger.facts.run_id:
            return old.ref
    parent = tagger.facts.parent
    files = {
        **tagger.to_files(),
        METRICS_FILE: evaluation.model_dump_json(indent=2).encode(),
        SPLITS_FILE: splits_file(data.examples, learnt_from(root, parent) if parent else set()),
        CARD_FILE: model_card(tagger, evaluation, data.recipe).encode(),
    }
    return models.publish(name, files, tagger.model_id)

"""Published models measured again, on their own test side or on newer labels; and as a page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.audio.config import DecodeLimits
from tagfleet.errors import GateRefused, NotFoundError
from tagfleet.fleet.cluster import ray_job
from tagfleet.fleet.config import Recipe
from tagfleet.fleet.dataset import make_examples, rows_of
from tagfleet.fleet.evaluation import Evaluated, Split, evaluate, evaluation_folder, read_evaluation, write_evaluation
from tagfleet.fleet.features import features_folder, index_of, make_features, read_index
from tagfleet.fleet.folds import fold_health
from tagfleet.fleet.label_store import stored_grouping, stored_labels
from tagfleet.fleet.resources import RayConfig
from tagfleet.fleet.runs import Watch, read_metrics, read_recipe, unwatched
from tagfleet.fleet.taggers import load_tagger, refuse_leak, split_file
from tagfleet.fleet.training_data import TrainingData, reread
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.model.evaluation import Evaluation
from tagfleet.model.tagger import Tagger
from tagfleet.report.page import ReportData, render_page
from tagfleet.store.models import ModelRef
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table


def evaluate_model(
    root: Storage,
    model: str,
    *,
    split: Split,
    labels_version: int | None,
    folds: int | None,
    limits: DecodeLimits,
    ray_config: RayConfig,
    watch: Watch = unwatched,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Evaluated, str]:
    """Measure a published model, write the files of the evaluation into its run's folder; and say which folder.

    labels_version: other labels than those it was trained with. folds: class health from out-of-fold probabilities.
    Raises LeakError when a track to be measured is one that the model has learnt from, NotFoundError when its run is
    gone.
    """
    ref, tagger = load_tagger(root, model)
    data = data_of(root, tagger, labels_version)
    known = split_file(root, str(ref))
    refuse_leak(data.examples, {track_id for track_id, side in known.items() if side == "train"}, str(ref))
    others = {track_id for track_id, side in known.items() if side != split}
    refuse_leak(rows_of(data.examples, split), others, str(ref))
    index = feature_index(root, data, limits=limits, ray_config=ray_config, watch=watch)
    health, source = None, ""
    if folds:
        with ray_job(ray_config):
            health, source = fold_health(
                root,
                tagger,
                data,
                index,
                folds,
                report=lambda line: say(f"Fold {line['fold']} of {line['n_folds']}: training without it …"),
            )
    found = evaluate(root, tagger, data, index, model=str(ref), split=split, health=health, health_source=source)
    folder = evaluation_folder(tagger.facts.run_id, split, labels_version)
    write_evaluation(root, folder, found)
    return found, folder


def check_accuracy(evaluation: Evaluation, min_accuracy: float | None) -> None:
    """Raise GateRefused when the accuracy on an exclusive axis is below `min_accuracy`."""
    for axis in evaluation.axes:
        value = axis.model.value
        if min_accuracy is not None and axis.model.exclusive and (value is None or value < min_accuracy):
            shown = "unknown" if value is None else f"{value:.3f}"
            raise GateRefused(
                f"{evaluation.model}: accuracy on {axis.axis} is {shown} < {min_accuracy} on {evaluation.split}"
                f" ({axis.model.n_tracks} tracks)",
                hint=f"tagfleet report {evaluation.model} --open",
            )


def data_of(root: Storage, tagger: Tagger, labels_version: int | None = None) -> TrainingData:
    """What a tagger was trained with; or its labels as another version of the labels and the catalogue have them."""
    recipe = read_recipe(root, tagger.facts.run_id)
    if labels_version is None:
        return reread(root, recipe)
    versions = {"labels_version": labels_version, "catalog_version": Table(root, "catalog").version()}
    data = recipe.data.model_copy(update=versions)
    tracks = Table(root, "catalog").read()
    labels, taxonomy = stored_labels(root, labels_version)
    labels = as_called(labels, taxonomy, tagger.taxonomy)
    labels = labels.filter(pc.is_in(labels["track_id"], tracks["track_id"].combine_chunks()))
    examples = make_examples(tracks, labels, tagger.taxonomy)
    tracks = tracks.take(pc.index_in(examples["track_id"].combine_chunks(), tracks["track_id"].combine_chunks()))
    return TrainingData(
        recipe=recipe.model_copy(update={"data": data}),
        tracks=tracks,
        labels=labels,
        examples=examples,
        grouping=stored_grouping(root, labels_version),
    )


def as_called(labels: pa.Table, taxonomy: Taxonomy, before: Taxonomy) -> pa.Table:
    """LABELS rows by `taxonomy`, with labels that were renamed since `before` under the names they had then."""
    was: dict[tuple[str, str], list[str]] = {}
    for axis in before.axes:
        for label in axis.labels:
            now = taxonomy.became.get(f"{axis.axis}:{label.id}", label.id)
            was.setdefault((axis.axis, now), []).append(label.id)
    rows = zip(labels["axis"].to_pylist(), labels["label"].to_pylist(), strict=True)
    names = [old[0] if len(old := was.get((axis, label), [])) == 1 else label for axis, label in rows]
    return labels.set_column(labels.schema.get_field_index("label"), labels.schema.field("label"), pa.array(names))


def feature_index(
    root: Storage, data: TrainingData, *, limits: DecodeLimits, ray_config: RayConfig, watch: Watch
) -> pa.Table:
    """FEATURE_INDEX rows of the examples; Ray is started only when some have none yet."""
    recipe: Recipe = data.recipe
    folder = features_folder(recipe.audio, recipe.data.max_track_s)
    index = index_of(data.tracks, read_index(root, folder), {})
    if "" not in index["file"].to_pylist():
        return index
    with ray_job(ray_config), watch("Making features", None) as advance:
        return make_features(
            root, data.tracks, recipe.audio, limits=limits, data=recipe.data, workers=recipe.workers, advance=advance
        )


def report_page(root: Storage, model: str, split: str, *, tz: str, lang: Literal["ja", "en"]) -> tuple[ModelRef, str]:
    """The page of a model's evaluation, as `train` or the last `evaluate` left it.

    Raises NotFoundError when that side was not measured.
    """
    ref, tagger = load_tagger(root, model)
    run_id = tagger.facts.run_id
    folder = evaluation_folder(run_id, split)
    try:
        evaluation, mistakes = read_evaluation(root, folder)
    except NotFoundError as error:
        raise NotFoundError(
            f"{ref} was not measured on {split}", hint=f"tagfleet evaluate {ref} --split {split}"
        ) from error
    recipe = read_recipe(root, run_id)
    files = {
        "data": "recipe.json",
        "training": "metrics.jsonl",
        "measures": f"{folder.split('/')[-1]}/probabilities.parquet",
        "calibration": f"{folder.split('/')[-1]}/evaluation.json",
        "health": f"{folder.split('/')[-1]}/evaluation.json",
        "mistakes": f"{folder.split('/')[-1]}/mistakes.csv",
        "recipe": "recipe.json",
    }
    data = ReportData(
        evaluation=evaluation,
        taxonomy=tagger.taxonomy,
        history=read_metrics(root, run_id),
        epoch=tagger.facts.epoch,
        recipe=recipe.model_dump(mode="json", exclude={"taxonomy"}),
        mistakes=mistakes,
        sources={section: f"runs/{run_id}/{name}" for section, name in files.items()},
        tz=tz,
        lang=lang,
        created_at=datetime.now(UTC),
    )
    return ref, render_page(data)

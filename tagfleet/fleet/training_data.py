"""What a training run learns from, with every version pinned: settings in, a recipe and its examples out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.errors import ConfigError, DigestMismatch, TaxonomyError
from tagfleet.fleet.config import DataConfig, Recipe, TrainSettings
from tagfleet.fleet.dataset import examples_digest, make_examples, rows_of
from tagfleet.fleet.label_store import stored_grouping, stored_labels
from tagfleet.fleet.taggers import load_tagger
from tagfleet.labels.config import LabelsConfig
from tagfleet.labels.split import SPLITS, assign_splits, check_splits
from tagfleet.labels.taxonomy import NO_LABEL, Taxonomy
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The tables behind a recipe."""

    recipe: Recipe
    tracks: pa.Table
    """TRACKS rows of the examples, in their order."""
    labels: pa.Table
    """LABELS rows."""
    examples: pa.Table
    """EXAMPLES rows, sorted by track."""
    grouping: LabelsConfig
    """What the labels were grouped by when their split was drawn."""

    def groups(self) -> Mapping[str, str]:
        """Track -> creator, or what else is on one side of the split only: what intervals and folds are made of."""
        splits = assign_splits(self.tracks, group_by=self.grouping.group_by, group_column=self.grouping.group_column)
        return dict(zip(splits["track_id"].to_pylist(), splits["group"].to_pylist(), strict=True))


def resolve(root: Storage, settings: TrainSettings, *, recipe: str = "") -> TrainingData:
    """Pin the versions that `settings` leave open, and read what they name.

    Raises NotFoundError when there are no labels or no such model, TaxonomyError for axes and labels that do not exist
    or that a side of the split misses, ConfigError when a side has too few tracks.
    """
    data = settings.data.model_copy(
        update={
            "labels_version": _version(root, "labels", settings.data.labels_version),
            "catalog_version": _version(root, "catalog", settings.data.catalog_version),
        }
    )
    tracks, labels, taxonomy, examples = _read(root, data)
    parent, parent_id = "", ""
    if settings.train.init_from:
        ref, tagger = load_tagger(root, settings.train.init_from)
        parent, parent_id = str(ref), tagger.model_id
    pinned = Recipe(
        **dict(
            settings.model_copy(update={"data": data, "train": settings.train.model_copy(update={"init_from": parent})})
        ),
        recipe=recipe,
        taxonomy=taxonomy,
        examples_digest=examples_digest(examples),
        parent_id=parent_id,
    )
    check_sizes({split: rows_of(examples, split).num_rows for split in SPLITS}, pinned)
    check_splits(labels, taxonomy)
    return TrainingData(
        recipe=pinned,
        tracks=tracks,
        labels=labels,
        examples=examples,
        grouping=stored_grouping(root, data.labels_version),
    )


def reread(root: Storage, recipe: Recipe) -> TrainingData:
    """The tables of a recipe that was resolved before. Raises DigestMismatch when they are not what they were."""
    tracks, labels, taxonomy, examples = _read(root, recipe.data)
    if taxonomy != recipe.taxonomy or examples_digest(examples) != recipe.examples_digest:
        raise DigestMismatch(
            f"labels version {recipe.data.labels_version} or catalogue version {recipe.data.catalog_version} is not"
            " what this run began with",
            hint="start a new run",
        )
    grouping = stored_grouping(root, recipe.data.labels_version)
    return TrainingData(recipe=recipe, tracks=tracks, labels=labels, examples=examples, grouping=grouping)


def _version(root: Storage, table: str, wanted: int) -> int:
    return Table(root, table).version() if wanted < 0 else wanted


def _read(root: Storage, data: DataConfig) -> tuple[pa.Table, pa.Table, Taxonomy, pa.Table]:
    tracks = Table(root, "catalog").read(data.catalog_version)
    labels, taxonomy = stored_labels(root, data.labels_version)
    taxonomy = narrowed(taxonomy, data.axes, data.labels)
    labels = labels.filter(pc.is_in(labels["track_id"], tracks["track_id"].combine_chunks()))
    examples = make_examples(tracks, labels, taxonomy)
    ids = examples["track_id"].combine_chunks()
    tracks = tracks.take(pc.index_in(ids, tracks["track_id"].combine_chunks()))
    return tracks, labels.filter(pc.is_in(labels["track_id"], ids)), taxonomy, examples


def narrowed(taxonomy: Taxonomy, axes: tuple[str, ...], labels: tuple[str, ...]) -> Taxonomy:
    """`taxonomy` with these axes and labels only. A label that was renamed or merged is what it became; one that a
    revision has taken out is passed over.

    Raises TaxonomyError for a name that it never had, a label outside `axes`, and an exclusive axis of one label.
    """
    wanted = [taxonomy.axis(name) for name in axes] or list(taxonomy.axes)
    names = {axis.axis for axis in wanted}
    chosen: dict[str, set[str]] = {}
    for name in labels:
        axis, _, label = name.partition(":")
        if axis not in names:
            raise TaxonomyError(
                f"data.labels names {name!r}, which is on none of the axes {', '.join(sorted(names))}",
                hint="name labels as axis:label, and their axis in data.axes or none there",
            )
        chosen.setdefault(axis, set())
        now = taxonomy.became.get(name, label)
        if now != NO_LABEL:
            chosen[axis].add(taxonomy.axis(axis).label(now).id)
    kept = {
        (axis.axis, label.id)
        for axis in wanted
        for label in axis.labels
        if axis.axis not in chosen or label.id in chosen[axis.axis]
    }
    if not kept:
        raise TaxonomyError("no label that data.labels names is left: there is nothing to learn")
    narrow = taxonomy.only(kept)
    for single in narrow.axes:
        if single.exclusive and len(single.labels) == 1:
            raise TaxonomyError(
                f"axis {single.axis} has one label, {single.labels[0].id}: there is nothing to tell apart",
                hint="add labels to data.labels, or leave the axis out of data.axes",
            )
    return narrow


def check_sizes(n_tracks: Mapping[str, int], recipe: Recipe) -> None:
    """Raise ConfigError when a side of the split has too few tracks to train, to choose the epoch or to measure."""
    for split in SPLITS:
        needed = recipe.workers.n_workers if split == "train" else 1
        if n_tracks[split] < needed:
            raise ConfigError(
                f"the {split} split has {n_tracks[split]} labelled tracks, at least {needed} needed",
                hint="splits are drawn by creator: label tracks of more creators",
            )

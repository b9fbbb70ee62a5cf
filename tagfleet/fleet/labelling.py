"""Labels of the whole catalogue: made by a taxonomy, committed with it, and found again with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from tagfleet.catalog.rows import RawRow
from tagfleet.errors import JobError, TaxonomyError
from tagfleet.fleet.cluster import cluster_nodes, ray_job, root_cause
from tagfleet.fleet.label_store import (
    copy_report,
    current_taxonomy,
    store_report,
    store_taxonomy,
    stored_corrections,
    stored_report,
    stored_taxonomy,
)
from tagfleet.fleet.resources import RayConfig, total
from tagfleet.labels.build import LabelBuild, correct_labels, match_tracks, on_one_axis, settle_labels
from tagfleet.labels.config import LabelsConfig
from tagfleet.labels.corrections import merge_corrections, read_corrections
from tagfleet.labels.diff import LabelChange, diff_labels, n_changed_tracks
from tagfleet.labels.lexicon import MoodWord, PolarityTable, load_lexicons
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.schemas import LABELS, MATCHES, conform
from tagfleet.store.objects import Storage
from tagfleet.store.tables import NO_TABLE, Table

BLOCK_TRACKS = 2000
"""Tracks that a worker reads at once."""


@dataclass(frozen=True, kw_only=True)
class LabelledCatalog:
    """What `label_catalog` made."""

    build: LabelBuild
    version: int | None
    """None for a dry run."""
    previous: int | None
    """The version before, None for the first labels."""
    previous_taxonomy: Taxonomy | None
    """What that version was made with; None for the first labels, or when no track had any."""
    changes: list[LabelChange]
    n_changed_tracks: int


def label_catalog(
    root: Storage,
    taxonomy: Taxonomy,
    config: LabelsConfig,
    *,
    axis: str | None = None,
    per_class: int | None = None,
    ray_config: RayConfig | None = None,
    dry_run: bool = False,
    advance: Callable[[int, int], None] = lambda done, failed: None,
) -> LabelledCatalog:
    """Label the latest catalogue and, unless `dry_run`, commit the next version of the labels.

    axis: make only that axis' rows anew. ray_config: read the texts on that Ray cluster instead of in this process;
    the rows are the same. advance: called with (tracks read, 0). Raises TaxonomyError when `axis` alone cannot be
    made anew because the taxonomy of another axis changed, ConflictError when another build was faster.
    """
    table = Table(root, "labels")
    base_version = table.latest()
    before = conform(table.read(base_version), LABELS) if base_version != NO_TABLE else None
    if axis is not None:
        taxonomy.axis(axis)
        check_other_axes(root, before, taxonomy, axis)
    tracks = Table(root, "catalog").read()
    own, tables = load_lexicons(map(Path, config.lexicons))
    if ray_config is None:
        matches = _match_here(tracks, MatchingStage(taxonomy, own, tables), advance)
    else:
        matches = _match_on_ray(tracks, (taxonomy, own, tables), ray_config, advance)
    built = settle_labels(matches, tracks, taxonomy, config, corrections=stored_corrections(root), per_class=per_class)
    if axis is not None and before is not None:
        built = on_one_axis(before, built, axis, tracks)
    labels = built.labels
    earlier = {} if axis is None else stored_report(root)
    version = None
    if not dry_run:
        store_taxonomy(root, taxonomy)
        version = table.replace(labels, note=f"taxonomy {taxonomy.version}", base_version=base_version)
        store_report(root, version, built, earlier)
    return LabelledCatalog(
        build=built,
        version=version,
        previous=None if before is None else base_version,
        previous_taxonomy=taxonomy_of(root, before),
        changes=[] if before is None else diff_labels(before, labels, exclusive_axes(taxonomy)),
        n_changed_tracks=0 if before is None else n_changed_tracks(before, labels),
    )


def _match_here(tracks: pa.Table, stage: MatchingStage, advance: Callable[[int, int], None]) -> pa.Table:
    parts = [MATCHES.empty_table()]
    for block in _blocks(tracks):
        parts.append(stage(block))
        advance(min(tracks.num_rows, BLOCK_TRACKS * (len(parts) - 1)), 0)
    return pa.concat_tables(parts)


def _blocks(tracks: pa.Table) -> Iterator[pa.Table]:
    tracks = tracks.select(["track_id", "tags", "description"])
    for start in range(0, tracks.num_rows, BLOCK_TRACKS):
        yield tracks.slice(start, BLOCK_TRACKS)


class MatchingStage:
    """From TRACKS to MATCHES rows, in this process or in Ray's; holds the phrases and lexicons of one worker."""

    def __init__(self, taxonomy: Taxonomy, own: tuple[MoodWord, ...], tables: tuple[PolarityTable, ...]) -> None:
        self.taxonomy = taxonomy
        self.reader = TrackReader(taxonomy, own, tables)

    def __call__(self, tracks: pa.Table) -> pa.Table:
        """One block."""
        return match_tracks(tracks, self.reader, self.taxonomy)


def _match_on_ray(
    tracks: pa.Table,
    words: tuple[Taxonomy, tuple[MoodWord, ...], tuple[PolarityTable, ...]],
    ray_config: RayConfig,
    advance: Callable[[int, int], None],
) -> pa.Table:
    with ray_job(ray_config):
        import ray.data
        from ray.exceptions import RayError

        blocks = list(_blocks(tracks)) or [tracks.select(["track_id", "tags", "description"])]
        n_workers = max(1, min(len(blocks), int(total(cluster_nodes()).cpus)))
        matches = ray.data.from_arrow(blocks).map_batches(
            MatchingStage,
            fn_constructor_args=words,
            batch_size=None,
            batch_format="pyarrow",
            concurrency=n_workers,
            num_cpus=1,
        )
        parts = [MATCHES.empty_table()]
        try:
            for n, block in enumerate(matches.iter_batches(batch_size=None, batch_format="pyarrow"), start=1):
                parts.append(conform(block, MATCHES))
                advance(min(tracks.num_rows, n * BLOCK_TRACKS), 0)
        except RayError as error:
            raise JobError(f"reading the texts failed: {root_cause(error)}") from error
    advance(tracks.num_rows, 0)
    return pa.concat_tables(parts)


def taxonomy_of(root: Storage, labels: pa.Table | None) -> Taxonomy | None:
    """The taxonomy that LABELS rows were made with; None for no rows."""
    return stored_taxonomy(root, labels["taxonomy_version"][0].as_py()) if labels is not None and len(labels) else None


def check_other_axes(root: Storage, before: pa.Table | None, taxonomy: Taxonomy, axis: str) -> None:
    """Refuse to make one axis anew when the labels of the others were made with other words."""
    made_by = taxonomy_of(root, before)
    if made_by is None:
        raise TaxonomyError(f"there are no labels to put {axis} beside", hint="tagfleet labels build all")
    others = {other.axis: other for other in made_by.axes if other.axis != axis}
    changed = [a.axis for a in taxonomy.axes if a.axis != axis and others.pop(a.axis, None) != a] + sorted(others)
    if changed:
        raise TaxonomyError(
            f"the words of {', '.join(changed)} changed too since the last labels (taxonomy {made_by.version})",
            hint="tagfleet labels build all",
        )


@dataclass(frozen=True, kw_only=True)
class MergedCorrections:
    """What `merge_into_labels` made."""

    new: pa.Table
    """CORRECTIONS rows of this call."""
    version: int | None
    """Of the labels; None for a dry run, or when there are no labels yet."""
    changes: list[LabelChange]
    void: Sequence[str]
    """Corrections, earlier ones too, that say nothing (any more)."""
    taxonomy: Taxonomy


def merge_into_labels(
    root: Storage, rows: Iterable[RawRow], config: LabelsConfig, *, dry_run: bool
) -> MergedCorrections:
    """A person's corrections into the corrections table and, where there are labels, into those.

    They are checked against the taxonomy of the labels. Raises CatalogError with every bad line, and merges nothing
    then.
    """
    tracks = Table(root, "catalog").read()
    corrections, labels = Table(root, "corrections"), Table(root, "labels")
    versions = corrections.latest(), labels.latest()
    before = conform(labels.read(versions[1]), LABELS) if versions[1] != NO_TABLE else None
    taxonomy = taxonomy_of(root, before) or current_taxonomy(root, config)
    new = read_corrections(rows, taxonomy, set(tracks["track_id"].to_pylist()), datetime.now(UTC))
    merged = merge_corrections(stored_corrections(root), new)
    after: pa.Table | None = None
    void: Sequence[str] = ()
    if before is not None:
        after, void = correct_labels(before, merged, tracks, taxonomy, config)
    version = None
    if not dry_run:
        corrections.replace(merged, note=f"{new.num_rows} merged", base_version=versions[0])
        if after is not None:
            version = labels.replace(after, note="corrections merged", base_version=versions[1])
            copy_report(root, versions[1], version)
    changes = [] if before is None or after is None else diff_labels(before, after, exclusive_axes(taxonomy))
    return MergedCorrections(new=new, version=version, changes=changes, void=void, taxonomy=taxonomy)


def exclusive_axes(taxonomy: Taxonomy) -> set[str]:
    """Axes on which a label in the place of another is one move."""
    return {axis.axis for axis in taxonomy.axes if axis.exclusive}

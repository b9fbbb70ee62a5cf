"""Labels of the whole catalogue: made by a taxonomy, committed with it, and found again with it."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.errors import NotFoundError
from tagfleet.labels.build import LabelBuild, build_labels
from tagfleet.labels.taxonomy import Taxonomy, parse_taxonomy
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table


def label_catalog(root: Storage, taxonomy: Taxonomy, *, dry_run: bool) -> tuple[LabelBuild, int | None]:
    """Match the latest catalogue against `taxonomy`; the labels and, unless `dry_run`, the version they became."""
    table = Table(root, "labels")
    base_version = table.latest()
    built = build_labels(Table(root, "catalog").read(), taxonomy)
    if dry_run:
        return built, None
    text = json.dumps(taxonomy.model_dump(mode="json"), ensure_ascii=False, indent=2)
    root.write(taxonomy_key(taxonomy.version), text.encode())
    return built, table.replace(built.labels, note=f"taxonomy {taxonomy.version}", base_version=base_version)


def stored_labels(root: Storage) -> tuple[pa.Table, Taxonomy]:
    """The latest LABELS rows, and the taxonomy that they were made with. Raises NotFoundError when there are none."""
    labels = Table(root, "labels").read()
    versions = pc.unique(labels["taxonomy_version"]).to_pylist()
    if not versions:
        raise NotFoundError(
            "no tag of the catalogue is in the taxonomy: there is nothing to learn",
            hint="tagfleet catalog stats shows the tags; then tagfleet labels build --taxonomy FILE",
        )
    return labels, parse_taxonomy(json.loads(root.read(taxonomy_key(versions[0]))))


def taxonomy_key(version: str) -> str:
    """Where the taxonomy of this version lies in a storage root."""
    return f"taxonomies/{version}.json"

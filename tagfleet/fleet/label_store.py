"""What a storage root keeps about labels: the taxonomies they were made with, corrections, and the reports on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.errors import NotFoundError
from tagfleet.labels.build import LabelBuild
from tagfleet.labels.config import LabelsConfig
from tagfleet.labels.histogram import svg_histogram
from tagfleet.labels.taxonomy import NO_LABEL, Taxonomy, load_taxonomy, parse_taxonomy
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table

PACKAGED = "default"
"""What `--taxonomy` calls the packaged taxonomy."""


def current_taxonomy(root: Storage, config: LabelsConfig, file: Path | None = None) -> Taxonomy:
    """What labels are made with: `file` (`default`: the packaged one); else the taxonomy of the latest labels, unless
    `labels.taxonomy` names one that it does not come from; else that one; else the packaged one.
    """
    if file is not None:
        return load_taxonomy(None if str(file) == PACKAGED else file)
    start = load_taxonomy(Path(config.taxonomy)) if config.taxonomy else None
    version = _latest_taxonomy_version(root)
    stored = stored_taxonomy(root, version) if version else None
    if stored and (start is None or start.version == stored.version or start.version in stored.parents):
        return stored
    return start or load_taxonomy()


def _latest_taxonomy_version(root: Storage) -> str | None:
    table = Table(root, "labels")
    if not table.exists():
        return None
    versions = pc.unique(table.read(columns=["taxonomy_version"])["taxonomy_version"]).to_pylist()
    found: str | None = versions[0] if versions else stored_report(root).get("taxonomy")
    return found


def stored_labels(root: Storage, version: int | None = None) -> tuple[pa.Table, Taxonomy]:
    """The LABELS rows of a version (None: the latest), and the taxonomy that they were made with, without labels that
    no track has. Raises NotFoundError when there are none.
    """
    labels = Table(root, "labels").read(version)
    versions = pc.unique(labels["taxonomy_version"]).to_pylist()
    if not versions:
        raise NotFoundError(
            "no tag of the catalogue is in the taxonomy: there is nothing to learn",
            hint="tagfleet labels mine shows the words there are; then tagfleet labels build all --taxonomy FILE",
        )
    have = labels.filter(pc.not_equal(labels["label"], NO_LABEL))
    present = set(zip(have["axis"].to_pylist(), have["label"].to_pylist(), strict=True))
    return labels, stored_taxonomy(root, versions[0]).only(present)


def stored_corrections(root: Storage) -> pa.Table | None:
    """CORRECTIONS rows, or None when nobody ever made one."""
    table = Table(root, "corrections")
    return table.read() if table.exists() else None


def stored_taxonomy(root: Storage, version: str) -> Taxonomy:
    """The taxonomy that labels of a storage root were made with."""
    return parse_taxonomy(json.loads(root.read(taxonomy_key(version))))


def store_taxonomy(root: Storage, taxonomy: Taxonomy) -> None:
    """Keep a taxonomy beside the labels that it makes."""
    text = json.dumps(taxonomy.model_dump(mode="json"), ensure_ascii=False, indent=2)
    root.write(taxonomy_key(taxonomy.version), text.encode())


def taxonomy_key(version: str) -> str:
    """Where the taxonomy of this version lies in a storage root."""
    return f"taxonomies/{version}.json"


def report_key(version: int, name: str) -> str:
    """Where a file of the report on a version of the labels lies in a storage root."""
    return f"reports/labels-{version}/{name}"


def store_report(root: Storage, version: int, built: LabelBuild, earlier: Mapping[str, Any]) -> None:
    """What was counted while labels were made, and a histogram of each score, for later readers.

    earlier: the report on the version before, for what this build did not make anew.
    """
    report = report_of(built)
    for part in ("axes", "scores"):
        report[part] = {**earlier.get(part, {}), **report[part]}
    kept = {name: n for name, n in earlier.get("rare", {}).items() if name.split(":")[0] not in built.axes}
    report["rare"] = {**kept, **report["rare"]}
    root.write(report_key(version, "report.json"), json.dumps(report, ensure_ascii=False, indent=2).encode())
    for axis in built.scores:
        root.write(report_key(version, f"{axis}.svg"), histogram_of(built, axis).encode())


def copy_report(root: Storage, old: int, new: int) -> None:
    """Corrections change labels, not how they were made."""
    if root.exists(report_key(old, "report.json")):
        root.write(report_key(new, "report.json"), root.read(report_key(old, "report.json")))


def stored_report(root: Storage) -> dict[str, Any]:
    """The report on the latest labels; empty when there is none."""
    key = report_key(Table(root, "labels").latest(), "report.json")
    found: dict[str, Any] = json.loads(root.read(key)) if root.exists(key) else {}
    return found


def stored_grouping(root: Storage, version: int) -> LabelsConfig:
    """`group_by` and `group_column` that a version of the labels was made with; the defaults where no report says."""
    key = report_key(version, "report.json")
    config = json.loads(root.read(key)).get("config", {}) if root.exists(key) else {}
    return LabelsConfig(**{name: config[name] for name in ("group_by", "group_column") if name in config})


def histogram_of(built: LabelBuild, axis: str) -> str:
    """The scores of one axis as SVG."""
    score = built.scores[axis]
    title = f"{axis}: scores of mood words"
    bounds = score.ends.highest_low, score.ends.lowest_high
    return svg_histogram(score.scores, score.n_unscored, title=title, bounds=bounds)


def report_of(built: LabelBuild) -> dict[str, Any]:
    """Everything that was counted, as plain values."""
    return {
        "taxonomy": built.taxonomy.version,
        "config": {**built.config.model_dump(mode="json"), "per_class_asked": built.per_class},
        "labels": [{"axis": axis, "label": label, **counts} for (axis, label), counts in built.counts.items()],
        "axes": {
            axis: {
                **asdict(report),
                "conflicts": [{"first": a, "other": b, "n_tracks": n} for (a, b), n in report.conflicts.items()],
            }
            for axis, report in built.axes.items()
        },
        "scores": {
            axis: {
                "n_scored": len(score.scores),
                "n_unscored": score.n_unscored,
                "mean": float(np.mean(score.scores)) if len(score.scores) else None,
                "n_high": len(score.ends.high),
                "n_low": len(score.ends.low),
                "lowest_high": score.ends.lowest_high,
                "highest_low": score.ends.highest_low,
                "n_over_creator_share": score.ends.n_over_share,
            }
            for axis, score in built.scores.items()
        },
        "split": asdict(built.balance),
        "rare": dict(built.rare),
        "n_corrected": built.n_corrected,
        "void_corrections": list(built.void_corrections),
    }

"""Predictions for readers that know no Delta: Parquet folders, bulk files for search engines, CSV for spreadsheets.

Data first, `latest.json` last: whoever reads what it names reads something whole.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal

import pyarrow.dataset as ds

from tagfleet.errors import StorageError, UsageError
from tagfleet.schemas import PREDICTIONS
from tagfleet.store.changes import documents
from tagfleet.store.config import StorageConfig
from tagfleet.store.objects import Storage
from tagfleet.store.parts import FOLDER as KEY
from tagfleet.store.parts import parquet_bytes
from tagfleet.store.predictions import Predictions
from tagfleet.store.s3 import arrow_errors

Encoding = Literal["utf-8-sig", "cp932"]

ROWS_PER_EXPORT_FILE = 500_000
BULK_BYTES = 8 << 20
"""Most bytes of one bulk file: search engines refuse requests above 10 to 100 MB."""
CSV_COLUMNS = (
    "track_id", "uri", "source_name", "status", "error_stage", "error_reason", "error_detail", "genre",
    "genre_probability", "mood", "mood_probability", "instruments", "tags", "n_clips", "duration_s", "model_id",
    "run_id", "tagged_at",
)  # fmt: skip
SEPARATOR = ";"
"""Between the parts of a list in a CSV cell."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MOST_TOLD = 1_000


@dataclass(frozen=True, kw_only=True)
class Export:
    """What `latest.json` says."""

    version: int
    path: str
    n_rows: int
    table_id: str
    exported_at: str
    format: str = "parquet"
    since: int | None = None
    """The version whose export this brings up to date; None: it is whole."""
    n_deleted: int = 0
    """Tracks that are to be deleted, besides `n_rows`."""


@dataclass(frozen=True, kw_only=True)
class CsvReport:
    """What a CSV could not hold as it is."""

    n_rows: int
    n_replaced: int
    """Characters that the encoding has not; each became `?`."""
    replaced: dict[str, int]
    """Which, and how often."""
    n_formulas: int
    """Cells that a spreadsheet would have taken for a formula: they begin with an apostrophe now."""
    cells: list[dict[str, str]]
    """track_id, column and text of the first of them."""


def export_parquet(predictions: Predictions, target: str, config: StorageConfig, version: int | None = None) -> Export:
    """Write one version as a clean folder of Parquet files below `target`, then move `latest.json`, last.

    `snapshot-v<version>.json` names the one complete folder of a version; such a folder is never written again.
    Raises StorageError when `target` holds the export of another table.
    """
    version = predictions.table.version() if version is None else version
    rows = predictions.dataset(version)
    with arrow_errors(predictions.root.uri(KEY)):
        n_rows = rows.count_rows()
    out = Storage(target, config)
    export = _export(predictions, version, f"snapshot-v{version:06d}-{uuid.uuid4().hex[:8]}", n_rows=n_rows)
    _refuse_other_table(out, export)
    complete = f"snapshot-v{version:06d}.json"
    if not out.exists(complete):
        if n_rows:
            _write_snapshot(rows, out, export.path)
        else:
            # Arrow would write no file, and readers would find no folder.
            out.write(f"{export.path}/part-0.parquet", parquet_bytes(PREDICTIONS.empty_table()))
        out.create(complete, _json(export))
    told = out.read(complete)  # of two exports at once, both take the folder of the first
    out.write("latest.json", told)
    return Export(**json.loads(told))


def export_bulk(
    predictions: Predictions,
    target: str,
    config: StorageConfig,
    *,
    version: int | None = None,
    since: int | None = None,
    index: str | None = None,
) -> Export:
    """Files for `_bulk` of OpenSearch and Elasticsearch below `target`; the track's id is `_id`.

    Every track of the version is indexed, failed ones too (status `failed`). With `since`, only what differs from that
    version: rows that are new or other are indexed, tracks that have gone deleted; applied to an index that is at
    `since` it gives the same index as the whole export. Raises NotFoundError for versions that are no longer kept.
    """
    version = predictions.table.version() if version is None else version
    if since is not None and since > version:
        raise UsageError(f"--since {since} is later than version {version}", hint="tagfleet predictions history")
    out = Storage(target, config)
    name = f"bulk-v{version:06d}" + ("" if since is None else f"-since-{since:06d}")
    export = _export(predictions, version, f"{name}-{uuid.uuid4().hex[:8]}", format="ndjson", since=since)
    _refuse_other_table(out, export)
    counts: dict[str, Any] = {"n_rows": 0, "n_deleted": 0}
    found = documents(predictions, version, since)
    for n, lines in enumerate(_in_files(_actions(found, index, counts))):
        out.write(f"{export.path}/part-{n:05d}.ndjson", lines)
    export = replace(export, **counts)
    out.write("latest.json", _json(export))
    return export


def export_csv(
    predictions: Predictions,
    target: str,
    config: StorageConfig,
    *,
    version: int | None = None,
    encoding: Encoding = "utf-8-sig",
) -> tuple[Export, CsvReport]:
    """One CSV file of CSV_COLUMNS below `target`, and beside it a report of what it could not hold as it is.

    Lists are joined by SEPARATOR, tags are `axis:label`. `cp932` is what older Excel opens; characters that it has not
    become `?`.
    """
    version = predictions.table.version() if version is None else version
    out = Storage(target, config)
    name = f"predictions-v{version:06d}"
    export = _export(predictions, version, f"{name}.csv", format="csv")
    _refuse_other_table(out, export)
    with tempfile.TemporaryFile() as file:
        sheet = _Sheet(file, encoding)
        with arrow_errors(predictions.root.uri(KEY)):
            for batch in predictions.dataset(version).to_batches(columns=list(CSV_COLUMNS)):
                for row in batch.to_pylist():
                    sheet.add(row)
        report = sheet.report()
        out.write_file(f"{name}.csv", file)
    out.write(f"{name}.report.json", _json(report))
    export = replace(export, n_rows=report.n_rows)
    out.write("latest.json", _json(export))
    return export, report


def _export(predictions: Predictions, version: int, path: str, **facts: Any) -> Export:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told: dict[str, Any] = {"version": version, "path": path, "table_id": predictions.table.id(), "exported_at": now}
    return Export(**{**told, "n_rows": 0, **facts})


def _refuse_other_table(out: Storage, export: Export) -> None:
    if not out.exists("latest.json"):
        return
    last = Export(**json.loads(out.read("latest.json")))
    if (last.table_id, last.format) != (export.table_id, export.format):
        what = "predictions table" if last.table_id != export.table_id else f"format ({last.format})"
        raise StorageError(f"{out.root} holds the export of another {what}", hint="choose an empty target")


def _json(value: Any) -> bytes:
    return json.dumps(asdict(value), indent=2, ensure_ascii=False).encode()


def _write_snapshot(rows: ds.Dataset, out: Storage, folder: str) -> None:
    filesystem, base = out.arrow_filesystem()
    with arrow_errors(out.uri(folder)):
        ds.write_dataset(
            rows,
            f"{base}/{folder}",
            schema=PREDICTIONS.with_metadata(None),
            filesystem=filesystem,
            format="parquet",
            basename_template="part-{i}.parquet",
            max_rows_per_file=ROWS_PER_EXPORT_FILE,
            max_rows_per_group=min(ROWS_PER_EXPORT_FILE, 100_000),
            existing_data_behavior="delete_matching",
            use_threads=False,
        )


def _actions(found: Iterator[tuple[str, str | None]], index: str | None, counts: dict[str, int]) -> Iterator[bytes]:
    """What `_bulk` wants per track: an action line, and the document's line where there is one."""
    where = {} if index is None else {"_index": index}
    for track_id, document in found:
        action = {"delete" if document is None else "index": {**where, "_id": track_id}}
        line = json.dumps(action, ensure_ascii=False)
        counts["n_deleted" if document is None else "n_rows"] += 1
        yield (f"{line}\n" if document is None else f"{line}\n{document}\n").encode()


def _in_files(lines: Iterator[bytes]) -> Iterator[bytes]:
    waiting = bytearray()
    for line in lines:
        if waiting and len(waiting) + len(line) > BULK_BYTES:
            yield bytes(waiting)
            waiting.clear()
        waiting += line
    if waiting:
        yield bytes(waiting)


class _Sheet:
    """A CSV file while it is written, and what had to be changed."""

    def __init__(self, file: BinaryIO, encoding: Encoding) -> None:
        self._encoding = encoding
        self._text = io.TextIOWrapper(file, encoding=encoding, errors="replace", newline="")
        self._writer = csv.writer(self._text, lineterminator="\r\n")
        self._writer.writerow(CSV_COLUMNS)
        self._n_rows = self._n_formulas = 0
        self._replaced: dict[str, int] = {}
        self._cells: list[dict[str, str]] = []

    def add(self, row: dict[str, Any]) -> None:
        """One track."""
        self._n_rows += 1
        self._writer.writerow([self._cell(row["track_id"], name, row[name]) for name in CSV_COLUMNS])

    def _cell(self, track_id: str, column: str, value: Any) -> Any:
        if isinstance(value, list):
            value = SEPARATOR.join(f"{v['axis']}:{v['label']}" if isinstance(v, dict) else str(v) for v in value)
        if isinstance(value, datetime):
            return value.isoformat(timespec="seconds")
        if not isinstance(value, str):
            return value
        changed = f"'{value}" if value.startswith(_FORMULA) else value
        self._n_formulas += changed != value
        lost = [] if _fits(changed, self._encoding) else [c for c in changed if not _fits(c, self._encoding)]
        for character in lost:
            self._replaced[character] = self._replaced.get(character, 0) + 1
        if (lost or changed != value) and len(self._cells) < _MOST_TOLD:
            self._cells.append({"track_id": track_id, "column": column, "text": value})
        return changed

    def report(self) -> CsvReport:
        """What it could not hold as it is; the file is complete then."""
        self._text.detach().flush()
        return CsvReport(
            n_rows=self._n_rows,
            n_replaced=sum(self._replaced.values()),
            replaced=dict(sorted(self._replaced.items(), key=lambda entry: -entry[1])),
            n_formulas=self._n_formulas,
            cells=self._cells,
        )


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True

"""The predictions table: parts that workers write, checks that must hold, one commit, and what readers ask."""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from tagfleet.errors import CountsError, NotFoundError, StorageError, UsageError
from tagfleet.schemas import LINEAGE, PREDICTIONS, conform
from tagfleet.store.config import StorageConfig
from tagfleet.store.objects import Storage
from tagfleet.store.s3 import arrow_errors
from tagfleet.store.tables import DataFile, Table

KEY = "predictions"
ROWS_PER_EXPORT_FILE = 500_000

_BUG = "this is a bug: please report it with the run folder"


@dataclass(frozen=True, kw_only=True)
class PartFile:
    """A data file that a worker wrote and no reader sees yet; a row of schemas.PARTS."""

    path: str
    size_bytes: int
    n_rows: int
    failed_ids: Sequence[str]
    failures: Sequence[str]
    id_checksum: int

    def as_row(self) -> dict[str, Any]:
        """A row of schemas.PARTS."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A commit whose checks have passed: what it will add, take out, and the counts that add up."""

    base_version: int
    added: Sequence[DataFile]
    removed: Sequence[DataFile]
    n_tagged: int
    n_failed: int
    n_unchanged: int
    n_removed: int


@dataclass(frozen=True, kw_only=True)
class Export:
    """What `latest.json` says."""

    version: int
    path: str
    n_rows: int
    table_id: str
    exported_at: str


def id_checksum(ids: pa.Array | pa.ChunkedArray) -> int:
    """Order-independent checksum of track ids: the sum of their 64-bit BLAKE2b hashes, modulo 2^64."""
    hashes = (hashlib.blake2b(i.encode(), digest_size=8).digest() for i in ids.to_pylist())
    return sum(int.from_bytes(h, "little") for h in hashes) % 2**64


def write_part(root: Storage, rows: pa.Table, run_id: str) -> PartFile:
    """Write PREDICTIONS rows as one Parquet file beside the table's others; no reader sees it before a commit."""
    rows = conform(rows, PREDICTIONS)
    data = _parquet(rows)
    # ASCII only: the table's log percent-encodes other names, and they would not be found again.
    path = f"part-{re.sub('[^A-Za-z0-9._-]', '_', run_id)[:80]}-{uuid.uuid4().hex}.parquet"
    root.write(f"{KEY}/{path}", data)
    failed = rows.filter(pc.equal(rows["status"], "failed")).select(["track_id", "error_stage", "error_reason"])
    return PartFile(
        path=path,
        size_bytes=len(data),
        n_rows=rows.num_rows,
        failed_ids=failed["track_id"].to_pylist(),
        failures=[f"{row['error_stage']}/{row['error_reason']}" for row in failed.to_pylist()],
        id_checksum=id_checksum(rows["track_id"]),
    )


def _parquet(rows: pa.Table) -> bytes:
    data = io.BytesIO()
    pq.write_table(rows, data, compression="zstd")
    return data.getvalue()


class Predictions:
    """The committed predictions below a storage root."""

    def __init__(self, root: Storage) -> None:
        self.root = root
        self.table = Table(root, KEY)

    def lineage(self) -> tuple[int | None, pa.Table | None]:
        """The latest version with what decides whether its rows are still right; (None, None) without a table."""
        if not self.table.exists():
            return None, None
        version = self.table.version()
        return version, self.table.read(version, ["track_id", "uri", *LINEAGE])

    def prepare(
        self,
        parts: Sequence[PartFile],
        *,
        tagged_ids: pa.Array | pa.ChunkedArray,
        removed_ids: pa.Array | pa.ChunkedArray,
        n_catalog: int,
        base_version: int | None,
        run_id: str,
    ) -> Prepared:
        """Check that `parts` are exactly the planned rows, and that with what stays they are the whole catalogue.

        Files of the base version that hold re-made or removed rows are written anew without them (copy on write);
        the others are not touched. Raises CountsError; nothing is published then.
        """
        touched = pa.array([*tagged_ids.to_pylist(), *removed_ids.to_pylist()], pa.string())
        if len(pc.unique(touched)) != len(touched):
            raise CountsError(f"the plan of run {run_id} names a track twice; nothing was published", hint=_BUG)
        n_rows = sum(part.n_rows for part in parts)
        if n_rows != len(tagged_ids) or sum(p.id_checksum for p in parts) % 2**64 != id_checksum(tagged_ids):
            raise CountsError(
                f"run {run_id} made {n_rows} rows for {len(tagged_ids)} planned tracks, or rows of other tracks;"
                " nothing was published",
                hint=_BUG,
            )
        if base_version is None:
            self.table.create(PREDICTIONS)
            base_version = 0
        kept, removed, n_gone, n_base = self._without(touched, base_version, run_id)
        n_unchanged = n_base - n_gone
        if n_rows + n_unchanged != n_catalog:
            raise CountsError(
                f"{n_rows} tagged or failed + {n_unchanged} unchanged are not the {n_catalog} tracks of the catalogue;"
                " nothing was published",
                hint="start a new run: leave out --run-id",
            )
        n_failed = sum(len(part.failures) for part in parts)
        return Prepared(
            base_version=base_version,
            added=[DataFile(path=p.path, size_bytes=p.size_bytes, n_rows=p.n_rows) for p in (*parts, *kept)],
            removed=removed,
            n_tagged=n_rows - n_failed,
            n_failed=n_failed,
            n_unchanged=n_unchanged,
            n_removed=len(removed_ids),
        )

    def commit(self, prepared: Prepared, run_id: str) -> int:
        """Make what was prepared the current version, in one transaction; a second time for one run changes nothing.

        Raises ConflictError when another run committed since the base version.
        """
        return self.table.swap(
            prepared.added,
            prepared.removed,
            schema=PREDICTIONS,
            base_version=prepared.base_version,
            run_id=run_id,
        )

    def _without(self, touched: pa.Array, version: int, run_id: str) -> tuple[list[PartFile], list[DataFile], int, int]:
        """Rewritten files, the files they replace, the rows taken out, and all rows of `version`."""
        filesystem, base = self.root.arrow_filesystem()
        kept, removed, n_gone, n_base = [], [], 0, 0
        for file in self.table.files(version):
            path = f"{base}/{KEY}/{file.path}"
            n_base += file.n_rows
            if not len(touched):
                continue
            with arrow_errors(path):
                ids = pq.read_table(path, columns=["track_id"], filesystem=filesystem)["track_id"]
            gone = pc.is_in(ids, touched)
            n = pc.sum(gone).as_py() or 0
            if n:
                n_gone += n
                removed.append(file)
                if n < file.n_rows:
                    with arrow_errors(path):
                        rows = pq.read_table(path, filesystem=filesystem)
                    kept.append(write_part(self.root, rows.filter(pc.invert(gone)), run_id))
        return kept, removed, n_gone, n_base

    def show(self, track_id: str, version: int | None = None) -> dict[str, Any] | None:
        """One row, or None."""
        rows = self.table.read(version, where={"track_id": track_id}).to_pylist()
        return rows[0] if rows else None

    def rollback(self, version: int | None = None) -> tuple[int, int]:
        """Make an older snapshot current again, by default the one before; (its version, the new version).

        Raises NotFoundError for a version that is none, or that has no rows because nothing was published yet.
        """
        target = self.table.version() - 1 if version is None else version
        if target < 1:
            raise NotFoundError(
                f"there is no snapshot {target} to go back to: version 0 is the empty table",
                hint="tagfleet predictions history",
            )
        return target, self.table.rollback(target)

    def query(
        self, where: str, *, columns: Sequence[str], limit: int | None = None, version: int | None = None
    ) -> pa.Table:
        """Rows for which the SQL condition `where` holds, by track_id.

        The condition is typed by people: DuckDB gets no file, network or extension, and takes one expression only.
        Raises UsageError when it is no condition over the table's columns.
        """
        import duckdb

        if unknown := [name for name in columns if name not in PREDICTIONS.names]:
            raise UsageError(
                f"no column {', '.join(map(repr, unknown))}", hint=f"columns: {', '.join(PREDICTIONS.names)}"
            )
        rows = self.table.dataset(version)
        settings: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "threads": 1,
        }
        with duckdb.connect(":memory:", config=settings) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET lock_configuration = true")
            try:
                found = connection.from_arrow(rows).filter(where).order("track_id")
                found = found.limit(limit) if limit is not None else found
                names = ", ".join(f'"{name}"' for name in columns)
                answer = found.project(names).to_arrow_table()
            except duckdb.Error as error:
                if "Arrow source" in str(error):  # not the condition: a data file cannot be read
                    raise StorageError(
                        f"{self.root.uri(KEY)}: {str(error).splitlines()[0]}", hint="check the disk or bucket"
                    ) from error
                raise UsageError(
                    f"cannot answer {where!r}: {str(error).splitlines()[0]}",
                    hint=f"a SQL condition over {', '.join(PREDICTIONS.names)}; times are UTC",
                ) from error
        return conform(answer, pa.schema([PREDICTIONS.field(name) for name in columns]))

    def export_parquet(self, target: str, config: StorageConfig, version: int | None = None) -> Export:
        """Write one version as a clean folder of Parquet files below `target`, then move `latest.json`, last.

        `snapshot-v<version>.json` names the one complete folder of a version; such a folder is never written again.
        Raises StorageError when `target` holds the export of another table.
        """
        version = self.table.version() if version is None else version
        rows = self.table.dataset(version)
        with arrow_errors(self.root.uri(KEY)):
            n_rows = rows.count_rows()
        out = Storage(target, config)
        export = Export(
            version=version,
            path=f"snapshot-v{version:06d}-{uuid.uuid4().hex[:8]}",
            n_rows=n_rows,
            table_id=self.table.id(),
            exported_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        if out.exists("latest.json"):
            last = Export(**json.loads(out.read("latest.json")))
            if last.table_id != export.table_id:
                raise StorageError(
                    f"{target} holds the export of another predictions table", hint="choose an empty target"
                )
        complete = f"snapshot-v{version:06d}.json"
        if not out.exists(complete):
            if n_rows:
                self._write_snapshot(rows, out, export.path)
            else:
                # Arrow would write no file, and readers would find no folder.
                out.write(f"{export.path}/part-0.parquet", _parquet(PREDICTIONS.empty_table()))
            out.create(complete, json.dumps(asdict(export), indent=2).encode())
        told = out.read(complete)  # of two exports at once, both take the folder of the first
        out.write("latest.json", told)
        return Export(**json.loads(told))

    @staticmethod
    def _write_snapshot(rows: ds.Dataset, out: Storage, folder: str) -> None:
        filesystem, base = out.arrow_filesystem()
        with arrow_errors(out.uri(folder)):
            ds.write_dataset(
                rows,
                f"{base}/{folder}",
                schema=PREDICTIONS,
                filesystem=filesystem,
                format="parquet",
                basename_template="part-{i}.parquet",
                max_rows_per_file=ROWS_PER_EXPORT_FILE,
                max_rows_per_group=min(ROWS_PER_EXPORT_FILE, 100_000),
                existing_data_behavior="delete_matching",
                use_threads=False,
            )

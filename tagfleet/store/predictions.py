"""The predictions table: parts that workers write, checks that must hold, one commit, and what readers ask."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from tagfleet.errors import CountsError, NotFoundError, StorageError, UsageError
from tagfleet.schemas import PREDICTIONS, conform
from tagfleet.store.objects import Storage
from tagfleet.store.parts import FOLDER as KEY
from tagfleet.store.parts import PartFile, run_folder
from tagfleet.store.s3 import arrow_errors
from tagfleet.store.tables import DataFile, Table, Version

_BUG = "this is a bug: please report it with the run folder"


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the parts of a run must add up to, by its plan."""

    run_id: str
    base_version: int | None
    n_catalog: int
    n_waiting: int
    """New tracks that are left without a row on purpose."""
    n_new: int
    """Rows of parts that replace no file."""
    id_checksum: int
    """Of their ids."""
    n_removed: int
    touched: Mapping[str, tuple[int, int]]
    """File of the base version -> (rows that leave it, rows that are made again from it)."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A commit whose checks have passed: what it will add, take out, and the counts that add up."""

    run_id: str
    base_version: int
    added: Sequence[DataFile]
    removed: Sequence[DataFile]
    n_tagged: int
    n_failed: int
    n_unchanged: int
    n_removed: int

    @property
    def changes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.added or self.removed)

    @property
    def version(self) -> int:
        """Of the table, once it is committed."""
        return self.base_version + self.changes


def _staged_key(run_id: str) -> str:
    return f"runs/{run_id}/staged.json"


class Predictions:
    """The committed predictions below a storage root."""

    def __init__(self, root: Storage) -> None:
        self.root = root
        self.table = Table(root, KEY)

    def prepare(self, parts: Sequence[PartFile], expected: Expected) -> Prepared:
        """Check that `parts` are exactly the planned rows, and that with what stays they are the whole catalogue.

        Files of the base version whose rows all leave are taken out; those that keep some are replaced by a part; the
        others are not touched. Raises CountsError; nothing is published then.
        """
        made = [part for part in parts if not part.replaces]
        rewritten = [part for part in parts if part.replaces]
        n_new = sum(part.n_rows for part in made)
        if n_new != expected.n_new or sum(p.id_checksum for p in made) % 2**64 != expected.id_checksum:
            raise CountsError(
                f"run {expected.run_id} made {n_new} rows for {expected.n_new} planned tracks, or rows of other tracks;"
                " nothing was published",
                hint=_BUG,
            )
        if expected.base_version is None:
            self.table.create(PREDICTIONS)
        base_version = expected.base_version or 0
        base = {file.path: file for file in self.table.files(base_version)}
        removed = self._replaced(base, rewritten, expected)
        n_gone, n_stored = (sum(counts[i] for counts in expected.touched.values()) for i in (0, 1))
        n_unchanged = sum(file.n_rows for file in base.values()) - n_gone - n_stored
        if n_new + n_stored + n_unchanged + expected.n_waiting != expected.n_catalog:
            raise CountsError(
                f"{n_new + n_stored} tagged or failed + {n_unchanged} unchanged + {expected.n_waiting} left to the next"
                f" run are not the {expected.n_catalog} tracks of the catalogue; nothing was published",
                hint="start a new run: leave out --run-id",
            )
        n_failed = sum(part.n_failed for part in parts)
        return Prepared(
            run_id=expected.run_id,
            base_version=base_version,
            added=[DataFile(path=p.path, size_bytes=p.size_bytes, n_rows=p.n_rows) for p in parts],
            removed=removed,
            n_tagged=n_new + n_stored - n_failed,
            n_failed=n_failed,
            n_unchanged=n_unchanged,
            n_removed=expected.n_removed,
        )

    @staticmethod
    def _replaced(base: Mapping[str, DataFile], rewritten: Sequence[PartFile], expected: Expected) -> list[DataFile]:
        """The touched files, each emptied or in the place of exactly one part that has its remaining rows."""
        named = [path for part in rewritten for path in part.replaces]
        kept = {path for path, (n_gone, _) in expected.touched.items() if path in base and n_gone < base[path].n_rows}
        problems = [f"{path} is no file of the base version" for path in expected.touched if path not in base]
        problems += [
            f"{path} is replaced, and should not be, or twice"
            for path, n in Counter(named).items()
            if n > 1 or path not in kept
        ]
        problems += [f"{path} is not replaced" for path in sorted(kept.difference(named))]
        for part in rewritten if not problems else ():
            counts = [expected.touched[path] for path in part.replaces]
            n_rows = sum(base[path].n_rows for path in part.replaces) - sum(n_gone for n_gone, _ in counts)
            if (part.n_rows, part.n_stored) != (n_rows, sum(n_stored for _, n_stored in counts)):
                problems.append(f"{part.path} has {part.n_rows} rows, {part.n_stored} made again; {n_rows} stay")
        if problems:
            raise CountsError(f"run {expected.run_id}: {'; '.join(problems[:3])}; nothing was published", hint=_BUG)
        return [base[path] for path in expected.touched]

    def commit(self, prepared: Prepared) -> int:
        """Make what was prepared the current version, in one transaction; a second time for one run changes nothing.

        Raises ConflictError when another run committed since the base version, CountsError when a part is no longer
        what it was.
        """
        if not prepared.changes:
            return prepared.base_version
        if not self.table.committed(prepared.run_id):
            self._check_parts_are_there(prepared)
        version = self.table.swap(
            prepared.added,
            prepared.removed,
            schema=PREDICTIONS,
            base_version=prepared.base_version,
            run_id=prepared.run_id,
        )
        self.root.delete(_staged_key(prepared.run_id))
        return version

    def _check_parts_are_there(self, prepared: Prepared) -> None:
        there = {info.key: info.size_bytes for info in self.root.list(f"{KEY}/{run_folder(prepared.run_id)}")}
        gone = [file.path for file in prepared.added if there.get(f"{KEY}/{file.path}") != file.size_bytes]
        if gone:
            raise CountsError(
                f"{len(gone)} data files of run {prepared.run_id} are gone or not what it wrote, such as {gone[0]};"
                " nothing was published",
                hint="start a new run: leave out --run-id",
            )

    def stage(self, prepared: Prepared) -> None:
        """Keep what was prepared under the run's id, without making it current: `publish` does that."""
        text = json.dumps(asdict(prepared), ensure_ascii=False, indent=1)
        self.root.write(_staged_key(prepared.run_id), text.encode())

    def staged(self, run_id: str) -> Prepared | None:
        """The snapshot that a run staged and nobody published."""
        try:
            told = json.loads(self.root.read(_staged_key(run_id)))
        except NotFoundError:
            return None
        files = {name: [DataFile(**file) for file in told[name]] for name in ("added", "removed")}
        return Prepared(**told | files)

    def publish(self, run_id: str) -> int:
        """Make a staged snapshot current; the new version. A run that is published already stays what it is.

        Raises NotFoundError when the run staged nothing, ConflictError when another committed since.
        """
        prepared = self.staged(run_id)
        if prepared is None:
            if version := self.table.version_of(run_id):
                return version
            raise NotFoundError(
                f"run {run_id} has no snapshot to publish", hint="tagfleet retag --no-publish makes one"
            )
        return self.commit(prepared)

    def files(self, which: int | str | None = None) -> list[DataFile]:
        """The data files of a version, by default the latest, or of the snapshot that a run staged or published."""
        prepared = self.staged(which) if isinstance(which, str) else None
        if prepared is None:
            version = self.table.version_of(which) if isinstance(which, str) else which
            if isinstance(which, str) and version is None:
                raise NotFoundError(f"run {which} has no snapshot", hint="tagfleet predictions history")
            return self.table.files(self.table.version() if version is None else version)
        gone = {file.path for file in prepared.removed}
        base = self.table.files(prepared.base_version)
        return [*(file for file in base if file.path not in gone), *prepared.added]

    def dataset(self, which: int | str | None = None) -> ds.Dataset:
        """The rows of `files`, as an Arrow dataset of PREDICTIONS columns."""
        return self.dataset_of(self.files(which))

    def dataset_of(self, files: Iterable[DataFile]) -> ds.Dataset:
        """The rows of some data files, as an Arrow dataset of PREDICTIONS columns."""
        filesystem, base = self.root.arrow_filesystem()
        paths = [f"{base}/{KEY}/{file.path}" for file in files]
        with arrow_errors(self.root.uri(KEY)):
            return ds.dataset(paths, schema=PREDICTIONS, filesystem=filesystem, format="parquet", partitioning=None)

    def show(self, track_id: str, version: int | None = None) -> dict[str, Any] | None:
        """One row, or None."""
        rows = self.table.read(version, where={"track_id": track_id}).to_pylist()
        return rows[0] if rows else None

    def changed_by(self, version: int) -> Version:
        """The commit that made the rows of a version what they are: compactions change none."""
        commit = self.table.commit_of(version)
        while commit.operation == "optimize":
            commit = self.table.commit_of(commit.version - 1)
        return commit

    def rollback(self, version: int | None = None) -> tuple[int, int]:
        """Make an older snapshot current again; (its version, the new version).

        version: by default the one before the run that made the current rows, so that a second rollback goes back one
        run further. Raises NotFoundError for a version that is none, or that has no rows because nothing was published
        yet.
        """
        target = version
        if target is None:
            commit = self.changed_by(self.table.version())
            while commit.restored is not None:
                commit = self.changed_by(commit.restored)
            target = commit.version - 1
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

"""Versioned tables: Delta Lake behind the few calls that tagfleet needs. Readers see whole commits only.

Every commit names the version it was prepared on and gives up when another was faster (no silent rebase); a commit
that carries a run id records it as an application transaction in the same commit, so that it cannot happen twice.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

from tagfleet.errors import ConflictError, NotFoundError, StorageError, TagfleetError
from tagfleet.store.objects import Storage, ensure_exclusive_create
from tagfleet.store.s3 import arrow_errors, tried

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable


@dataclass(frozen=True, kw_only=True)
class Version:
    """One commit of a table."""

    version: int
    committed_at: datetime
    operation: str
    run_id: str | None
    note: str | None
    restored: int | None = None
    """Of a rollback, the version whose rows it made current again."""


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A Parquet file of a table, by its path relative to the table."""

    path: str
    size_bytes: int
    n_rows: int


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Which versions can still be read: `_kept.json` beside a table's files, written before any of them is deleted."""

    since: int
    """The oldest version of the kept history."""
    also: Sequence[int] = ()
    """Older ones that staged runs stand on."""
    at: str
    """When the table was vacuumed, ISO 8601 UTC."""

    def allows(self, version: int) -> bool:
        """Whether all files of `version` are there."""
        return version >= self.since or version in self.also


class Table:
    """The table under `key` of a storage root; opened anew for each call, so that each call sees the latest commit."""

    def __init__(self, root: Storage, key: str) -> None:
        self.root = root
        self.key = key

    def exists(self) -> bool:
        """Whether anything was ever committed."""
        # deltalake's is_deltatable keeps Python's global lock while it waits: no lease would be renewed meanwhile.
        log = self.root.list(f"{self.key}/_delta_log")
        return any(info.key.endswith((".json", ".checkpoint.parquet")) for info in log)

    def version(self) -> int:
        """The latest version; NotFoundError when there is no table."""
        return int(self._open().version())

    def latest(self) -> int:
        """The latest version, or NO_TABLE."""
        return self.version() if self.exists() else NO_TABLE

    def id(self) -> str:
        """Of the table itself: another one made in its place has another."""
        return str(self._open().metadata().id)

    def dataset(self, version: int | None = None) -> ds.Dataset:
        """One version as an Arrow dataset; NotFoundError when it does not exist."""
        from pyarrow.fs import SubTreeFileSystem

        # Without it, Arrow's threads read through deltalake's Python code: one that does so while the interpreter
        # ends, ends it with SIGABRT.
        filesystem, base = self.root.arrow_filesystem()
        return self._open(version).to_pyarrow_dataset(filesystem=SubTreeFileSystem(f"{base}/{self.key}", filesystem))

    def read(
        self, version: int | None = None, columns: Sequence[str] | None = None, where: Mapping[str, str] | None = None
    ) -> pa.Table:
        """Rows of one version, all or those whose columns equal `where`."""
        condition = None
        for name, value in (where or {}).items():
            equal = ds.field(name) == value
            condition = equal if condition is None else condition & equal
        rows = self.dataset(version)
        with arrow_errors(self.root.uri(self.key)):
            return rows.to_table(columns=list(columns) if columns else None, filter=condition)

    def files(self, version: int) -> list[DataFile]:
        """The data files of one version."""
        actions = pa.table(self._open(version).get_add_actions(flatten=True))
        names = ("path", "size_bytes", "num_records")
        rows = zip(*(actions[name].to_pylist() for name in names), strict=True)
        return sorted((DataFile(path=p, size_bytes=s, n_rows=n) for p, s, n in rows), key=lambda file: file.path)

    def kept(self) -> Kept | None:
        """What was last said of the kept history; None while nothing was ever deleted."""
        try:
            return Kept(**json.loads(self.root.read(f"{self.key}/{KEPT_FILE}")))
        except NotFoundError:
            return None

    def history(self, limit: int | None = None) -> list[Version]:
        """Commits, the latest first, as far back as the log is kept."""
        latest = self.version()
        oldest = 0 if limit is None else max(0, latest - limit + 1)
        versions = []
        for version in range(latest, oldest - 1, -1):
            try:
                versions.append(self.commit_of(version))
            except NotFoundError:
                break
        return versions

    def commit_of(self, version: int) -> Version:
        """The commit that made a version; NotFoundError when the log does not have it (any more)."""
        # deltalake's own history() is empty below a root whose name holds # or ?.
        commit = self.root.read(f"{self.key}/_delta_log/{version:020d}.json")
        actions = (json.loads(line) for line in commit.splitlines())
        entry = next(action["commitInfo"] for action in actions if "commitInfo" in action)
        operation = str(entry["operation"]).lower()
        return Version(
            version=version,
            committed_at=datetime.fromtimestamp(entry["timestamp"] / 1000, UTC),
            operation=operation,
            run_id=entry.get("run_id"),
            note=entry.get("note"),
            restored=int(entry["operationParameters"]["version"]) if operation == "restore" else None,
        )

    def replace(self, rows: pa.Table, *, note: str, base_version: int | None = None) -> int:
        """Put `rows` in the place of all rows, in one commit; the schema may change. Returns the new version.

        base_version: what `rows` were made from (NO_TABLE where there was none); ConflictError when anything was
        committed since. None replaces whatever is there; ConflictError then only when another writes just now.
        """
        from deltalake import CommitProperties, write_deltalake
        from deltalake.exceptions import DeltaError

        ensure_exclusive_create(self.root)
        first = not self.exists()
        table = None if first else self._open()
        latest = NO_TABLE if table is None else int(table.version())
        if base_version is not None and latest != base_version:
            raise self._conflict(base_version, latest)
        try:
            write_deltalake(
                table or self.root.delta_uri(self.key),
                rows,
                mode="error" if first else "overwrite",
                schema_mode=None if first else "overwrite",
                storage_options=self.root.delta_options() if first else None,
                commit_properties=CommitProperties(custom_metadata={"note": note}, max_commit_retries=0),
            )
        except (DeltaError, OSError) as error:
            raise self._failure(error) from error
        return latest + 1

    def create(self, schema: pa.Schema) -> None:
        """Make the empty table unless there is one."""
        from deltalake import CommitProperties, DeltaTable
        from deltalake.exceptions import DeltaError

        if self.exists():
            return
        ensure_exclusive_create(self.root)
        try:
            DeltaTable.create(
                self.root.delta_uri(self.key),
                schema,
                configuration={"delta.logRetentionDuration": f"interval {LOG_DAYS} days"},
                storage_options=self.root.delta_options(),
                # With retries, the second of two at once would give the table a new id.
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except (DeltaError, OSError) as error:
            if not self.exists():  # else another writer made it at the same moment
                raise self._failure(error) from error

    def committed(self, run_id: str) -> bool:
        """Whether a commit of this run is part of the table."""
        return self.version_of(run_id) is not None

    def version_of(self, run_id: str) -> int | None:
        """The version that a run's commit made; None without one."""
        done = self._open().transaction_version(run_id) if self.exists() else None
        return None if done is None else int(done)

    def swap(
        self,
        added: Sequence[DataFile],
        removed: Sequence[DataFile],
        *,
        schema: pa.Schema,
        base_version: int,
        run_id: str,
    ) -> int:
        """Take `removed` files out and `added` files in, in one commit on top of `base_version`; the new version.

        Raises ConflictError when anything was committed after `base_version`; nothing has changed then. A second call
        for a run that is committed changes nothing.
        """
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import DeltaError
        from deltalake.transaction import AddAction, RemoveAction

        ensure_exclusive_create(self.root)
        now_ms = int(time.time() * 1000)
        adds = [AddAction(f.path, f.size_bytes, {}, now_ms, True, f'{{"numRecords": {f.n_rows}}}') for f in added]
        removes = [RemoveAction(f.path, True, now_ms, f.size_bytes, {}) for f in removed]
        properties: CommitProperties = CommitProperties(
            custom_metadata={"run_id": run_id},
            max_commit_retries=0,
            app_transactions=[Transaction(run_id, base_version + 1)],
        )

        def write(table: DeltaTable) -> None:
            table.create_write_transaction([*adds, *removes], "append", schema, commit_properties=properties)

        try:
            return tried(lambda: self._commit_once(write, base_version, run_id), _broke_off)
        except (DeltaError, OSError) as error:
            raise self._failure(error) from error

    def _commit_once(self, write: Callable[[DeltaTable], None], base_version: int, run_id: str) -> int:
        """The version after `write`, once it or an earlier try took place. Raises its error where that did not."""
        from deltalake.exceptions import CommitFailedError, DeltaError

        table = self._open()
        done = table.transaction_version(run_id)
        if done is not None:
            return int(done)
        if table.version() != base_version:
            raise self._conflict(base_version, table.version())
        try:
            write(table)
        except (DeltaError, OSError) as error:
            # The answer to a commit can be lost although it happened: look before saying that it failed.
            done = self._open().transaction_version(run_id)
            if done is None:
                if isinstance(error, CommitFailedError):
                    raise self._conflict(base_version, self.version()) from error
                raise
        return base_version + 1

    def rollback(self, version: int) -> int:
        """Make an older version's rows current again, as a new commit; returns its version.

        The run ids of what is undone stay used: to tag again, start a new run.
        """
        from deltalake import CommitProperties
        from deltalake.exceptions import DeltaError

        ensure_exclusive_create(self.root)
        table = self._open()
        if not 0 <= version < table.version():
            raise NotFoundError(
                f"{self.key} has no earlier version {version}; the current one is {table.version()}",
                hint=f"tagfleet {self.key} history",
            )
        self._open(version)
        try:
            table.restore(
                version,
                commit_properties=CommitProperties(
                    custom_metadata={"note": f"back to {version}"}, max_commit_retries=0
                ),
            )
        except (DeltaError, OSError) as error:
            raise self._failure(error) from error
        return self.version()

    def compact(self, target_bytes: int) -> int:
        """Join small files into some of about `target_bytes`, in one commit that changes no row; the new version.

        Raises ConflictError when anything was committed meanwhile; nothing has changed then.
        """
        from deltalake import CommitProperties
        from deltalake.exceptions import DeltaError

        ensure_exclusive_create(self.root)
        table = self._open()
        try:
            table.optimize.compact(
                target_size=target_bytes,
                # Each task holds its files' rows in memory.
                max_concurrent_tasks=1,
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except (DeltaError, OSError) as error:
            raise self._failure(error) from error
        return int(table.version())

    def _open(self, version: int | None = None) -> DeltaTable:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        if version is not None and (kept := self.kept()) and version >= 0 and not kept.allows(version):
            raise self._gone(version, kept)
        try:
            uri, options = self.root.delta_uri(self.key), self.root.delta_options()
            return tried(lambda: DeltaTable(uri, version=version, storage_options=options), _broke_off)
        except (DeltaError, OSError, ValueError) as error:
            if version is not None and self.exists():
                if 0 <= version <= self.version():  # its entry in the log is gone
                    raise self._gone(version, self.kept()) from error
                raise NotFoundError(
                    f"{self.key} has no version {version}", hint=f"tagfleet {self.key} history"
                ) from error
            if isinstance(error, TableNotFoundError):
                raise NotFoundError(
                    f"there are no {self.key} in {self.root.root}", hint=_MAKERS.get(self.key)
                ) from error
            raise self._failure(error) from error

    def _gone(self, version: int, kept: Kept | None) -> NotFoundError:
        since = f": the history begins with version {kept.since} since it was vacuumed at {kept.at}" if kept else ""
        return NotFoundError(
            f"{self.key} version {version} is no longer kept{since}", hint=f"tagfleet {self.key} history"
        )

    def _conflict(self, base_version: int, version: int) -> ConflictError:
        return ConflictError(
            f"{self.key} went from version {base_version} to {version} while this run worked; nothing was written",
            hint="start a new run: it begins from the new version",
        )

    def _failure(self, error: Exception) -> TagfleetError:
        from deltalake.exceptions import CommitFailedError

        if isinstance(error, CommitFailedError) or "already exists" in str(error):
            return ConflictError(f"another writer committed to {self.key} first; nothing was written", hint="try again")
        if self.root.remote:
            # deltalake says little of what went wrong with the server: a plain request says it in our words.
            next(self.root.list(self.key), None)
        # It tells causes on lines of their own, the last of which says most.
        text = " ".join(_COLOURED_ARROW.sub(" ", str(error)).split())[:_MOST_OF_AN_ERROR]
        return StorageError(
            f"{self.root.uri(self.key)}: {text or type(error).__name__}",
            hint="check --root, storage.endpoint_url, the bucket and the AWS credentials",
        )


def _broke_off(error: Exception) -> bool:
    """Whether an answer did: deltalake asks again for objects then, but not for listings, nor after a 404."""
    return any(text in str(error) for text in ("error reading a body", "response body error"))


NO_TABLE = -1
"""The version of a table that does not exist yet."""
KEPT_FILE = "_kept.json"
_MOST_OF_AN_ERROR = 500
_COLOURED_ARROW = re.compile(r"\x1b\[[0-9;]*m|↳")
LOG_DAYS = 400
"""How long commits stay in the log: longer than any history that can be asked for. The deltalake package deletes older
ones when it writes a checkpoint, each 100 commits; opening a table reads the last checkpoint and what came after it."""

_MAKERS = {
    "catalog": "tagfleet catalog scan DIR, or tagfleet catalog import FILE",
    "labels": "tagfleet labels build",
    "predictions": "tagfleet retag",
}

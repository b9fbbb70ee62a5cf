"""Parts: data files that workers wrote and no reader sees before a commit. Each says of itself what it holds.

A part lies in the table's folder, in one of the run's own, and carries what is to be known of it in its Parquet footer:
whoever finds the file finds that, too, so that an interrupted run knows what it has without a second object that could
be missing or lie.
"""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from tagfleet.config import Section
from tagfleet.schemas import PREDICTIONS, conform
from tagfleet.store.objects import Storage
from tagfleet.store.s3 import arrow_errors

FOLDER = "predictions"
_FOOTER = b"tagfleet.part"
_READERS = 16
_FOUND_AT_ONCE = 1_000


class Tally(Section):
    """What was counted while a part was made; sums over parts are sums over tracks."""

    n_tagged: int = 0
    failures: Mapping[str, int] = {}
    """stage/reason -> tracks."""
    n_new_failures: int = 0
    """Without those that were only tried again."""
    labels: Mapping[str, Mapping[str, int]] = {}
    """Axis -> label, or `unknown` -> tracks."""
    flips: Mapping[str, tuple[int, int]] = {}
    """Axis -> (tracks that the same model had tagged before, of them those with another top label)."""
    audio_s: float = 0.0
    n_bytes: int = 0
    n_requests: int = 0
    n_retries: int = 0
    cpu_s: Mapping[str, float] = {}
    """Stage -> CPU seconds."""
    began_at: float = 0.0
    """Seconds since 1970 at which the work on this part began."""
    wall_s: float = 0.0
    peak_memory_mb: float = 0.0
    """Of the worker that made it, decoder included, up to then."""
    worker: str = ""
    """host/pid."""


class PartFile(Section):
    """One part."""

    path: str
    """Relative to the table."""
    size_bytes: int = 0
    run_id: str
    n_rows: int
    id_checksum: int
    rows: tuple[tuple[int, int], ...] = ()
    """Of new rows, their places in the plan: (first, behind the last)."""
    replaces: tuple[str, ...] = ()
    """Of rewritten rows, the data files in whose place these are."""
    n_stored: int = 0
    """Of rewritten rows, those that were made again."""
    last: bool = False
    """Whether its tracks were given no further chance in that run."""
    tally: Tally = Tally()

    @property
    def n_failed(self) -> int:
        """Rows that are failures."""
        return sum(self.tally.failures.values())


def id_hashes(ids: pa.Array | pa.ChunkedArray) -> NDArray[np.uint64]:
    """64-bit BLAKE2b of each id: the same on every machine, in every version."""
    hashed = b"".join(hashlib.blake2b(i.encode(), digest_size=8).digest() for i in ids.to_pylist())
    return np.frombuffer(hashed, "<u8")


def id_checksum(ids: pa.Array | pa.ChunkedArray) -> int:
    """Order-independent checksum of track ids: the sum of their hashes, modulo 2^64."""
    return int(id_hashes(ids).sum(dtype=np.uint64))


def run_folder(run_id: str) -> str:
    """Where the parts of a run lie, relative to the table.

    ASCII only: the table's log percent-encodes other names, and they would not be found again.
    """
    plain = re.sub("[^A-Za-z0-9._-]", "_", run_id)[:100].strip(".")
    return f"run-{plain}"


def write_part(root: Storage, rows: pa.Table, part: PartFile) -> PartFile:
    """Write PREDICTIONS rows as one Parquet file of the run; no reader sees it before a commit.

    part: what is known of it; its path, size, number of rows and checksum are filled in.
    """
    rows = conform(rows, PREDICTIONS)
    path = f"{run_folder(part.run_id)}/{uuid.uuid4().hex}.parquet"
    known = part.model_copy(
        update={"path": path, "n_rows": rows.num_rows, "id_checksum": id_checksum(rows["track_id"])}
    )
    data = parquet_bytes(rows.replace_schema_metadata({_FOOTER: known.model_dump_json().encode()}))
    root.write(f"{FOLDER}/{path}", data)
    return known.model_copy(update={"size_bytes": len(data)})


def parquet_bytes(rows: pa.Table) -> bytes:
    """Rows as one Parquet file."""
    data = io.BytesIO()
    pq.write_table(rows, data, compression="zstd")
    return data.getvalue()


def find_parts(root: Storage, run_id: str) -> Iterator[PartFile]:
    """The parts that earlier starts of a run finished, by path; files that say nothing of themselves are left out."""
    found = [info for info in root.list(f"{FOLDER}/{run_folder(run_id)}") if info.key.endswith(".parquet")]
    filesystem, base = root.arrow_filesystem()

    def read(key: str, size_bytes: int) -> PartFile | None:
        path = f"{base}/{key}"
        try:
            with arrow_errors(path):
                schema = pq.read_schema(path, filesystem=filesystem)
            part = PartFile.model_validate_json((schema.metadata or {}).get(_FOOTER, b""))
        except (pa.ArrowInvalid, ValidationError):
            return None
        if part.run_id != run_id or not schema.equals(PREDICTIONS):
            return None  # another run's, or another tagfleet's
        return part.model_copy(update={"path": key.removeprefix(f"{FOLDER}/"), "size_bytes": size_bytes})

    with ThreadPoolExecutor(_READERS) as pool:
        for first in range(0, len(found), _FOUND_AT_ONCE):
            some = found[first : first + _FOUND_AT_ONCE]
            read_some = pool.map(read, [info.key for info in some], [info.size_bytes for info in some])
            yield from (part for part in read_some if part is not None)

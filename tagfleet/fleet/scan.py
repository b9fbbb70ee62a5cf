"""A folder or an s3:// prefix as a catalogue: one row per audio file, with what its header says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.audio.config import DecodeLimits
from tagfleet.audio.decode import probe
from tagfleet.catalog.rows import RawRow, check_rows
from tagfleet.errors import TrackError
from tagfleet.store.config import StorageConfig
from tagfleet.store.objects import ObjectInfo
from tagfleet.store.sources import list_audio, open_uri

SUFFIXES = frozenset((".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".aif", ".aiff"))
PROBE_THREADS = 8  # headers wait for the disk or the network, not for a CPU


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What was found below a root. `unreadable`: uri and reason of files whose header could not be read (kept as
    tracks: the re-tag says what is wrong with them). `skipped`: names that cannot be tracks at all."""

    tracks: pa.Table
    unreadable: tuple[tuple[str, str], ...]
    skipped: tuple[str, ...]
    n_other_files: int


def scan(
    audio_root: str,
    storage: StorageConfig,
    limits: DecodeLimits,
    *,
    known: pa.Table | None,
    id_prefix: str = "",
    advance: Callable[[int, int], None],
) -> Scan:
    """Walk `audio_root`; a track's id is `id_prefix` and its path below the root, exactly as it is spelled.

    known: the last catalogue; files whose etag and size are as they were are not opened again. advance: called with
    (files done, unreadable). Raises StorageError when the root cannot be listed.
    """
    skipped: list[str] = []
    files = list(list_audio(audio_root, storage, skipped=skipped.append))
    audio = [file for file in files if PurePosixPath(file.key).suffix.lower() in SUFFIXES]
    before = _known_facts(known)
    unreadable: list[tuple[str, str]] = []

    def facts(file: ObjectInfo) -> dict[str, Any]:
        seen = before.get((file.uri, file.etag, file.size_bytes))
        return seen if seen is not None else _probed(file, storage, limits)

    rows = []
    with ThreadPoolExecutor(PROBE_THREADS) as threads:
        for n, (file, found) in enumerate(zip(audio, threads.map(facts, audio), strict=True), start=1):
            if "problem" in found:
                unreadable.append((file.uri, found["problem"]))
                found = {}
            listed = {"etag": file.etag, "size_bytes": file.size_bytes, "updated_at": file.updated_at}
            rows.append(RawRow(line=n, values={"track_id": id_prefix + file.key, "uri": file.uri, **listed, **found}))
            advance(n, len(unreadable))
    checked = check_rows(rows, audio_root=audio_root)
    return Scan(
        tracks=checked.tracks,
        unreadable=tuple(unreadable),
        skipped=(*skipped, *(problem.message for problem in checked.problems)),
        n_other_files=len(files) - len(audio),
    )


def find_by_id(tracks: pa.Table, listing: Sequence[ObjectInfo]) -> pa.Table:
    """`tracks` of a source without uris, each with the audio file whose name, or path, without suffix is its id.

    Where several are called so, the first by key; where none is, the uri stays what it was.
    """
    by_name: dict[str, str] = {}
    stems = [(file.key.rpartition("."), file.uri) for file in listing]
    audio = [(stem, uri) for (stem, dot, suffix), uri in stems if dot and f".{suffix.lower()}" in SUFFIXES]
    for stem, uri in audio:
        by_name.setdefault(stem, uri)
    for stem, uri in audio:
        by_name.setdefault(stem.rpartition("/")[2], uri)
    pairs = zip(tracks["track_id"].to_pylist(), tracks["uri"].to_pylist(), strict=True)
    uris = [by_name.get(track_id, uri) for track_id, uri in pairs]
    index = tracks.schema.get_field_index("uri")
    return tracks.set_column(index, tracks.schema.field(index), pa.array(uris, pa.string()))


def add_sizes(tracks: pa.Table, listing: Iterable[ObjectInfo]) -> pa.Table:
    """`tracks` with etag and size_bytes of the files as they are, and updated_at where the catalogue has none.

    One listing of the audio root is far cheaper than a request per track. Tracks without a file keep nulls.
    """
    files = {file.uri: file for file in listing}
    found = [files.get(uri) for uri in tracks["uri"].to_pylist()]
    for name in ("etag", "size_bytes", "updated_at"):
        index = tracks.schema.get_field_index(name)
        listed = pa.array([getattr(file, name) if file else None for file in found], tracks.schema.field(index).type)
        # The file knows its own etag and size best: a stale one would hide that the audio changed.
        first = (tracks[name], listed) if name == "updated_at" else (listed, tracks[name])
        tracks = tracks.set_column(index, tracks.schema.field(index), pc.coalesce(*first))
    return tracks


def _known_facts(known: pa.Table | None) -> dict[tuple[str, str | None, int | None], dict[str, Any]]:
    if known is None:
        return {}
    own = ("title", "creator_id", "artist", "duration_s")
    return {
        (track["uri"], track["etag"], track["size_bytes"]): {name: track.get(name) for name in own}
        for track in known.to_pylist()
        if track["duration_s"] is not None
    }


def _probed(file: ObjectInfo, storage: StorageConfig, limits: DecodeLimits) -> dict[str, Any]:
    try:
        with open_uri(file.uri, storage, max_bytes=limits.max_size_bytes) as source:
            header = probe(source.file, limits)
    except TrackError as error:
        return {"problem": f"{error.reason}: {error.message}"}
    artist = {"artist": header.artist, "creator_id": header.artist} if header.artist else {}
    return {"title": header.title, "duration_s": header.duration_s, **artist}

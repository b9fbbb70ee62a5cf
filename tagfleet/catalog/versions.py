"""One catalogue version against the last: what a scan replaces, what changed, and what a catalogue holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.catalog.rows import tracks_table
from tagfleet.errors import CatalogError
from tagfleet.schemas import TRACKS


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How many tracks a new catalogue version adds, changes, removes and leaves as they were."""

    added: int
    changed: int
    removed: int
    unchanged: int


def compare(old: pa.Table | None, new: pa.Table) -> Changes:
    """Count the differences between two catalogue versions, by track_id, over all columns."""
    before = _by_id(old) if old is not None else {}
    after = _by_id(new)
    common = before.keys() & after.keys()
    changed = sum(before[track_id] != after[track_id] for track_id in common)
    return Changes(
        added=len(after) - len(common),
        changed=changed,
        removed=len(before) - len(common),
        unchanged=len(common) - changed,
    )


def replace_below(old: pa.Table | None, scanned: pa.Table, audio_root: str) -> pa.Table:
    """`old` with everything below `audio_root` replaced by `scanned`; tracks elsewhere stay.

    Raises CatalogError when a scanned track has the id of a track elsewhere.
    """
    if old is None:
        return scanned
    below = pc.starts_with(old["uri"], audio_root.rstrip("/") + "/")
    kept = old.filter(pc.invert(below))
    twice = kept.filter(pc.is_in(kept["track_id"], scanned["track_id"].combine_chunks()))
    if twice.num_rows:
        first = twice.slice(0, 1).to_pylist()[0]
        raise CatalogError(
            f"{twice.num_rows} scanned track ids belong to other files, e.g. {first['track_id']!r} to {first['uri']!r}",
            hint="give the scanned tracks ids of their own: --id-prefix NAME/",
        )
    return tracks_table(
        {name: value for name, value in track.items() if value is not None or name in TRACKS.names}
        for table in (kept, scanned)
        for track in table.to_pylist()
    )


def stats(tracks: pa.Table, *, top: int = 20) -> dict[str, Any]:
    """Counts of a catalogue: tracks, hours, bytes, creators, file types, tags and what is missing."""
    tags = Counter(pc.list_flatten(tracks["tags"]).to_pylist())
    suffixes = Counter(PurePosixPath(uri).suffix.lower() or "(none)" for uri in tracks["uri"].to_pylist())
    return {
        "n_tracks": tracks.num_rows,
        "hours": round((pc.sum(tracks["duration_s"]).as_py() or 0.0) / 3600, 2),
        "size_bytes": pc.sum(tracks["size_bytes"]).as_py() or 0,
        "n_creators": len(pc.unique(tracks["creator_id"]).drop_null()),
        "n_without_creator": tracks["creator_id"].null_count,
        "n_without_duration": tracks["duration_s"].null_count,
        "n_without_audio": tracks["size_bytes"].null_count,
        "n_without_tags": pc.sum(pc.equal(pc.fill_null(pc.list_value_length(tracks["tags"]), 0), 0)).as_py() or 0,
        "n_different_tags": len(tags),
        "top_tags": dict(tags.most_common(top)),
        "file_types": dict(suffixes.most_common()),
        "extra_columns": [name for name in tracks.column_names if name not in TRACKS.names],
    }


def _by_id(tracks: pa.Table) -> dict[str, dict[str, Any]]:
    return {
        track["track_id"]: {name: value for name, value in track.items() if value is not None}
        for track in tracks.to_pylist()
    }

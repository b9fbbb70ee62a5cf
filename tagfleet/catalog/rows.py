"""Raw catalogue rows, checked one by one, as a `schemas.TRACKS` table: ids and names exactly as they came.

Both `catalog import` and `catalog scan` make their tracks here, so that there is one definition of a good row.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from tagfleet.schemas import TRACKS

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*:")
_TEXT_COLUMNS = ("title", "description", "creator_id", "album_id", "etag")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a row was refused; `line` counts from 1 in the source file (the header is line 1 of a CSV)."""

    line: int
    track_id: str | None
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class RawRow:
    """One row as it stood in the source, with the line where it stood, and what its reader found wrong with it."""

    line: int
    values: Mapping[str, Any]
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckedRows:
    """The good rows as a table (TRACKS, then the extra columns by name), and the problems of the others."""

    tracks: pa.Table
    problems: tuple[Problem, ...]
    rejected: tuple[RawRow, ...]


class _Bad(ValueError):
    """A value that a column cannot take."""


def check_rows(
    rows: Iterable[RawRow], *, audio_root: str, tag_separator: str = "|", named_by_id: bool = False
) -> CheckedRows:
    """Check every row; nothing is normalised, and a bad row never hides another.

    `uri` may be relative to `audio_root` (a folder or `s3://bucket/prefix`) or absolute below it; what points
    elsewhere is a problem. named_by_id: the source has no uris, its files are called like the tracks. Extra columns
    stay: as text, or as JSON where the value is no text.
    """
    good: dict[str, dict[str, Any]] = {}
    first_line: dict[str, int] = {}
    spelled: dict[str, str] = {}  # tables do not tell column names apart by letter case
    problems: list[Problem] = []
    rejected: list[RawRow] = []
    for row in rows:
        track_id = row.values.get("track_id")
        try:
            if row.problem:
                raise _Bad(row.problem)
            track = _track(row.values, audio_root, tag_separator, named_by_id)
            for name in track:
                if spelled.setdefault(name.lower(), name) != name:
                    raise _Bad(f"column {name!r} is called {spelled[name.lower()]!r} in an earlier row")
            if track["track_id"] in first_line:
                raise _Bad(f"track_id {track['track_id']!r} stood already in line {first_line[track['track_id']]}")
        except _Bad as bad:
            known = track_id if isinstance(track_id, str) else None
            problems.append(Problem(line=row.line, track_id=known, message=str(bad)))
            rejected.append(row)
        else:
            first_line[track["track_id"]] = row.line
            good[track["track_id"]] = track
    return CheckedRows(tracks=tracks_table(good.values()), problems=tuple(problems), rejected=tuple(rejected))


def tracks_table(tracks: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Checked tracks, sorted by id, as a table: TRACKS first, then the extra columns (text) in alphabetical order."""
    ordered = sorted(tracks, key=lambda track: track["track_id"])
    extra = sorted({name for track in ordered for name in track} - set(TRACKS.names))
    schema = pa.schema([*TRACKS, *(pa.field(name, pa.string()) for name in extra)])
    return pa.Table.from_pylist([dict(track) for track in ordered], schema=schema)


def resolve_uri(uri: str, audio_root: str) -> str:
    """The absolute uri of a track below `audio_root`; ValueError when it leads elsewhere.

    >>> resolve_uri("a b/が.mp3", "s3://music/masters")
    's3://music/masters/a b/が.mp3'
    >>> resolve_uri("../other/x.mp3", "s3://music/masters")
    Traceback (most recent call last):
    ...
    ValueError: uri '../other/x.mp3' climbs out of the audio root
    """
    root = audio_root.rstrip("/")
    if "\0" in uri:
        raise ValueError("uri holds a NUL character")
    remote = root.startswith("s3://")
    if uri.startswith("/") or _SCHEME.match(uri):
        if not uri.startswith(root + "/"):
            raise ValueError(f"uri {uri!r} is not below the audio root {root!r}; name another with --audio-root")
        relative = uri[len(root) + 1 :]
    else:
        relative = uri
    # In a bucket '..' is a name like any other, but no library names a key so: refuse it everywhere.
    if ".." in relative.split("/"):
        raise ValueError(f"uri {uri!r} climbs out of the audio root")
    if not remote:  # to a file system `a//./b` is `a/b`, in a bucket they are two objects
        relative = "/".join(part for part in relative.split("/") if part not in ("", "."))
    if not relative:
        raise ValueError(f"uri {uri!r} names no file")
    return f"{root}/{relative}"


def _track(values: Mapping[str, Any], audio_root: str, tag_separator: str, named_by_id: bool) -> dict[str, Any]:
    track_id = _text(values, "track_id")
    if not track_id:
        raise _Bad("track_id is missing")
    uri = _text(values, "uri")
    if named_by_id:  # an id is a name, whatever it looks like
        if "\0" in track_id or ".." in track_id.split("/"):
            raise _Bad(f"track_id {track_id!r} is no file name, and there is no uri column")
        uri = f"{audio_root.rstrip('/')}/{track_id.lstrip('/')}"
    if not uri:
        raise _Bad(f"uri is missing (track {track_id!r})")
    try:
        uri = resolve_uri(uri, audio_root)
    except ValueError as error:
        raise _Bad(str(error)) from error
    track: dict[str, Any] = {"track_id": track_id, "uri": uri}
    track.update({name: _text(values, name) for name in _TEXT_COLUMNS})
    track["tags"] = _tags(values.get("tags"), tag_separator)
    track["duration_s"] = _number(values, "duration_s")
    size = _number(values, "size_bytes")
    if size is not None and size != int(size):
        raise _Bad(f"size_bytes must be a whole number, given {size!r}")
    track["size_bytes"] = None if size is None else int(size)
    track["updated_at"] = _time(values.get("updated_at"))
    track.update(_extra(values))
    return track


def _extra(values: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for name in values:
        if name in TRACKS.names:
            continue
        value = values[name]
        _encodable(name, "a column name")
        if value is None or isinstance(value, str):
            yield name, _text(values, name)
        else:
            yield name, _encodable(json.dumps(value, ensure_ascii=False, default=str), name)


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise _Bad(f"{name} must be text, given {value!r} ({type(value).__name__}); quote it in the source")
    return _encodable(value, name)


def _encodable(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _Bad(f"{name} {text!r} is not valid Unicode (a lone surrogate at {error.start})") from error
    return text


def _tags(value: object, separator: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [_encodable(tag.strip(), "tags") for tag in value.split(separator) if tag.strip()]
    if isinstance(value, (list, tuple)) and all(isinstance(tag, str) for tag in value):
        return [_encodable(tag, "tags") for tag in value if tag]
    raise _Bad(f"tags must be text separated by {separator!r} or a list of texts, given {value!r}")


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _Bad(f"{name} must be a number, given {value!r}")
    try:
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise _Bad(f"{name} must be a number, given {str(value)[:40]}") from error
    if not math.isfinite(number) or not 0 <= number < 2**63:
        raise _Bad(f"{name} must be 0 or more and finite, given {value!r}")
    return number


def _time(value: object) -> datetime | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise _Bad(f"updated_at must be ISO 8601, e.g. 2026-11-23T03:00:00+09:00, given {value!r}") from error
    if not isinstance(value, datetime):
        raise _Bad(f"updated_at must be ISO 8601 text, given {value!r}")
    if value.tzinfo is None:
        raise _Bad(f"updated_at {value.isoformat()!r} has no time zone; add one, e.g. +09:00")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise _Bad(f"updated_at {value.isoformat()!r} is out of range") from error

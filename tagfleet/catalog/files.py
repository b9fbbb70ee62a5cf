"""Catalogue files as people have them: CSV (Excel's too), JSON Lines, Parquet, as raw rows with line numbers."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from tagfleet.catalog.rows import RawRow
from tagfleet.errors import CatalogError
from tagfleet.schemas import TRACKS

FORMATS = ("csv", "tsv", "jsonl", "parquet")
MAX_FIELD_CHARACTERS = 16 << 20  # csv's own limit, 128 Ki, is less than a long description

REQUIRED = ("track_id",)


def read_rows(data: bytes, format: str, *, encoding: str = "auto", mapping: Mapping[str, str] = {}) -> Iterator[RawRow]:
    """The rows of a catalogue file, columns renamed by `mapping` (ours -> theirs).

    Raises CatalogError when the file as a whole cannot be read: encoding, header, a required or mapped column missing.
    """
    if format == "parquet":
        return _parquet(data, mapping)
    if format == "jsonl":
        return _json_lines(decode_text(data, encoding), mapping)
    if format in ("csv", "tsv"):
        return _csv(decode_text(data, encoding), "\t" if format == "tsv" else ",", mapping)
    raise CatalogError(f"catalogue format {format!r} is not known; allowed: {', '.join(FORMATS)}")


def read_table(data: bytes, required: Sequence[str], *, encoding: str = "auto") -> Iterator[RawRow]:
    """The rows of a CSV with columns of its own; CatalogError when one of `required` is missing."""
    return _csv(decode_text(data, encoding), ",", {}, required)


def decode_text(data: bytes, encoding: str = "auto") -> str:
    """Text of a file whose encoding nobody knows: utf-8-sig, UTF-16 with BOM, then cp932, each strictly.

    cp932 and not shift_jis, which fails on what Excel writes (①㈱髙～). No detector: they guess wrong.

    >>> decode_text("曲,髙～".encode("cp932"))
    '曲,髙～'
    """
    if encoding != "auto":
        return _decode_strictly(data, encoding)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decode_strictly(data, "utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as utf8:
        try:
            return data.decode("cp932")
        except UnicodeDecodeError as cp932:
            raise CatalogError(
                f"not UTF-8 (line {_line_of(data, utf8.start)}) and not cp932 (line {_line_of(data, cp932.start)})",
                hint="name its encoding with --encoding, e.g. --encoding euc_jp",
            ) from cp932


def _decode_strictly(data: bytes, encoding: str) -> str:
    try:
        text = data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except UnicodeDecodeError as error:
        raise CatalogError(
            f"line {_line_of(data, error.start)} is not {encoding}", hint="try --encoding auto"
        ) from error
    except LookupError as error:
        raise CatalogError(f"encoding {encoding!r} is not known", hint="e.g. auto, utf-8, utf-16, cp932") from error
    if not isinstance(text, str):
        raise CatalogError(f"{encoding!r} is no text encoding", hint="e.g. auto, utf-8, utf-16, cp932")
    return text


def _line_of(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _csv(text: str, delimiter: str, mapping: Mapping[str, str], required: Sequence[str] = REQUIRED) -> Iterator[RawRow]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = our_columns(next(reader, []), mapping, required)
        start = reader.line_num + 1
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not cells:
                continue
            too_many = f"{len(cells)} cells, the header has {len(header)}" if len(cells) > len(header) else None
            yield RawRow(line=line, values=dict(zip(header, cells, strict=False)), problem=too_many)
    except csv.Error as error:
        raise CatalogError(
            f"line {reader.line_num}: {error}", hint="is a quote not closed, or is it not a CSV?"
        ) from error


def _json_lines(text: str, mapping: Mapping[str, str]) -> Iterator[RawRow]:
    unseen = set(mapping.values())
    for line, content in enumerate(io.StringIO(text, newline="\n"), start=1):
        if not content.strip():
            continue
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            yield RawRow(line=line, values={"line": content}, problem=f"not JSON: {error}")
            continue
        if not isinstance(values, dict):
            yield RawRow(line=line, values={"line": content}, problem=f"not an object but {type(values).__name__}")
            continue
        unseen -= values.keys()
        try:
            ours = our_columns(list(values), {o: t for o, t in mapping.items() if t in values}, required=())
        except CatalogError as error:
            yield RawRow(line=line, values=values, problem=error.message)
            continue
        yield RawRow(line=line, values=dict(zip(ours, values.values(), strict=True)))
    if unseen:
        raise CatalogError(f"no line has {', '.join(map(repr, sorted(unseen)))}", hint="check --map OURS=THEIRS")


def _parquet(data: bytes, mapping: Mapping[str, str]) -> Iterator[RawRow]:
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise CatalogError(f"not a Parquet file: {error}") from error
    table = table.rename_columns(our_columns(table.column_names, mapping))
    line = 0
    for batch in table.to_batches(max_chunksize=10_000):
        for values in batch.to_pylist():
            line += 1
            yield RawRow(line=line, values=values)


def our_columns(theirs: Sequence[str], mapping: Mapping[str, str], required: Sequence[str] = REQUIRED) -> list[str]:
    """Their column names with ours in place: those that `mapping` (ours -> theirs) names, and ours in any case.

    Raises CatalogError when a mapped or required column is missing, or two columns would have one name (letter case
    apart: table formats do not tell them apart).

    >>> our_columns(["曲ID", "Title", "URI"], {"track_id": "曲ID"})
    ['track_id', 'title', 'uri']
    """
    if unknown := sorted(set(mapping) - set(TRACKS.names)):
        raise CatalogError(f"--map: no column of ours is called {', '.join(unknown)}; ours: {', '.join(TRACKS.names)}")
    to_ours = {name: name.lower() for name in theirs if name.lower() in TRACKS.names}
    to_ours = {name: ours for name, ours in to_ours.items() if ours not in mapping}
    to_ours |= {name: ours for ours, name in mapping.items()}
    columns = [to_ours.get(name, name) for name in theirs]
    wanted = [*mapping.values(), *(name for name in required if name not in mapping)]
    if missing := [name for name in wanted if name not in theirs and name not in columns]:
        raise CatalogError(
            f"there is no column {', '.join(map(repr, missing))}; there are: {', '.join(map(repr, theirs)) or 'none'}",
            hint="map yours to ours, e.g. --map track_id=曲ID --map uri=ファイル"
            if "track_id" in required and len(required) == 1
            else f"the first line names the columns: {', '.join(required)}",
        )
    lowered = [name.lower() for name in columns]
    if doubled := sorted({name for name in columns if lowered.count(name.lower()) > 1}):
        raise CatalogError(
            f"columns of one name: {', '.join(map(repr, doubled))}", hint="rename one, or choose with --map"
        )
    return columns

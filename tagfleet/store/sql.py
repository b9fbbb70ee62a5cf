"""DuckDB over Arrow data and nothing else: no file, no network, no extension; what does not fit in memory goes to disk.

`TMPDIR` says where on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

from tagfleet.errors import StorageError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY_MB = 1024


@contextmanager
def arrow_sql(uri: str, **sources: ds.Dataset | pa.Table) -> Iterator[DuckDBPyConnection]:
    """A database whose tables are `sources`; `uri` is where they come from, for errors.

    Only for statements of our own. Raises StorageError when a source cannot be read, or memory or disk does not do.
    """
    import duckdb

    with TemporaryDirectory(prefix="tagfleet-sql-") as spill:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": f"{MEMORY_MB}MB",
            "temp_directory": spill,
        }
        with duckdb.connect(":memory:", config=settings) as connection:
            connection.execute(
                "SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET lock_configuration = true"
            )
            for name, source in sources.items():
                connection.register(name, source)
            try:
                yield connection
            except duckdb.Error as error:
                raise StorageError(
                    f"{uri}: {str(error).splitlines()[0]}",
                    hint="check the disk or bucket, and the room in $TMPDIR",
                ) from error


def identifier(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


def json_value(value: str, kind: pa.DataType, depth: int = 0) -> str:
    """SQL that makes of the SQL `value`, of Arrow type `kind`, what `to_json` writes as our files have it.

    Times are ISO 8601 in UTC, floats as few digits as tell them apart, and null where they are no finite number: JSON
    has none for them.
    """
    if pa.types.is_float32(kind):  # by way of text: 0.1, not 0.10000000149011612
        return f"CASE WHEN isfinite({value}) THEN CAST(CAST({value} AS VARCHAR) AS DOUBLE) END"
    if pa.types.is_floating(kind):
        return f"CASE WHEN isfinite({value}) THEN {value} END"
    if pa.types.is_timestamp(kind):
        return f"strftime({value}, '%Y-%m-%dT%H:%M:%S.%fZ')"
    if pa.types.is_list(kind):
        item = f"item_{depth}"
        return f"list_transform({value}, lambda {item}: {json_value(item, kind.value_type, depth + 1)})"
    if pa.types.is_struct(kind):
        inner = json_fields({field.name: f"{value}.{identifier(field.name)}" for field in kind}, pa.schema(list(kind)))
        return f"CASE WHEN {value} IS NOT NULL THEN {inner} END"
    return value


def json_fields(values: Mapping[str, str], schema: pa.Schema) -> str:
    """SQL for a struct of SQL `values` by name, with the types of `schema`."""
    pairs = (f"{identifier(name)} := {json_value(value, schema.field(name).type)}" for name, value in values.items())
    return f"struct_pack({', '.join(pairs)})"


def json_object(schema: pa.Schema) -> str:
    """SQL for a row with the columns of `schema`, as JSON text."""
    return f"to_json({json_fields({name: identifier(name) for name in schema.names}, schema)})"

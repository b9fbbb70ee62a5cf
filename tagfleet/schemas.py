"""The Arrow schemas of all tables and of what travels between stages. The first row never decides a type.

`track_id` is the first column everywhere. Strings are plain (no Arrow dictionaries), times are UTC microseconds.
"""

from __future__ import annotations

import pyarrow as pa

from tagfleet.errors import CatalogError

UTC_TIME = pa.timestamp("us", tz="UTC")

TRACKS = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),  # unique, never normalised
        pa.field(
            "uri", pa.string(), nullable=False
        ),  # s3://bucket/key (key as it is, not percent-encoded) or a local path
        pa.field("title", pa.string()),
        pa.field("description", pa.string()),
        pa.field("tags", pa.list_(pa.string())),  # as typed, in the creator's order
        pa.field("creator_id", pa.string()),
        pa.field("album_id", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("etag", pa.string()),  # object ETag, or mtime-<ns> of a local file
        pa.field("size_bytes", pa.int64()),
        pa.field("updated_at", UTC_TIME),
    ]
)
"""The catalogue. Further columns are kept, as text (what is no text as JSON)."""

MATCHES = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("axis", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # null for a score
        pa.field("rule", pa.string(), nullable=False),  # name | synonym | parent | polarity
        pa.field("verdict", pa.string(), nullable=False),  # stated | denied | stopped; scored for a score
        pa.field("source", pa.string()),  # tag | description
        pa.field("evidence", pa.string(), nullable=False),  # the words, as typed
        pa.field("position", pa.int32()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("score", pa.float64()),  # in [-1, 1], of the axis' dimension
        pa.field("n_words", pa.int32()),  # that the score is made of
    ]
)
"""What the texts of each track say: from many workers, track by track, before the catalogue's labels are settled."""

LABELS = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("axis", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # `none`: a person says that no label of the axis is right
        pa.field("rule", pa.string(), nullable=False),  # name | synonym | parent | polarity | correction
        pa.field("source", pa.string(), nullable=False),  # tag | description | score | person
        pa.field("evidence", pa.string(), nullable=False),  # the words that matched, as typed; a correction's note
        pa.field("position", pa.int32(), nullable=False),  # index of the tag in the creator's order
        pa.field("start", pa.int32()),  # the characters of that tag or description; null where no words decide
        pa.field("end", pa.int32()),
        pa.field("weight", pa.float32(), nullable=False),  # 0 < weight <= 1
        pa.field("split", pa.string(), nullable=False),  # train | validation | test
        pa.field("taxonomy_version", pa.string(), nullable=False),  # `taxonomies/<version>.json` under the root
    ]
)
"""What we take as true: a track without rows on an axis is unknown there (masked), not negative."""

CORRECTIONS = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("axis", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),  # or `none`
        pa.field("note", pa.string()),
        pa.field("merged_at", UTC_TIME, nullable=False),
    ]
)
"""What persons said: all rows of a track and axis together are the whole truth about it."""

TAG = pa.struct([pa.field("axis", pa.string()), pa.field("label", pa.string()), pa.field("probability", pa.float32())])

LINEAGE = ("audio_fingerprint", "audio_digest", "model_id", "calibration_digest", "taxonomy_version", "backend")
"""What makes a re-tag necessary: a row whose lineage is unchanged is not made again."""

PREDICTIONS = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("source_name", pa.string()),  # last part of the uri, for people
        pa.field("status", pa.string(), nullable=False),  # tagged | failed
        pa.field("error_stage", pa.string()),  # fetch | decode, null when tagged
        pa.field("error_reason", pa.string()),  # a stable code
        pa.field("error_detail", pa.string()),  # a sentence for people
        pa.field("genre", pa.string()),
        pa.field("genre_probability", pa.float32()),
        pa.field("mood", pa.string()),
        pa.field("mood_probability", pa.float32()),
        pa.field("instruments", pa.list_(pa.string())),  # accepted, most probable first
        pa.field("tags", pa.list_(TAG)),  # accepted on all axes
        pa.field("probabilities", pa.list_(TAG)),  # every label
        pa.field("pooled_logits", pa.list_(pa.float32())),  # model/calibration.py `pool`: tags are re-made from them
        pa.field("n_clips", pa.int32()),
        pa.field("duration_s", pa.float64()),
        *(pa.field(name, pa.string()) for name in LINEAGE),
        pa.field("log_mels", pa.string()),  # where the log-mels of its clips are kept, under the root; null: nowhere
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("tagged_at", UTC_TIME, nullable=False),
    ]
)
"""One row per track of the catalogue; the contract with the search team (docs/consumers.md)."""

PLAN = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("etag", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("reason", pa.string(), nullable=False),  # why the row is made again, or `removed`
        pa.field("work", pa.string(), nullable=False),  # decode | network | stored | remove: the cheapest that does
        pa.field("file", pa.string()),  # data file that holds its present row; null when it has none
        pa.field("was", pa.string()),  # accepted labels of that row, "genre:rock instrument:piano"; null: not tagged
        pa.field("same_model", pa.bool_(), nullable=False),  # whether this run's model said so
        pa.field("log_mels", pa.string()),  # where its clips' log-mels are kept
    ]
)
"""What a run has to do. Stored with the run; a re-run of the same run id reads it instead of planning again."""

LOG_MELS = pa.schema(
    [
        *(PLAN.field(name) for name in ("track_id", "uri", "reason", "was", "same_model")),
        pa.field("row", pa.int64(), nullable=False),  # place in the plan
        pa.field("error_stage", pa.string()),
        pa.field("error_reason", pa.string()),
        pa.field("error_detail", pa.string()),
        pa.field("audio_fingerprint", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("n_clips", pa.int32(), nullable=False),  # 0 for a failed track
        pa.field("n_bytes", pa.int64(), nullable=False),  # that were fetched
        pa.field("n_requests", pa.int64(), nullable=False),
        pa.field("n_retries", pa.int64(), nullable=False),
        pa.field("listen_cpu_s", pa.float64(), nullable=False),  # fetch and decode
        pa.field("mel_cpu_s", pa.float64(), nullable=False),
        pa.field("log_mel", pa.large_list(pa.float16()), nullable=False),  # n_clips x n_mels x clip_frames, row-major
    ]
)
"""Between the decoding stage and the network."""

PARTS = pa.schema([pa.field("part", pa.string(), nullable=False)])
"""Data files that workers wrote and no reader sees before a commit: `store/parts.py` PartFile as JSON."""

FEATURES = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("audio_fingerprint", pa.string()),
        pa.field("error_reason", pa.string()),
        pa.field("error_detail", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("n_frames", pa.int32(), nullable=False),
        pa.field("log_mel", pa.large_binary(), nullable=False),  # float16, n_frames x n_mels, row-major
    ]
)
"""Whole-track log-mels for training, made once per audio digest."""

FEATURE_INDEX = pa.schema(
    [
        *(field for field in FEATURES if field.name not in ("error_detail", "log_mel")),
        pa.field("file", pa.string(), nullable=False),  # key of the Arrow file under the root; empty: none
        pa.field("offset", pa.int64(), nullable=False),  # of the log-mel's first byte in that file
    ]
)
"""Which features there are, and where their bytes lie: a clip is read without the rest of its track."""


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with exactly the columns, order and types of `schema`, missing nullable ones as nulls.

    Raises CatalogError when a required column is missing or holds nulls, or a value cannot be cast.
    """
    columns = []
    for field in schema:
        if field.name in table.column_names:
            try:
                column = table[field.name].cast(field.type)
            except pa.ArrowInvalid as error:
                raise CatalogError(f"column {field.name}: {error}") from error
        else:
            column = pa.nulls(table.num_rows, field.type)
        if not field.nullable and column.null_count:
            raise CatalogError(
                f"column {field.name} must not be empty: {column.null_count} of {table.num_rows} rows are"
            )
        columns.append(column)
    return pa.table(columns, schema=schema)

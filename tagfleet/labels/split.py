"""Train, validation and test by a stable hash of the creator: no sound is on two sides, nothing is re-drawn."""

from __future__ import annotations

import hashlib
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.errors import TaxonomyError
from tagfleet.labels.taxonomy import Taxonomy

Split = Literal["train", "validation", "test"]
FRACTIONS: tuple[tuple[Split, float], ...] = (("train", 0.7), ("validation", 0.15), ("test", 0.15))


def split_of(group: str) -> Split:
    """The side on which a creator (or other group) is, for ever.

    >>> split_of("creator-1") == split_of("creator-1")
    True
    """
    number = int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8, person=b"tagfleet-split").digest())
    share = number / 2**64
    for split, fraction in FRACTIONS:
        if share < fraction:
            return split
        share -= fraction
    return FRACTIONS[-1][0]


def assign_splits(tracks: pa.Table) -> pa.Table:
    """track_id and split of TRACKS rows, grouped by creator_id, else album_id, else the track itself."""
    columns = (tracks[name].to_pylist() for name in ("track_id", "creator_id", "album_id"))
    rows = zip(*columns, strict=True)
    splits = [
        split_of(f"creator {creator}" if creator else f"album {album}" if album else f"track {track}")
        for track, creator, album in rows
    ]
    return pa.table({"track_id": tracks["track_id"], "split": pa.array(splits, pa.string())})


def check_splits(splits: pa.Table, labels: pa.Table, taxonomy: Taxonomy) -> None:
    """Refuse, with TaxonomyError, when a label of the taxonomy has no training track: it could never be learnt.

    A label that only the other sides miss is no error: evaluation lists it.
    """
    train = splits.filter(pc.equal(splits["split"], "train"))["track_id"].combine_chunks()
    seen = labels.filter(pc.is_in(labels["track_id"], train))
    present = set(zip(seen["axis"].to_pylist(), seen["label"].to_pylist(), strict=True))
    missing = [f"{a.axis}:{label.id}" for a in taxonomy.axes for label in a.labels if (a.axis, label.id) not in present]
    if missing:
        raise TaxonomyError(
            f"no training track has {', '.join(missing)}",
            hint="take these labels out of the taxonomy, or add tracks of more creators that have them",
        )

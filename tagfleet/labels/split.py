"""Train, validation and test by a stable hash of the creator: no sound is on two sides, nothing is re-drawn.

Tracks that are one recording stay together too, whoever uploaded them: the same bytes (fingerprint), and edits of one
title by one creator (`Morning`, `Morning (60sec)`). A taxonomy decides nothing here.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.errors import ConfigError, TaxonomyError
from tagfleet.labels.taxonomy import NO_LABEL, Taxonomy
from tagfleet.labels.text import fold, match_key

Split = Literal["train", "validation", "test"]
FRACTIONS: tuple[tuple[Split, float], ...] = (("train", 0.7), ("validation", 0.15), ("test", 0.15))
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
GroupBy = Literal["creator", "album", "track"]
GIANT = 0.2
"""A group with more than this share of all tracks makes any split lopsided."""


def split_of(group: str) -> Split:
    """The side on which a creator (or other group) is, for ever.

    >>> split_of("creator-1") == split_of("creator-1")
    True
    """
    share = _hash(group) / 2**64
    for split, fraction in FRACTIONS:
        if share < fraction:
            return split
        share -= fraction
    return FRACTIONS[-1][0]


def _hash(group: str) -> int:
    data = group.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=b"tagfleet-split").digest())


def assign_splits(tracks: pa.Table, *, group_by: GroupBy = "creator", group_column: str | None = None) -> pa.Table:
    """track_id, split and group of TRACKS rows.

    Grouped by creator_id, else album_id, else the track itself; with group_by `album` or `track` from there on. Groups
    that share a recording, or a value of `group_column` (near-duplicates found elsewhere), become one, and go where
    the member with the smallest hash goes. Raises ConfigError when there is no such column.
    """
    if group_column is not None and group_column not in tracks.column_names:
        raise ConfigError(
            f"the catalogue has no column {group_column!r} to group by; it has {', '.join(tracks.column_names)}",
            hint="check labels.group_column",
        )
    keys = list(_groups(tracks, group_by))
    linked = _Linked(set(keys))
    first: dict[tuple[object, ...], str] = {}
    for key, links in zip(keys, _recordings(tracks, group_column), strict=True):
        for link in links:
            linked.join(first.setdefault(link, key), key)
    group = [linked.group(key) for key in keys]
    sides = {name: split_of(name) for name in set(group)}
    return pa.table(
        {
            "track_id": tracks["track_id"],
            "split": pa.array([sides[name] for name in group], pa.string()),
            "group": pa.array(group, pa.string()),
        }
    )


def _groups(tracks: pa.Table, group_by: GroupBy) -> Iterator[str]:
    columns = (tracks[name].to_pylist() for name in ("track_id", "creator_id", "album_id"))
    for track, creator, album in zip(*columns, strict=True):
        if creator and group_by == "creator":
            yield f"creator {creator}"
        elif album and group_by != "track":
            yield f"album {album}"
        else:
            yield f"track {track}"


def _recordings(tracks: pa.Table, group_column: str | None) -> Iterator[list[tuple[object, ...]]]:
    names = ["etag", "size_bytes", "creator_id", "title", *([group_column] if group_column else [])]
    for etag, size, creator, title, *near in zip(*(tracks[name].to_pylist() for name in names), strict=True):
        links: list[tuple[object, ...]] = []
        if etag and size and _tells_content(etag):
            links.append(("bytes", etag, size))
        if creator and title and (core := core_title(title)):
            links.append(("title", creator, core))
        if near and near[0]:
            links.append(("near", near[0]))
        yield links


def _tells_content(etag: str) -> bool:
    """A local file is known by its time of change: only where that has a fraction is it the same by copying."""
    return not etag.startswith("mtime-") or not etag.endswith("0" * 9)


MAX_TITLE = 200
"""Characters of a title that are looked at."""
_BRACKETS = re.compile(r"[(\[【〔<~《「『][^()\[\]【】〔〕<>~《》「」『』]*[)\]】〕>~》」』]")
_BETWEEN = " _・:/|.-~"
_EDIT = re.compile(
    r"(?<![a-z])(?:short|long|full|loop|edit|mix|remix|extended|radio|inst|instrumental|karaoke|alt|demo|master|"
    r"remaster(?:ed)?|ver(?:sion)?|take|no (?:drums|vocals?)|\d+(?:\.\d+)?\s*(?:s|sec|secs|min|秒|分)|"
    r"ショート|ロング|フル|ループ|リミックス|リマスター|カラオケ|インスト|アレンジ|バージョン|ヴァージョン|版)\.?\d*$"
)


def core_title(title: str) -> str:
    """A title without what says which edit of a work it is; the title itself when nothing else would remain.

    >>> core_title("朝の散歩（60sec ver.）") == core_title("朝の散歩") == core_title("朝の散歩 ループ版")
    True
    >>> core_title("Piano 1") == core_title("Piano 2")
    False
    """
    folded = fold(title)[:MAX_TITLE]
    bare = _BRACKETS.sub(" ", folded).strip(_BETWEEN) or folded
    while shorter := _EDIT.sub("", bare).rstrip(_BETWEEN):
        if shorter == bare:
            break
        bare = shorter
    return match_key(bare)


class _Linked:
    """Disjoint sets of group keys (union by smallest hash, so that the outcome does not depend on the order)."""

    def __init__(self, keys: set[str]) -> None:
        self._up = {key: key for key in keys}

    def group(self, key: str) -> str:
        while self._up[key] != key:
            self._up[key] = self._up[self._up[key]]
            key = self._up[key]
        return key

    def join(self, one: str, other: str) -> None:
        one, other = self.group(one), self.group(other)
        if one != other:
            small, large = sorted((one, other), key=lambda key: (_hash(key), key))
            self._up[large] = small


@dataclass(frozen=True, kw_only=True)
class Balance:
    """How a split came out."""

    n_tracks: dict[str, int]
    """Tracks per side."""
    n_groups: dict[str, int]
    """Creators (or other groups) per side."""
    largest: str
    """The group with the most tracks."""
    largest_share: float

    @property
    def lopsided(self) -> bool:
        """Whether one group is so large that the sides cannot have the sizes that were asked for."""
        return self.largest_share > GIANT


def balance_of(splits: pa.Table) -> Balance:
    """Of what `assign_splits` gave."""
    sizes = Counter(splits["group"].to_pylist())
    side = dict(zip(splits["group"].to_pylist(), splits["split"].to_pylist(), strict=True))
    n_tracks = Counter(splits["split"].to_pylist())
    n_groups = Counter(side.values())
    largest, n = max(sizes.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    return Balance(
        n_tracks={split: n_tracks[split] for split in SPLITS},
        n_groups={split: n_groups[split] for split in SPLITS},
        largest=largest,
        largest_share=n / max(1, splits.num_rows),
    )


def counts_by_side(labels: pa.Table) -> dict[tuple[str, str], dict[str, int]]:
    """Tracks per (axis, label) and side, of LABELS rows."""
    grouped = labels.group_by(["axis", "label", "split"]).aggregate([([], "count_all")])
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for row in grouped.to_pylist():
        sides = counts.setdefault((row["axis"], row["label"]), dict.fromkeys(SPLITS, 0))
        sides[row["split"]] += row["count_all"]
    return counts


def missing_sides(labels: pa.Table, taxonomy: Taxonomy) -> dict[str, Sequence[str]]:
    """`axis:label` of the taxonomy -> the sides on which no track has it; labels on every side are left out."""
    counts = counts_by_side(labels)
    nowhere = dict.fromkeys(SPLITS, 0)
    missing = {
        f"{axis.axis}:{label.id}": [split for split, n in counts.get((axis.axis, label.id), nowhere).items() if not n]
        for axis in taxonomy.axes
        for label in axis.labels
    }
    return {name: sides for name, sides in missing.items() if sides}


def check_splits(labels: pa.Table, taxonomy: Taxonomy) -> None:
    """Refuse, with TaxonomyError, labels that a side misses: not learnt, not tuned or not measured.

    labels: LABELS rows of the tracks that take part.
    """
    if missing := missing_sides(labels, taxonomy):
        told = "; ".join(f"{name} (no {', '.join(sides)} track)" for name, sides in list(missing.items())[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise TaxonomyError(
            f"labels that are not on every side of the split: {told}{more}",
            hint="tagfleet labels build all --min-per-side 1 leaves them out; or label tracks of more creators",
        )


def without_rare(labels: pa.Table, taxonomy: Taxonomy, min_per_side: int) -> tuple[pa.Table, dict[str, int]]:
    """LABELS rows without labels that a side has fewer than `min_per_side` tracks of; and how many tracks each had.

    An axis that comes from a score loses both ends together. A person's corrections to such a label are left out too;
    they stay in the corrections table.
    """
    counts = counts_by_side(labels)
    rare = {name for name, sides in counts.items() if name[1] != NO_LABEL and min(sides.values()) < min_per_side}
    for axis in taxonomy.axes:
        ends = {(axis.axis, label.id) for label in axis.labels}
        if axis.polarity and (rare & ends or not ends <= counts.keys()):
            rare |= ends & counts.keys()
    names = pa.array([f"{axis}:{label}" for axis, label in sorted(rare)], pa.string())
    here = pc.binary_join_element_wise(labels["axis"], labels["label"], ":")
    kept = labels.filter(pc.invert(pc.is_in(here, names)))
    return kept, {f"{axis}:{label}": sum(counts[axis, label].values()) for axis, label in sorted(rare)}

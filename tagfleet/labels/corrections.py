"""What persons say of single tracks: wins over every rule, survives rebuilds, and is named by `labels explain`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.catalog.rows import RawRow
from tagfleet.errors import CatalogError
from tagfleet.labels.taxonomy import NO_LABEL, LabelSet, Taxonomy, spelling_key
from tagfleet.schemas import CORRECTIONS, MATCHES, conform

COLUMNS = ("track_id", "axis", "label", "note")


def read_corrections(rows: Iterable[RawRow], taxonomy: Taxonomy, track_ids: set[str], merged_at: datetime) -> pa.Table:
    """CORRECTIONS rows of a person's file; labels by id, display name or synonym, or `none`.

    Raises CatalogError with the line of every row that names no track, axis or label of ours, says `none` beside a
    label, or gives an exclusive axis two labels.
    """
    problems: list[str] = []
    said: dict[tuple[str, str], dict[str, tuple[int, str | None]]] = {}
    for row in rows:
        values = {name: str(row.values.get(name) or "").strip() for name in COLUMNS}
        try:
            if row.problem:
                raise ValueError(row.problem)
            axis, label = _checked(values, taxonomy, track_ids)
        except ValueError as error:
            problems.append(f"line {row.line}: {error}")
            continue
        labels = said.setdefault((values["track_id"], axis.axis), {})
        labels.setdefault(label, (row.line, values["note"] or None))
        if len(labels) > 1 and (axis.exclusive or NO_LABEL in labels):
            first = next(iter(labels))
            problems.append(f"line {row.line}: {axis.axis} of track {values['track_id']!r} is {first} and {label}")
    if problems:
        raise CatalogError(
            f"{len(problems)} corrections cannot be taken; nothing was merged",
            problems=tuple(problems),
            hint="columns track_id, axis, label (or none), note; tagfleet labels taxonomy lists axes and labels",
        )
    rows_out = [
        {"track_id": track, "axis": axis, "label": label, "note": note, "merged_at": merged_at}
        for (track, axis), labels in sorted(said.items())
        for label, (_, note) in sorted(labels.items())
    ]
    return pa.Table.from_pylist(rows_out, schema=CORRECTIONS)


def _checked(values: Mapping[str, str], taxonomy: Taxonomy, track_ids: set[str]) -> tuple[LabelSet, str]:
    if values["track_id"] not in track_ids:
        raise ValueError(f"the catalogue has no track {values['track_id']!r}")
    axis = next((axis for axis in taxonomy.axes if axis.axis == values["axis"]), None)
    if axis is None:
        names = ", ".join(axis.axis for axis in taxonomy.axes)
        raise ValueError(f"no axis {values['axis']!r}; there are {names}")
    if values["label"].casefold() == NO_LABEL:
        return axis, NO_LABEL
    key = spelling_key(values["label"])
    for label in axis.labels:
        if any(spelling_key(spelling) == key for spelling, _ in label.spellings):
            return axis, label.id
    raise ValueError(f"no label of axis {axis.axis} is called {values['label']!r}")


def merge_corrections(known: pa.Table | None, new: pa.Table) -> pa.Table:
    """`known` with `new` on top: what is said anew of a track and axis replaces all that was said before."""
    if known is None:
        return new
    pairs = {*zip(new["track_id"].to_pylist(), new["axis"].to_pylist(), strict=True)}
    keep = [pair not in pairs for pair in zip(known["track_id"].to_pylist(), known["axis"].to_pylist(), strict=True)]
    merged = pa.concat_tables([conform(known.filter(pa.array(keep, pa.bool_())), CORRECTIONS), new])
    return merged.sort_by([("track_id", "ascending"), ("axis", "ascending"), ("label", "ascending")])


@dataclass(frozen=True, kw_only=True)
class Applied:
    """Corrections in the words of a taxonomy."""

    rows: pa.Table
    """MATCHES rows, rule `correction`."""
    pairs: set[tuple[str, str]]
    """(track_id, axis) on which no rule has a say."""
    void: Sequence[str]

    @property
    def n_applied(self) -> int:
        """Tracks and axes that a person decided."""
        return len(self.pairs)

    def without_corrected(self, matches: pa.Table) -> pa.Table:
        """MATCHES rows of the pairs on which the rules decide."""
        if not self.pairs:
            return matches
        names = pa.array(["\0".join(pair) for pair in sorted(self.pairs)], pa.string())
        here = pc.binary_join_element_wise(matches["track_id"], matches["axis"], "\0")
        return matches.filter(pc.invert(pc.is_in(here, names)))


def apply_corrections(corrections: pa.Table | None, taxonomy: Taxonomy, track_ids: set[str]) -> Applied:
    """Corrections of tracks that the catalogue still has, with labels as later taxonomies call them, and parents."""
    axes = {axis.axis: axis for axis in taxonomy.axes}
    said: dict[tuple[str, str], dict[str, str]] = {}
    void = []
    for row in corrections.to_pylist() if corrections is not None else []:
        track, name, note = row["track_id"], row["axis"], row["note"] or ""
        label = now_called(taxonomy, name, row["label"])
        if track not in track_ids:
            void.append(f"{track} {name} {row['label']}: the catalogue has no such track")
        elif name not in axes:
            void.append(f"{track} {name} {row['label']}: the taxonomy has no such axis")
        elif label is None:
            void.append(f"{track} {name} {row['label']}: the taxonomy has no such label")
        else:
            labels = said.setdefault((track, name), {})
            labels.setdefault(label, note)
            if label != NO_LABEL:
                for parent in axes[name].ancestors(label):
                    labels.setdefault(parent, note)
    rows = [
        {"track_id": track, "axis": axis, "label": label, "rule": "correction", "verdict": "stated"}
        | {"source": "person", "evidence": note, "position": 0}
        for (track, axis), labels in said.items()
        for label, note in labels.items()
    ]
    return Applied(rows=pa.Table.from_pylist(rows, schema=MATCHES), pairs=set(said), void=void)


def now_called(taxonomy: Taxonomy, axis: str, label: str) -> str | None:
    """What a label of this or an earlier version is called now; None when it is gone or was split."""
    ids = {found.id for set_ in taxonomy.axes if set_.axis == axis for found in set_.labels} | {NO_LABEL}
    seen: set[str] = set()
    while label not in ids and label not in seen:
        seen.add(label)
        label = taxonomy.became.get(f"{axis}:{label}", label)
        if label == NO_LABEL:
            return None
    return label if label in ids else None

"""What changed from one version of the labels to another: gained, lost, moved, and by which rules."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

N_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class LabelChange:
    """Tracks to which the same happened on one axis."""

    axis: str
    kind: Literal["gained", "lost", "moved"]
    """`moved`: one label in the place of another, on an exclusive axis."""
    old: str | None
    new: str | None
    rule: str
    """The rule of the label that the track has now, or had."""
    n_tracks: int
    examples: tuple[str, ...]
    """The first track ids."""


def diff_labels(old: pa.Table, new: pa.Table, exclusive: set[str]) -> list[LabelChange]:
    """Changes between LABELS tables, by axis and then the most tracks first. Evidence and weights are not compared.

    exclusive: axes on which a label in the place of another is one move, and not one lost and one gained.
    """
    before, after = _by_track(old), _by_track(new)
    changes: dict[tuple[str, str, str | None, str | None, str], list[str]] = defaultdict(list)
    for track, axis in sorted(before.keys() | after.keys()):
        had, has = before.get((track, axis), {}), after.get((track, axis), {})
        lost, gained = sorted(had.keys() - has.keys()), sorted(has.keys() - had.keys())
        if axis in exclusive and len(lost) == len(gained) == 1:
            changes[axis, "moved", lost[0], gained[0], has[gained[0]]].append(track)
            continue
        for label in gained:
            changes[axis, "gained", None, label, has[label]].append(track)
        for label in lost:
            changes[axis, "lost", label, None, had[label]].append(track)
    found = [
        LabelChange(
            axis=axis,
            kind=kind,  # type: ignore[arg-type]  # one of the three words above
            old=old_label,
            new=new_label,
            rule=rule,
            n_tracks=len(tracks),
            examples=tuple(tracks[:N_EXAMPLES]),
        )
        for (axis, kind, old_label, new_label, rule), tracks in changes.items()
    ]
    return sorted(found, key=lambda c: (c.axis, -c.n_tracks, c.kind, c.old or "", c.new or "", c.rule))


def n_changed_tracks(old: pa.Table, new: pa.Table) -> int:
    """Tracks with another label on any axis."""
    before, after = _by_track(old), _by_track(new)
    return len(
        {key[0] for key in before.keys() | after.keys() if before.get(key, {}).keys() != after.get(key, {}).keys()}
    )


def _by_track(labels: pa.Table) -> dict[tuple[str, str], dict[str, str]]:
    names = ("track_id", "axis", "label", "rule")
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for track, axis, label, rule in zip(*(labels[name].to_pylist() for name in names), strict=True):
        found[track, axis][label] = rule
    return dict(found)

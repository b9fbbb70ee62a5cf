"""Tags to labels: a tag that is one of a label's spellings, after folding, is that label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.labels.text import fold


@dataclass(frozen=True, kw_only=True)
class Match:
    """One label that one tag stands for."""

    axis: str
    label: str
    rule: str
    """`name`: id or display name; `synonym`: another spelling."""
    evidence: str
    """The tag, as typed."""
    position: int
    """Index of the tag in the creator's order."""
    weight: float
    """1 for the first tag, then 1/2, 1/3, …: creators list tags in order of importance."""


class Matcher:
    """Holds every spelling of a taxonomy, folded once."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._labels: dict[str, list[tuple[str, str, str]]] = {}
        for axis in taxonomy.axes:
            for label in axis.labels:
                own = {fold(name) for name in (label.id, label.ja, label.en)}
                for name in label.names:
                    rule = "name" if name in own else "synonym"
                    self._labels.setdefault(name, []).append((axis.axis, label.id, rule))

    def match(self, tags: Sequence[str]) -> list[Match]:
        """Matches in the order of the tags; a label that several tags name is matched once, by the first."""
        found: dict[tuple[str, str], Match] = {}
        for position, tag in enumerate(tags):
            for axis, label, rule in self._labels.get(fold(tag), ()):
                found.setdefault(
                    (axis, label),
                    Match(
                        axis=axis,
                        label=label,
                        rule=rule,
                        evidence=tag,
                        position=position,
                        weight=1 / (1 + position),
                    ),
                )
        return list(found.values())

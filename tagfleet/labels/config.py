"""How labels are made from a catalogue."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tagfleet.config import Section

ConflictPolicy = Literal["first", "skip", "multi"]


class LabelsConfig(Section):
    """What `tagfleet labels build` does where a taxonomy leaves it open."""

    taxonomy: str = ""
    """Taxonomy TOML to start from; empty: the packaged one. Once it was revised, the revised one is used."""
    lexicons: tuple[str, ...] = ()
    """Further polarity dictionaries (PN Table, Tohoku), or a mood lexicon TOML in the place of the packaged one."""
    conflicts: ConflictPolicy = "first"
    """A track with several labels of an exclusive axis: its first tag wins, it is left out, or it has all of them."""
    group_by: Literal["creator", "album", "track"] = "creator"
    """What stays on one side of the split. A creator's tracks sound alike: anything finer measures too well."""
    group_column: str | None = None
    """A catalogue column whose equal values stay on one side too (near-duplicates found elsewhere)."""
    min_per_side: int = Field(default=0, ge=0)
    """Labels with fewer tracks on any side of the split are left out of the labels; 0 keeps all."""
    per_class: int = Field(default=1500, ge=1)
    """Tracks at each end of a score; of an ordinary label of an exclusive axis only with `--per-class`."""
    max_creator_share: float = Field(default=0.1, gt=0, le=1)
    """Most of one end of a score that one creator's tracks may be."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Take the tracks that score at or beyond ± this as the ends, instead of by rank."""

"""A reviewed change to a taxonomy: drop, merge, rename, split, make multi. Gives the next version, with its parents.

Steps are taken in this order: splits, merges, renames, drops, make_multi; each names labels as the steps before left
them. What earlier labels became is kept in the taxonomy, so that corrections and weights can follow.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from tagfleet.config import Section
from tagfleet.errors import TaxonomyError
from tagfleet.labels.taxonomy import NO_LABEL, Label, LabelSet, Taxonomy, parse_taxonomy, spelling_key


class Drop(Section):
    """Take a label out; its spellings mean nothing any more."""

    axis: str
    label: str


class Merge(Section):
    """Make several labels one."""

    axis: str
    labels: tuple[str, ...] = Field(min_length=1)
    """Ids of what is merged; may hold `into`."""
    into: str
    """Id of the outcome: one of the axis' labels, or a new one, which needs `ja` and `en`."""
    ja: str | None = None
    en: str | None = None


class Rename(Section):
    """Give a label another id or other display names; the old ones stay as synonyms."""

    axis: str
    label: str
    id: str | None = None
    ja: str | None = None
    en: str | None = None


class Part(Section):
    """One of the labels that a label is split into."""

    id: str
    ja: str
    en: str
    phrases: tuple[str, ...] = Field(min_length=1)
    """Its spellings; those of the old label must all be in one part, or in `leave_out`."""


class Split(Section):
    """Make several labels of one, by phrases."""

    axis: str
    label: str
    into: tuple[Part, ...] = Field(min_length=2)
    leave_out: tuple[str, ...] = ()
    """Spellings of the old label that shall mean nothing."""


class MakeMulti(Section):
    """Let a track have several labels of an axis."""

    axis: str


class TaxonomyChange(Section):
    """What a person decided about a taxonomy."""

    parent: str | None = None
    """Version that was reviewed: the change is refused for any other."""
    note: str = ""
    """Why."""
    split: tuple[Split, ...] = ()
    merge: tuple[Merge, ...] = ()
    rename: tuple[Rename, ...] = ()
    drop: tuple[Drop, ...] = ()
    make_multi: tuple[MakeMulti, ...] = ()


def load_change(path: Path) -> TaxonomyChange:
    """The change in a TOML file; TaxonomyError says what is wrong with it."""
    try:
        return TaxonomyChange.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TaxonomyError(f"cannot read {path}: {error.strerror}", hint="check --change") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaxonomyError(f"{path} is not valid TOML: {error}", hint=f"edit {path}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise TaxonomyError(f"{path} is no taxonomy change: {problems}", hint="docs/labels.md shows one") from error


def revise(taxonomy: Taxonomy, change: TaxonomyChange) -> Taxonomy:
    """The next version of `taxonomy`. Raises TaxonomyError when a step names what is not there, or contradicts."""
    if change.parent is not None and change.parent != taxonomy.version:
        raise TaxonomyError(
            f"the change was made for taxonomy {change.parent}, the current one is {taxonomy.version}",
            hint="review it against `tagfleet labels taxonomy` and set its `parent`",
        )
    try:
        return _revised(taxonomy, change)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise TaxonomyError(f"the change makes no valid label: {problems}", hint="ids are a-z, 0-9, _ and -") from error


def _revised(taxonomy: Taxonomy, change: TaxonomyChange) -> Taxonomy:
    axes = {axis.axis: axis for axis in taxonomy.axes}
    became = dict(taxonomy.became)
    for split in change.split:
        axes[split.axis] = _split(_axis(axes, split.axis), split, became)
    for merge in change.merge:
        axes[merge.axis] = _merge(_axis(axes, merge.axis), merge, became)
    for rename in change.rename:
        axes[rename.axis] = _rename(_axis(axes, rename.axis), rename, became)
    for drop in change.drop:
        axes[drop.axis] = _drop(_axis(axes, drop.axis), drop, became)
    for multi in change.make_multi:
        axes[multi.axis] = _make_multi(_axis(axes, multi.axis))
    revised = taxonomy.model_copy(update={"axes": tuple(axes.values())})
    if revised == taxonomy:
        raise TaxonomyError("the change changes nothing", hint="it needs a drop, merge, rename, split or make_multi")
    ids = {f"{axis.axis}:{label.id}" for axis in axes.values() for label in axis.labels}
    became = {old: new for old, new in became.items() if old not in ids}
    updates: dict[str, Any] = {"became": became, "parents": (*taxonomy.parents, taxonomy.version)}
    return parse_taxonomy(revised.model_copy(update=updates).model_dump(mode="json"))


def _axis(axes: Mapping[str, LabelSet], name: str) -> LabelSet:
    if name not in axes:
        raise TaxonomyError(f"the change names axis {name!r}; there are {', '.join(axes)}")
    if axes[name].polarity:
        raise TaxonomyError(f"axis {name} is made of a score: it has no labels to revise")
    return axes[name]


def _split(axis: LabelSet, split: Split, became: dict[str, str]) -> LabelSet:
    old = axis.label(split.label)
    assigned = {spelling_key(text) for part in split.into for text in (part.id, part.ja, part.en, *part.phrases)}
    assigned |= {spelling_key(text) for text in split.leave_out}
    # The id is not asked for: it need not be a word that people type.
    lost = [text for text in (old.ja, old.en, *old.synonyms) if spelling_key(text) not in assigned]
    if lost:
        raise TaxonomyError(
            f"split of {axis.axis}:{old.id}: {', '.join(map(repr, dict.fromkeys(lost)))} are in no part",
            hint="give each to a part's phrases, or to leave_out",
        )
    inherited = old.model_dump(include={"stop", "parent", "valence", "arousal"})
    parts = []
    for part in split.into:
        own = {spelling_key(text) for text in (part.id, part.ja, part.en, *part.phrases)}
        stop = tuple(text for text in inherited["stop"] if spelling_key(text) not in own)
        parts.append(Label(id=part.id, ja=part.ja, en=part.en, synonyms=part.phrases, **{**inherited, "stop": stop}))
    became[f"{axis.axis}:{old.id}"] = NO_LABEL
    return _with(
        axis, [part for label in axis.labels for part in (parts if label is old else [label])], {old.id: old.parent}
    )


def _merge(axis: LabelSet, merge: Merge, became: dict[str, str]) -> LabelSet:
    ids = tuple(dict.fromkeys(merge.labels))
    merged = [axis.label(name) for name in ids]
    existing = {label.id for label in axis.labels}
    if merge.into in existing:
        first = axis.label(merge.into)
        merged = [first, *(label for label in merged if label is not first)]
        named = {"id": first.id, "ja": merge.ja or first.ja, "en": merge.en or first.en}
    elif merge.ja is None or merge.en is None:
        raise TaxonomyError(f"merge into the new label {axis.axis}:{merge.into} needs `ja` and `en`")
    else:
        named = {"id": merge.into, "ja": merge.ja, "en": merge.en}
    if len(merged) < 2:
        raise TaxonomyError(f"merge into {axis.axis}:{merge.into} names one label", hint="use rename for a new name")
    gone = {label.id for label in merged}
    spellings = [text for label in merged for text, _ in label.spellings]
    own = {spelling_key(text) for text in (*named.values(), *spellings)}
    outcome = Label(
        **named,
        synonyms=_others(spellings, list(named.values())),
        stop=tuple(text for label in merged for text in label.stop if spelling_key(text) not in own),
        parent=next((label.parent for label in merged if label.parent not in gone), None),
        valence=_mean([label.valence for label in merged]),
        arousal=_mean([label.arousal for label in merged]),
    )
    became.update({f"{axis.axis}:{name}": outcome.id for name in gone if name != outcome.id})
    place = min(axis.labels.index(label) for label in merged)
    labels = [label for label in axis.labels if label.id not in gone]
    labels.insert(sum(label.id not in gone for label in axis.labels[:place]), outcome)
    return _with(axis, labels, dict.fromkeys(gone, outcome.id))


def _rename(axis: LabelSet, rename: Rename, became: dict[str, str]) -> LabelSet:
    old = axis.label(rename.label)
    named = {"id": rename.id or old.id, "ja": rename.ja or old.ja, "en": rename.en or old.en}
    if named["id"] != old.id and any(label.id == named["id"] for label in axis.labels):
        raise TaxonomyError(f"rename to {axis.axis}:{named['id']}: there is such a label", hint="merge the two instead")
    synonyms = _others([text for text, _ in old.spellings], list(named.values()))
    new = old.model_copy(update={**named, "synonyms": synonyms})
    if new.id != old.id:
        became[f"{axis.axis}:{old.id}"] = new.id
    return _with(axis, [new if label is old else label for label in axis.labels], {old.id: new.id})


def _drop(axis: LabelSet, drop: Drop, became: dict[str, str]) -> LabelSet:
    old = axis.label(drop.label)
    if len(axis.labels) == 1:
        raise TaxonomyError(f"{axis.axis}:{old.id} is the last label of its axis; delete the axis in the taxonomy")
    became[f"{axis.axis}:{old.id}"] = NO_LABEL
    return _with(axis, [label for label in axis.labels if label is not old], {old.id: old.parent})


def _make_multi(axis: LabelSet) -> LabelSet:
    return axis.model_copy(update={"exclusive": False})


def _with(axis: LabelSet, labels: Sequence[Label], moved: Mapping[str, str | None]) -> LabelSet:
    """The axis with these labels; parents in `moved` are replaced."""
    new = []
    for label in labels:
        parent = moved.get(label.parent, label.parent) if label.parent else None
        new.append(label.model_copy(update={"parent": None if parent == label.id else parent}))
    return axis.model_copy(update={"labels": tuple(new)})


def _others(spellings: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Spellings that `names` do not stand for already, each key once."""
    seen = {spelling_key(name) for name in names}
    kept = []
    for text in spellings:
        if (key := spelling_key(text)) not in seen:
            seen.add(key)
            kept.append(text)
    return tuple(kept)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None

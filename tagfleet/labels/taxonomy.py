"""The taxonomy: which labels there are, on which axes, and the words that people use for them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from tagfleet.config import Section, digest_of
from tagfleet.errors import TaxonomyError
from tagfleet.labels.text import fold, match_key

NO_LABEL = "none"
"""What a person writes where a track has no label of an axis; so no label may have this id."""


def spelling_key(spelling: str) -> str:
    """What spellings are compared by: one key, one meaning on an axis."""
    return match_key(fold(spelling))


class Label(Section):
    """One member of an axis."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """ASCII name, as it stands in the predictions."""
    ja: str = Field(min_length=1)
    """Japanese display name."""
    en: str = Field(min_length=1)
    """English display name."""
    synonyms: tuple[str, ...] = ()
    """Further spellings that mean this label; id and display names always do."""
    stop: tuple[str, ...] = ()
    """Longer phrases that contain one of the spellings and mean something else: クラシックギター is no classical."""
    parent: str | None = None
    """A broader label of the same axis that a track with this label has too; only where labels exclude nothing."""
    valence: float | None = Field(default=None, ge=-1, le=1)
    """Of a mood: how pleasant, -1 to 1 (Russell's circumplex)."""
    arousal: float | None = Field(default=None, ge=-1, le=1)
    """Of a mood: how energetic, -1 to 1."""

    @property
    def spellings(self) -> Iterator[tuple[str, str]]:
        """Every spelling as written, with its rule: `name` (id and display names) or `synonym`."""
        for name in (self.id, self.ja, self.en):
            yield name, "name"
        for synonym in self.synonyms:
            yield synonym, "synonym"


class LabelSet(Section):
    """One axis of the taxonomy."""

    axis: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """genre, instrument, mood, …"""
    exclusive: bool
    """True: a track has exactly one of the labels. False: any number of them."""
    polarity: Literal["valence", "arousal"] | None = None
    """Set: the labels are the two ends of a score over mood words, the high end first, not words of their own."""
    labels: tuple[Label, ...] = Field(min_length=1)
    """In the order in which the network's head has them."""

    @model_validator(mode="after")
    def _no_contradiction(self) -> LabelSet:
        if problems := [*self._spelling_problems(), *self._parent_problems(), *self._polarity_problems()]:
            raise ValueError(f"axis {self.axis}: " + "; ".join(problems))
        return self

    def label(self, label_id: str) -> Label:
        """The label of that id; TaxonomyError names those that exist."""
        for label in self.labels:
            if label.id == label_id:
                return label
        ids = ", ".join(label.id for label in self.labels)
        raise TaxonomyError(f"no label {label_id!r} on axis {self.axis}; there are {ids}")

    def _spelling_problems(self) -> Iterator[str]:
        owner: dict[str, str] = {}
        for label in self.labels:
            if label.id in owner.values():
                yield f"label {label.id} stands twice; delete one"
                continue
            if label.id == NO_LABEL:
                yield f"{NO_LABEL!r} is what corrections call no label; choose another id"
            for spelling, _ in label.spellings:
                key = spelling_key(spelling)
                if not key:
                    yield f"label {label.id} has the empty spelling {spelling!r}; delete it"
                elif owner.setdefault(key, label.id) != label.id:
                    yield f"{spelling!r} means {owner[key]} and {label.id}; decide for one"
            for phrase in label.stop:
                key = spelling_key(phrase)
                if not key:
                    yield f"label {label.id} has the empty stop phrase {phrase!r}; delete it"
                elif owner.get(key) == label.id:
                    yield f"stop phrase {phrase!r} kills its own label {label.id}, which is spelled so; delete one"

    def _parent_problems(self) -> Iterator[str]:
        parents = {label.id: label.parent for label in self.labels}
        for label in self.labels:
            if label.parent is None:
                continue
            if self.exclusive:
                yield f"label {label.id} has a parent, but a track has one label of an exclusive axis; delete `parent`"
            elif label.parent not in parents:
                yield f"label {label.id}: there is no parent {label.parent!r}"
            elif label.id in _upwards(label.parent, parents):
                yield f"label {label.id} is its own ancestor"

    def _polarity_problems(self) -> Iterator[str]:
        if self.polarity is None:
            return
        if not self.exclusive or len(self.labels) != 2:
            yield f"the ends of {self.polarity} are two labels that exclude each other: exclusive = true, two labels"
        if any(label.synonyms or label.stop for label in self.labels):
            yield f"the ends of {self.polarity} come from a score, not from words: delete synonyms and stop"

    def ancestors(self, label_id: str) -> tuple[str, ...]:
        """Parent, its parent and so on, the nearest first."""
        parents = {label.id: label.parent for label in self.labels}
        return tuple(_upwards(parents[label_id], parents))


def _upwards(start: str | None, parents: Mapping[str, str | None]) -> list[str]:
    chain: list[str] = []
    while start is not None and start not in chain:
        chain.append(start)
        start = parents.get(start)
    return chain


class Taxonomy(Section):
    """All axes, under a name. Frozen: another word is another version."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """What people call it."""
    axes: tuple[LabelSet, ...] = Field(min_length=1)
    """In the order of the network's heads."""
    parents: tuple[str, ...] = ()
    """Versions that this one was revised from, the oldest first."""
    became: dict[str, str] = Field(default_factory=dict)
    """What labels of earlier versions are now: `axis:label` -> label id, or `none` for one that is gone."""

    @field_validator("axes")
    @classmethod
    def _axes_differ(cls, axes: tuple[LabelSet, ...]) -> tuple[LabelSet, ...]:
        names = [axis.axis for axis in axes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"axis {twice[0]} stands twice; merge the two")
        return axes

    @property
    def digest(self) -> str:
        """Of everything in it, synonyms and display names too."""
        return digest_of(self)

    @property
    def version(self) -> str:
        """Name and digest: what labels and predictions record."""
        return f"{self.name}-{self.digest[:8]}"

    def axis(self, name: str) -> LabelSet:
        """The axis called `name`; TaxonomyError names those that exist."""
        for axis in self.axes:
            if axis.axis == name:
                return axis
        raise TaxonomyError(f"no axis {name!r}; there are {', '.join(axis.axis for axis in self.axes)}")

    def only(self, present: set[tuple[str, str]]) -> Taxonomy:
        """Revised to the (axis, label) in `present`, in the same order; an axis without any, or with one end only,
        is left out.
        """
        axes = []
        for axis in self.axes:
            labels = [label for label in axis.labels if (axis.axis, label.id) in present]
            if axis.polarity and len(labels) < len(axis.labels):
                continue
            ids = {label.id for label in labels}
            kept = tuple(
                label if label.parent in ids else label.model_copy(update={"parent": None}) for label in labels
            )
            if kept:
                axes.append(axis.model_copy(update={"labels": kept}))
        if tuple(axes) == self.axes:
            return self
        return self.model_copy(update={"axes": tuple(axes), "parents": (*self.parents, self.version)})


def load_taxonomy(path: Path | None = None) -> Taxonomy:
    """The taxonomy in a TOML file, or the packaged one; TaxonomyError says what contradicts itself and where."""
    try:
        if path is None:
            text = (resources.files("tagfleet.labels") / "default_taxonomy.toml").read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        return parse_taxonomy(tomllib.loads(text))
    except OSError as error:
        raise TaxonomyError(f"cannot read {path}: {error.strerror}", hint="check --taxonomy") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaxonomyError(f"{path} is not valid TOML: {error}", hint=f"edit {path}") from error


def parse_taxonomy(values: Mapping[str, Any]) -> Taxonomy:
    """A taxonomy from nested plain values; TaxonomyError lists every contradiction."""
    try:
        return Taxonomy.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise TaxonomyError(f"the taxonomy contradicts itself: {problems}", hint="edit the taxonomy file") from error

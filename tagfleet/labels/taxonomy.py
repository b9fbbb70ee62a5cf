"""The taxonomy: which labels there are, on which axes, and the words that people use for them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from tagfleet.config import Section, digest_of
from tagfleet.errors import TaxonomyError
from tagfleet.labels.text import fold


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

    @property
    def names(self) -> tuple[str, ...]:
        """Every folded spelling of this label."""
        return tuple(dict.fromkeys(fold(name) for name in (self.id, self.ja, self.en, *self.synonyms)))


class LabelSet(Section):
    """One axis of the taxonomy."""

    axis: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """genre, instrument, mood, …"""
    exclusive: bool
    """True: a track has exactly one of the labels. False: any number of them."""
    labels: tuple[Label, ...] = Field(min_length=1)
    """In the order in which the network's head has them."""

    @model_validator(mode="after")
    def _no_two_alike(self) -> LabelSet:
        owner: dict[str, str] = {}
        for label in self.labels:
            if label.id in owner.values():
                raise ValueError(f"axis {self.axis}: label {label.id} stands twice; delete one")
            for name in label.names:
                if not name:
                    raise ValueError(f"axis {self.axis}: label {label.id} has an empty spelling; delete it")
                if name in owner:
                    raise ValueError(f"axis {self.axis}: {name!r} means {owner[name]} and {label.id}; decide for one")
                owner[name] = label.id
        return self


class Taxonomy(Section):
    """All axes, under a name. Frozen: another word is another version."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """What people call it."""
    axes: tuple[LabelSet, ...] = Field(min_length=1)
    """In the order of the network's heads."""

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

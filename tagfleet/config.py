"""What all configs share: frozen, typo-proof sections with a digest, and the layers that fill them.

A layer is a nested dict with a name ("./tagfleet.toml", "environment", "flag"). Later layers win; `merge_layers`
keeps, for every leaf, the name of the layer that set it, which `tagfleet config show` prints.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tagfleet.errors import ConfigError

ENV_PREFIX = "TAGFLEET_"

S = TypeVar("S", bound="Section")


class Section(BaseModel):
    """A part of the configuration: immutable, unknown keys refused, every default works on a laptop."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def digest_of(value: object) -> str:
    """Stable 16-hex digest of a JSON-able value or a Section: the same on every machine and in every process.

    >>> digest_of({"b": 1, "a": [2.0, None]}) == digest_of({"a": [2.0, None], "b": 1})
    True
    """
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def leaves(section: Section, prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted names and values of a section and its inner sections, in the order of their declaration."""
    found: list[tuple[str, Any]] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        found.extend(leaves(value, f"{prefix}{name}.") if isinstance(value, Section) else [(prefix + name, value)])
    return found


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Nested values and where they come from."""

    name: str
    values: Mapping[str, Any]


def read_toml(path: Path) -> dict[str, Any]:
    """The TOML file as a dict; `ConfigError` names the file and the line when it is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", hint=f"edit {path}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="check the path given with -c") from error


def env_layer(environ: Mapping[str, str], sections: Iterable[str]) -> Layer:
    """`TAGFLEET_TRAIN__EPOCHS=3` as {"train": {"epochs": "3"}}; a variable that names no setting is refused.

    >>> dict(env_layer({"TAGFLEET_TRAIN__EPOCHS": "3", "HOME": "/x"}, ["train"]).values)
    {'train': {'epochs': '3'}}
    """
    values: dict[str, Any] = {}
    allowed = set(sections)
    for key in sorted(environ):
        if not key.startswith(ENV_PREFIX):
            continue
        path = key[len(ENV_PREFIX) :].lower().split("__")
        if path[0] not in allowed:
            raise ConfigError(
                f"environment variable {key} names no setting; allowed first words: {', '.join(sorted(allowed))}",
                hint=f"unset {key}",
            )
        put_path(values, path, environ[key])
    return Layer(name="environment", values=values)


def assignment_layer(assignments: Iterable[str], name: str = "flag") -> Layer:
    """`-s train.epochs=3` as {"train": {"epochs": 3}}; the value is read as TOML where it is TOML, else as text."""
    values: dict[str, Any] = {}
    for text in assignments:
        key, sep, raw = text.partition("=")
        if not sep or not key.strip():
            raise ConfigError(
                f"cannot read setting {text!r}", hint="write it as section.key=value, e.g. train.epochs=3"
            )
        try:
            value = tomllib.loads(f"v = {raw}")["v"]
        except tomllib.TOMLDecodeError:
            value = raw
        put_path(values, key.strip().split("."), value)
    return Layer(name=name, values=values)


def put_path(values: dict[str, Any], path: list[str], value: object) -> None:
    """Set `value` at the nested `path`, creating dicts on the way."""
    for key in path[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"setting {'.'.join(path)}: {key} is a value, not a section")
        values = inner
    values[path[-1]] = value


def merge_layers(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Merged values (later layers win) and, per dotted leaf, the name of the layer that set it."""
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer in layers:
        for path, value in _leaves(layer.values, ()):
            put_path(merged, list(path), value)
            sources[".".join(path)] = layer.name
    return merged, sources


def _leaves(values: Mapping[str, Any], prefix: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def validated(section: type[S], values: Mapping[str, Any], where: str) -> S:
    """A section from values; `ConfigError` says which key, what was given and what is allowed."""
    try:
        return section.model_validate(dict(values))
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])) or where}: {e['msg']} (given: {e['input']!r})" for e in error.errors()
        ]
        raise ConfigError(
            f"{where}: " + "; ".join(problems), hint="tagfleet config show lists every setting"
        ) from error

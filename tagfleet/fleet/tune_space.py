"""What a structure search may change: names of settings, and which values each may take. Imports nothing heavy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from tagfleet.config import Layer, Section, merge_layers, put_path, read_toml
from tagfleet.errors import ConfigError, UsageError
from tagfleet.fleet.config import TrainSettings

Value = bool | int | float | str
Values = Mapping[str, Value]
"""Dotted name of a setting -> its value in one trial."""

SECTIONS = ("data", "audio", "network", "augment", "optimiser", "train")
FIXED = {
    "data.axes": "it decides what is measured",
    "data.labels": "it decides what is measured",
    "data.labels_version": "it decides what is measured",
    "data.catalog_version": "it decides what is measured",
    "train.model": "it changes no weight",
    "train.epochs": "it is how long a trial may take; set it with -s train.epochs=N",
    "train.seed": "the best seed is luck",
    "train.target_accuracy": "it changes no weight",
    "train.init_from": "all trials begin alike",
}
"""Settings that no search may change, and why."""
_KINDS: Mapping[type, str] = {bool: "true or false", int: "whole numbers", float: "numbers", str: "words"}
_EXAMPLES = 'write "network.n_blocks" = { choice = [5, 6] } or "network.dropout" = { low = 0.0, high = 0.5 }'


class Distribution(Section):
    """The values that a setting may take: those of `choice`, or everything from `low` to `high`, both included."""

    choice: tuple[Value, ...] = ()
    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = None
    """Only every step-th value from `low` on; whole numbers: 1."""
    log: bool = False
    """As many trials between 0.001 and 0.01 as between 0.01 and 0.1."""

    @model_validator(mode="after")
    def _one_kind(self) -> Distribution:
        numbers = (*self.choice, self.low, self.high, self.step)
        if not all(math.isfinite(value) for value in numbers if isinstance(value, float)):
            raise ValueError("inf and nan are no values to try")
        if self.low is None and self.high is None:
            if not self.choice:
                raise ValueError("give choice = [...] with at least one value, or low and high")
            if self.log or self.step is not None:
                raise ValueError("log and step belong to low and high, not to choice")
            if len(set(map(repr, self.choice))) < len(self.choice):
                raise ValueError("a value stands twice in choice")
            return self
        if self.choice or self.low is None or self.high is None:
            raise ValueError("give either choice = [...] or both low and high")
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log needs a low above 0, and takes no step")
        if self.step is not None:
            n_steps = (self.high - self.low) / self.step if self.step > 0 else 0.0
            if n_steps < 1 or not math.isclose(n_steps, round(n_steps), rel_tol=1e-9):
                raise ValueError(f"step {self.step} does not lead from low {self.low} to high {self.high}")
        return self

    @property
    def outermost(self) -> tuple[Value, ...]:
        """The values that must be allowed for all to be: each of `choice`, or both ends."""
        if self.low is None or self.high is None:
            return self.choice
        return (self.low, self.high)


class Space(Section):
    """What is searched; made by `space_of`, which checks it."""

    distributions: dict[str, Distribution]
    """By dotted name, in the order of the file."""

    def feature_choices(self) -> Iterator[Values]:
        """Every combination of the settings that need log-mels of their own; one empty where none is searched."""
        names = [name for name in self.distributions if _needs_features(name)]
        for values in itertools.product(*(self.distributions[name].choice for name in names)):
            yield dict(zip(names, values, strict=True))


def packaged_space() -> Path:
    """The file of the space that comes with tagfleet."""
    return Path(str(resources.files("tagfleet.fleet") / "spaces" / "default.toml"))


def read_space(path: Path | None, settings: TrainSettings) -> Space:
    """The space of a TOML file, or the packaged one; UsageError when there is none, and what `space_of` raises."""
    path = path or packaged_space()
    if not path.is_file():
        raise UsageError(f"there is no file {path}", hint=f"the packaged space is {packaged_space()}")
    return space_of(read_toml(path), settings, f"space {path.name}")


def space_of(values: Mapping[str, Any], settings: TrainSettings, where: str = "space") -> Space:
    """The space that nested or dotted names give, checked against the settings that it shall vary.

    Raises ConfigError for a setting that there is not or that no search may change, a value that the setting refuses
    whatever the others are, and for a range over settings that need log-mels of their own.
    """
    distributions = {}
    for name, described in _leaves(values, "", where):
        _check_name(name, settings, where)
        try:
            distributions[name] = Distribution.model_validate(described)
        except ValidationError as error:
            raise ConfigError(f"{where}: {name}: {_told(error)}", hint=_EXAMPLES) from error
        _check_values(name, distributions[name], settings, where)
    if not distributions:
        raise ConfigError(f"{where} names no setting", hint=_EXAMPLES)
    return Space(distributions=distributions)


def with_values(settings: TrainSettings, values: Values) -> TrainSettings:
    """The settings with these values; ConfigError says why they do not go together."""
    try:
        return TrainSettings.model_validate(_merged(settings, values))
    except ValidationError as error:
        raise ConfigError(_told(error)) from error


def _merged(settings: TrainSettings, values: Values) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, value in values.items():
        put_path(changed, name.split("."), value)
    base = {name: getattr(settings, name).model_dump() for name in TrainSettings.model_fields}
    merged, _ = merge_layers([Layer(name="base", values=base), Layer(name="trial", values=changed)])
    return merged


def _leaves(values: Mapping[str, Any], prefix: str, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Dotted name and description of each distribution: `"a.b" = {…}`, `a.b = {…}` and `[a]` `b = {…}` are one."""
    for key, inner in values.items():
        name = f"{prefix}{key}"
        if not isinstance(inner, Mapping):
            raise ConfigError(f"{where}: {name} = {inner!r} says not which values to try", hint=_EXAMPLES)
        if inner and all(isinstance(part, Mapping) for part in inner.values()):
            yield from _leaves(inner, f"{name}.", where)
        else:
            yield name, inner


def _check_name(name: str, settings: TrainSettings, where: str) -> None:
    section = name.partition(".")[0]
    if section not in SECTIONS:
        raise ConfigError(
            f"{where}: {name} cannot be searched; sections that can: {', '.join(SECTIONS)}",
            hint="set it for all trials with -s",
        )
    if name in FIXED:
        raise ConfigError(f"{where}: {name} cannot be searched: {FIXED[name]}", hint=f"take {name} out of the space")
    try:
        value = setting(settings, name)
    except AttributeError as error:
        raise ConfigError(
            f"{where}: there is no setting {name}", hint="tagfleet config show lists every setting"
        ) from error
    if not isinstance(value, (int, float, str)):
        raise ConfigError(f"{where}: {name} is a section or a list, not one value", hint="name one setting")


def _check_values(name: str, distribution: Distribution, settings: TrainSettings, where: str) -> None:
    kind = type(setting(settings, name))
    if distribution.low is not None and kind is str:
        raise ConfigError(f"{where}: {name} is a word, it has no low and high", hint="list them: choice = [...]")
    if distribution.low is not None and _needs_features(name):
        raise ConfigError(
            f"{where}: {name} needs log-mels of its own, which are made before the first trial",
            hint="list the values: choice = [...]",
        )
    steps = () if distribution.step is None else (distribution.step,)
    for value in (*distribution.outermost, *steps):
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ConfigError(f"{where}: {name} takes {_KINDS[kind]}, not {value!r}", hint=f"mend {value!r}")
    for value in distribution.outermost:
        if refused := _refused(name, value, settings):
            raise ConfigError(f"{where}: {name} = {value!r}: {refused}", hint=f"take {value!r} out of the space")


def setting(settings: Section, name: str) -> Any:
    """The value under a dotted name; AttributeError where there is none."""
    value: Any = settings
    for part in name.split("."):
        if not isinstance(value, Section) or part not in type(value).model_fields:
            raise AttributeError(name)
        value = getattr(value, part)
    return value


def _refused(name: str, value: Value, settings: TrainSettings) -> str:
    """Why the setting itself refuses the value; empty where it takes it, or only does not go with the others."""
    try:
        TrainSettings.model_validate(_merged(settings, {name: value}))
    except ValidationError as error:
        path = tuple(name.split("."))
        return _told(error, only=path)
    return ""


def _told(error: ValidationError, only: tuple[str, ...] | None = None) -> str:
    """What was wrong, in the settings' own words; of one setting only."""
    problems = [problem for problem in error.errors() if only is None or problem["loc"] == only]
    unknown = [str(problem["loc"][-1]) for problem in problems if problem["type"] == "extra_forbidden"]
    if unknown:
        return f"{', '.join(unknown)} is not known"
    return "; ".join(problem["msg"].removeprefix("Value error, ") for problem in problems)


def _needs_features(name: str) -> bool:
    return name.startswith("audio.log_mel.") or name == "data.max_track_s"

"""All settings of a call, and where each came from.

flag > environment > profile (`submit --profile`) > recipe (`train --recipe`) > ./tagfleet.toml > user config > default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from tagfleet.audio.config import DecodeLimits
from tagfleet.config import Layer, env_layer, merge_layers, read_toml, validated
from tagfleet.errors import ConfigError
from tagfleet.fleet.config import TrainSettings
from tagfleet.fleet.resources import RayConfig, RetagConfig
from tagfleet.labels.config import LabelsConfig
from tagfleet.store.config import PredictionsConfig, StorageConfig

FILE_NAME = "tagfleet.toml"
WIDTH_ON_GPU = 64


class Settings(TrainSettings):
    """Everything that can be set; each part is described where it is used."""

    root: str = "tagfleet-root"
    """Storage root: a folder, or s3://bucket/prefix."""
    tz: str = "Asia/Tokyo"
    """Time zone in which times are shown; stored times are UTC."""
    lang: Literal["ja", "en"] = "ja"
    """Language in which labels are shown."""
    storage: StorageConfig = Field(default_factory=StorageConfig)
    predictions: PredictionsConfig = Field(default_factory=PredictionsConfig)
    labels: LabelsConfig = Field(default_factory=LabelsConfig)
    limits: DecodeLimits = Field(default_factory=DecodeLimits)
    retag: RetagConfig = Field(default_factory=RetagConfig)
    price_per_hour: float = Field(default=0.0, ge=0)
    """What an hour of the machines costs, in your currency; `submit -n` shows it."""
    ray: RayConfig = Field(default_factory=RayConfig)

    @property
    def training(self) -> TrainSettings:
        """What a training run is told of them."""
        return TrainSettings(**{name: getattr(self, name) for name in TrainSettings.model_fields})

    @field_validator("tz")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} is no time zone; e.g. Asia/Tokyo, UTC") from error
        return name


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The settings, and per dotted name the layer that set it (`default` where none did)."""

    settings: Settings
    sources: Mapping[str, str]


def load_settings(
    *,
    file: Path | None = None,
    recipe: Layer | None = None,
    profile: Layer | None = None,
    flags: Sequence[Layer] = (),
    environ: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> Loaded:
    """Merge the layers and validate them.

    `file` replaces ./tagfleet.toml. A `recipe` and a `profile` that a call names stand above the files. A relative
    path in a file (`root`, `labels.taxonomy`, `labels.lexicons`) is relative to that file, elsewhere to the current
    folder. Raises ConfigError for an unknown key at any level, a wrong value, or a missing or broken file.
    """
    layers = []
    user_file = _user_file(environ)
    if user_file.is_file():
        layers.append(_file_layer(user_file, str(user_file)))
    if file is not None:
        layers.append(_file_layer(file, str(file)))
    elif (here := (folder or Path.cwd()) / FILE_NAME).is_file():
        layers.append(_file_layer(here, f"./{FILE_NAME}"))
    layers.extend(layer for layer in (recipe, profile) if layer is not None)
    layers.append(env_layer(environ, Settings.model_fields))
    layers.extend(flags)
    values, sources = merge_layers(layers)
    settings = validated(Settings, values, "settings")
    # A GPU has the time for four times the network; a warm start has its parent's.
    if settings.workers.use_gpu and "network.width" not in sources and not settings.train.init_from:
        values, sources = merge_layers([*layers, Layer(name="GPU", values={"network": {"width": WIDTH_ON_GPU}})])
        settings = validated(Settings, values, "settings")
    return Loaded(settings=settings, sources=sources)


def _user_file(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(base) / "tagfleet" / FILE_NAME


def _file_layer(path: Path, name: str) -> Layer:
    values: dict[str, Any] = read_toml(path)
    root = values.get("root")
    if root is not None and not isinstance(root, str):
        raise ConfigError(f"{name}: root must be text, given {root!r}", hint='e.g. root = "tagfleet-root"')
    if root is not None and "://" not in root:
        values["root"] = _beside(path, root)
    labels = values.get("labels")
    if isinstance(labels, dict):
        if isinstance(labels.get("taxonomy"), str) and labels["taxonomy"]:
            labels["taxonomy"] = _beside(path, labels["taxonomy"])
        if isinstance(labels.get("lexicons"), list):
            labels["lexicons"] = [_beside(path, name) if isinstance(name, str) else name for name in labels["lexicons"]]
    return Layer(name=name, values=values)


def _beside(file: Path, name: str) -> str:
    return str(file.resolve().parent / Path(name).expanduser())

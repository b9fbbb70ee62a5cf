"""Recipes: TOML files that give the settings of a training under a name. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from tagfleet.config import Layer, read_toml, validated
from tagfleet.errors import ConfigError, UsageError
from tagfleet.fleet.config import TrainSettings


def packaged_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with tagfleet."""
    folder = Path(str(resources.files("tagfleet.fleet") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def recipe_layer(text: str) -> Layer:
    """The settings of a recipe, by name or file. UsageError names the recipes there are; ConfigError a wrong key."""
    known = packaged_recipes()
    path = known.get(text, Path(text))
    if text not in known and not path.is_file():
        raise UsageError(
            f"there is no recipe {text!r}; there are {', '.join(known)}", hint="or give the path of a TOML file"
        )
    return checked_recipe(path.stem, read_toml(path))


def checked_recipe(name: str, values: Mapping[str, Any]) -> Layer:
    """A recipe's values as settings; ConfigError for a section or key that a recipe cannot set."""
    if strange := sorted(set(values) - set(TrainSettings.model_fields)):
        raise ConfigError(
            f"recipe {name}: {', '.join(strange)} is no part of a recipe; allowed: "
            f"{', '.join(TrainSettings.model_fields)}",
            hint="roots, storage and Ray belong in tagfleet.toml",
        )
    validated(TrainSettings, values, f"recipe {name}")
    return Layer(name=f"recipe {name}", values=values)

"""Profiles: named clusters in `profiles.toml`: where each answers, and settings that hold there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tagfleet.config import Layer, read_toml, validated
from tagfleet.errors import ConfigError, UsageError
from tagfleet.settings import Settings

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
SECTIONS = ("root", "storage", "limits", "retag", "workers", "ray", "price_per_hour")
"""What a profile may set: the machines, not what is learnt."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where a cluster answers, and what holds there."""

    name: str = ""
    address: str
    """Of the Jobs API: http(s)://host:port."""
    layer: Layer | None = None


def find_profile(name: str | None, address: str | None) -> Profile:
    """The profile of that name; `address`, or $RAY_API_SERVER_ADDRESS, stands above its own.

    Files are ./cluster/profiles.toml, the user's ~/.config/tagfleet/profiles.toml, and that of the checkout that this
    tagfleet runs from; the first that has the name counts. Raises UsageError when none has, ConfigError for a profile
    that is none.
    """
    chosen = address or os.environ.get(ADDRESS_VARIABLE)
    if name is None:
        return Profile(address=checked_address(chosen or DEFAULT_ADDRESS))
    known: dict[str, Path] = {}
    for file in profile_files():
        profiles = read_toml(file)
        if name in profiles:
            return _profile(name, profiles[name], file, chosen)
        known |= dict.fromkeys(profiles, file)
    raise UsageError(
        f"there is no profile {name!r}; there are {', '.join(known) or 'none'}",
        hint="write it into cluster/profiles.toml, or give --address",
    )


def profile_files() -> Iterator[Path]:
    """The files that are there, in the order in which they are asked."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    own = Path("cluster") / "profiles.toml"
    for file in (own, Path(config) / "tagfleet" / "profiles.toml", Path(__file__).parents[2] / own):
        if file.is_file():
            yield file


def _profile(name: str, values: Any, file: Path, address: str | None) -> Profile:
    where = f"{file}, profile {name}"
    if not isinstance(values, dict) or not isinstance(values.get("address"), str):
        raise ConfigError(f"{where} has no address", hint=f'address = "{DEFAULT_ADDRESS}"')
    settings = {key: value for key, value in values.items() if key != "address"}
    if strange := sorted(set(settings) - set(SECTIONS)):
        raise ConfigError(
            f"{where}: {', '.join(strange)} is no part of a profile; allowed: address, {', '.join(SECTIONS)}",
            hint="what is learnt belongs in a recipe",
        )
    validated(Settings, settings, where)
    layer = Layer(name=f"profile {name}", values=settings)
    return Profile(name=name, address=checked_address(address or values["address"]), layer=layer)


def checked_address(address: str) -> str:
    """The address without a slash at its end; UsageError for what is none, or holds a password."""
    try:
        parts = urlsplit(address)
        fit = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        fit = False
    if not fit:
        raise UsageError(f"{address!r} is no address of a Ray cluster", hint=f"e.g. {DEFAULT_ADDRESS}")
    if "@" in parts.netloc:
        raise UsageError("the address holds a user or a password", hint="a token belongs in RAY_AUTH_TOKEN_PATH")
    return address.rstrip("/")

"""Settings as a pod reads them: a file below XDG_CONFIG_HOME, and environment variables."""

import tempfile
from pathlib import Path

from tagfleet.config import ENV_PREFIX, Section
from tagfleet.settings import Settings, load_settings


def settings_of(toml: str) -> Settings:
    """What `tagfleet` reads in a pod whose ConfigMap holds this file; raises ConfigError."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tagfleet/tagfleet.toml"
        file.parent.mkdir()
        file.write_text(toml, encoding="utf-8")
        return load_settings(environ={"XDG_CONFIG_HOME": folder}, folder=Path(folder)).settings


def is_setting(variable: str) -> bool:
    """Whether a TAGFLEET_… variable names a setting, down to the last word.

    >>> is_setting("TAGFLEET_TRAIN__EPOCHS"), is_setting("TAGFLEET_TRAIN__EPOCH"), is_setting("TAGFLEET_REDIS_PORT")
    (True, False, False)
    """
    section: type[Section] | None = Settings
    for word in variable.removeprefix(ENV_PREFIX).lower().split("__"):
        field = section.model_fields.get(word) if section is not None else None
        if field is None:
            return False
        section = (
            field.annotation if isinstance(field.annotation, type) and issubclass(field.annotation, Section) else None
        )
    return section is None

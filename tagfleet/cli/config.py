"""`tagfleet config`: what is set, and by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tagfleet.cli.output import Json, emit_json, emit_table, say
from tagfleet.cli.session import Session, SettingsFlag
from tagfleet.config import Section, leaves
from tagfleet.errors import UsageError
from tagfleet.settings import FILE_NAME

app = typer.Typer(help="Settings: what is set, and by whom.")


@app.command()
def show(context: typer.Context, settings: SettingsFlag = None, as_json: Json = False) -> None:
    """Every setting, its value and the layer that set it."""
    session: Session = context.obj.with_flags(settings)
    rows = [(name, value, session.loaded.sources.get(name, "default")) for name, value in leaves(session.settings)]
    if as_json:
        emit_json({name: {"value": value, "source": source} for name, value, source in rows})
    else:
        emit_table(("setting", "value", "set by"), rows)


@app.command()
def init(path: Annotated[Path, typer.Argument(help="Where to write.")] = Path(FILE_NAME)) -> None:
    """Write a settings file with every default, commented out."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_template())
    except FileExistsError as error:
        raise UsageError(f"{path} exists already", hint="edit it, or choose another name") from error
    say(f"Wrote {path}: take away the # before what you want to change.")


def _template() -> str:
    from tagfleet.settings import Settings

    return "# tagfleet settings; `tagfleet config show` names the source of each.\n\n" + "\n".join(
        _section_lines(Settings(), "")
    )


def _section_lines(section: Section, header: str) -> list[str]:
    import json

    lines = [f"[{header}]"] if header else []
    inner: list[str] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            inner += _section_lines(value, f"{header}.{name}" if header else name)
            continue
        lines.append(f"# {' '.join((field.description or '').split())}")
        lines.append(f"# {name} = {json.dumps(value)}" if value is not None else f"# {name} =")
    return [*lines, "", *inner]

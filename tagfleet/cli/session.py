"""What every command needs: the settings of this call, and the storage root they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tagfleet.cli.progress import progress
from tagfleet.config import Layer, assignment_layer
from tagfleet.settings import Loaded, Settings, load_settings

if TYPE_CHECKING:
    from tagfleet.fleet.records import Recorded
    from tagfleet.store.objects import Storage

SettingsFlag = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Set any setting, e.g. train.epochs=3.")
]


@dataclass(frozen=True, kw_only=True)
class Session:
    """One call of the command line."""

    file: Path | None = None
    recipe: Layer | None = None
    profile: Layer | None = None
    flags: tuple[Layer, ...] = ()
    verbosity: int = 0

    def with_flags(self, assignments: Sequence[str] | None) -> Session:
        """This session with `-s key=value` settings on top."""
        return replace(self, flags=(*self.flags, assignment_layer(assignments or (), "flag")))

    def with_recipe(self, recipe: Layer) -> Session:
        """This session with a recipe's settings above the files."""
        return replace(self, recipe=recipe)

    def with_profile(self, profile: Layer | None) -> Session:
        """This session with a cluster's settings above files and recipe."""
        return replace(self, profile=profile)

    def with_values(self, section: str, values: Mapping[str, Any]) -> Session:
        """This session with what options of a command say of one section's settings; None says nothing."""
        said = {name: value for name, value in values.items() if value is not None}
        return replace(self, flags=(*self.flags, Layer(name="flag", values={section: said}))) if said else self

    @cached_property
    def loaded(self) -> Loaded:
        """Settings and their sources, read once."""
        return load_settings(file=self.file, recipe=self.recipe, profile=self.profile, flags=self.flags)

    @property
    def settings(self) -> Settings:
        """The merged settings."""
        return self.loaded.settings

    @cached_property
    def root(self) -> Storage:
        """The storage root, whose server has answered."""
        from tagfleet.store.objects import Storage

        return Storage(self.settings.root, self.settings.storage).reached()

    @contextmanager
    def recorded(self, run_id: str, kind: str) -> Iterator[Recorded]:
        """A run of this call: its progress is shown, and it keeps `run.json`."""
        from tagfleet.fleet.records import recorded

        with recorded(self.root, run_id, kind, partial(progress, quiet=self.quiet)) as run:
            yield run

    @property
    def quiet(self) -> bool:
        """No progress and no remarks."""
        return self.verbosity < 0

"""Read the texts of the catalogue on Ray and commit the next version of the labels: `python -m jobs.build_labels`.

Settings come from ./tagfleet.toml and TAGFLEET_… variables, as for the command line; the outcome is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tagfleet.errors import TagfleetError
from tagfleet.fleet.label_store import current_taxonomy, report_of
from tagfleet.fleet.labelling import label_catalog
from tagfleet.settings import load_settings
from tagfleet.store.objects import Storage


def main(words: list[str]) -> int:
    """Run the job; returns the exit code."""
    parser = argparse.ArgumentParser(prog="jobs.build_labels", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("axis", nargs="?", default="all", help="one axis, or all")
    parser.add_argument("-c", "--config", type=Path, help="settings file instead of ./tagfleet.toml")
    parser.add_argument("--taxonomy", type=Path, help="taxonomy TOML, or `default`")
    given = parser.parse_args(words)
    try:
        settings = load_settings(file=given.config).settings
        root = Storage(settings.root, settings.storage)
        taxonomy = current_taxonomy(root, settings.labels, given.taxonomy)
        axis = None if given.axis == "all" else given.axis
        made = label_catalog(root, taxonomy, settings.labels, axis=axis, ray_config=settings.ray)
    except TagfleetError as error:
        sys.stderr.write(f"Error: {error.message}\n" + (f"Hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    changed = {"version": made.version, "n_changed_tracks": made.n_changed_tracks}
    sys.stdout.write(json.dumps({**changed, **report_of(made.build)}, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

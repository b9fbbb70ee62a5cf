"""Read the texts of the catalogue on Ray and commit the next version of the labels: `python -m jobs.build_labels`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tagfleet.fleet.label_store import current_taxonomy, report_of
from tagfleet.fleet.labelling import label_catalog
from tagfleet.job import Start, run_job


def declare(parser: argparse.ArgumentParser) -> None:
    """Options besides those of every job."""
    parser.add_argument("axis", nargs="?", default="all", help="one axis, or all")
    parser.add_argument("--taxonomy", type=Path, help="taxonomy TOML, or `default`")


def body(start: Start) -> dict[str, Any]:
    """What the new version holds."""
    given, settings = start.given, start.settings
    taxonomy = current_taxonomy(start.root, settings.labels, given.taxonomy)
    axis = None if given.axis == "all" else given.axis
    with start.watch("Reading texts", None) as advance:
        made = label_catalog(start.root, taxonomy, settings.labels, axis=axis, ray_config=settings.ray, advance=advance)
    return {"version": made.version, "n_changed_tracks": made.n_changed_tracks, **report_of(made.build)}


def main(words: list[str]) -> int:
    """Run the job; returns the exit code."""
    return run_job("build_labels", words, declare, body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

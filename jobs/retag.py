"""Tag what is new or out of date and publish one snapshot: `python -m jobs.retag`. See `tagfleet retag`."""

from __future__ import annotations

import argparse
import sys

from tagfleet.fleet.retag import RetagReport, open_retag, retag
from tagfleet.job import Start, run_job, say


def declare(parser: argparse.ArgumentParser) -> None:
    """Options besides those of every job."""
    parser.add_argument("--model", default="production", help="production, NAME or NAME:VERSION")
    parser.add_argument("--catalog", type=int, help="version of the catalogue; default: the latest")
    parser.add_argument("--only", choices=["new", "changed", "stale", "all"], default="stale")
    parser.add_argument(
        "--max-error-rate",
        type=lambda rate: [f"retag.max_error_rate={float(rate)}", "retag.min_errors=1"],
        action="extend",
        dest="set",
        help="publish nothing above this share of failures",
    )


def body(start: Start) -> RetagReport:
    """Plan, or find the plan of this run; carry it out; commit."""
    given, settings = start.given, start.settings
    audio = settings.audio if any(name.startswith("audio.") for name in start.sources) else None
    plan, tagger = open_retag(
        start.root, given.model, start.run_id, catalog_version=given.catalog, only=given.only, audio=audio
    )
    say(f"Run {plan.run_id}: {plan.to_tag.num_rows} of {plan.n_catalog} tracks to tag with {plan.model}")
    return retag(
        start.root,
        plan,
        audio=tagger.audio,
        config=settings.retag,
        **start.machines,
    )


def main(words: list[str]) -> int:
    """Run the job; returns the exit code."""
    return run_job("retag", words, declare, body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

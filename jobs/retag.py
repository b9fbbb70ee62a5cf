"""Tag what is new or out of date and publish one snapshot: `python -m jobs.retag`. See `tagfleet retag`."""

from __future__ import annotations

import argparse
import sys

from tagfleet.fleet.plan import Ask
from tagfleet.fleet.retag import retag
from tagfleet.fleet.retag_report import RetagReport
from tagfleet.job import Start, run_job, say


def declare(parser: argparse.ArgumentParser) -> None:
    """Options besides those of every job."""
    parser.add_argument("--model", default="production", help="production, NAME or NAME:VERSION")
    parser.add_argument("--catalog", type=int, help="version of the catalogue; default: the latest")
    parser.add_argument("--only", choices=["new", "changed", "stale", "all"], default="stale")
    parser.add_argument("--limit", type=int, help="hear this many tracks; the rest waits for the next run")
    parser.add_argument("--retry-failed", action="store_true", help="also tracks that failed for good")
    parser.add_argument("--no-publish", dest="publish", action="store_false", help="only make the snapshot")
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
    ask = Ask(
        run_id=start.run_id,
        catalog_version=given.catalog,
        **{name: getattr(given, name) for name in ("model", "only", "limit", "retry_failed")},
    )
    return retag(
        start.root,
        ask,
        config=settings.retag,
        audio=settings.audio if any(name.startswith("audio.") for name in start.sources) else None,
        publish=given.publish,
        tidy=settings.predictions,
        price_per_hour=settings.price_per_hour,
        tell=say,
        **start.machines,
    )


def main(words: list[str]) -> int:
    """Run the job; returns the exit code."""
    return run_job("retag", words, declare, body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Write a clean copy of the predictions for readers that know no Delta: `python -m jobs.export parquet TARGET`."""

from __future__ import annotations

import argparse
import sys

from tagfleet.job import Start, run_job
from tagfleet.store.predictions import Export, Predictions


def declare(parser: argparse.ArgumentParser) -> None:
    """Options besides those of every job."""
    parser.add_argument("format", choices=["parquet"])
    parser.add_argument("target", help="a folder or s3://bucket/prefix")
    parser.add_argument("--version", type=int, help="of the predictions; default: the last")


def body(start: Start) -> Export:
    """Where the copy is, and of which version."""
    given = start.given
    return Predictions(start.root).export_parquet(given.target, start.settings.storage, version=given.version)


def main(words: list[str]) -> int:
    """Run the job; returns the exit code."""
    return run_job("export", words, declare, body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

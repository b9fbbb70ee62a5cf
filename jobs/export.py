"""Write a clean copy of the predictions for readers that know no Delta: `python -m jobs.export parquet TARGET`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tagfleet.job import Start, run_job
from tagfleet.store import exports
from tagfleet.store.predictions import Predictions


def declare(parser: argparse.ArgumentParser) -> None:
    """Options besides those of every job."""
    parser.add_argument("format", choices=["parquet", "ndjson", "csv"])
    parser.add_argument("target", help="a folder or s3://bucket/prefix")
    parser.add_argument("--version", type=int, help="of the predictions; default: the last")
    parser.add_argument("--since", type=int, help="ndjson: only what differs from this version")
    parser.add_argument("--index", help="ndjson: the index' name, when the address does not say")
    parser.add_argument("--encoding", choices=["utf-8-sig", "cp932"], default="utf-8-sig", help="csv")


def body(start: Start) -> exports.Export:
    """Where the copy is, and of which version."""
    given = start.given
    at: dict[str, Any] = {"target": given.target, "config": start.settings.storage, "version": given.version}
    predictions = Predictions(start.root)
    if given.format == "parquet":
        return exports.export_parquet(predictions, **at)
    if given.format == "ndjson":
        return exports.export_bulk(predictions, **at, since=given.since, index=given.index)
    return exports.export_csv(predictions, **at, encoding=given.encoding)[0]


def main(words: list[str]) -> int:
    """Run the job; returns the exit code."""
    return run_job("export", words, declare, body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Measure a published tagger again: `python -m jobs.evaluate MODEL`. See `tagfleet evaluate`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from tagfleet.fleet.comparison import compare_models
from tagfleet.fleet.evaluate_model import check_accuracy, evaluate_model
from tagfleet.job import Start, run_job, say


def declare(parser: argparse.ArgumentParser) -> None:
    """Options besides those of every job."""
    parser.add_argument("model", help="NAME, NAME:VERSION or production")
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--labels", type=int, help="version of the labels; default: what it was trained with")
    parser.add_argument("--folds", type=int, help="class health from so many more trainings")
    parser.add_argument("--baseline", metavar="MODEL", help="compare with this model")
    parser.add_argument("--min-accuracy", type=float, help="exit with 3 when an exclusive axis is below")


def body(start: Start) -> dict[str, Any]:
    """The evaluation's numbers and the folder of its files."""
    given, settings = start.given, start.settings
    found, folder = evaluate_model(
        start.root,
        given.model,
        split=given.split,
        labels_version=given.labels,
        folds=given.folds,
        say=say,
        **start.machines,
    )
    against = {}
    if given.baseline:
        against = compare_models(
            start.root, given.model, given.baseline, limits=settings.limits, ray_config=settings.ray
        )
    check_accuracy(found.evaluation, given.min_accuracy)
    told = {axis: difference.model_dump() for axis, difference in against.items()}
    return {**found.evaluation.model_dump(mode="json"), "folder": folder, "against": told}


def main(words: list[str]) -> int:
    """Run the job; returns the exit code."""
    return run_job("evaluate", words, declare, body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Measure a published tagger again: `python -m jobs.evaluate MODEL`. See `tagfleet evaluate`.

Settings come from ./tagfleet.toml and TAGFLEET_… variables; the outcome is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tagfleet.errors import TagfleetError
from tagfleet.fleet.evaluate_model import evaluate_model
from tagfleet.settings import load_settings
from tagfleet.store.objects import Storage


def main(words: list[str]) -> int:
    """Run the job; returns the exit code."""
    parser = argparse.ArgumentParser(prog="jobs.evaluate", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", help="NAME, NAME:VERSION or production")
    parser.add_argument("-c", "--config", type=Path, help="settings file instead of ./tagfleet.toml")
    parser.add_argument("--split", choices=["test", "validation"], default="test")
    parser.add_argument("--labels", type=int, help="version of the labels; default: what it was trained with")
    parser.add_argument("--folds", type=int, help="class health from so many more trainings")
    given = parser.parse_args(words)
    try:
        settings = load_settings(file=given.config).settings
        root = Storage(settings.root, settings.storage)
        found, folder = evaluate_model(
            root,
            given.model,
            split=given.split,
            labels_version=given.labels,
            folds=given.folds,
            limits=settings.limits,
            ray_config=settings.ray,
        )
    except TagfleetError as error:
        sys.stderr.write(f"Error: {error.message}\n" + (f"Hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    document = {**found.evaluation.model_dump(mode="json"), "folder": folder}
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

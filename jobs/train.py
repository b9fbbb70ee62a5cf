"""Train, or go on with a training, and publish the tagger: `python -m jobs.train`. See `tagfleet train`.

Settings come from ./tagfleet.toml, TAGFLEET_… variables, --recipe and -s; the outcome is one JSON document. A run id
that is there already is gone on with, so that a job that was killed may simply be started again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tagfleet.config import assignment_layer
from tagfleet.errors import NotFoundError, TagfleetError
from tagfleet.fleet.recipes import recipe_layer
from tagfleet.fleet.runs import read_recipe
from tagfleet.fleet.train import resume, train
from tagfleet.settings import load_settings
from tagfleet.store.objects import Storage


def main(words: list[str]) -> int:
    """Run the job; returns the exit code."""
    parser = argparse.ArgumentParser(prog="jobs.train", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run-id", required=True)
    parser.add_argument("-c", "--config", type=Path, help="settings file instead of ./tagfleet.toml")
    parser.add_argument("--recipe", help="name of a recipe, or a TOML file")
    parser.add_argument("--init-from", default="", help="model whose weights are begun with")
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting")
    given = parser.parse_args(words)
    try:
        named = [f"train.init_from={given.init_from}"] if given.init_from else []
        settings = load_settings(
            file=given.config,
            recipe=recipe_layer(given.recipe) if given.recipe else None,
            flags=[assignment_layer([*named, *given.set])],
        ).settings
        root = Storage(settings.root, settings.storage)
        machines = {"run_id": given.run_id, "limits": settings.limits, "ray_config": settings.ray}
        try:
            read_recipe(root, given.run_id)
        except NotFoundError:
            result = train(root, settings.training, recipe=given.recipe or "", **machines)
        else:
            result = resume(root, **machines)
    except TagfleetError as error:
        sys.stderr.write(f"Error: {error.message}\n" + (f"Hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    sys.stdout.write(json.dumps(result.model_dump(mode="json"), ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

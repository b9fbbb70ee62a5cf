"""Look at the cluster from inside, before anything is started on it: `python -m jobs.doctor`. One JSON document."""

from __future__ import annotations

import argparse
import sys

from tagfleet.config import assignment_layer
from tagfleet.errors import TagfleetError
from tagfleet.fleet.doctor import look_inside
from tagfleet.job import end_with
from tagfleet.settings import load_settings
from tagfleet.store.objects import Storage


def main(words: list[str]) -> int:
    """Print what was found; 1 when it could not even be looked at. Writes nothing that stays."""
    parser = argparse.ArgumentParser(prog="python -m jobs.doctor")
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting")
    given = parser.parse_args(words)
    try:
        settings = load_settings(flags=[assignment_layer(given.set)]).settings
        found = look_inside(Storage(settings.root, settings.storage), settings.ray)
    except TagfleetError as error:
        return end_with(error)
    sys.stdout.write(f"\n{found.model_dump_json()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

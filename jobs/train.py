"""Train, or go on with a training, and publish the tagger: `python -m jobs.train`. See `tagfleet train`.

A run id that is there already is gone on with, so that a job that was killed may simply be started again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from tagfleet.fleet.runs import run_exists
from tagfleet.fleet.train import TrainResult, resume, train
from tagfleet.job import Start, add_training_options, assigning, run_job, say


def declare(parser: argparse.ArgumentParser) -> None:
    """Options besides those of every job."""
    add_training_options(parser)
    parser.add_argument("--from-tune", metavar="RUN", help="settings of the best trial of a search")
    parser.add_argument("--init-from", **assigning("train.init_from"), help="begin with its weights")
    parser.add_argument("--workers", **assigning("workers.n_workers"), help="processes")
    for name, value in (("--gpu", "true"), ("--cpu", "false")):
        parser.add_argument(name, action="append_const", dest="set", const=f"workers.use_gpu={value}")


def body(start: Start) -> TrainResult:
    """Resume the run that is there, or begin it."""
    given = start.given
    if given.resume or run_exists(start.root, start.run_id):
        return resume(start.root, start.run_id, report=say_epoch, **start.machines)
    recipe = given.called or given.recipe or (f"tune {given.from_tune}" if given.from_tune else "")
    settings = start.settings.training
    return train(start.root, settings, recipe=recipe, run_id=start.run_id, report=say_epoch, **start.machines)


def say_epoch(line: Mapping[str, object]) -> None:
    """One line of the log per epoch."""
    measured = ", ".join(f"{name} {value:.3f}" for name, value in line.items() if isinstance(value, float))
    say(f"Epoch {line['epoch']}: {measured}")


def main(words: list[str]) -> int:
    """Run the job; returns the exit code."""
    return run_job("train", words, declare, body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

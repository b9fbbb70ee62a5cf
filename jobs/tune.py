"""Search for the best network, or go on with a search: `python -m jobs.tune`. See `tagfleet tune`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tagfleet.config import assignment_layer
from tagfleet.fleet.config import N_TRIALS
from tagfleet.fleet.runs import search_exists
from tagfleet.fleet.tune import TuneResult, resume_tune, tune
from tagfleet.fleet.tune_board import Trial
from tagfleet.fleet.tune_space import read_space, space_of
from tagfleet.job import Start, add_training_options, run_job, say


def declare(parser: argparse.ArgumentParser) -> None:
    """Options besides those of every job."""
    add_training_options(parser)
    parser.add_argument("--space", type=Path, metavar="FILE", help="TOML: settings and the values each may take")
    parser.add_argument("--vary", action="append", default=[], metavar="KEY={...}", help="one line of a space")
    parser.add_argument("--trials", type=int, help="trainings in all")
    parser.add_argument("--max-hours", type=float, help="stop after this time; the best so far counts")


def body(start: Start) -> TuneResult:
    """Resume the search that is there, or begin it."""
    given, training = start.given, start.settings.training
    shared: dict[str, Any] = {"max_hours": given.max_hours, "told": say_trial, **start.machines}
    if given.resume or search_exists(start.root, start.run_id):
        return resume_tune(start.root, start.run_id, n_trials=given.trials, **shared)
    varied = dict(assignment_layer(given.vary).values)
    space = space_of(varied, training) if varied else read_space(given.space, training)
    n_trials, recipe = given.trials or N_TRIALS, given.called or given.recipe or ""
    return tune(start.root, training, space, recipe=recipe, n_trials=n_trials, run_id=start.run_id, **shared)


def say_trial(trial: Trial, board: object) -> None:
    """One line of the log per trial."""
    say(f"Trial {trial.trial_id}: {trial.status}, {trial.n_epochs} epochs, metric {trial.metric}")


def main(words: list[str]) -> int:
    """Run the job; returns the exit code."""
    return run_job("tune", words, declare, body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

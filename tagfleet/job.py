"""How a job is started on a cluster: its words become settings, its end an exit code, a signal a stop.

Every `python -m jobs.<kind>` is one call of `run_job`: options as the command of the same name has them, settings from
./tagfleet.toml, TAGFLEET_… variables and -s; remarks on stderr, the facts of what was made on stdout as one JSON
document. All of it lies in runs/<run id>/run.json.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

from pydantic import BaseModel

from tagfleet.config import Layer, assignment_layer
from tagfleet.errors import JobStopped, TagfleetError
from tagfleet.fleet.heartbeat import heartbeat
from tagfleet.fleet.recipes import recipe_layer
from tagfleet.fleet.records import BUG, recorded
from tagfleet.fleet.runs import Watch, new_run_id
from tagfleet.settings import Settings, load_settings
from tagfleet.store.objects import Storage


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of a job: what it was told, and what it works with."""

    given: argparse.Namespace
    settings: Settings
    sources: frozenset[str]
    """Dotted names of the settings that were set by anybody."""
    root: Storage
    run_id: str
    watch: Watch

    @property
    def machines(self) -> dict[str, Any]:
        """What every call of the library is told of the machines."""
        return {"limits": self.settings.limits, "ray_config": self.settings.ray, "watch": self.watch}


def run_job(
    kind: str, words: list[str], declare: Callable[[argparse.ArgumentParser], None], body: Callable[[Start], Any]
) -> int:
    """Run one job, keep `runs/<run id>/run.json` of it, print what it made; returns the exit code.

    declare: adds the options of this kind. body: does the work, and returns a model, a dataclass or a dict. SIGTERM
    (a stopped job, an evicted pod) ends it as Ctrl-C does, in a state from which the same run id goes on.
    """
    given = job_parser(kind, declare).parse_args(words)
    run_id = given.run_id or getattr(given, "resume", None) or new_run_id(kind)
    try:
        with stoppable():
            result = _run(kind, given, run_id, body)
    except KeyboardInterrupt:
        return end_with(JobStopped(f"run {run_id} was stopped", hint=f"it goes on by the same id: --run-id {run_id}"))
    except TagfleetError as error:
        return end_with(error)
    except Exception as error:  # the last resort: a log must say what happened, and the code must not be a usual one
        traceback.print_exc()
        return end_with(TagfleetError(f"{type(error).__name__}: {error}", hint="this is a bug: please report it"), BUG)
    sys.stdout.write(json.dumps(_brief(result), ensure_ascii=False) + "\n")
    return 0


def job_parser(kind: str, declare: Callable[[argparse.ArgumentParser], None]) -> argparse.ArgumentParser:
    """The options of a job: those of every job, and its own."""
    parser = argparse.ArgumentParser(prog=f"python -m jobs.{kind}")
    parser.add_argument("-c", "--config", type=Path, help="settings file instead of ./tagfleet.toml")
    parser.add_argument("--run-id", help="name of the run; the same name twice is one run")
    parser.add_argument("-s", "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting")
    declare(parser)
    return parser


def _run(kind: str, given: argparse.Namespace, run_id: str, body: Callable[[Start], Any]) -> Any:
    recipe = recipe_layer(given.recipe) if getattr(given, "recipe", None) else None
    loaded = load_settings(file=given.config, recipe=recipe, flags=[assignment_layer(given.set)])
    root = Storage(loaded.settings.root, loaded.settings.storage).reached()
    if getattr(given, "from_tune", None):
        recipe = _best_trial(root, given.from_tune)
        loaded = load_settings(file=given.config, recipe=recipe, flags=[assignment_layer(given.set)])
    with recorded(root, run_id, kind, partial(heartbeat, say)) as run:
        start = Start(
            given=given,
            settings=loaded.settings,
            sources=frozenset(loaded.sources),
            root=root,
            run_id=run_id,
            watch=run.watch,
        )
        run.result = _plain(body(start))
    return run.result


def _best_trial(root: Storage, run_id: str) -> Layer:
    from tagfleet.fleet.tune import best_trial

    return best_trial(root, run_id)


def say(line: str) -> None:
    """A line of the job's log."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """What `train` and `tune` are told alike; shortcuts become settings."""
    parser.add_argument("--recipe", metavar="NAME|FILE", help="settings under a name")
    parser.add_argument("--called", default="", help="name of a recipe whose settings came by -s")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run, by what it began with")


def assigning(name: str) -> dict[str, Any]:
    """An option that is a short word for a setting: its value joins the -s assignments."""
    return {"action": "append", "dest": "set", "type": lambda text: f"{name}={text}"}


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt in the body."""
    if current_thread() is not main_thread():  # only there are signals heard
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _brief(result: Any) -> Any:
    """The facts of a result without its tables, which a log is no place for."""
    if not isinstance(result, dict):
        return result
    plain = (str, int, float, bool, type(None))
    flat = {name: value for name, value in result.items() if isinstance(value, dict)}
    counts = {name for name, value in flat.items() if all(isinstance(inner, plain) for inner in value.values())}
    return {name: value for name, value in result.items() if isinstance(value, plain) or name in counts}


def end_with(error: TagfleetError, code: int | None = None) -> int:
    """Tell an error as the last words of a log; returns the exit code."""
    say(f"Error: {error.message}")
    for problem in error.problems[:20]:
        say(f"  {problem}")
    if error.hint:
        say(f"Hint: {error.hint}")
    return error.exit_code if code is None else code

"""Where a run can be watched: TensorBoard event files and curves in its folder, MLflow where a server is named."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tagfleet.errors import ConfigError
from tagfleet.fleet.config import Recipe
from tagfleet.fleet.runs import Report, read_metrics
from tagfleet.model.warmstart import WarmStart
from tagfleet.report.charts import Line, curves_svg
from tagfleet.store.objects import Storage

MLFLOW_VARIABLE = "MLFLOW_TRACKING_URI"
PACKAGES = ("tagfleet", "torch", "torchaudio", "ray", "av", "soxr", "numpy", "scikit-learn", "pyarrow")


def environment(start: WarmStart | None) -> dict[str, Any]:
    """What a run was computed with, and which rows of a parent's heads it began from."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "n_cpus": os.cpu_count(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    if start:
        found["warm_start"] = {"copied": start.copied, "new": start.new, "dropped": start.dropped}
    return found


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """What can be drawn of an epoch's line."""
    return {name: float(value) for name, value in line.items() if isinstance(value, (int, float)) and name != "epoch"}


def event_file(history: Sequence[Mapping[str, Any]]) -> bytes:
    """All epochs as one TensorBoard event file."""
    from tensorboardX import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            for line in history:
                for name, value in numbers(line).items():
                    writer.add_scalar(name, value, line["epoch"])
        (file,) = Path(folder).iterdir()
        return file.read_bytes()


def write_curves(root: Storage, run_id: str, history: Sequence[Mapping[str, Any]]) -> None:
    """The curves of a run as SVG and as a TensorBoard event file, whole each time: object storage cannot append."""
    root.write(f"runs/{run_id}/tensorboard/events.out.tfevents.0.tagfleet", event_file(history))
    names = sorted({name for line in history for name in numbers(line) if "loss" in name or "validation" in name})
    for part in ("loss", "metric"):
        lines = [
            Line(name=name, points=[(line["epoch"], line.get(name)) for line in history])
            for name in names
            if ("loss" in name) == (part == "loss")
        ]
        root.write(f"runs/{run_id}/curves-{part}.svg", curves_svg(part, lines).encode())


@contextmanager
def tracked(root: Storage, run_id: str, recipe: Recipe) -> Iterator[Report]:
    """A function that takes each epoch's line to the run's event file and, where MLFLOW_TRACKING_URI is set, to MLflow.

    Raises ConfigError when that is set and mlflow is not installed, or the server does not answer.
    """
    history: list[Mapping[str, Any]] = [*read_metrics(root, run_id)]

    def to_files(line: Mapping[str, Any]) -> None:
        history.append(line)
        root.write(f"runs/{run_id}/tensorboard/events.out.tfevents.0.tagfleet", event_file(history))

    if not os.environ.get(MLFLOW_VARIABLE):
        yield to_files
        return
    try:
        import mlflow
    except ImportError as error:
        raise ConfigError(
            f"{MLFLOW_VARIABLE} is set, but mlflow is not installed", hint="pip install 'tagfleet[mlflow]', or unset it"
        ) from error
    try:
        mlflow.start_run(run_name=run_id)
        mlflow.log_params({"recipe": recipe.recipe, "digest": recipe.digest, **_flat(recipe)})
    except mlflow.exceptions.MlflowException as error:
        raise ConfigError(
            f"the MLflow server that {MLFLOW_VARIABLE} names does not take this run ({type(error).__name__})",
            hint=f"check {MLFLOW_VARIABLE}, or unset it",
        ) from error

    def to_all(line: Mapping[str, Any]) -> None:
        to_files(line)
        try:
            mlflow.log_metrics(numbers(line), step=line["epoch"])
        except mlflow.exceptions.MlflowException:  # a server that went away must not cost the training
            logging.getLogger(__name__).warning("epoch %s did not reach MLflow", line["epoch"])

    try:
        yield to_all
    finally:
        mlflow.end_run()


def _flat(recipe: Recipe) -> dict[str, Any]:
    sections = recipe.model_dump(mode="json", exclude={"taxonomy", "recipe", "examples_digest"})
    return {
        f"{section}.{key}": value
        for section, values in sections.items()
        if isinstance(values, dict)
        for key, value in values.items()
    }

"""`tagfleet evaluate` and `tagfleet report`: how well a model does, and why."""

from __future__ import annotations

import webbrowser
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tagfleet.cli.output import Json, emit_json, emit_table, made_folder, say
from tagfleet.cli.progress import progress
from tagfleet.cli.session import Session

if TYPE_CHECKING:
    from tagfleet.model.evaluation import Evaluation
    from tagfleet.model.metrics import Difference

Split = Literal["test", "validation"]


def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or production.")],
    split: Annotated[Split, typer.Option(help="Side of the split that measures.")] = "test",
    labels: Annotated[
        int | None,
        typer.Option(metavar="VERSION", min=0, help="Of the labels; default: what it was trained with."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Class health from out-of-fold probabilities: trains this many more times."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Compare with this model, on the tracks that neither knows.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit with 3 when an exclusive axis is below.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a model on creators that it has not heard, beside a baseline, the majority and chance.

    Class health tells diffuse, confusable and rare labels, from validation tracks or, with --folds, from all tracks but
    the test side. What it finds lies in the run's folder, with a proposed taxonomy change; `tagfleet report` shows it.
    """
    session: Session = context.obj
    from tagfleet.fleet.comparison import compare_models
    from tagfleet.fleet.evaluate_model import check_accuracy, evaluate_model

    limits, ray_config = session.settings.limits, session.settings.ray
    found, folder = evaluate_model(
        session.root,
        model,
        split=split,
        labels_version=labels,
        folds=folds,
        limits=limits,
        ray_config=ray_config,
        watch=partial(progress, quiet=session.quiet),
        say=say,
    )
    against = {}
    if baseline:
        against = compare_models(session.root, model, baseline, limits=limits, ray_config=ray_config)
    if as_json:
        check_accuracy(found.evaluation, min_accuracy)  # one document: the evaluation, or what is refused
        told = {axis: difference.model_dump() for axis, difference in against.items()}
        emit_json({**found.evaluation.model_dump(mode="json"), "folder": folder, "against": told})
        return
    emit_axes(found.evaluation)
    emit_health(found.evaluation)
    if baseline:
        emit_differences(model, baseline, against)
    shown_by = "" if labels is not None else f"; shown by: tagfleet report {model} --split {split} --open"
    say(f"\nFiles: {session.root.root}/{folder}{shown_by}")
    check_accuracy(found.evaluation, min_accuracy)


def emit_axes(evaluation: Evaluation) -> None:
    """Per axis the measure that decides, beside what costs less."""
    rows = []
    for axis in evaluation.axes:
        measure = axis.model.measures[axis.model.headline]
        rows.append(
            (
                axis.axis,
                axis.model.headline,
                shown(measure.value),
                f"{shown(measure.low)} – {shown(measure.high)}",
                shown(axis.baseline.value),
                shown(axis.guessing.majority),
                shown(axis.guessing.chance),
                axis.model.n_tracks,
            )
        )
    columns = (
        "axis",
        "measure",
        "model",
        "95 % interval",
        "baseline",
        "majority",
        "chance",
        f"{evaluation.split} tracks",
    )
    emit_table(columns, rows)


def emit_health(evaluation: Evaluation) -> None:
    """Labels of exclusive axes, with what is wrong with each."""
    rows = [
        (
            health.axis,
            label.label,
            label.verdict,
            label.partner or "",
            label.support,
            shown(label.f1),
            shown(label.confusion_spread),
            f"{label.masked_kappa_gain:+.3f}",
            shown(label.masked_accuracy),
        )
        for health in evaluation.health
        for label in health.labels
    ]
    columns = ("axis", "label", "health", "taken for", "tracks", "F1", "spread", "kappa gain", "accuracy without")
    if rows:
        emit_table(columns, rows, title=f"Class health, from {evaluation.health_source}")


def emit_differences(model: str, other: str, differences: dict[str, Difference]) -> None:
    """Of two models on the same tracks."""
    rows = [
        (axis, f"{model} - {other}", signed(d.value), f"{signed(d.low)} … {signed(d.high)}", shown(d.p_worse))
        for axis, d in differences.items()
    ]
    emit_table(("axis", "difference", "value", "95 % interval", "share of draws in which worse"), rows)


def shown(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three digits with a sign, or a dash."""
    return "–" if value is None else f"{value:+.3f}"


def report(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="NAME, NAME:VERSION or production.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the page; default: the current one.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Side of the split that was measured.")] = "test",
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """One HTML page on a model: data, curves, metrics, confusions, calibration, class health, mistakes."""
    session: Session = context.obj
    from tagfleet.fleet.evaluate_model import report_page

    ref, page = report_page(session.root, model, split, tz=session.settings.tz, lang=session.settings.lang)
    folder = made_folder(out or Path())
    path = folder / f"{str(ref).replace(':', '-')}-{split}.html"
    path.write_text(page, encoding="utf-8")
    emit_json({"model": str(ref), "path": str(path)}) if as_json else say(f"{path}")
    if open_:
        webbrowser.open(path.resolve().as_uri())

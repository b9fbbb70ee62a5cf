"""A tagger measured on tracks that it has not heard, from their stored features, beside a baseline and guessing."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from tagfleet.errors import ConfigError, DigestMismatch
from tagfleet.fleet.dataset import Stored, rows_of, split_axes, stored_examples
from tagfleet.fleet.excerpts import LogMelFiles, planned_starts, stable_seed
from tagfleet.fleet.training_data import TrainingData
from tagfleet.labels.revision import TaxonomyChange
from tagfleet.labels.split import SPLITS
from tagfleet.labels.taxonomy import LabelSet, Taxonomy
from tagfleet.model.baseline import fit_baseline, track_statistics
from tagfleet.model.calibration import Calibration, coverage_curve, fit_calibration, reliability
from tagfleet.model.evaluation import AxisEvaluation, Evaluation
from tagfleet.model.health import AxisHealth, change_toml, class_health, proposed_change
from tagfleet.model.metrics import axis_metrics, guessing, paired_difference
from tagfleet.model.mistakes import Mistake, mistakes_csv, mistakes_of
from tagfleet.model.tagger import Tagger
from tagfleet.store.objects import Storage

Split = Literal["validation", "test"]

BASELINE_TRACKS = 5_000
"""Training tracks that the baseline learns from at most: more no longer help it, and each is read whole."""

PROBABILITIES = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),  # creator
        pa.field("split", pa.string(), nullable=False),
        pa.field("axis", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("target", pa.float32()),  # null: unknown
        pa.field("probability", pa.float32(), nullable=False),
        pa.field("baseline_probability", pa.float32(), nullable=False),
    ]
)
"""What every number of an evaluation is computed from."""

ByAxis = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a network says of tracks, before calibration. Element n of each is one track."""

    track_ids: Sequence[str]
    targets: ByAxis
    """Per axis (n_tracks, n_labels), NaN rows unknown."""
    clip_logits: Mapping[str, Sequence[NDArray[np.float32]]]
    """Per axis and track (n_clips, n_labels)."""

    def probabilities(self, taxonomy: Taxonomy, calibration: Calibration) -> dict[str, NDArray[np.float32]]:
        """Per axis (n_tracks, n_labels), as tagging would give them."""
        return {
            axis.axis: _rows(axis, [calibration.probabilities(axis, clips) for clips in self.clip_logits[axis.axis]])
            for axis in taxonomy.axes
        }


def _rows(axis: LabelSet, rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.stack(rows) if rows else np.empty((0, len(axis.labels)), np.float32)


def hear(root: Storage, tagger: Tagger, stored: Stored) -> Heard:
    """Clip logits of tracks, the clips being those that a re-tag would take."""
    files = LogMelFiles(root, tagger.audio.log_mel.n_mels)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the stages of a re-tag: the same bits
    try:
        tracks = [
            tagger.clip_logits(files.clips(place, planned_starts(place, tagger.audio), tagger.audio.clip_frames))
            for place in stored.places
        ]
    finally:
        torch.set_num_threads(n_threads)
    return Heard(
        track_ids=stored.track_ids,
        targets=split_axes(stored.targets, tagger.taxonomy),
        clip_logits={axis.axis: [track[axis.axis] for track in tracks] for axis in tagger.taxonomy.axes},
    )


def calibrated(tagger: Tagger, validation: Heard, *, target_accuracy: float) -> Tagger:
    """`tagger` with pooling, temperature and thresholds fitted on validation tracks."""
    axes = tagger.taxonomy.axes
    fitted = fit_calibration(axes, validation.clip_logits, validation.targets, target_accuracy=target_accuracy)
    return tagger.with_calibration(fitted)


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """An evaluation with what it was computed from."""

    evaluation: Evaluation
    probabilities: pa.Table
    """PROBABILITIES rows of the measured tracks."""
    mistakes: Sequence[Mistake]
    changes: Mapping[str, TaxonomyChange]
    """Per axis, what class health proposes."""


def evaluate(
    root: Storage,
    tagger: Tagger,
    data: TrainingData,
    index: pa.Table,
    *,
    model: str,
    split: Split = "test",
    health: Sequence[AxisHealth] | None = None,
    health_source: str = "",
) -> Evaluated:
    """Measure a calibrated tagger on one side of the split, and a baseline trained on the same tracks beside it.

    index: FEATURE_INDEX rows of the examples. `health`: from out-of-fold probabilities; without, class health is taken
    from the validation tracks, so that no decision about the taxonomy comes from the test tracks.
    """
    sides: dict[str, Stored] = {name: stored_examples(rows_of(data.examples, name), index) for name in SPLITS}
    for name in {"train", "validation", split}:
        if not len(sides[name]):
            raise ConfigError(
                f"no {name} track of {model} has features: nothing can be measured", hint="tagfleet catalog validate"
            )
    groups = data.groups()
    taxonomy = tagger.taxonomy
    heard = hear(root, tagger, sides[split])
    probabilities = heard.probabilities(taxonomy, tagger.calibration)
    baseline = baseline_probabilities(root, tagger, sides, split)
    track_groups = [groups[track_id] for track_id in heard.track_ids]
    train_targets = split_axes(sides["train"].targets, taxonomy)
    plain = heard.probabilities(taxonomy, Calibration())
    axes = []
    for axis in taxonomy.axes:
        p, other, targets = probabilities[axis.axis], baseline[axis.axis], heard.targets[axis.axis]
        accepted = accepted_matrix(axis, tagger.calibration, p)
        axes.append(
            AxisEvaluation(
                axis=axis.axis,
                model=axis_metrics(axis, p, targets, groups=track_groups, accepted=accepted),
                baseline=axis_metrics(axis, other, targets, groups=track_groups),
                guessing=guessing(axis, targets, train_targets[axis.axis]),
                over_baseline=paired_difference(axis, p, other, targets, groups=track_groups),
                calibration=tagger.calibration.of(axis),
                reliability_before=reliability(axis, plain[axis.axis], targets),
                reliability_after=reliability(axis, p, targets),
                coverage=coverage_curve(axis, p, targets) if axis.exclusive else (),
            )
        )
    if health is None:
        validation = heard if split == "validation" else hear(root, tagger, sides["validation"])
        health = healths(taxonomy, validation.probabilities(taxonomy, tagger.calibration), validation.targets)
        health_source = f"{len(validation.track_ids)} validation tracks"
    evaluation = Evaluation(
        model=model,
        model_id=tagger.model_id,
        run_id=tagger.facts.run_id,
        split=split,
        **{f"n_{name}": len(side) for name, side in sides.items()},
        n_groups={name: len({groups[track_id] for track_id in side.track_ids}) for name, side in sides.items()},
        n_failed=data.examples.num_rows - sum(len(side) for side in sides.values()),
        labels_version=data.recipe.data.labels_version,
        catalog_version=data.recipe.data.catalog_version,
        taxonomy_version=taxonomy.version,
        axes=tuple(axes),
        health=tuple(health),
        health_source=health_source,
    )
    return Evaluated(
        evaluation=evaluation,
        probabilities=probability_rows(heard, taxonomy, probabilities, baseline, track_groups, split),
        mistakes=all_mistakes(tagger, heard, probabilities, data),
        changes=proposed_changes(health, taxonomy, data),
    )


def proposed_changes(health: Sequence[AxisHealth], taxonomy: Taxonomy, data: TrainingData) -> dict[str, TaxonomyChange]:
    """Per axis what class health proposes, for the whole taxonomy that the labels were made with: the one that
    `labels build --change` revises, of which a recipe may learn a part.
    """
    (version,) = set(data.labels["taxonomy_version"].to_pylist())
    proposed = {axis.axis: proposed_change(axis, taxonomy) for axis in health}
    return {
        axis: change.model_copy(update={"parent": version}) for axis, change in proposed.items() if change is not None
    }


def baseline_probabilities(
    root: Storage, tagger: Tagger, sides: Mapping[str, Stored], split: Split
) -> dict[str, NDArray[np.float32]]:
    """What MFCC statistics and logistic regression say of one side, trained on the training tracks' stored features."""
    files = LogMelFiles(root, tagger.audio.log_mel.n_mels)
    chosen = sorted(range(len(sides["train"])), key=lambda n: stable_seed("baseline", sides["train"].track_ids[n]))
    train = sorted(chosen[:BASELINE_TRACKS])

    def statistics(side: Stored, rows: Sequence[int]) -> NDArray[np.float32]:
        return np.stack([track_statistics(files.frames(side.places[n], 0, side.places[n].n_frames)) for n in rows])

    every = {name: range(len(side)) for name, side in sides.items()} | {"train": train}
    features = {name: statistics(sides[name], every[name]) for name in {"train", "validation", split}}
    targets = {name: split_axes(sides[name].targets[list(every[name])], tagger.taxonomy) for name in features}
    fitted = fit_baseline(
        tagger.taxonomy.axes,
        features["train"],
        targets["train"],
        features["validation"],
        targets["validation"],
        seed=0,
    )
    return fitted.probabilities(features[split])


def accepted_matrix(axis: LabelSet, calibration: Calibration, p: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n_tracks, n_labels) probabilities -> which labels each track gets."""
    accepted = np.zeros(p.shape, dtype=bool)
    for row, probabilities in zip(accepted, p, strict=True):
        row[calibration.accepted(axis, probabilities)] = True
    return accepted


def healths(taxonomy: Taxonomy, probabilities: ByAxis, targets: ByAxis) -> list[AxisHealth]:
    """Class health of the exclusive axes."""
    return [
        class_health(axis, probabilities[axis.axis], targets[axis.axis]) for axis in taxonomy.axes if axis.exclusive
    ]


def probability_rows(
    heard: Heard, taxonomy: Taxonomy, probabilities: ByAxis, baseline: ByAxis, groups: Sequence[str], split: str
) -> pa.Table:
    """PROBABILITIES rows, track by track and label by label."""
    parts = []
    n_tracks = len(heard.track_ids)
    for axis in taxonomy.axes:
        n = len(axis.labels)
        columns = {
            "track_id": np.repeat(np.array(heard.track_ids, dtype=object), n),
            "group": np.repeat(np.array(groups, dtype=object), n),
            "split": [split] * (n * n_tracks),
            "axis": [axis.axis] * (n * n_tracks),
            "label": [label.id for label in axis.labels] * n_tracks,
            "target": pa.array(heard.targets[axis.axis].ravel(), pa.float32(), from_pandas=True),
            "probability": probabilities[axis.axis].ravel(),
            "baseline_probability": baseline[axis.axis].ravel(),
        }
        parts.append(pa.table(columns, schema=PROBABILITIES))
    return pa.concat_tables(parts)


def all_mistakes(tagger: Tagger, heard: Heard, probabilities: ByAxis, data: TrainingData) -> list[Mistake]:
    """Where the tagger and the labels disagree, with what the catalogue and the labels say of the track."""
    rows = {row["track_id"]: row for row in data.tracks.select(["track_id", "uri", "title"]).to_pylist()}
    told = {
        (row["track_id"], row["axis"], row["label"]): row
        for row in data.labels.select(["track_id", "axis", "label", "evidence", "rule"]).to_pylist()
    }
    found = []
    for axis in tagger.taxonomy.axes:
        p, targets = probabilities[axis.axis], heard.targets[axis.axis]
        accepted = None if axis.exclusive else accepted_matrix(axis, tagger.calibration, p)
        for wrong in mistakes_of(axis, heard.track_ids, p, targets, accepted=accepted):
            track = rows[heard.track_ids[wrong.index]]
            label = told.get((track["track_id"], axis.axis, wrong.true_label), {})
            found.append(
                Mistake(
                    track_id=track["track_id"],
                    axis=axis.axis,
                    kind=wrong.kind,
                    source_name=PurePosixPath(track["uri"]).name,
                    title=track["title"],
                    uri=track["uri"],
                    true_label=wrong.true_label,
                    evidence=label.get("evidence", ""),
                    rule=label.get("rule", ""),
                    predicted_label=wrong.predicted_label,
                    confidence=wrong.confidence,
                    probabilities={label.id: float(x) for label, x in zip(axis.labels, p[wrong.index], strict=True)},
                )
            )
    return found


def write_evaluation(root: Storage, folder: str, evaluated: Evaluated) -> None:
    """The files of an evaluation below `folder`; `evaluation.json` last."""
    data = io.BytesIO()
    pq.write_table(evaluated.probabilities, data)
    root.write(f"{folder}/probabilities.parquet", data.getvalue())
    root.write(f"{folder}/mistakes.csv", mistakes_csv(evaluated.mistakes).encode())
    lines = (mistake.model_dump_json() + "\n" for mistake in evaluated.mistakes)
    root.write(f"{folder}/mistakes.jsonl", "".join(lines).encode())
    for axis in evaluated.evaluation.axes:
        change = evaluated.changes.get(axis.axis)
        if change is None:
            root.delete(f"{folder}/change-{axis.axis}.toml")
        else:
            root.write(f"{folder}/change-{axis.axis}.toml", change_toml(change).encode())
    text = json.dumps(evaluated.evaluation.model_dump(mode="json"), ensure_ascii=False, indent=2)
    root.write(f"{folder}/evaluation.json", text.encode())


def read_evaluation(root: Storage, folder: str) -> tuple[Evaluation, list[Mistake]]:
    """What `write_evaluation` wrote. NotFoundError when nothing was."""
    try:
        evaluation = Evaluation.model_validate_json(root.read(f"{folder}/evaluation.json"))
    except ValidationError as error:
        raise DigestMismatch(
            f"{folder}/evaluation.json is not what this tagfleet writes", hint="tagfleet evaluate MODEL measures again"
        ) from error
    lines = root.read(f"{folder}/mistakes.jsonl").decode().split("\n")
    return evaluation, [Mistake.model_validate_json(line) for line in lines if line]


def evaluation_folder(run_id: str, split: str, labels_version: int | None = None) -> str:
    """Where the evaluation of a training run's model lies; with other labels than the run's own, beside it."""
    other = "" if labels_version is None else f"-labels-{labels_version}"
    return f"runs/{run_id}/evaluation-{split}{other}"

"""A model's README: what it is, from what, how well it does. After Mitchell et al., "Model cards" (2019)."""

from __future__ import annotations

from tagfleet.fleet.config import Recipe
from tagfleet.model.evaluation import AxisEvaluation, Evaluation
from tagfleet.model.tagger import Tagger


def model_card(tagger: Tagger, evaluation: Evaluation, recipe: Recipe) -> str:
    """Markdown; everything in it can be looked up in the files beside it."""
    facts, audio = tagger.facts, tagger.audio
    creators = ", ".join(f"{n} {split}" for split, n in evaluation.n_groups.items())
    lines = [
        f"# {recipe.train.model}",
        "",
        f"Tags music with {', '.join(axis.axis for axis in tagger.taxonomy.axes)}; made by tagfleet from the tags that"
        " a library's creators typed. It says what such creators would have typed, no more.",
        "",
        f"- Model id `{tagger.model_id}`, run `{facts.run_id}`, recipe `{recipe.recipe or 'settings'}`"
        f" (digest `{recipe.digest}`), epoch {facts.epoch}",
        f"- Network {tagger.network.preset}, width {tagger.network.width}; audio path `{audio.digest}`:"
        f" {audio.n_clips or 'all'} clips of {audio.clip_s:.1f} s at {audio.log_mel.sample_rate} Hz",
        f"- Labels version {facts.labels_version}, catalogue version {facts.catalog_version}, taxonomy"
        f" `{tagger.taxonomy.version}`",
        *([f"- Warm start from {facts.parent}"] if facts.parent else []),
        f"- {evaluation.n_train} training, {evaluation.n_validation} validation and {evaluation.n_test} test tracks, of"
        f" {creators} creators (or what the labels were grouped by), each on one side only",
        "",
        "## On test creators",
        "| axis | measure | model | 95 % | baseline | majority | chance | tracks |",
        "|---|---|---|---|---|---|---|---|",
        *map(_row, evaluation.axes),
        "",
        "## Labels",
        *(f"- **{axis.axis}**: {', '.join(label.id for label in axis.labels)}" for axis in tagger.taxonomy.axes),
        "",
        "## Limits",
        "Measured on creators of the same library only. Labels are what people typed, with their mistakes. Files:"
        " `metrics.json` (every number), `splits.parquet` (which tracks it has learnt from), `tagger.json`,"
        " `weights.safetensors`; `manifest.json` has their SHA-256.",
        "",
    ]
    return "\n".join(lines)


def _row(axis: AxisEvaluation) -> str:
    measure = axis.model.measures[axis.model.headline]
    cells = [
        axis.axis,
        axis.model.headline,
        shown(measure.value),
        f"{shown(measure.low)} – {shown(measure.high)}",
        shown(axis.baseline.value),
        shown(axis.guessing.majority),
        shown(axis.guessing.chance),
        str(axis.model.n_tracks),
    ]
    return f"| {' | '.join(cells)} |"


def shown(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else f"{value:.3f}"

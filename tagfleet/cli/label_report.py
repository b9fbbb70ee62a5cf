"""What `labels build`, `diff` and `merge` tell a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tagfleet.cli.output import emit_table, printable, say

if TYPE_CHECKING:
    from tagfleet.fleet.labelling import LabelledCatalog
    from tagfleet.labels.diff import LabelChange
    from tagfleet.labels.taxonomy import Taxonomy

N_SHOWN = 12
"""Changes and missing labels that are named."""


def names_of(language: str, *taxonomies: Taxonomy | None) -> dict[str, str]:
    """`axis:label` -> display name; later taxonomies win."""
    axes = [axis for taxonomy in taxonomies if taxonomy for axis in taxonomy.axes]
    return {f"{axis.axis}:{label.id}": str(getattr(label, language)) for axis in axes for label in axis.labels}


def tell_build(made: LabelledCatalog, words: Taxonomy, language: str, axis: str) -> None:
    """Counts on stdout; what was decided, dropped and changed as remarks. axis: the one that was made, or `all`."""
    from tagfleet.labels.histogram import text_histogram
    from tagfleet.labels.split import missing_sides

    built = made.build
    names = names_of(language, made.previous_taxonomy, words)
    shown = [(name, counts) for name, counts in built.counts.items() if axis in ("all", name[0])]
    emit_table(
        ("axis", "label", "name", "tracks", "creators", "train", "validation", "test"),
        [(*name, names[":".join(name)], *counts.values()) for name, counts in shown],
    )
    for name, report in built.axes.items():
        told = [f"{report.n_labelled} tracks labelled, {report.n_unlabelled} unknown"]
        told += [f"{report.n_denied} denied by their own words"] if report.n_denied else []
        told += [f"{report.n_stopped} stopped"] if report.n_stopped else []
        say(f"{name}: " + ", ".join(told))
        if report.n_conflicting:
            pairs = list(report.conflicts.items())[:3]
            most = ", ".join(f"{names[f'{name}:{a}']} / {names[f'{name}:{b}']} {n}" for (a, b), n in pairs)
            say(f"  {report.n_conflicting} tracks name several labels; most often {most}")
        for label, n in report.n_over.items():
            say(f"  {names[f'{name}:{label}']}: {n} tracks over --per-class left out")
    for name, score in built.scores.items():
        say(f"{name}: {len(score.ends.high)} tracks at the high end, {len(score.ends.low)} at the low end")
        say(text_histogram(score.scores, score.n_unscored))
    for label, n in built.rare.items():
        say(f"{label}: left out, {n} tracks are too few on a side of the split")
    balance = built.balance
    say("Split: " + ", ".join(f"{s} {n} tracks of {balance.n_groups[s]} creators" for s, n in balance.n_tracks.items()))
    if balance.lopsided:
        say(f"  {printable(balance.largest)} has {balance.largest_share:.0%} of all tracks: no split can be balanced")
    present = {name for name, counts in built.counts.items() if counts["n_tracks"]}
    if missing := missing_sides(built.labels, words.only(present)) if present else {}:
        told = [f"{name} (no {', '.join(sides)})" for name, sides in list(missing.items())[:N_SHOWN]]
        say(f"  {len(missing)} labels are not on every side: {'; '.join(told)}{' …' if len(missing) > N_SHOWN else ''}")
        say("  Training refuses these; --min-per-side 1 leaves them out of the labels.")
    for line in built.void_corrections:
        say(f"Correction without effect: {printable(line)}")
    if made.previous is not None:
        say(f"Since version {made.previous}, {made.n_changed_tracks} tracks have other labels.")
        for c in made.changes[:N_SHOWN]:
            say(f"  {c.axis} {c.kind} {_move(c, names)}: {c.n_tracks} tracks ({c.rule})")
        if len(made.changes) > N_SHOWN:
            say(f"  … and {len(made.changes) - N_SHOWN} more kinds of change: tagfleet labels diff")
    say(
        "Nothing written (dry run)."
        if made.version is None
        else f"Labels version {made.version} by taxonomy {words.version}."
    )


def _move(change: LabelChange, names: dict[str, str]) -> str:
    shown = [names.get(f"{change.axis}:{label}", label) for label in (change.old, change.new) if label]
    return printable(" → ".join(shown))


def emit_changes(changes: list[LabelChange], names: dict[str, str]) -> None:
    """One row per kind of change, on stdout."""
    emit_table(
        ("axis", "change", "label", "tracks", "rule", "examples"),
        [(c.axis, c.kind, _move(c, names), c.n_tracks, c.rule, ", ".join(c.examples)) for c in changes],
    )

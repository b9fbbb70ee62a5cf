"""The labels of a whole catalogue.

Two steps, because the first is done by many workers: `match_tracks` reads each track's texts by itself, `settle_labels`
decides what only the whole catalogue can tell (conflicts counted, the ends of a score, corrections, the split).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tagfleet.labels.config import ConflictPolicy, LabelsConfig
from tagfleet.labels.corrections import apply_corrections
from tagfleet.labels.matching import Claim
from tagfleet.labels.polarity import Ends, Scored, score_of, select_ends, stable_order
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.split import Balance, assign_splits, balance_of, counts_by_side, without_rare
from tagfleet.labels.taxonomy import LabelSet, Taxonomy
from tagfleet.schemas import LABELS, MATCHES, conform


def match_tracks(tracks: pa.Table, reader: TrackReader, taxonomy: Taxonomy) -> pa.Table:
    """MATCHES rows of TRACKS rows, track by track: labels it has, then what was denied or stopped, then scores."""
    rows: dict[str, list[Any]] = {name: [] for name in MATCHES.names}
    scored = [axis for axis in taxonomy.axes if axis.polarity]

    def add(*values: object) -> None:
        for column, value in zip(rows.values(), values, strict=True):
            column.append(value)

    columns = (tracks[name].to_pylist() for name in ("track_id", "tags", "description"))
    for track_id, tags, description in zip(*columns, strict=True):
        claims, words = reader.read(tags or [], description or "")
        held = reader.matcher.held(claims)
        for claim in (*held, *unheld(claims, held)):
            c = claim
            add(track_id, c.axis, c.label, c.rule, c.verdict, c.source, c.evidence, c.position, c.start, c.end, *_NONE)
        for axis in scored:
            assert axis.polarity
            score = score_of(words, axis.polarity)
            if score is not None:
                told = ", ".join(f"{word.denied_by and '¬'}{word.words}" for word in words[:MAX_TOLD])
                add(track_id, axis.axis, None, "polarity", "scored", None, told, None, None, None, score, len(words))
    return pa.table(rows, schema=MATCHES)


MAX_TOLD = 30
"""Mood words that a score's evidence names."""
_NONE = (None, None)  # no score


def unheld(claims: Sequence[Claim], held: Sequence[Claim]) -> list[Claim]:
    """What was denied or stopped and is not a label of the track by other words; each label once."""
    have = {claim[:2] for claim in held}
    lost: dict[tuple[str, str], Claim] = {}
    for claim in claims:
        if claim.verdict != "stated" and claim[:2] not in have:
            lost.setdefault(claim[:2], claim)
    return list(lost.values())


@dataclass(frozen=True, kw_only=True)
class AxisReport:
    """What was counted on one axis."""

    n_labelled: int
    n_unlabelled: int
    """Tracks of which nothing is known here: masked."""
    n_denied: int
    """Tracks with a label that their own words deny."""
    n_stopped: int
    """Tracks with a spelling that a stop phrase hides."""
    conflicts: Mapping[tuple[str, str], int]
    """On an exclusive axis: (label that came first, other label) -> tracks."""
    n_conflicting: int
    """Tracks whose words name several labels of an exclusive axis."""
    n_over: Mapping[str, int]
    """Tracks over `--per-class`, by label."""


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """The scores of one axis."""

    scores: NDArray[np.float64]
    """Of every scored track."""
    n_unscored: int
    """Tracks without a mood word."""
    ends: Ends


@dataclass(frozen=True, kw_only=True)
class LabelBuild:
    """LABELS rows sorted by track, axis and label, and what was counted on the way."""

    labels: pa.Table
    splits: pa.Table
    """track_id, split and group of every track, labelled or not."""
    taxonomy: Taxonomy
    counts: Mapping[tuple[str, str], Mapping[str, int]]
    """Of every (axis, label) of the taxonomy: `n_tracks`, `n_creators`, and tracks per side of the split."""
    axes: Mapping[str, AxisReport]
    scores: Mapping[str, ScoreReport]
    balance: Balance
    rare: Mapping[str, int]
    """`axis:label` left out because a side of the split has too few -> tracks it had."""
    config: LabelsConfig
    """What it was made with."""
    per_class: int | None
    n_corrected: int
    """Corrections (a track and an axis each) that took part."""
    void_corrections: Sequence[str]
    """Corrections that say nothing any more, each with its reason."""


def build_labels(
    tracks: pa.Table,
    taxonomy: Taxonomy,
    config: LabelsConfig,
    reader: TrackReader,
    *,
    corrections: pa.Table | None = None,
    per_class: int | None = None,
) -> LabelBuild:
    """Labels of TRACKS rows, all in this process."""
    matches = match_tracks(tracks, reader, taxonomy)
    return settle_labels(matches, tracks, taxonomy, config, corrections=corrections, per_class=per_class)


def settle_labels(
    matches: pa.Table,
    tracks: pa.Table,
    taxonomy: Taxonomy,
    config: LabelsConfig,
    *,
    corrections: pa.Table | None = None,
    per_class: int | None = None,
) -> LabelBuild:
    """From MATCHES rows of all TRACKS to their labels; the order of tracks and rows of other tracks decides nothing.

    per_class: at most so many tracks per label of an exclusive axis (by a stable hash), and per end of a score.
    """
    splits = assign_splits(tracks, group_by=config.group_by, group_column=config.group_column)
    creator_of = _creators(tracks)
    corrected = apply_corrections(corrections, taxonomy, set(creator_of))
    n_unscored = {axis.axis: tracks.num_rows - _n_scored(matches, axis) for axis in taxonomy.axes if axis.polarity}
    matches = corrected.without_corrected(matches)
    parts: list[pa.Table] = []
    facts: dict[str, dict[str, Any]] = {}
    scores: dict[str, ScoreReport] = {}
    for axis in taxonomy.axes:
        here = matches.filter(pc.equal(matches["axis"], axis.axis))
        stated = here.filter(pc.equal(here["verdict"], "stated"))
        over: dict[str, int] = {}
        pairs: Counter[tuple[str, str]] = Counter()
        n_conflicting = 0
        if axis.polarity:
            scores[axis.axis], stated = _ends(here, axis, creator_of, n_unscored[axis.axis], config, per_class)
        elif axis.exclusive:
            stated, pairs, n_conflicting = _one_per_track(stated, config.conflicts)
            if per_class is not None:
                stated, over = _at_most(stated, per_class)
        facts[axis.axis] = {
            "n_denied": _n_tracks(here.filter(pc.equal(here["verdict"], "denied"))),
            "n_stopped": _n_tracks(here.filter(pc.equal(here["verdict"], "stopped"))),
            "conflicts": dict(sorted(pairs.items(), key=lambda item: (-item[1], item[0]))),
            "n_conflicting": n_conflicting,
            "n_over": over,
        }
        parts.append(stated)
    labels = _label_rows(pa.concat_tables([*parts, corrected.rows]), splits, taxonomy)
    labels, rare = without_rare(labels, taxonomy, config.min_per_side) if config.min_per_side else (labels, {})
    counts = count_labels(labels, taxonomy, creator_of)
    axes = {}
    for name, found in facts.items():
        n_labelled = _n_tracks(labels.filter(pc.equal(labels["axis"], name)))
        axes[name] = AxisReport(n_labelled=n_labelled, n_unlabelled=tracks.num_rows - n_labelled, **found)
    return LabelBuild(
        labels=labels,
        splits=splits,
        taxonomy=taxonomy,
        counts=counts,
        axes=axes,
        scores=scores,
        balance=balance_of(splits),
        rare=rare,
        config=config,
        per_class=per_class,
        n_corrected=corrected.n_applied,
        void_corrections=corrected.void,
    )


def correct_labels(
    labels: pa.Table, corrections: pa.Table, tracks: pa.Table, taxonomy: Taxonomy, config: LabelsConfig
) -> tuple[pa.Table, Sequence[str]]:
    """LABELS rows with corrections applied to them, and the corrections that say nothing.

    Everything else stays as it was built, sides of the split too; only a track without rows gets its side now.
    """
    splits = assign_splits(tracks, group_by=config.group_by, group_column=config.group_column)
    corrected = apply_corrections(corrections, taxonomy, set(splits["track_id"].to_pylist()))
    known = labels["split"].combine_chunks().take(pc.index_in(splits["track_id"], labels["track_id"].combine_chunks()))
    side = pc.coalesce(known, splits["split"])
    splits = splits.set_column(splits.schema.get_field_index("split"), "split", side)
    kept = corrected.without_corrected(labels)
    return _sorted(pa.concat_tables([kept, _label_rows(corrected.rows, splits, taxonomy)])), corrected.void


def on_one_axis(before: pa.Table, built: LabelBuild, axis: str, tracks: pa.Table) -> LabelBuild:
    """The build with the rows of `axis` only, beside the other axes' rows as they were (of tracks still there)."""
    kept = before.filter(
        pc.and_(pc.not_equal(before["axis"], axis), pc.is_in(before["track_id"], tracks["track_id"].combine_chunks()))
    )
    splits = built.splits
    side = splits["split"].take(pc.index_in(kept["track_id"], splits["track_id"].combine_chunks()))
    version = pa.array([built.taxonomy.version] * kept.num_rows, pa.string())
    columns = {"split": side, "taxonomy_version": version}
    kept = pa.table([columns.get(name, kept[name]) for name in LABELS.names], schema=LABELS)
    labels = _sorted(pa.concat_tables([kept, built.labels.filter(pc.equal(built.labels["axis"], axis))]))
    return replace(
        built,
        labels=labels,
        counts=count_labels(labels, built.taxonomy, _creators(tracks)),
        axes={axis: built.axes[axis]},
        scores={name: score for name, score in built.scores.items() if name == axis},
        rare={name: n for name, n in built.rare.items() if name.startswith(f"{axis}:")},
    )


def _sorted(labels: pa.Table) -> pa.Table:
    return labels.sort_by([("track_id", "ascending"), ("axis", "ascending"), ("label", "ascending")])


def _n_tracks(rows: pa.Table) -> int:
    return int(pc.count_distinct(rows["track_id"]).as_py())


def _one_per_track(rows: pa.Table, policy: ConflictPolicy) -> tuple[pa.Table, Counter[tuple[str, str]], int]:
    """Rows of an exclusive axis by the policy, the pairs of labels in conflict, and the tracks that had one."""
    if not rows.num_rows:
        return rows, Counter(), 0
    codes = rows["track_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first, track, n = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    several = n[track] > 1
    is_first = np.zeros(len(codes), dtype=bool)
    is_first[first] = True
    other = np.flatnonzero(several & ~is_first)
    labels = rows["label"].combine_chunks()
    winners, losers = labels.take(pa.array(first[track[other]])), labels.take(pa.array(other))
    pairs = Counter(zip(winners.to_pylist(), losers.to_pylist(), strict=True))
    keep = {"first": is_first, "skip": ~several, "multi": np.ones(len(codes), dtype=bool)}[policy]
    return rows.filter(pa.array(keep)), pairs, int((n > 1).sum())


def _at_most(rows: pa.Table, per_class: int) -> tuple[pa.Table, dict[str, int]]:
    """At most `per_class` rows of each label, those with the smallest stable hash of the track id."""
    by_label: dict[str, list[tuple[bytes, int]]] = {}
    for n, (track_id, label) in enumerate(zip(rows["track_id"].to_pylist(), rows["label"].to_pylist(), strict=True)):
        by_label.setdefault(label, []).append((stable_order(track_id), n))
    kept = sorted(n for of_label in by_label.values() for _, n in sorted(of_label)[:per_class])
    over = {label: len(found) - per_class for label, found in sorted(by_label.items()) if len(found) > per_class}
    return rows.take(pa.array(kept, pa.int64())), over


def _ends(
    rows: pa.Table,
    axis: LabelSet,
    creator_of: Mapping[str, str],
    n_unscored: int,
    config: LabelsConfig,
    per_class: int | None,
) -> tuple[ScoreReport, pa.Table]:
    """The report on an axis' scores, and MATCHES rows of the tracks at its two ends."""
    rows = rows.filter(pc.equal(rows["verdict"], "scored"))
    names = ("track_id", "score", "n_words")
    scored = [
        Scored(track_id=track_id, score=score, n_words=n, creator=creator_of[track_id])
        for track_id, score, n in zip(*(rows[name].to_pylist() for name in names), strict=True)
    ]
    ends = select_ends(
        scored,
        per_side=per_class or config.per_class,
        max_creator_share=config.max_creator_share,
        threshold=config.threshold,
    )
    high, low = (label.id for label in axis.labels)
    label_of = dict.fromkeys(ends.high, high) | dict.fromkeys(ends.low, low)
    labels = pa.array([label_of.get(track.track_id) for track in scored], pa.string())
    rows = rows.set_column(MATCHES.get_field_index("label"), MATCHES.field("label"), labels)
    rows = rows.filter(pc.is_valid(rows["label"]))
    values = np.array([track.score for track in scored], dtype=np.float64)
    return ScoreReport(scores=values, n_unscored=n_unscored, ends=ends), rows


def _label_rows(rows: pa.Table, splits: pa.Table, taxonomy: Taxonomy) -> pa.Table:
    split = splits["split"].take(pc.index_in(rows["track_id"], splits["track_id"].combine_chunks()))
    is_score = pc.equal(rows["rule"], "polarity")
    position = pc.if_else(is_score, 0, rows["position"])
    weight = pc.divide(1.0, pc.add(1.0, pc.cast(position, pa.float64())))
    evidence = rows["evidence"]
    scored = pc.binary_join_element_wise(pc.cast(pc.round(rows["score"], 3), pa.string()), evidence, ": ")
    columns = {
        "source": pc.if_else(is_score, "score", rows["source"]),
        "evidence": pc.if_else(is_score, scored, evidence),
        "position": position,
        "weight": weight,
        "split": split,
        "taxonomy_version": pa.array([taxonomy.version] * rows.num_rows, pa.string()),
    }
    table = pa.table({name: columns.get(name, rows[name] if name in MATCHES.names else None) for name in LABELS.names})
    return _sorted(conform(table, LABELS))


def _creators(tracks: pa.Table) -> dict[str, str]:
    """Track -> creator, or the track itself where none is known."""
    pairs = zip(tracks["track_id"].to_pylist(), tracks["creator_id"].to_pylist(), strict=True)
    return {track: f"creator {creator}" if creator else f"track {track}" for track, creator in pairs}


def _n_scored(matches: pa.Table, axis: LabelSet) -> int:
    here = pc.and_(pc.equal(matches["axis"], axis.axis), pc.equal(matches["verdict"], "scored"))
    return _n_tracks(matches.filter(here))


def count_labels(
    labels: pa.Table, taxonomy: Taxonomy, creator_of: Mapping[str, str]
) -> dict[tuple[str, str], dict[str, int]]:
    """Of every (axis, label): tracks, creators, and tracks per side of the split."""
    groups: dict[tuple[str, str], set[str]] = {}
    for track_id, axis, label in zip(
        *(labels[name].to_pylist() for name in ("track_id", "axis", "label")), strict=True
    ):
        groups.setdefault((axis, label), set()).add(creator_of[track_id])
    sides = counts_by_side(labels)
    nowhere = {"train": 0, "validation": 0, "test": 0}
    counts = {}
    for set_ in taxonomy.axes:
        for label in set_.labels:
            name = (set_.axis, label.id)
            by_side = sides.get(name, nowhere)
            counts[name] = {"n_tracks": sum(by_side.values()), "n_creators": len(groups.get(name, ())), **by_side}
    return counts

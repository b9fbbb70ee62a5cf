"""Counting what a part holds while its rows are at hand: what the report, the gate and the metrics are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tagfleet.fleet.distribution import by_axis, distribution, total_of
from tagfleet.fleet.plan import RETRY
from tagfleet.labels.taxonomy import Taxonomy
from tagfleet.store.parts import PartFile, Tally

_TALLIES_AT_ONCE = 256
_NO_FAILURES = Tally()


class Made:
    """Parts of a run: of each what the commit needs, and the sum of what all of them count.

    The counts of a part are kilobytes. Those of hundreds of thousands are not kept.
    """

    def __init__(self, parts: Iterable[PartFile] = ()) -> None:
        self.parts: list[PartFile] = []
        """Of their tallies the failures only."""
        self.n_heard = 0
        """Rows that are not rewritten ones."""
        self._tallies: list[Tally] = []
        for part in parts:
            self.add(part)

    def add(self, part: PartFile) -> None:
        """One more."""
        self.n_heard += 0 if part.replaces else part.n_rows
        self._tallies.append(part.tally)
        if len(self._tallies) == _TALLIES_AT_ONCE:
            self._tallies = [add_up(self._tallies)]
        failures = Tally(failures=part.tally.failures) if part.tally.failures else _NO_FAILURES
        self.parts.append(part.model_copy(update={"tally": failures}))

    @property
    def tally(self) -> Tally:
        """The sum."""
        return add_up(self._tallies)


def tally_rows(log_mels: pa.Table, rows: Sequence[Mapping[str, Any]], taxonomy: Taxonomy) -> Tally:
    """Of LOG_MELS rows and the PREDICTIONS rows that were made of them, in the same order."""
    told = zip(
        log_mels["reason"].to_pylist(), log_mels["was"].to_pylist(), log_mels["same_model"].to_pylist(), strict=True
    )
    before = [(was if same else None, reason) for reason, was, same in told]
    tally = tally_labels([was for was, _ in before], rows, taxonomy)
    failed = [reason for (_, reason), row in zip(before, rows, strict=True) if row["status"] == "failed"]
    return tally.model_copy(
        update={
            "n_new_failures": sum(reason != RETRY for reason in failed),
            "audio_s": float(sum(row["duration_s"] or 0.0 for row in rows if row["status"] == "tagged")),
            **{name: pc.sum(log_mels[name]).as_py() or 0 for name in ("n_bytes", "n_requests", "n_retries")},
            "cpu_s": {
                "listen": pc.sum(log_mels["listen_cpu_s"]).as_py() or 0.0,
                "log-mel": pc.sum(log_mels["mel_cpu_s"]).as_py() or 0.0,
            },
        }
    )


def tally_labels(was: Sequence[str | None], rows: Sequence[Mapping[str, Any]], taxonomy: Taxonomy) -> Tally:
    """Labels, failures and flips; `was` is what the same model had said of each row's track, null where it had not."""
    axes = [axis.axis for axis in taxonomy.axes]
    texts = [_text(row) for row in rows]
    flips = {axis: [0, 0] for axis in axes}
    for before, now in zip(was, texts, strict=True):
        if before is None or now is None:
            continue
        old, new = by_axis(before, axes), by_axis(now, axes)
        for axis, counts in flips.items():
            counts[0] += 1
            counts[1] += old[axis][:1] != new[axis][:1]
    return Tally(
        n_tagged=sum(text is not None for text in texts),
        failures=Counter(f"{row['error_stage']}/{row['error_reason']}" for row in rows if row["status"] == "failed"),
        labels=distribution(pa.array(texts, pa.string()), axes),
        flips={axis: (n, n_flipped) for axis, (n, n_flipped) in flips.items()},
    )


def _text(row: Mapping[str, Any]) -> str | None:
    if row["status"] != "tagged":
        return None
    return " ".join(f"{tag['axis']}:{tag['label']}" for tag in row["tags"])


def add_up(tallies: Iterable[Tally]) -> Tally:
    """Of all parts together: sums, the earliest beginning and the highest memory."""
    parts = list(tallies)
    failures: Counter[str] = Counter()
    cpu_s: Counter[str] = Counter()
    flips: dict[str, list[int]] = {}
    for part in parts:
        failures.update(part.failures)
        cpu_s.update(part.cpu_s)
        for axis, counts in part.flips.items():
            flips[axis] = [a + b for a, b in zip(flips.get(axis, [0, 0]), counts, strict=True)]
    return Tally(
        n_tagged=sum(part.n_tagged for part in parts),
        failures=failures,
        n_new_failures=sum(part.n_new_failures for part in parts),
        labels=total_of(part.labels for part in parts),
        flips={axis: (n, n_flipped) for axis, (n, n_flipped) in flips.items()},
        audio_s=sum(part.audio_s for part in parts),
        n_bytes=sum(part.n_bytes for part in parts),
        n_requests=sum(part.n_requests for part in parts),
        n_retries=sum(part.n_retries for part in parts),
        cpu_s=cpu_s,
        began_at=min((part.began_at for part in parts if part.began_at), default=0.0),
        wall_s=sum(part.wall_s for part in parts),
        peak_memory_mb=max((part.peak_memory_mb for part in parts), default=0.0),
    )

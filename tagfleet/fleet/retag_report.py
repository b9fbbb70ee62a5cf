"""What a re-tag did, in numbers: `runs/<id>/report.json`, the result in `run.json`, and what people are shown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from tagfleet.errors import NotFoundError
from tagfleet.fleet.distribution import Distribution, total_of, without
from tagfleet.fleet.gate import GateValue, gate_values
from tagfleet.fleet.plan import Plan
from tagfleet.fleet.resources import RetagConfig
from tagfleet.fleet.tallying import Made, add_up
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions, Prepared

REPORT_FILE = "report.json"
_LOOK_BACK = 20


@dataclass(frozen=True, kw_only=True)
class RunTimes:
    """When a start of the run began, how long it took, and what the machines cost."""

    began_at: float
    """Seconds since 1970."""
    seconds: float
    price_per_hour: float


@dataclass(frozen=True, kw_only=True)
class RetagReport:
    """What a run did; `n_tagged + n_failed + n_unchanged + n_waiting` is the catalogue."""

    run_id: str
    model: str
    model_id: str
    backend: str
    catalog_version: int
    version: int
    """Of the predictions, once it is published."""
    n_catalog: int
    n_tagged: int
    n_failed: int
    n_unchanged: int
    n_waiting: int
    """New tracks that `--limit` leaves to the next run."""
    n_removed: int
    reasons: Mapping[str, int]
    """Why rows were made again, or removed."""
    work: Mapping[str, int]
    """By what: decode | network (on kept log-mels) | stored (from stored logits) | remove."""
    failures: Mapping[str, int]
    n_heard: int
    """Tracks whose audio or log-mels this start heard; what an earlier start of the run did is not done again."""
    n_adopted: int
    """Tracks that an earlier start had finished."""
    planned_at: str
    seconds: float
    """Of this start, from its first step to the commit."""
    startup_s: float
    """Of them, until the first worker began."""
    tracks_per_second: float
    """Heard, without the start-up."""
    realtime_per_core: float
    """Seconds of audio, whole tracks, per CPU second of the stages."""
    audio_s: float
    cpu_s: Mapping[str, float]
    """Stage -> CPU seconds of all workers: listen (fetch, decode), log-mel, network, rewrite."""
    n_bytes: int
    """Fetched from where the audio is."""
    n_requests: int
    n_retries: int
    peak_memory_mb: float
    """Of the largest worker, decoder included."""
    cost: float
    """`price_per_hour` for as long as it took."""
    labels: Distribution
    """Of the new snapshot: axis -> label, or `unknown` -> tracks."""
    gate: Sequence[GateValue]


def make_report(
    plan: Plan,
    made: Made,
    adopted: Made,
    prepared: Prepared,
    times: RunTimes,
    config: RetagConfig,
) -> RetagReport:
    """All numbers of a run whose parts are complete: those that this start made, and those that were there before."""
    mine = made.tally
    whole = add_up([adopted.tally, mine])
    labels = total_of([without(plan.before, plan.leaving), whole.labels])
    n_after = plan.n_before - plan.n_leaving + whole.n_tagged
    gate = gate_values(plan.before, labels, plan.n_before, n_after, whole.flips, config.gate)
    seconds = times.seconds
    # Clocks of machines differ, and may be set while a run is at work.
    startup_s = min(max(0.0, mine.began_at - times.began_at), seconds) if mine.began_at else 0.0
    cpu_s = sum(mine.cpu_s.values())
    return RetagReport(
        run_id=plan.run_id,
        model=plan.model,
        model_id=plan.model_id,
        backend=plan.backend,
        catalog_version=plan.catalog_version,
        version=prepared.version,
        n_catalog=plan.n_catalog,
        n_tagged=prepared.n_tagged,
        n_failed=prepared.n_failed,
        n_unchanged=prepared.n_unchanged,
        n_waiting=plan.n_waiting,
        n_removed=prepared.n_removed,
        reasons=plan.reasons,
        work=plan.work,
        failures=dict(Counter(whole.failures)),
        n_heard=made.n_heard,
        n_adopted=adopted.n_heard,
        planned_at=plan.planned_at,
        seconds=round(seconds, 1),
        startup_s=round(startup_s, 1),
        tracks_per_second=round(made.n_heard / max(1e-3, seconds - startup_s), 2),
        realtime_per_core=round(mine.audio_s / cpu_s, 1) if cpu_s else 0.0,
        audio_s=round(mine.audio_s, 1),
        cpu_s={stage: round(s, 3) for stage, s in mine.cpu_s.items()},
        n_bytes=mine.n_bytes,
        n_requests=mine.n_requests,
        n_retries=mine.n_retries,
        peak_memory_mb=round(mine.peak_memory_mb),
        cost=round(times.price_per_hour * seconds / 3600, 4),
        labels=labels,
        gate=gate,
    )


def write_report(root: Storage, report: RetagReport) -> None:
    """Put it into the run's folder."""
    text = json.dumps(asdict(report), ensure_ascii=False, indent=2)
    root.write(f"runs/{report.run_id}/{REPORT_FILE}", text.encode())


def stored_report(root: Storage, run_id: str) -> RetagReport:
    """What a run said of itself; NotFoundError when it said nothing."""
    told = json.loads(root.read(f"runs/{run_id}/{REPORT_FILE}"))
    return RetagReport(**told | {"gate": tuple(GateValue(**value) for value in told["gate"])})


def last_throughput(root: Storage) -> RetagReport | None:
    """The report of the last published run that heard anything, as far as a look at the latest commits tells."""
    predictions = Predictions(root)
    if not predictions.table.exists():
        return None
    for version in predictions.table.history(_LOOK_BACK):
        if version.run_id is not None:
            try:
                report = stored_report(root, version.run_id)
            except (NotFoundError, TypeError, KeyError, ValueError):
                continue
            if report.n_heard:
                return report
    return None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a plan will probably take, going by the last run."""

    seconds: float
    cost: float
    from_run: str


def estimate(root: Storage, plan: Plan, price_per_hour: float) -> Estimate | None:
    """None when no earlier run says how fast it goes."""
    last = last_throughput(root)
    if last is None or not last.tracks_per_second:
        return None
    seconds = last.startup_s + plan.n_listen / last.tracks_per_second if plan.n_listen else 0.0
    return Estimate(seconds=round(seconds, 1), cost=round(price_per_hour * seconds / 3600, 4), from_run=last.run_id)

"""What Prometheus is told; the names are those that dashboards and alerts ask for (tests/k8s holds that)."""

from collections import Counter

import pytest

from tagfleet.fleet import metrics
from tagfleet.store.parts import PartFile, Tally


class Recorded:
    """Stands where Ray's exporter stands: the counters' sums, the gauges' last values."""

    def __init__(self):
        self.sums, self.values = Counter(), {}

    def counter(self, name, description, *tag_keys):
        return _Metric(lambda n, tags: self.sums.update({(name, *tags.items()): n}), tag_keys)

    def gauge(self, name, description, *tag_keys):
        return _Metric(lambda n, tags: self.values.update({(name, *tags.items()): n}), tag_keys)


class _Metric:
    def __init__(self, record, tag_keys):
        self._record, self._tag_keys = record, tag_keys

    def set(self, n, tags=None):
        assert tuple(tags or {}) == self._tag_keys  # Ray refuses what was not declared
        self._record(n, tags or {})

    def inc(self, n, tags=None):
        assert n > 0  # Ray refuses what is no increase
        self.set(n, tags)


@pytest.fixture
def shown(monkeypatch):
    recorded = Recorded()
    monkeypatch.setattr(metrics, "_counter", recorded.counter)
    monkeypatch.setattr(metrics, "_gauge", recorded.gauge)
    monkeypatch.setattr(metrics, "_collected", lambda: True)
    return recorded


def part(**tally):
    return PartFile(path="p", run_id="r", n_rows=1, id_checksum=0, tally=Tally(worker="machine/7", **tally))


def test_parts_add_up(shown):
    metrics.count_part(
        part(
            n_tagged=5,
            failures={"decode/corrupt": 2, "fetch/not-found": 1},
            audio_s=600.5,
            n_bytes=1000,
            n_requests=7,
            n_retries=2,
            cpu_s={"listen": 0.5, "network": 0.25},
            peak_memory_mb=800,
        )
    )
    metrics.count_part(part(n_tagged=1, audio_s=10.0, n_bytes=24, cpu_s={"listen": 0.5}, peak_memory_mb=900))
    assert shown.sums == {
        ("tagfleet_tracks_total", ("outcome", "tagged")): 6,
        ("tagfleet_tracks_total", ("outcome", "failed")): 3,
        ("tagfleet_track_failures_total", ("reason", "decode/corrupt")): 2,
        ("tagfleet_track_failures_total", ("reason", "fetch/not-found")): 1,
        ("tagfleet_audio_seconds_total",): 610.5,
        ("tagfleet_bytes_read_total",): 1024,
        ("tagfleet_requests_total",): 7,
        ("tagfleet_retries_total",): 2,
        ("tagfleet_stage_cpu_seconds_total", ("stage", "listen")): 1.0,
        ("tagfleet_stage_cpu_seconds_total", ("stage", "network")): 0.25,
    }
    assert shown.values == {("tagfleet_worker_peak_memory_mb", ("worker", "machine/7")): 900}


def test_nothing_is_collected_before_ray_runs(shown, monkeypatch):
    monkeypatch.setattr(metrics, "_collected", lambda: False)
    metrics.show_run("retag", "Tagging", 1, 2, 0)
    metrics.show_report(None)
    metrics.count_part(part(n_tagged=5))
    assert not shown.values and not shown.sums


def test_a_runs_step_is_shown_while_it_works(shown):
    metrics.show_run("retag", "Tagging", 3, None, 1)
    metrics.show_run("retag", "Tagging", 4, 12, 0)
    tags = (("kind", "retag"), ("step", "Tagging"))
    names = {"done": 4, "failed": 0, "total": 12}
    assert shown.values == {(f"tagfleet_run_{name}", *tags): n for name, n in names.items()}

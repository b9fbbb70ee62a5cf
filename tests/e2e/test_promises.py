"""DESIGN.md's promises 1, 2, 3, 5 and 6, on real files through the real pipeline."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.cli.main import exit_code
from tagfleet.errors import ConflictError, JobError
from tagfleet.fleet.plan import Plan
from tagfleet.fleet.resources import RayConfig, RetagConfig
from tagfleet.fleet.retag import plan_retag, retag
from tagfleet.fleet.scan import scan
from tagfleet.store.config import StorageConfig
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions
from tagfleet.store.tables import Table
from tests.e2e.library import BROKEN, N_GOOD, N_TRACKS, make_library
from tests.model.taggers import random_tagger

OF_THE_RUN = ["run_id", "tagged_at"]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    make_library(folder)
    return folder


@pytest.fixture
def root(library, tmp_path):
    """A root with the library catalogued and an untrained tagger in production."""
    storage = Storage(str(tmp_path / "root"))
    catalogue(storage, library)
    publish(storage)
    return storage


def catalogue(storage, library):
    found = scan(str(library), StorageConfig(), DecodeLimits(), known=None, advance=lambda done, failed: None)
    Table(storage, "catalog").replace(found.tracks, note="test")


def publish(storage, seed=0, **changes):
    tagger = random_tagger(seed, **changes)
    models = ModelStore(storage)
    ref = models.publish("tagger", tagger.to_files(), tagger.model_id)
    models.promote(ref, by="test")
    return ref, tagger


def run(storage, run_id, *, only="stale", shuffle=False, plan=None, **config):
    models = ModelStore(storage)
    ref, files = models.load("production")
    from tagfleet.model.tagger import Tagger

    tagger = Tagger.from_files(files)
    plan = plan or plan_retag(storage, ref, tagger, run_id, catalog_version=None, only=only)
    if shuffle:
        order = np.random.default_rng(1).permutation(plan.work.num_rows)
        plan = Plan(**{**vars(plan), "work": plan.work.take(order)})
    return retag(
        storage,
        plan,
        audio=tagger.audio,
        limits=DecodeLimits(),
        config=RetagConfig(**config),
        ray_config=RayConfig(),
    )


def wait_until(happened, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.01)


def processes_that_know(folder):
    """Processes whose command line names `folder`, as all of Ray's name their session."""
    known = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            known += [path.parent.name] if folder.encode() in path.read_bytes() else []
    return known


def rows(storage, version=None):
    table = Predictions(storage).table.read(version)
    return table.drop_columns(OF_THE_RUN).sort_by("track_id").to_pylist()


def test_no_track_vanishes_and_the_counts_add_up(root, ray_local):
    report = run(root, "r1")
    assert (report.n_tagged, report.n_failed, report.n_unchanged) == (N_GOOD, len(BROKEN), 0)
    assert sum(report.failures.values()) == len(BROKEN)
    by_name = {row["source_name"]: row for row in rows(root)}
    assert len(by_name) == N_TRACKS == report.n_catalog
    assert {name for name, row in by_name.items() if row["status"] == "failed"} == BROKEN
    assert by_name["empty.mp3"]["error_reason"] == "empty"
    assert by_name["notes.mp3"]["error_reason"] == "unsupported-container"
    assert by_name["cut.wav"]["error_reason"] == "truncated"
    assert by_name["silent.wav"]["status"] == "tagged"


FENCED = {"decode_workers": 1, "decode_memory_mb": 200, "network_memory_mb": 200}


def test_the_same_row_bit_for_bit_whatever_the_sharding(root, ray_local):
    run(root, "one", network_workers=1, tracks_per_block=16, rows_per_file=512)
    first = rows(root)
    run(root, "two", only="all", shuffle=True, network_workers=2, tracks_per_block=1, rows_per_file=3, **FENCED)
    assert rows(root) == first
    assert len(Predictions(root).table.files(Predictions(root).table.version())) >= N_TRACKS // 3


def test_an_unchanged_track_costs_nothing_and_a_changed_one_is_made_again(root, library, tmp_path, ray_local):
    run(root, "r1")
    again = run(root, "r2")
    assert (again.n_tagged, again.n_unchanged, again.version) == (0, N_TRACKS, 1)
    touched = library / "silent.wav"
    before = touched.stat()
    try:
        os.utime(touched, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
        catalogue(root, library)
        report = run(root, "r3")
    finally:
        os.utime(touched, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert dict(report.reasons) == {"audio": 1}
    assert (report.n_tagged, report.n_unchanged) == (1, N_TRACKS - 1)
    run_ids = Predictions(root).table.read(columns=["track_id", "run_id"]).to_pylist()
    assert {row["track_id"] for row in run_ids if row["run_id"] == "r3"} == {"silent.wav"}
    assert len(run_ids) == N_TRACKS


def test_a_removed_track_leaves_the_table(root, ray_local):
    run(root, "r1")
    catalog = Table(root, "catalog")
    catalog.replace(catalog.read().filter(pc.not_equal(catalog.read()["track_id"], "empty.mp3")), note="less")
    report = run(root, "r2")
    assert (report.n_removed, report.n_tagged, report.n_unchanged) == (1, 0, N_TRACKS - 1)
    assert "empty.mp3" not in {row["track_id"] for row in rows(root)}


def test_a_run_that_is_started_twice_is_one_run(root, ray_local):
    first = run(root, "same")
    history = Predictions(root).table.history()
    assert run(root, "same") == first
    assert Predictions(root).table.history() == history


def test_of_two_runs_the_second_notices(root, ray_local):
    ref, tagger = publish(root, seed=1)
    early = plan_retag(root, ref, tagger, "early", catalog_version=None, only="stale")
    run(root, "fast")
    before = rows(root)
    with pytest.raises(ConflictError, match="was planned on version 0"):
        run(root, "early", plan=early)
    assert rows(root) == before


def test_a_network_stage_that_raises_leaves_the_old_snapshot(root, ray_local):
    run(root, "r1")
    before, version = rows(root), Predictions(root).table.version()
    ref, tagger = publish(root, seed=2)
    plan = plan_retag(root, ref, tagger, "r2", catalog_version=None, only="stale")
    weights = Path(root.uri(f"models/tagger/{ref.version}/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(JobError, match="not the file that was published") as caught:
        retag(
            root,
            plan,
            audio=tagger.audio,
            limits=DecodeLimits(),
            config=RetagConfig(),
            ray_config=RayConfig(),
        )
    assert "--run-id r2" in caught.value.hint
    assert (rows(root), Predictions(root).table.version()) == (before, version)


def test_sigkill_before_the_commit_leaves_the_old_snapshot_and_the_run_can_go_on(root, ray_local, tmp_path):
    run(root, "r1")
    before = rows(root)
    publish(root, seed=3)
    parts = Path(root.uri("predictions"))
    command = [sys.executable, "-m", "tagfleet", "--root", root.root, "retag", "--run-id", "r2"]
    # Short, as in conftest.py; gone when the processes of the killed run have noticed and ended, too.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, "TAGFLEET_RETAG__TRACKS_PER_BLOCK": "1", "TAGFLEET_RAY__N_CPUS": "2"}
        environment |= {"TAGFLEET_RETAG__ROWS_PER_FILE": "1", "RAY_TMPDIR": folder}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            wait_until(lambda: process.poll() is not None or any(parts.glob("part-r2-*.parquet")))
            assert process.poll() is None, process.stderr.read().decode()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stderr.close()
        wait_until(lambda: not processes_that_know(folder))
    assert rows(root) == before
    report = run(root, "r2")
    assert report.n_tagged == N_GOOD
    assert {row["model_id"] for row in rows(root) if row["status"] == "tagged"} == {report.model_id}
    assert len(rows(root)) == N_TRACKS


def test_another_audio_path_stops_before_any_audio_is_read(root, library, monkeypatch, capsys):
    """By the command: a model of another audio path, and a catalogue whose audio cannot be read without notice."""
    from tagfleet.audio import config

    before = AudioConfig().digest
    monkeypatch.setattr(config, "AUDIO_CODE", "another-decoder-2")
    assert AudioConfig().digest != before
    opened = []
    monkeypatch.setattr(os, "open", lambda path, *args, _open=os.open: opened.append(str(path)) or _open(path, *args))
    assert exit_code(["--root", root.root, "retag", "--run-id", "r1", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "digest-mismatch"
    assert f"trained with audio path {before}" in error["message"]
    assert not [path for path in opened if path.startswith(str(library))]
    assert not Predictions(root).table.exists()
    assert not root.exists("runs/r1/plan.json")

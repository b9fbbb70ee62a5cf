"""DESIGN.md's promises 1, 2, 3, 5 and 6, on real files through the real pipeline."""

import contextlib
import json
import os
import shutil
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
from tagfleet.errors import ConflictError, GateRefused, JobError
from tagfleet.fleet import tagging
from tagfleet.fleet.plan import Ask, plan_rows
from tagfleet.fleet.plan_run import plan_run
from tagfleet.fleet.resources import RayConfig, RetagConfig
from tagfleet.fleet.retag import open_model, retag
from tagfleet.fleet.scan import scan
from tagfleet.model.calibration import AxisCalibration, Calibration
from tagfleet.store.config import StorageConfig
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tagfleet.store.parts import parquet_bytes
from tagfleet.store.predictions import Predictions
from tagfleet.store.tables import Table
from tests.e2e.library import BROKEN, N_GOOD, N_TRACKS, make_library
from tests.model.taggers import random_tagger

OF_THE_RUN = ["run_id", "tagged_at"]
UNSURE = Calibration(axes=(AxisCalibration(axis="genre", temperature=3, unknown_below=1),))
"""No track has a genre any more."""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    make_library(folder)
    return folder


@pytest.fixture(scope="module")
def ready(library, tmp_path_factory):
    """A root with the library catalogued and an untrained tagger in production."""
    storage = Storage(str(tmp_path_factory.mktemp("ready") / "root"))
    catalogue(storage, library)
    publish(storage, random_tagger())
    return storage


@pytest.fixture(scope="module")
def first_night(ready, tmp_path_factory, ray_local):
    """The same after run r1, and its report."""
    storage = copy(ready, tmp_path_factory.mktemp("tagged"))
    return storage, run(storage, "r1", workers=1, tracks_per_part=16)


@pytest.fixture
def root(ready, tmp_path):
    return copy(ready, tmp_path)


@pytest.fixture
def tagged(first_night, tmp_path):
    return copy(first_night[0], tmp_path)


def copy(storage, folder):
    return Storage(str(shutil.copytree(storage.root, folder / "root")))


def catalogue(storage, library):
    found = scan(str(library), StorageConfig(), DecodeLimits(), known=None, advance=lambda done, failed: None)
    Table(storage, "catalog").replace(found.tracks, note="test")


def publish(storage, tagger):
    models = ModelStore(storage)
    ref = models.publish("tagger", tagger.to_files(), tagger.model_id)
    models.promote(ref, by="test")
    return ref


def be_unsure(storage):
    """The same network in production, with thresholds that no genre reaches."""
    publish(storage, open_model(storage, "production", RetagConfig())[1].with_calibration(UNSURE))


def run(storage, run_id, *, only="stale", tell=lambda text: None, **config):
    return retag(
        storage,
        Ask(run_id=run_id, only=only),
        config=RetagConfig(**config),
        limits=DecodeLimits(),
        ray_config=RayConfig(),
        tell=tell,
    )


def plan(storage, run_id, only="stale"):
    """What another start of the run has planned already."""
    ref, tagger = open_model(storage, "production", RetagConfig())
    return plan_run(storage, ref, tagger, Ask(run_id=run_id, only=only), RetagConfig(), RayConfig())


def plan_shuffled(storage, run_id, only):
    (file,) = plan(storage, run_id, only).files
    work = plan_rows(storage, file)
    order = np.random.default_rng(1).permutation(work.num_rows)
    storage.write(file.key, parquet_bytes(work.take(order)))


def wait_until(happened, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.01)


def processes_that_know(folder):
    """Processes whose command line names `folder`, or that write into it: a worker of Ray's at work has another name,
    and its log there.
    """
    known = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = [(process / "cmdline").read_bytes().decode(errors="replace"), str((process / "fd/1").readlink())]
            known += [process.name] if any(folder in text for text in told) else []
    return known


def rows(storage, version=None):
    table = Predictions(storage).table.read(version)
    return table.drop_columns(OF_THE_RUN).sort_by("track_id").to_pylist()


def test_no_track_vanishes_and_the_counts_add_up(first_night):
    root, report = first_night
    assert (report.n_tagged, report.n_failed, report.n_unchanged) == (N_GOOD, len(BROKEN), 0)
    assert sum(report.failures.values()) == len(BROKEN)
    by_name = {row["source_name"]: row for row in rows(root)}
    assert len(by_name) == N_TRACKS == report.n_catalog
    assert {name for name, row in by_name.items() if row["status"] == "failed"} == BROKEN
    assert by_name["empty.mp3"]["error_reason"] == "empty"
    assert by_name["notes.mp3"]["error_reason"] == "unsupported-container"
    assert by_name["cut.wav"]["error_reason"] == "truncated"
    assert by_name["silent.wav"]["status"] == "tagged"


def test_the_same_row_bit_for_bit_whatever_the_sharding(tagged):
    """The first night by one worker, two tracks at a time; this one by two, each alone, and in another order."""
    first = rows(tagged)
    assert {file.n_rows for file in Predictions(tagged).files()} == {2}
    plan_shuffled(tagged, "r2", "all")
    assert run(tagged, "r2", workers=2, tracks_per_part=1, worker_memory_mb=200).n_heard == N_TRACKS
    assert rows(tagged) == first
    assert [file.n_rows for file in Predictions(tagged).files()] == [1] * N_TRACKS


def test_the_same_row_whether_one_process_does_all_or_log_mels_travel(tagged, monkeypatch):
    """An actor that holds a GPU for the network; the GPU is one in name, and the actor computes on its CPU."""
    monkeypatch.setattr(tagging, "GPU_DEVICE", "cpu")
    first = rows(tagged)
    report = run(tagged, "r2", only="all", workers=1, gpu_workers=1, tracks_per_part=5)
    assert (report.n_tagged, report.n_failed) == (N_GOOD, len(BROKEN))
    assert rows(tagged) == first
    assert max(file.n_rows for file in Predictions(tagged).files()) <= 5


def test_an_unchanged_track_costs_nothing_and_a_changed_one_is_made_again(tagged, library):
    again = run(tagged, "r2")
    assert (again.n_tagged, again.n_heard, again.n_unchanged, again.version) == (0, 0, N_TRACKS, 1)
    touched = library / "silent.wav"
    before = touched.stat()
    try:
        os.utime(touched, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
        catalogue(tagged, library)
        report = run(tagged, "r3")
    finally:
        os.utime(touched, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert dict(report.reasons) == {"audio": 1}
    assert (report.n_tagged, report.n_heard, report.n_unchanged) == (1, 1, N_TRACKS - 1)
    run_ids = Predictions(tagged).table.read(columns=["track_id", "run_id"]).to_pylist()
    assert {row["track_id"] for row in run_ids if row["run_id"] == "r3"} == {"silent.wav"}
    assert len(run_ids) == N_TRACKS


def test_other_thresholds_make_every_row_anew_from_what_is_stored(tagged, library, monkeypatch):
    """Bit for bit what the audio would give, which nobody opens; a failed track stays failed."""
    be_unsure(tagged)
    opened = watch_opened(monkeypatch)
    report = run(tagged, "r2")
    assert not [path for path in opened if path.startswith(str(library))]
    assert (dict(report.reasons), dict(report.work)) == ({"thresholds": N_TRACKS}, {"stored": N_TRACKS})
    assert (report.n_tagged, report.n_failed, report.n_heard) == (N_GOOD, len(BROKEN), 0)
    stored = rows(tagged)
    assert {row["calibration_digest"] for row in stored} == {UNSURE.digest}
    assert {row["genre"] for row in stored} == {None}
    assert run(tagged, "r3", only="all").n_heard == N_TRACKS
    assert rows(tagged) == stored


def test_a_snapshot_unlike_the_last_one_waits_for_a_person(tagged):
    before = rows(tagged)
    be_unsure(tagged)
    for _ in range(2):  # nor does a second start publish it
        with pytest.raises(GateRefused, match=r"genre unknown-rise 1\.000 > 0\.1 \(9 tracks\)") as refused:
            run(tagged, "r2", gate={"min_tracks": 1})
        assert "predictions publish r2" in refused.value.hint
        assert (rows(tagged), Predictions(tagged).table.version()) == (before, 1)
    assert Predictions(tagged).publish("r2") == 2
    assert {row["genre"] for row in rows(tagged)} == {None}
    assert (run(tagged, "r2").version, Predictions(tagged).table.version()) == (2, 2)


def test_a_removed_track_leaves_the_table(tagged):
    catalog = Table(tagged, "catalog")
    catalog.replace(catalog.read().filter(pc.not_equal(catalog.read()["track_id"], "empty.mp3")), note="less")
    report = run(tagged, "r2")
    assert (report.n_removed, report.n_tagged, report.n_unchanged) == (1, 0, N_TRACKS - 1)
    assert "empty.mp3" not in {row["track_id"] for row in rows(tagged)}


def test_a_run_that_is_started_twice_is_one_run(tagged, first_night):
    history = Predictions(tagged).table.history()
    assert run(tagged, "r1") == first_night[1]
    assert Predictions(tagged).table.history() == history


def test_of_two_runs_the_second_notices(tagged):
    be_unsure(tagged)
    plan(tagged, "early")
    run(tagged, "fast")
    before = rows(tagged)
    with pytest.raises(ConflictError, match="was planned on version 1"):
        run(tagged, "early")
    assert rows(tagged) == before


def test_a_network_stage_that_raises_leaves_the_old_snapshot(tagged):
    before, version = rows(tagged), Predictions(tagged).table.version()
    ref = publish(tagged, random_tagger(2))
    weights = Path(tagged.uri(f"models/tagger/{ref.version}/weights.safetensors"))

    def break_it(text):  # when the driver has read it, and the workers have not
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")

    with pytest.raises(JobError, match="not the file that was published") as caught:
        run(tagged, "r2", tell=break_it)
    assert "--run-id r2" in caught.value.hint
    assert (rows(tagged), Predictions(tagged).table.version()) == (before, version)


def test_sigkill_before_the_commit_leaves_the_old_snapshot_and_the_run_can_go_on(tagged):
    before = rows(tagged)
    publish(tagged, random_tagger(3))
    parts = Path(tagged.uri("predictions"))
    command = [sys.executable, "-m", "tagfleet", "--root", tagged.root, "retag", "--run-id", "r2"]
    # Short, as in conftest.py; gone when the processes of the killed run have noticed and ended, too.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, "TAGFLEET_RETAG__TRACKS_PER_PART": "1", "TAGFLEET_RAY__N_CPUS": "2"}
        environment |= {"RAY_TMPDIR": folder}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            wait_until(lambda: process.poll() is not None or any(parts.glob("run-r2/*.parquet")))
            assert process.poll() is None, process.stderr.read().decode()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stderr.close()
        wait_until(lambda: not processes_that_know(folder))
    assert rows(tagged) == before
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("run-r2/*.parquet")}
    report = run(tagged, "r2")
    assert report.n_tagged == N_GOOD == report.n_adopted + report.n_heard
    assert 1 <= len(kept) == report.n_adopted, "what was finished is not heard again"
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in parts.glob("run-r2/*.parquet")}.items()
    assert {row["model_id"] for row in rows(tagged)} == {report.model_id}
    assert len(rows(tagged)) == N_TRACKS


def watch_opened(monkeypatch):
    """The files that this process opens from now on as audio is opened."""
    opened = []
    monkeypatch.setattr(os, "open", lambda path, *args, _open=os.open: opened.append(str(path)) or _open(path, *args))
    return opened


def test_another_audio_path_stops_before_any_audio_is_read(root, library, monkeypatch, capsys):
    """By the command: a model of another audio path, and a catalogue whose audio cannot be read without notice."""
    from tagfleet.audio import config

    before = AudioConfig().digest
    monkeypatch.setattr(config, "AUDIO_CODE", "another-decoder-2")
    assert AudioConfig().digest != before
    opened = watch_opened(monkeypatch)
    assert exit_code(["--root", root.root, "retag", "--run-id", "r1", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "digest-mismatch"
    assert f"trained with audio path {before}" in error["message"]
    assert not [path for path in opened if path.startswith(str(library))]
    assert not Predictions(root).table.exists()
    assert not root.exists("runs/r1/plan.json")

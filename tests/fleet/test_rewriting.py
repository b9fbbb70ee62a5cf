"""Runs that need no audio: what is made from stored logits is what the network would have given."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagfleet.audio.config import DecodeLimits
from tagfleet.errors import CountsError, GateRefused
from tagfleet.fleet.plan import Ask, Touched
from tagfleet.fleet.resources import GateConfig, RayConfig, RetagConfig
from tagfleet.fleet.retag import retag
from tagfleet.fleet.rewriting import GROUPS_PER_TASK, ROWS_PER_GROUP, groups_to_rewrite, in_tasks
from tagfleet.fleet.stages import RunFacts, of_run, prediction_columns
from tagfleet.model.calibration import AxisCalibration, Calibration
from tagfleet.schemas import PREDICTIONS
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tagfleet.store.parts import PartFile, id_checksum, write_part
from tagfleet.store.predictions import Expected, Predictions
from tagfleet.store.tables import DataFile, Table
from tests.fleet.test_plan import plan_of, tracks
from tests.model.taggers import TAXONOMY, random_tagger

N = 30
TAGGER = random_tagger()
OTHER = Calibration(
    axes=(
        AxisCalibration(axis="genre", temperature=2.0, pooling=("max",) * 3, unknown_below=0.36),
        AxisCalibration(axis="instrument", pooling=("top3", "mean"), thresholds=(0.4, 0.6)),
    )
)


def renamed(axis):
    labels = tuple(label.model_copy(update={"ja": f"新{label.id}"}) for label in axis.labels)
    return axis.model_copy(update={"labels": labels})


RENAMED = TAXONOMY.model_copy(update={"axes": tuple(map(renamed, TAXONOMY.axes))})
SHOWN = pa.schema([field for field in PREDICTIONS if field.name not in ("run_id", "tagged_at")])


def log_mel(n):
    shape = (1 + n % 4, 96, 256)
    return np.random.default_rng(n).normal(-40, 12, shape).astype(np.float16).astype(np.float32)


def row_of(n, tagger, run_id):
    run = RunFacts(run_id=run_id, model="t:1", model_id=tagger.model_id, backend="torch", tagged_at=datetime.now(UTC))
    row = {"track_id": f"{n:02d}", "audio_fingerprint": "e:1", **of_run(run, tagger, f"/{n:02d}.mp3")}
    if n % 10 == 9:
        return {**row, "status": "failed", "error_stage": "decode", "error_reason": "corrupt"}
    return {**row, "status": "tagged", "n_clips": 1 + n % 4, **prediction_columns(tagger.tag(log_mel(n)))}


def table_of(tagger, ids=range(N), run_id="first"):
    return pa.Table.from_pylist([row_of(n, tagger, run_id) for n in ids], schema=PREDICTIONS)


def publish(root, tagger):
    models = ModelStore(root)
    models.promote(models.publish("t", tagger.to_files(), tagger.model_id), by="test")


@pytest.fixture
def root(tmp_path):
    """N tracks that `TAGGER` tagged from their log-mels, in three files; there is no audio."""
    root = Storage(str(tmp_path / "root"))
    publish(root, TAGGER)
    catalogue(root, range(N))
    rows = table_of(TAGGER)
    empty = PartFile(path="", run_id="first", n_rows=0, id_checksum=0)
    parts = [write_part(root, rows.slice(start, 10), empty) for start in range(0, N, 10)]
    expected = Expected(
        run_id="first", base_version=None, n_catalog=N, n_waiting=0, n_new=N, id_checksum=id_checksum(rows["track_id"]),
        n_removed=0, touched={},
    )  # fmt: skip
    predictions = Predictions(root)
    predictions.commit(predictions.prepare(parts, expected))
    return root


def catalogue(root, ids, moved=()):
    rows = [(f"{n:02d}", f"/new/{n:02d}.mp3" if n in moved else f"/{n:02d}.mp3", "e", 1) for n in ids]
    Table(root, "catalog").replace(tracks(*rows), note="test")


def run(root, run_id, publish=True, **config):
    gate = GateConfig(min_tracks=config.pop("min_tracks", 500))
    ask = Ask(run_id=run_id)
    config = RetagConfig(gate=gate, **config)
    return retag(root, ask, config=config, limits=DecodeLimits(), ray_config=RayConfig(), publish=publish)


def rows_of(root):
    return Predictions(root).table.read().select(SHOWN.names).sort_by("track_id").cast(SHOWN)


@pytest.mark.parametrize(
    ("reason", "now"),
    [
        ("thresholds", TAGGER.with_calibration(OTHER)),
        ("names", random_tagger(taxonomy=RENAMED)),
        ("thresholds", random_tagger(taxonomy=RENAMED, calibration=OTHER)),
    ],
)
def test_a_new_threshold_or_name_costs_no_audio_and_gives_what_the_network_would(root, reason, now):
    publish(root, now)
    report = run(root, "second")
    assert (report.reasons, report.work, report.n_heard) == ({reason: N}, {"stored": N}, 0)
    assert (report.n_tagged, report.n_failed, report.n_unchanged) == (N - 3, 3, 0)
    assert rows_of(root).equals(table_of(now).select(SHOWN.names))
    assert run(root, "third").reasons == {}


def test_moved_and_removed_tracks_leave_the_others_as_they_are(root):
    catalogue(root, range(2, N), moved={4, 9, 25})
    before = {row["track_id"]: row for row in Predictions(root).table.read().to_pylist()}
    old_files = {file.path for file in Predictions(root).files()}
    report = run(root, "second")
    assert report.reasons == {"moved": 3, "removed": 2}
    assert (report.n_tagged, report.n_failed, report.n_unchanged, report.n_removed) == (2, 1, N - 5, 2)
    after = {row["track_id"]: row for row in Predictions(root).table.read().to_pylist()}
    for n in range(2, N):
        row, was = after.pop(f"{n:02d}"), before[f"{n:02d}"]
        if n in (4, 9, 25):
            assert (row["uri"], row["source_name"], row["run_id"]) == (f"/new/{n:02d}.mp3", f"{n:02d}.mp3", "second")
            same = set(row) - {"uri", "run_id", "tagged_at"}
            assert {name: row[name] for name in same} == {name: was[name] for name in same}
        else:
            assert row == was
    assert after == {}
    new_files = {file.path for file in Predictions(root).files()}
    assert len(new_files & old_files) == 1, "the file that nothing happened to is still there"


def test_a_catalogue_that_loses_all_of_a_file_takes_it_out(root):
    catalogue(root, range(10, N))
    report = run(root, "second")
    assert (report.n_removed, report.n_tagged, report.n_unchanged) == (10, 0, 20)
    assert len(Predictions(root).files()) == 2


def test_a_snapshot_that_flips_too_much_is_kept_back_until_somebody_publishes_it(root):
    publish(root, TAGGER.with_calibration(OTHER))
    before, version = rows_of(root), Predictions(root).table.version()
    with pytest.raises(GateRefused, match=r"genre (stability-index|flips)") as refused:
        run(root, "second", min_tracks=5)
    assert refused.value.exit_code == 3
    assert "predictions publish second" in refused.value.hint
    assert (rows_of(root), Predictions(root).table.version()) == (before, version)
    with pytest.raises(GateRefused):
        run(root, "second", min_tracks=5)
    assert Predictions(root).dataset("second").count_rows() == N
    assert Predictions(root).publish("second") == version + 1
    assert rows_of(root).equals(table_of(TAGGER.with_calibration(OTHER)).select(SHOWN.names))
    assert Predictions(root).staged("second") is None


def test_a_run_that_is_only_staged_changes_nothing_for_readers(root):
    publish(root, TAGGER.with_calibration(OTHER))
    before = rows_of(root)
    report = run(root, "second", publish=False)
    assert report.n_tagged == N - 3
    assert rows_of(root) == before
    assert run(root, "second").version == 2
    assert rows_of(root) != before


def test_parts_of_an_interrupted_run_are_taken_over(root, monkeypatch):
    publish(root, TAGGER.with_calibration(OTHER))
    monkeypatch.setattr("tagfleet.fleet.rewriting.ROWS_PER_GROUP", 10)
    with monkeypatch.context() as patch:
        patch.setattr(Predictions, "commit", lambda self, prepared: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(root, "second")
    written = {info.key for info in root.list("predictions/run-second")}
    assert len(written) == 3
    run(root, "second")
    assert {info.key for info in root.list("predictions/run-second")} == written
    assert rows_of(root).equals(table_of(TAGGER.with_calibration(OTHER)).select(SHOWN.names))


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 60_000), st.booleans(), st.booleans()), max_size=12))
def test_groups_hold_each_file_that_must_be_written_once(files):
    known = [DataFile(path=f"{n}", size_bytes=1, n_rows=n_rows) for n, (n_rows, _, _) in enumerate(files)]
    touched = {
        file.path: Touched(n_gone=file.n_rows if emptied else 1, n_stored=0)
        for file, (_, is_touched, emptied) in zip(known, files, strict=True)
        if is_touched
    }
    groups = groups_to_rewrite(known, plan_of(touched=touched), done={"0"})
    rewritten = [file for group in groups for file in group]
    assert rewritten == [f for f in known if f.path in touched and touched[f.path].n_gone < f.n_rows and f.path != "0"]
    for group in groups:
        assert len(group) == 1 or sum(file.n_rows for file in group) <= ROWS_PER_GROUP


@given(st.integers(0, 3000), st.integers(1, 64))
def test_tasks_have_each_group_once_and_are_enough_for_all_workers(n_groups, n_workers):
    tasks = [asked["n"].to_pylist() for asked in in_tasks(n_groups, n_workers)]
    assert [n for task in tasks for n in task] == list(range(n_groups))
    assert len(tasks) >= min(n_groups, 4 * n_workers)
    assert all(len(task) <= GROUPS_PER_TASK for task in tasks)


def test_a_task_of_many_groups_reads_the_plan_once(root, monkeypatch):
    publish(root, TAGGER.with_calibration(OTHER))
    from tagfleet.fleet import rewriting

    monkeypatch.setattr(rewriting, "ROWS_PER_GROUP", 1)
    whole, read = rewriting.plans_rows, []
    monkeypatch.setattr(rewriting, "plans_rows", lambda *asked: read.append(asked) or whole(*asked))
    assert run(root, "second").work == {"stored": N}
    assert len(read) == 1 and len(Predictions(root).files(2)) == 3
    assert rows_of(root) == table_of(TAGGER.with_calibration(OTHER)).select(SHOWN.names).cast(SHOWN)


def test_a_base_that_is_not_what_the_plan_saw_stops_the_run(root, monkeypatch):
    publish(root, TAGGER.with_calibration(OTHER))
    from tagfleet.fleet import rewriting

    whole = rewriting.plans_rows
    monkeypatch.setattr(rewriting, "plans_rows", lambda root, plan: (rows.slice(1) for rows in whole(root, plan)))
    with pytest.raises(CountsError, match=r"the plan says|is not replaced|has"):
        run(root, "second")
    assert Predictions(root).table.version() == 1

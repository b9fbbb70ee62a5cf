"""What is decided around the work: by the plan that is stored, the lease, and the parts; no audio is heard here."""

from dataclasses import replace

import pyarrow as pa
import pytest

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.errors import (
    ConfigError,
    ConflictError,
    CountsError,
    DigestMismatch,
    NotFoundError,
    StorageError,
    TooManyFailures,
)
from tagfleet.fleet.cluster import root_cause
from tagfleet.fleet.housekeeping import vacuum
from tagfleet.fleet.lease import lease
from tagfleet.fleet.plan import Ask, stored_plan
from tagfleet.fleet.plan_run import plan_run
from tagfleet.fleet.resources import RayConfig, RetagConfig
from tagfleet.fleet.retag import check_failures, check_plan, open_model, retag, unfinished_run
from tagfleet.model import backends
from tagfleet.schemas import TRACKS, conform
from tagfleet.store.config import PredictionsConfig
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tagfleet.store.parts import Tally
from tagfleet.store.predictions import Predictions
from tagfleet.store.tables import Table
from tests.fleet.test_plan import plan_of
from tests.model.taggers import random_tagger
from tests.store.rows import tag, tagged

TAGGER = random_tagger()


@pytest.fixture
def root(tmp_path):
    """Two tracks whose rows are up to date, and a tagger in production."""
    storage = Storage(str(tmp_path / "root"))
    publish(storage)
    catalogue(storage, "a", "b")
    rows = [
        tagged(i, uri=f"/{i}", audio_fingerprint="e:1", pooled_logits=[0.0] * 15, **TAGGER.lineage) for i in ("a", "b")
    ]
    tag(Predictions(storage), rows, "r0", n_catalog=2)
    return storage


def publish(root, tagger=TAGGER):
    models = ModelStore(root)
    models.promote(models.publish("tagger", tagger.to_files(), tagger.model_id), by="test")


def catalogue(root, *track_ids):
    rows = pa.table({"track_id": track_ids, "uri": [f"/{i}" for i in track_ids]})
    rows = rows.append_column("etag", pa.array(["e"] * len(track_ids)))
    rows = rows.append_column("size_bytes", pa.array([1] * len(track_ids)))
    return Table(root, "catalog").replace(conform(rows, TRACKS), note="test")


def planned(root, run_id="r1", **asked):
    """The plan of an interrupted run: stored, and the run's lease has ended."""
    ref, tagger = open_model(root, "production", RetagConfig())
    with lease(root, run_id):
        return plan_run(root, ref, tagger, Ask(run_id=run_id, **asked), RetagConfig(), RayConfig())


def run(root, run_id, **asked):
    ask = Ask(run_id=run_id, **asked)
    return retag(root, ask, config=RetagConfig(), limits=DecodeLimits(), ray_config=RayConfig())


def to_hear(reasons):
    """A plan in which every row must be heard, for these reasons."""
    n = sum(reasons.values())
    return plan_of(n_catalog=n, reasons=reasons, work={"decode": n})


def counted(n_failed, *, n_new):
    return Tally(failures={"decode/corrupt": n_failed}, n_new_failures=n_new)


def test_too_many_new_failures_publish_nothing():
    config = RetagConfig(max_error_rate=0.1, min_errors=3)
    plan = to_hear({"new": 20})
    check_failures(counted(2, n_new=2), plan, config)
    with pytest.raises(TooManyFailures, match=r"3 of 20 tracks failed, more than 10.00%"):
        check_failures(counted(3, n_new=3), plan, config)
    with pytest.raises(TooManyFailures):
        check_failures(counted(1, n_new=1), plan, RetagConfig(max_error_rate=0, min_errors=1))


def test_tracks_that_could_not_be_fetched_before_do_not_stop_every_later_run():
    plan = to_hear({"new": 330, "retry": 500})
    check_failures(counted(500, n_new=0), plan, RetagConfig())
    check_failures(counted(503, n_new=3), plan, RetagConfig())
    with pytest.raises(TooManyFailures, match="10 of 330"):
        check_failures(counted(510, n_new=10), plan, RetagConfig())


def test_a_failed_row_that_is_only_carried_over_is_no_new_failure():
    """A new model on tracks that cannot be decoded: rows are written anew, and nothing is tried."""
    plan = replace(to_hear({"model": 100}), work={"stored": 100})
    check_failures(counted(100, n_new=0), plan, RetagConfig())


def test_other_audio_settings_than_the_taggers_are_refused(root):
    assert open_model(root, "production", RetagConfig(), TAGGER.audio)[1].model_id == TAGGER.model_id
    with pytest.raises(DigestMismatch, match="the model was trained with"):
        open_model(root, "production", RetagConfig(), AudioConfig(clip_frames=128))
    with pytest.raises(NotFoundError, match="no model 'other'"):
        open_model(root, "other", RetagConfig())


def test_the_drivers_processor_need_not_run_what_gpus_do(root, monkeypatch):
    monkeypatch.setattr(backends, "_processor_has_bf16", lambda: False)
    with pytest.raises(ConfigError, match="torch-bf16 needs a processor"):
        open_model(root, "production", RetagConfig(backend="torch-bf16"))
    tagger = open_model(root, "production", RetagConfig(backend="torch-bf16", gpu_workers=1))[1]
    assert tagger.lineage == TAGGER.lineage | {"backend": "torch-bf16"}
    assert unfinished_run(root, Ask(run_id="r1"), RetagConfig(backend="torch-bf16", gpu_workers=1)) is None
    with pytest.raises(ValueError, match="openvino computes on CPUs alone"):
        RetagConfig(backend="openvino", gpu_workers=1)


def test_nothing_to_do_is_no_version_and_no_ray(root):
    report = run(root, "r1")
    assert (report.n_unchanged, report.n_tagged, report.version, report.reasons) == (2, 0, 1, {})
    assert Predictions(root).table.version() == 1 and stored_plan(root, "r1").n_to_tag == 0
    assert unfinished_run(root, Ask(run_id="r2"), RetagConfig()) is None, "it is not gone on with"


def test_a_plan_of_another_tagger_or_another_version_is_refused_before_any_work(root):
    plan, (ref, tagger) = planned(root), open_model(root, "production", RetagConfig())
    check_plan(Predictions(root), plan, tagger, ref)
    for other in (replace(plan, model_id="x"), replace(plan, lineage=plan.lineage | {"taxonomy_version": "x"})):
        with pytest.raises(ConflictError, match="was planned for tagger:1"):
            check_plan(Predictions(root), other, tagger, ref)
    tag(Predictions(root), ["c"], "r9", n_catalog=3)
    with pytest.raises(ConflictError, match="at version 2, run r1 was planned on version 1"):
        check_plan(Predictions(root), plan, tagger, ref)
    with pytest.raises(ConflictError, match="at version 2"):
        run(root, "r1")


def test_the_second_of_two_runs_is_told_before_it_works(root):
    with lease(root, "other"), pytest.raises(ConflictError, match="run other is at work"):
        run(root, "r1")
    assert not root.exists("runs/r1/plan.json")


def test_a_run_that_is_committed_needs_nothing_to_say_so(root):
    """Neither its model nor its plan; and it is never planned again."""
    catalogue(root, "a")
    first = run(root, "r1")
    assert (first.n_removed, first.version) == (1, 2)
    catalogue(root, "a", "b", "c")
    for info in [*root.list("models"), *root.list("runs/r1/plan")]:
        root.delete(info.key)
    assert run(root, "r1") == first


def test_a_data_file_that_is_gone_stops_the_run(root):
    (file,) = Predictions(root).files()
    root.delete(f"predictions/{file.path}")
    with pytest.raises(StorageError, match="predictions"):
        run(root, "r1")
    assert Predictions(root).table.version() == 1


def test_an_id_that_stands_twice_stops_the_run(root):
    catalogue(root, "a", "b", "a")
    with pytest.raises(CountsError, match="track 'a' stands twice in the catalogue"):
        run(root, "r1")


# Going on with the last run without being told its name


def test_the_last_run_goes_on_when_it_was_interrupted_and_the_same_is_asked(root):
    assert unfinished_run(root, Ask(run_id="r2"), RetagConfig()) is None, "there was none"
    catalogue(root, "a", "b", "new")
    planned(root)
    assert unfinished_run(root, Ask(run_id="r2"), RetagConfig()) == "r1"
    assert unfinished_run(root, Ask(run_id="r2", catalog_version=1), RetagConfig()) == "r1"
    asked = [{"only": "all"}, {"limit": 5}, {"retry_failed": True}, {"catalog_version": 0}]
    for other in asked:
        assert unfinished_run(root, Ask(run_id="r2", **other), RetagConfig()) is None, other
    assert unfinished_run(root, Ask(run_id="r2"), RetagConfig(backend="openvino")) is None


def test_a_run_whose_plan_was_vacuumed_does_not_go_on(root):
    catalogue(root, "a", "b", "new")
    planned(root)
    vacuum(root, PredictionsConfig(), older_than_days=0)
    assert unfinished_run(root, Ask(run_id="r2"), RetagConfig()) is None
    with pytest.raises(ConflictError, match="plan of run r1 was vacuumed") as caught:
        run(root, "r1")
    assert "new run" in caught.value.hint


def test_a_run_that_tried_failed_tracks_again_goes_on_as_such_a_run_only(root):
    catalogue(root, "a", "b", "new")
    planned(root, retry_failed=True)
    assert unfinished_run(root, Ask(run_id="r2"), RetagConfig()) is None
    assert unfinished_run(root, Ask(run_id="r2", retry_failed=True), RetagConfig()) == "r1"


def committed(root):
    tag(Predictions(root), ["new"], "r1", n_catalog=3)


def overtaken(root):
    tag(Predictions(root), ["c"], "r9", n_catalog=3)


def catalogue_changed(root):
    catalogue(root, "a", "b", "new", "newer")


def another_model(root):
    publish(root, random_tagger(1))


def a_later_run(root):
    planned(root, "r3", only="all")


@pytest.mark.parametrize("since", [committed, overtaken, catalogue_changed, another_model, a_later_run])
def test_it_does_not_go_on_after(root, since):
    catalogue(root, "a", "b", "new")
    planned(root)
    since(root)
    assert unfinished_run(root, Ask(run_id="r2"), RetagConfig()) is None


def test_a_run_that_was_limited_does_not_go_on_as_one_that_was_not(root):
    catalogue(root, "a", "b", "new", "newer")
    assert planned(root, limit=1).n_left == 1
    assert unfinished_run(root, Ask(run_id="r2"), RetagConfig()) is None


def test_the_root_cause_is_the_innermost_error_that_says_something():
    inner = ValueError("first line\nthe cause")
    outer = RuntimeError("wrapped")
    outer.__cause__ = inner
    inner.__cause__ = RuntimeError()
    assert root_cause(outer) == "the cause"
    assert root_cause(RuntimeError()) == "RuntimeError"


def raises_for(table):
    try:
        raise OSError("the network\nis down")
    except OSError as error:
        raise StorageError("s3://b cannot be reached", hint="look") from error


def test_what_a_stage_raised_is_told_and_not_what_ray_says_of_it(ray_local):
    import ray.data

    stage = ray.data.from_arrow([pa.table({"a": [1]})]).map_batches(raises_for, batch_format="pyarrow")
    with pytest.raises(ray.exceptions.RayError) as caught:
        list(stage.iter_batches(batch_format="pyarrow"))
    assert root_cause(caught.value) == "s3://b cannot be reached"

import pytest

from tagfleet.audio.config import AudioConfig
from tagfleet.errors import DigestMismatch, TooManyFailures
from tagfleet.fleet.cluster import root_cause
from tagfleet.fleet.plan import make_work
from tagfleet.fleet.resources import RetagConfig
from tagfleet.fleet.retag import check_audio, check_failures
from tagfleet.store.predictions import PartFile
from tests.fleet.test_plan import NOW, plan_of, snapshot, tracks
from tests.model.taggers import random_tagger


def parts(n_rows, failed_ids):
    failures = ["decode/corrupt"] * len(failed_ids)
    return [PartFile(path="p", size_bytes=1, n_rows=n_rows, failed_ids=failed_ids, failures=failures, id_checksum=0)]


def plan_with(n_new, n_lost):
    new = [(f"new-{n}", f"/new-{n}", "e", 1) for n in range(n_new)]
    lost = [(f"lost-{n}", f"/lost-{n}", "e", 1) for n in range(n_lost)]
    last = snapshot(*((track_id, uri, None) for track_id, uri, _, _ in lost))
    return plan_of(make_work(tracks(*new, *lost), last, NOW, "stale"))


def test_too_many_new_failures_publish_nothing():
    config = RetagConfig(max_error_rate=0.1, min_errors=3)
    plan = plan_with(20, 0)
    check_failures(parts(20, ["new-1", "new-2"]), plan, config)
    with pytest.raises(TooManyFailures, match=r"3 of 20 tracks failed, more than 10.00%"):
        check_failures(parts(20, ["new-1", "new-2", "new-3"]), plan, config)
    with pytest.raises(TooManyFailures):
        check_failures(parts(20, ["new-1"]), plan, RetagConfig(max_error_rate=0, min_errors=1))


def test_tracks_that_could_not_be_fetched_before_do_not_stop_every_later_run():
    lost = [f"lost-{n}" for n in range(500)]
    plan = plan_with(330, 500)
    assert plan.reasons == {"new": 330, "retry": 500}
    check_failures(parts(830, lost), plan, RetagConfig())
    with pytest.raises(TooManyFailures, match="10 of 330"):
        check_failures(parts(830, [f"new-{n}" for n in range(10)]), plan, RetagConfig())


def test_other_audio_settings_than_the_taggers_are_refused():
    tagger = random_tagger()
    check_audio(tagger, tagger.audio)
    with pytest.raises(DigestMismatch, match="the model was trained with"):
        check_audio(tagger, AudioConfig(clip_frames=128))


def test_the_root_cause_is_the_innermost_error_that_says_something():
    inner = ValueError("first line\nthe cause")
    outer = RuntimeError("wrapped")
    outer.__cause__ = inner
    inner.__cause__ = RuntimeError()
    assert root_cause(outer) == "the cause"
    assert root_cause(RuntimeError()) == "RuntimeError"

"""Nothing that a kept snapshot needs is deleted; everything else is, sooner or later."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from tagfleet.errors import ConflictError, NotFoundError
from tagfleet.fleet import housekeeping
from tagfleet.fleet import lease as leases
from tagfleet.fleet.housekeeping import compact, publish, rollback, tidy_up, vacuum
from tagfleet.fleet.lease import last_lease, lease
from tagfleet.fleet.plan import create_plan
from tagfleet.store.config import PredictionsConfig
from tagfleet.store.objects import PROBE, Storage
from tagfleet.store.predictions import Predictions
from tests.fleet.test_plan import plan_of
from tests.store.rows import prepare, tag, tagged, work_of

CONFIG = PredictionsConfig()
PLAN_OF_DEAD = plan_of("dead", base_version=4)


@pytest.fixture
def predictions(any_root):
    return Predictions(Storage(any_root))


@pytest.fixture
def local(tmp_path):
    return Predictions(Storage(str(tmp_path / "root")))


def three_nights(predictions):
    """Each makes all rows anew; a fourth was killed before its commit, and left its parts and its plan."""
    for n in range(1, 4):
        tag(predictions, [tagged(i, genre=f"g{n}") for i in "abc"], f"r{n}", n_catalog=3)
        predictions.root.write(f"runs/r{n}/plan/000000-x.parquet", b"plan")
        predictions.root.write(f"runs/r{n}/run.json", b"{}")
    work_of(predictions, ["a", "b"], "dead", n_catalog=3)


def keys(predictions, folder="predictions"):
    return {i.key for i in predictions.root.list(folder) if "_delta_log" not in i.key and "_kept" not in i.key}


def used(predictions, *which):
    return {f"predictions/{file.path}" for one in which for file in predictions.files(one)}


def rows(predictions, which=None):
    return predictions.dataset(which).to_table().sort_by("track_id").to_pylist()


def test_with_no_history_only_the_current_snapshot_is_left(predictions):
    three_nights(predictions)
    before = rows(predictions)
    previewed = vacuum(predictions.root, CONFIG, older_than_days=0, dry_run=True)
    assert keys(predictions) > used(predictions, 3)
    done = vacuum(predictions.root, CONFIG, older_than_days=0)
    assert done == previewed
    assert (done.since, done.n_of_runs) == (3, 3)
    assert keys(predictions) == used(predictions, 3)
    assert keys(predictions, "runs") == {f"runs/r{n}/run.json" for n in (1, 2, 3)}
    assert rows(predictions) == before
    for version in (0, 1, 2):
        with pytest.raises(NotFoundError, match=f"version {version} is no longer kept"):
            predictions.dataset(version)
    assert vacuum(predictions.root, CONFIG, older_than_days=0).n_files == 0
    assert tag(predictions, ["d"], "r4", n_catalog=4) == 4


def test_what_is_young_or_kept_stays(local):
    three_nights(local)
    before = keys(local), keys(local, "runs")
    done = vacuum(local.root, CONFIG)
    assert (done.n_files, done.n_of_runs, done.since) == (0, 0, 0)
    assert (keys(local), keys(local, "runs")) == before
    assert len(rows(local, 1)) == 3


def test_orphans_go_by_their_age_and_the_history_by_its_own(local):
    three_nights(local)
    old = time.time() - 8 * 86400
    for path in [*local.root.list("predictions/run-dead"), *local.root.list("predictions/run-r1")]:
        os.utime(path.uri, (old, old))
    done = vacuum(local.root, CONFIG)
    assert done.n_files == 1
    assert not keys(local, "predictions/run-dead")
    assert len(rows(local, 1)) == 3


@pytest.mark.parametrize("ago_h", [1, 25, 24 * 365])
def test_the_kept_history_begins_where_the_cutoff_says(ago_h):
    now = datetime.now(UTC)
    hours = [24 * 400, 26, 24, 2, 0.5]

    class Commit:
        def __init__(self, version, committed_at):
            self.version, self.committed_at = version, committed_at

    versions = [Commit(n, now - timedelta(hours=h)) for n, h in enumerate(hours)][::-1]
    cutoff = now - timedelta(hours=ago_h)
    since = housekeeping._kept_since(versions, cutoff)
    current_at_cutoff = max(v.version for v in versions if v.committed_at < cutoff)
    assert since == current_at_cutoff


def test_a_staged_snapshot_is_kept_until_it_cannot_be_published_any_more(local):
    three_nights(local)
    local.stage(prepare(local, [tagged("a", genre="staged")], "night", n_catalog=3))
    vacuum(local.root, CONFIG, older_than_days=0)
    assert keys(local) == used(local, 3, "night")
    assert local.publish("night") == 4
    assert rows(local)[0]["genre"] == "staged"
    local.stage(prepare(local, [tagged("b", genre="late")], "late", n_catalog=3))
    tag(local, ["c"], "r5", n_catalog=3)
    vacuum(local.root, CONFIG, older_than_days=0)
    assert keys(local) == used(local, 5)


def test_kept_log_mels_go_with_the_last_row_that_names_them(local):
    local.root.write("kept/r1/used.arrow", b"x")
    local.root.write("kept/r1/unused.arrow", b"x")
    tag(local, [tagged("a", log_mels="kept/r1/used.arrow")], "r1", n_catalog=1)
    vacuum(local.root, CONFIG, older_than_days=0)
    assert keys(local, "kept") == {"kept/r1/used.arrow"}


def test_half_written_files_of_killed_writers_go(local):
    tag(local, ["a"], "r1", n_catalog=1)
    half = f"{local.root.root}/predictions/.x.parquet.0123456789abcdef.tmp"
    with open(half, "wb"):  # noqa: PTH123
        pass
    assert vacuum(local.root, CONFIG).n_unfinished == 0
    assert vacuum(local.root, CONFIG, older_than_days=0).n_unfinished == 1
    assert not os.path.exists(half)  # noqa: PTH110


def test_while_a_run_is_at_work_nothing_is_tidied(local):
    three_nights(local)
    before = keys(local)
    with lease(local.root, "night"):
        with pytest.raises(ConflictError, match="run night is at work"):
            vacuum(local.root, CONFIG, older_than_days=0)
        assert "run night is at work" in tidy_up(local.root, CONFIG)
    assert keys(local) == before
    vacuum(local.root, CONFIG)
    assert last_lease(local.root)[1].last_run == "night", "the interrupted run is not forgotten"


def test_what_a_run_made_stays_while_it_may_only_seem_to_be_dead(local, monkeypatch):
    """A machine that was paused for an hour, or whose clock is wrong: its lease has run out."""
    three_nights(local)
    of_it = keys(local, "predictions/run-dead")
    with lease(local.root, "dead"):
        local.root.write("runs/dead/plan/000000-x.parquet", b"plan")
        monkeypatch.setattr(leases, "TTL_S", -1)  # and it is renewed all the time
        for _ in range(2):
            vacuum(local.root, CONFIG, older_than_days=0)
        monkeypatch.undo()
    assert of_it and keys(local, "predictions/run-dead") == of_it
    assert "runs/dead/plan/000000-x.parquet" in keys(local, "runs")
    with lease(local.root, "night"):
        pass
    vacuum(local.root, CONFIG, older_than_days=0)
    assert keys(local) == used(local, 3)


def test_what_becomes_current_while_it_looks_keeps_its_files(local, monkeypatch):
    three_nights(local)
    before, look = keys(local), housekeeping._needed

    def while_another_publishes(*asked):
        found = look(*asked)
        local.rollback(1)
        return found

    monkeypatch.setattr(housekeeping, "_needed", while_another_publishes)
    with pytest.raises(ConflictError, match="changed meanwhile; nothing was deleted"):
        vacuum(local.root, CONFIG, older_than_days=0)
    assert keys(local) == before


@pytest.mark.parametrize("call", [lambda root: publish(root, "night"), rollback, lambda root: compact(root, CONFIG)])
def test_while_a_run_is_at_work_no_other_snapshot_becomes_current(local, call):
    three_nights(local)
    with lease(local.root, "r4"), pytest.raises(ConflictError, match="run r4 is at work"):
        call(local.root)
    assert local.table.version() == 3
    assert rollback(local.root) == (2, 4)


def test_what_a_killed_process_asked_the_server_goes_too(local):
    three_nights(local)
    local.root.write(f"runs/{PROBE}0123456789abcdef", b"1")
    assert vacuum(local.root, CONFIG).n_of_runs == 0
    vacuum(local.root, CONFIG, older_than_days=0)
    assert not [key for key in keys(local, "runs") if PROBE in key]


def test_files_are_not_joined_under_a_snapshot_that_waits_or_a_run_that_was_interrupted(local):
    three_nights(local)
    local.stage(prepare(local, [tagged("a", genre="staged")], "night", n_catalog=3))
    with pytest.raises(ConflictError, match="night: what was made on version 3") as caught:
        compact(local.root, CONFIG, at_least=2)
    assert "predictions publish night" in caught.value.hint
    assert local.publish("night") == 4
    with lease(local.root, "dead"):
        create_plan(local.root, PLAN_OF_DEAD)
    with pytest.raises(ConflictError, match="dead: what was made on version 4"):
        compact(local.root, CONFIG, at_least=2)
    tag(local, ["d"], "r5", n_catalog=4)
    assert compact(local.root, CONFIG, at_least=2).version == 6


def test_small_files_become_few_and_no_row_changes(predictions):
    for n in range(6):
        tag(predictions, [tagged(f"{n}", duration_s=n / 3, genre="が")], f"r{n}", n_catalog=n + 1)
    before = rows(predictions)
    assert compact(predictions.root, CONFIG).n_after == 6, "too few to be worth it"
    done = compact(predictions.root, CONFIG, at_least=6)
    assert (done.n_before, done.n_after, done.version) == (6, 1, 7)
    assert rows(predictions) == before
    assert predictions.table.version_of("r5") == 6
    tag(predictions, ["6"], "r6", removed=["0"], n_catalog=6)
    assert [row["track_id"] for row in rows(predictions)] == ["1", "2", "3", "4", "5", "6"]


KILLED = """
import os, signal, sys
from tagfleet.fleet.housekeeping import vacuum
from tagfleet.store.config import PredictionsConfig
from tagfleet.store.objects import Storage
delete, left = Storage.delete, [int(sys.argv[2])]
def dying(self, key):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    delete(self, key)
Storage.delete = dying
vacuum(Storage(sys.argv[1]), PredictionsConfig(), older_than_days=0)
"""


@pytest.mark.parametrize("n_deleted", [0, 2])
def test_killed_in_the_middle_it_has_harmed_nothing_and_the_next_finishes(local, n_deleted):
    three_nights(local)
    before = rows(local)
    done = subprocess.run([sys.executable, "-c", KILLED, local.root.root, str(n_deleted)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert rows(local) == before
    with pytest.raises(NotFoundError, match="no longer kept"):
        local.dataset(1)
    vacuum(local.root, CONFIG, older_than_days=0)
    assert keys(local) == used(local, 3)

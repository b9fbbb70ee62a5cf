import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import deltalake
import pytest

from tagfleet.errors import ConflictError, CountsError, NotFoundError, StorageError, UsageError
from tagfleet.schemas import PREDICTIONS
from tagfleet.store import exports
from tagfleet.store.objects import Storage
from tagfleet.store.parts import find_parts
from tagfleet.store.predictions import Predictions
from tagfleet.store.tables import Table
from tests.store.rows import failed, part_of, prepare, table, tag, tagged, who, work_of

HARD_IDS = ["007", "が", "か\u3099", "a'b", 'a"b', "a\\b", "%41#?&+ ", "🎹", "\u0001", "null", "a;--"]


@pytest.fixture
def predictions(any_root):
    return Predictions(Storage(any_root))


@pytest.fixture
def local(tmp_path):
    return Predictions(Storage(str(tmp_path / "root")))


def data_files(predictions):
    return {info.key for info in predictions.root.list("predictions") if info.key.endswith(".parquet")}


def snapshot(predictions, which=None):
    return predictions.dataset(which).to_table().sort_by("track_id")


def test_nights_follow_each_other(predictions):
    """First all; then new tracks only; then one re-made, one gone: each file that holds no such row stays as it is."""
    assert not predictions.table.exists()
    assert tag(predictions, ["a", "b", failed("c")], "r1", n_catalog=3) == 1
    first = predictions.files(1)
    assert tag(predictions, ["d"], "r2", n_catalog=4) == 2
    assert set(first) < set(predictions.files(2))

    prepared = prepare(predictions, ["a"], "r3", removed=["d"], n_catalog=3)
    assert (prepared.n_tagged, prepared.n_failed, prepared.n_unchanged, prepared.n_removed) == (1, 0, 2, 1)
    assert (prepared.changes, prepared.version) == (True, 3)
    assert predictions.commit(prepared) == 3
    assert who(predictions) == {"a": "r3", "b": "r1", "c": "r1"}
    assert [file for file in first if file in predictions.files()] == [file for file in first if file.n_rows == 1]
    assert who(predictions, 1) == {"a": "r1", "b": "r1", "c": "r1"}
    assert who(predictions, 2) == {"a": "r1", "b": "r1", "c": "r1", "d": "r2"}
    assert [version.run_id for version in predictions.table.history()] == ["r3", "r2", "r1", None]

    assert predictions.table.rollback(2) == 4
    assert who(predictions) == {"a": "r1", "b": "r1", "c": "r1", "d": "r2"}


def test_going_back_is_going_back_a_run_whatever_else_was_committed(local):
    """Versions 1 to 3 are runs, 4 joins files, 5 is back to 2."""
    for n in (1, 2, 3):
        tag(local, [f"{n}"], f"r{n}", n_catalog=n)
    assert local.table.compact(32 << 20) == 4
    assert (local.changed_by(4).version, local.changed_by(3).version) == (3, 3)
    assert local.rollback() == (2, 5)
    assert who(local) == {"1": "r1", "2": "r2"}
    assert [version.restored for version in local.table.history(2)] == [2, None]
    assert local.table.compact(32 << 20) == 6
    assert local.rollback() == (1, 7), "one run further, not forth again"
    assert who(local) == {"1": "r1"}
    with pytest.raises(NotFoundError, match="no snapshot 0"):
        local.rollback()
    tag(local, ["9"], "r9", n_catalog=2)
    assert local.rollback() == (7, 9)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_part_that_is_not_what_was_written_is_not_committed(local, change):
    """Deleted by a vacuum that thought the run dead, or cut off by a disk."""
    prepared = prepare(local, ["a", "b"], "r1", n_catalog=2)
    change(Path(local.root.uri(f"predictions/{prepared.added[0].path}")))
    with pytest.raises(CountsError, match="1 data files of run r1 are gone or not what it wrote"):
        local.commit(prepared)
    assert local.table.version() == 0


def test_rows_that_are_made_again_from_what_is_stored_stand_beside_those_that_are_not(predictions):
    """One commit: a from its audio, b and c from what is stored of them, d as it is, e gone, f left to the next run."""
    tag(predictions, ["a", "b", "d", failed("c"), "e"], "r1", n_catalog=5)
    prepared = prepare(predictions, ["a"], "r2", again=["b", "c"], removed=["e"], n_catalog=5, n_waiting=1)
    counts = (prepared.n_tagged, prepared.n_failed, prepared.n_unchanged, prepared.n_removed)
    assert counts == (2, 1, 1, 1)
    assert predictions.commit(prepared) == 2
    assert who(predictions) == {"a": "r2", "b": "r2", "c": "r2", "d": "r1"}
    assert predictions.show("b")["mood"] == "dark" and predictions.show("d") == table(tagged("d")).to_pylist()[0]


def test_rows_come_back_as_they_were_made(predictions):
    rows = [
        tagged("a", tags=[], instruments=[]),
        failed("が"),
        tagged("c", genre="J-POP 'n' ロック", log_mels="kept/x"),
    ]
    tag(predictions, rows, "r1", n_catalog=3)
    back = predictions.table.read().sort_by("track_id")
    assert back.schema == PREDICTIONS
    assert back.equals(table(*rows).sort_by("track_id"))


def test_the_same_run_twice_is_one_commit(predictions):
    prepared = prepare(predictions, ["a", "b"], "r1", n_catalog=2)
    assert predictions.commit(prepared) == 1
    assert predictions.commit(prepared) == 1
    tag(predictions, ["c"], "r2", n_catalog=3)
    assert predictions.commit(prepared) == 1
    assert who(predictions) == {"a": "r1", "b": "r1", "c": "r2"}
    assert predictions.table.committed("r1") and not predictions.table.committed("r3")


def test_of_two_runs_on_one_version_one_wins(predictions):
    tag(predictions, ["a", "b"], "r0", n_catalog=2)
    runs = {run: prepare(predictions, ["a", "b"], run, n_catalog=2) for run in ("r1", "r2", "r3")}

    def attempt(run):
        try:
            return predictions.commit(runs[run])
        except ConflictError:
            return None

    with ThreadPoolExecutor(3) as pool:
        versions = dict(zip(runs, pool.map(attempt, runs), strict=True))
    (winner,) = [run for run, version in versions.items() if version == 2]
    assert list(versions.values()).count(None) == 2
    assert who(predictions) == {"a": winner, "b": winner}
    assert predictions.table.version() == 2


def test_a_run_that_is_overtaken_at_the_last_moment_appends_nothing(predictions, monkeypatch):
    tag(predictions, ["a"], "r0", n_catalog=1)
    runs = {run: prepare(predictions, ["b"], run, n_catalog=2) for run in ("r1", "r2")}
    early = predictions.table._open()
    predictions.commit(runs["r1"])
    opened = iter([early])
    real = Table._open
    monkeypatch.setattr(Table, "_open", lambda self, version=None: next(opened, None) or real(self, version))
    with pytest.raises(ConflictError):
        predictions.commit(runs["r2"])
    assert who(predictions) == {"a": "r0", "b": "r1"}


def test_two_first_runs_are_a_conflict_too(predictions):
    runs = {run: prepare(predictions, ["a"], run, n_catalog=1, base=None) for run in ("r1", "r2")}
    assert predictions.commit(runs["r1"]) == 1
    with pytest.raises(ConflictError, match="from version 0 to 1") as caught:
        predictions.commit(runs["r2"])
    assert "new run" in caught.value.hint
    assert who(predictions) == {"a": "r1"}


def test_a_lost_answer_to_the_commit_is_no_failure(predictions, monkeypatch):
    prepared = prepare(predictions, ["a"], "r1", n_catalog=1)
    commit = deltalake.DeltaTable.create_write_transaction

    def commits_and_loses_the_answer(self, *args, **kwargs):
        commit(self, *args, **kwargs)
        raise OSError("connection reset by peer")

    monkeypatch.setattr(deltalake.DeltaTable, "create_write_transaction", commits_and_loses_the_answer)
    assert predictions.commit(prepared) == 1
    assert who(predictions) == {"a": "r1"}


def test_a_commit_that_did_not_happen_is_a_failure(predictions, monkeypatch):
    prepared = prepare(predictions, ["a"], "r1", n_catalog=1)

    def fails(self, *args, **kwargs):
        raise OSError("connection reset by peer")

    monkeypatch.setattr(deltalake.DeltaTable, "create_write_transaction", fails)
    with pytest.raises(StorageError, match="connection reset"):
        predictions.commit(prepared)
    monkeypatch.undo()
    assert predictions.table.read().num_rows == 0
    assert predictions.commit(prepared) == 1


KILLED = """
import os, signal, sys
import deltalake
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions
from tests.store.rows import prepare

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

predictions = Predictions(Storage(sys.argv[1]))
deltalake.DeltaTable.create_write_transaction = die
predictions.commit(prepare(predictions, ["a", "new"], "r2", removed=["b"], n_catalog=2))
"""


def test_a_run_killed_between_its_parts_and_its_commit_changes_nothing(predictions):
    tag(predictions, ["a", "b"], "r1", n_catalog=2)
    before = data_files(predictions)
    killed = subprocess.run([sys.executable, "-c", KILLED, predictions.root.root], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    assert data_files(predictions) > before, "it was killed too early"
    assert who(predictions) == {"a": "r1", "b": "r1"}
    assert predictions.table.version() == 1
    assert tag(predictions, ["a", "new"], "r2", removed=["b"], n_catalog=2) == 2
    assert who(predictions) == {"a": "r2", "new": "r2"}


def changed(part, **changes):
    return part.model_copy(update=changes)


# Of a run that hears a and new, makes b again from what is stored, and leaves c's file as it is: `a` and `new` are the
# parts with those rows, `rest` is in the place of the file that held a and b. `x` is a part of another track.
WRONG_PARTS = {
    "a row too many": lambda a, new, rest, x, file_of_c: [a, new, rest, x],
    "a row too few": lambda a, new, rest, x, file_of_c: [a, rest],
    "nothing at all": lambda *parts: [],
    "another track's row": lambda a, new, rest, x, file_of_c: [a, x, rest],
    "one row twice": lambda a, new, rest, x, file_of_c: [a, a, rest],
    "other ids, by the checksum": lambda a, new, rest, x, file_of_c: [a, changed(new, id_checksum=7), rest],
    "a touched file without its part": lambda a, new, rest, x, file_of_c: [a, new],
    "a touched file with two": lambda a, new, rest, x, file_of_c: [a, new, rest, rest],
    "one in the place of an untouched file": lambda a, new, rest, x, file_of_c: [
        *(a, new, rest),
        changed(x, replaces=(file_of_c,)),
    ],
    "one in the place of no file": lambda a, new, rest, x, file_of_c: [a, new, changed(rest, replaces=("gone",))],
    "a rewritten part that lost a row": lambda a, new, rest, x, file_of_c: [a, new, changed(rest, n_rows=0)],
    "one in which too few are made again": lambda a, new, rest, x, file_of_c: [a, new, changed(rest, n_stored=0)],
}
WRONG_PLANS = {
    "more rows than were made": lambda plan: {"n_new": 3},
    "a larger catalogue": lambda plan: {"n_catalog": 5},
    "a smaller catalogue": lambda plan: {"n_catalog": 3},
    "a track that is left to the next run": lambda plan: {"n_waiting": 1},
    "an emptied file": lambda plan: {"touched": dict.fromkeys(plan.touched, (2, 0)), "n_catalog": 3},
    "a file of another version": lambda plan: {"touched": plan.touched | {"gone": (1, 0)}, "n_catalog": 3},
}


@pytest.fixture
def planned(local):
    """The right parts, and the plan that they add up to."""
    tag(local, ["a", "b", "c"], "r1", n_catalog=3)
    (a, rest), plan = work_of(local, ["a"], "r2", again=["b"], n_catalog=4)
    new = part_of(local.root, [tagged("new", run_id="r2")], "r2")
    return (a, new, rest), replace(plan, n_new=2, id_checksum=(a.id_checksum + new.id_checksum) % 2**64)


def refuse(local, parts, plan):
    before = snapshot(local)
    with pytest.raises(CountsError, match="nothing was published"):
        local.prepare(parts, plan)
    assert snapshot(local).equals(before) and local.table.version() == 1


@pytest.mark.parametrize("wrong", WRONG_PARTS.values(), ids=WRONG_PARTS.keys())
def test_parts_that_are_not_what_was_planned_publish_nothing(local, planned, wrong):
    parts, plan = planned
    file_of_c = next(file.path for file in local.files(1) if file.path not in plan.touched)
    refuse(local, wrong(*parts, part_of(local.root, [tagged("x")], "r2"), file_of_c), plan)


@pytest.mark.parametrize("wrong", WRONG_PLANS.values(), ids=WRONG_PLANS.keys())
def test_a_plan_that_is_not_the_catalogue_publishes_nothing(local, planned, wrong):
    parts, plan = planned
    refuse(local, parts, replace(plan, **wrong(plan)))


def test_the_right_parts_publish(local, planned):
    assert local.commit(local.prepare(*planned)) == 2
    assert who(local) == {"a": "r2", "b": "r2", "c": "r1", "new": "r2"}


def test_parts_of_a_first_run_that_are_not_the_plan_leave_no_table_behind(local):
    parts, plan = work_of(local, ["a", "b"], "r1", n_catalog=2)
    with pytest.raises(CountsError, match="made 0 rows for 2 planned tracks"):
        local.prepare([], plan)
    assert not local.table.exists()
    assert local.commit(local.prepare(parts, plan)) == 1


def test_a_catalogue_that_shrinks_to_nothing(local):
    tag(local, ["a", "b", "c"], "r1", n_catalog=3)
    tag(local, [], "r2", removed=["a", "b", "c"], n_catalog=0)
    assert local.table.read().equals(PREDICTIONS.empty_table())
    assert local.query("true", columns=["track_id"]).num_rows == 0
    tag(local, ["a"], "r3", n_catalog=1)
    assert who(local) == {"a": "r3"}


def test_a_staged_snapshot_is_seen_by_those_who_name_its_run_and_published_once(predictions):
    tag(predictions, ["a", "b"], "r1", n_catalog=2)
    before = snapshot(predictions)
    prepared = prepare(predictions, ["a", "new"], "r2", removed=["b"], n_catalog=2)
    predictions.stage(prepared)
    assert snapshot(predictions).equals(before) and predictions.table.version() == 1
    assert predictions.staged("r2") == prepared and predictions.staged("r1") is None
    staged = snapshot(predictions, "r2")
    assert staged.schema == PREDICTIONS and staged["track_id"].to_pylist() == ["a", "new"]
    files = predictions.files("r2")

    assert predictions.publish("r2") == 2
    assert set(predictions.files()) == set(files) and snapshot(predictions).equals(staged)
    assert predictions.staged("r2") is None
    tag(predictions, ["c"], "r3", n_catalog=3)
    assert predictions.publish("r2") == 2, "it stays what it was"
    assert who(predictions) == {"a": "r2", "new": "r2", "c": "r3"}


def test_a_publication_that_broke_off_behind_its_commit_goes_on(local, monkeypatch):
    local.stage(prepare(local, ["a"], "r1", n_catalog=1))

    def dies(self, key):
        raise KeyboardInterrupt

    monkeypatch.setattr(Storage, "delete", dies)
    with pytest.raises(KeyboardInterrupt):
        local.publish("r1")
    monkeypatch.undo()
    assert who(local) == {"a": "r1"}
    assert (local.publish("r1"), local.table.version(), local.staged("r1")) == (1, 1, None)


def test_a_staged_snapshot_that_was_overtaken_is_not_published(local):
    tag(local, ["a"], "r1", n_catalog=1)
    local.stage(prepare(local, ["b"], "r2", n_catalog=2))
    tag(local, ["c"], "r3", n_catalog=2)
    for _ in range(2):
        with pytest.raises(ConflictError, match="from version 1 to 2"):
            local.publish("r2")
    assert who(local) == {"a": "r1", "c": "r3"}
    assert snapshot(local, "r2")["track_id"].to_pylist() == ["a", "b"], "it can still be looked at"


def test_what_nobody_staged_cannot_be_published(local):
    for _ in range(2):
        with pytest.raises(NotFoundError, match="run r1 has no snapshot to publish") as caught:
            local.publish("r1")
        assert "--no-publish" in caught.value.hint
        with pytest.raises(NotFoundError, match="run r1 has no snapshot"):
            local.files("r1")
        local.table.create(PREDICTIONS)


def test_a_run_that_changes_nothing_makes_no_version(local):
    tag(local, ["a"], "r1", n_catalog=1)
    prepared = prepare(local, [], "r2", n_catalog=1)
    assert (prepared.changes, prepared.version, prepared.n_unchanged) == (False, 1, 1)
    assert local.commit(prepared) == 1
    local.stage(prepared)
    assert snapshot(local, "r2").equals(snapshot(local))
    assert (local.publish("r2"), local.table.version()) == (1, 1)


def test_a_staged_snapshot_without_rows_is_an_empty_table(local):
    tag(local, ["a"], "r1", n_catalog=1)
    local.stage(prepare(local, [], "r2", removed=["a"], n_catalog=0))
    assert local.files("r2") == [] and snapshot(local, "r2").equals(PREDICTIONS.empty_table())
    assert local.publish("r2") == 2 and who(local) == {}


def test_what_an_interrupted_run_left_is_what_its_second_start_commits(local):
    parts, plan = work_of(local, ["a", "b", "c"], "r1", n_catalog=3)
    assert local.commit(local.prepare(list(find_parts(local.root, "r1")), plan)) == 1
    assert who(local) == {"a": "r1", "b": "r1", "c": "r1"}
    assert {file.path for file in local.files()} == {part.path for part in parts}


def test_show_finds_any_id_exactly(predictions):
    tag(predictions, HARD_IDS, "r1", n_catalog=len(HARD_IDS))
    for track_id in HARD_IDS:
        assert predictions.show(track_id)["track_id"] == track_id
    for track_id in ("7", "A'B", "", "nothing", "%"):
        assert predictions.show(track_id) is None


def test_show_can_look_back(local):
    tag(local, ["a"], "r1", n_catalog=1)
    tag(local, [tagged("a", genre="jazz")], "r2", n_catalog=1)
    assert local.show("a")["genre"] == "jazz"
    assert local.show("a", version=1)["genre"] == "rock"
    with pytest.raises(NotFoundError):
        local.show("a", version=9)


@pytest.fixture
def asked(local):
    rows = [
        failed("d"),
        tagged("c", tagged_at=datetime(2027, 1, 1, tzinfo=UTC), mood="dark", n_clips=7),
        tagged("b'が", genre="jazz", genre_probability=0.25, instruments=["drums"], duration_s=100.0),
        tagged("a"),
    ]
    tag(local, rows, "r1", n_catalog=4)
    return local


QUESTIONS = {
    "true": "a b'が c d",
    "genre = 'rock'": "a c",
    "genre = 'rock' AND genre_probability >= 0.75": "a c",
    "genre in ('jazz', 'pop') or mood = 'dark'": "b'が c",
    "list_contains(instruments, 'piano')": "a c",
    "'drums' = ANY(instruments)": "b'が",
    "log_mels is not null or pooled_logits[2] < 0": "a b'が c",
    "tags[1].label = 'rock' and tags[1].probability > 0.5": "a b'が c",
    "len(probabilities) = 0": "a b'が c",
    "status = 'failed'": "d",
    "error_stage = 'decode' and error_reason = 'no-audio' and error_detail like '%壊%'": "d",
    "genre is null": "d",
    "tagged_at >= '2027-01-01'": "c",
    "tagged_at < TIMESTAMPTZ '2027-01-01 00:00:00+09:00'": "a b'が d",
    "n_clips > 3": "c",
    "duration_s between 99 and 101": "b'が",
    "track_id = 'b''が'": "b'が",
    "mood = 'calm' -- a remark": "a b'が",
    "run_id = 'r1' and model_id = 'model' and audio_digest = 'audio' and taxonomy_version = 'taxonomy'": "a b'が c d",
    "uri like '/music/%' and source_name = track_id and audio_fingerprint is not null": "a b'が c d",
    "calibration_digest = 'x' or backend <> 'torch' or mood_probability > 0.9": "",
}


@pytest.mark.parametrize(("where", "found"), QUESTIONS.items())
def test_conditions_over_every_column(asked, where, found):
    assert asked.query(where, columns=["track_id"])["track_id"].to_pylist() == found.split()


def test_questions_name_every_column():
    text = " ".join(QUESTIONS)
    assert [name for name in PREDICTIONS.names if name not in text] == []


def test_answers_are_sorted_limited_and_of_the_tables_types(asked):
    everything = asked.query("true", columns=PREDICTIONS.names)
    assert everything.schema == PREDICTIONS
    assert everything.equals(asked.table.read().sort_by("track_id"))
    answer = asked.query("true", columns=["genre", "track_id"], limit=2)
    assert answer.to_pylist() == [{"genre": "rock", "track_id": "a"}, {"genre": "jazz", "track_id": "b'が"}]
    assert asked.query("true", columns=["track_id"], version=0).num_rows == 0


IN_TOKYO = """
import sys
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions

found = Predictions(Storage(sys.argv[1])).query("tagged_at < '2027-01-01 05:00'", columns=["track_id"])
assert "c" in found["track_id"].to_pylist()
"""


def test_times_are_utc_wherever_the_machine_stands(asked):
    environment = {**os.environ, "TZ": "Asia/Tokyo"}
    asking = subprocess.run([sys.executable, "-c", IN_TOKYO, asked.root.root], env=environment, capture_output=True)
    assert asking.returncode == 0, asking.stderr.decode()


@pytest.mark.parametrize(
    "where",
    [
        "",
        "genre =",
        "nothing = 1",
        "genre",
        "1=1; DROP TABLE predictions",
        "true; select 1",
        "true) union select 1 --",
        "true limit 1",
        "true order by 1",
        "true from read_text('{file}')",
        "(select count(*) from read_csv('{file}')) > 0",
        "(select max(content) from read_text('{file}')) is not null",
        "exists (select * from '{file}')",
        "exists (select * from glob('/*'))",
        "exists (select * from rows)",
        "track_id in (select track_id from 's3://bucket/other.parquet')",
        "(select count(*) from read_parquet('http://127.0.0.1:9/x.parquet')) > 0",
        "COPY predictions TO '{file}'",
        "ATTACH '{file}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET enable_external_access = true",
        "getenv('HOME') is not null",
        "\udcff = 1",
    ],
)
def test_a_condition_reaches_nothing_but_the_table(asked, tmp_path, where):
    secret = tmp_path / "secret.csv"
    secret.write_text("track_id\na\n")
    with pytest.raises(UsageError, match="cannot answer") as caught:
        asked.query(where.replace("{file}", str(secret)), columns=["track_id"])
    assert "SQL condition over track_id, uri" in caught.value.hint
    assert secret.read_text() == "track_id\na\n"


def test_an_unknown_column_is_told_with_those_that_are(asked):
    with pytest.raises(UsageError, match="no column 'gnere'") as caught:
        asked.query("true", columns=["track_id", "gnere"])
    assert "genre" in caught.value.hint


def test_an_export_of_a_file_that_is_gone_is_a_storage_error(local):
    tag(local, ["a", "b"], "r1", n_catalog=2)
    for key in data_files(local):
        local.root.delete(key)
    with pytest.raises(StorageError):
        exports.export_parquet(local, f"{local.root.root}/out", local.root.config)


def test_a_reader_without_tagfleet_sees_the_same(local):
    tag(local, ["a", "b"], "r1", n_catalog=2)
    tag(local, ["a"], "r2", n_catalog=2)
    seen = deltalake.DeltaTable(local.root.uri("predictions")).to_pyarrow_table()
    assert seen.sort_by("track_id").equals(local.table.read().sort_by("track_id"))

import signal
from contextlib import nullcontext

import pytest

from tagfleet.cli.main import exit_code
from tagfleet.errors import ConflictError, GateRefused, JobError, RunAtWork, StorageError, TooManyFailures, UsageError
from tagfleet.fleet.records import read_progress, read_record, recorded
from tagfleet.fleet.runs import unwatched
from tagfleet.job import run_job, stoppable
from tagfleet.store.objects import Storage
from tests.fleet.synthetic import store_catalog


@pytest.fixture
def root(tmp_path):
    return Storage(str(tmp_path / "root"))


def ended(root, error=None, run_id="r"):
    with nullcontext() if error is None else pytest.raises(type(error)), recorded(root, run_id, "x", unwatched) as run:
        assert read_record(root, run_id).status == "running"
        if error:
            raise error
        run.result = {"n": 1}
    return read_record(root, run_id)


def test_a_run_says_how_it_ended(root):
    record = ended(root)
    assert (record.status, record.exit_code, record.result, record.n_starts) == ("finished", 0, {"n": 1}, 1)
    for error, status, code in (
        (GateRefused("no"), "refused", 3),
        (TooManyFailures("no"), "refused", 4),
        (JobError("no", hint="do"), "failed", 5),
        (KeyboardInterrupt(), "stopped", 6),
        (ZeroDivisionError("no"), "failed", 70),
    ):
        record = ended(root, error)
        assert (record.status, record.exit_code) == (status, code)
    assert record.n_starts == 6 and record.first_started_at < record.started_at


def test_a_run_that_another_one_overtook_says_so(root):
    ended(root, KeyboardInterrupt())
    record = ended(root, ConflictError("predictions are at version 3"))
    assert (record.status, record.exit_code, record.error["code"], record.n_starts) == ("failed", 1, "conflict", 2)


def test_a_second_start_of_a_run_that_is_at_work_leaves_what_the_first_says(root):
    with recorded(root, "r", "x", unwatched):
        first = read_record(root, "r")
        with pytest.raises(RunAtWork), recorded(root, "r", "x", unwatched):
            raise RunAtWork("run r is at work")
        assert read_record(root, "r") == first
    assert read_record(root, "r").status == "finished"


def test_a_taken_id_is_refused_before_anything_is_written(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for kind, name in (("train", "recipe.json"), ("tune", "tune.json")):
        root.write(f"runs/{kind}/{name}", b"{}")
        store_catalog(root, 12)
        assert exit_code(["--root", root.root, kind, "--recipe", "smoke", "--run-id", kind]) == 1
        assert f"there is a run {kind} already" in capsys.readouterr().err
        assert read_record(root, kind) is None


def test_a_run_without_a_name_or_a_place_does_not_start(root, tmp_path):
    with pytest.raises(UsageError, match="cannot be called"), recorded(root, "../x", "x", unwatched):
        raise AssertionError
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError), recorded(Storage(str(tmp_path / "file")), "r", "x", unwatched):
        raise AssertionError


def test_progress_is_stored_at_the_start_and_at_the_end(root):
    with recorded(root, "r", "x", unwatched) as run, run.watch("Tagging", 10) as advance:
        assert read_progress(root, "r").done == 0
        for n in range(11):
            advance(n, n // 5)
        assert read_progress(root, "r").done == 0  # seconds have not passed
    found = read_progress(root, "r")
    assert (found.what, found.done, found.total, found.failed) == ("Tagging", 10, 10, 2)


def test_a_record_of_another_tagfleet_is_none(root):
    root.write("runs/r/run.json", b'{"run_id": "r", "colour": "blue"}')
    assert read_record(root, "r") is None
    assert ended(root).n_starts == 1


def test_sigterm_is_a_stop(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def body(start):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError

    before = signal.getsignal(signal.SIGTERM)
    code = run_job("x", ["--run-id", "r", "-s", f"root={root.root}"], lambda parser: None, body)
    assert code == 6 and read_record(root, "r").status == "stopped"
    assert "it goes on by the same id: --run-id r" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(KeyboardInterrupt), stoppable():
        signal.raise_signal(signal.SIGTERM)


def test_a_bug_in_a_job_has_its_own_code(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--run-id", "r", "-s", f"root={root.root}"]
    assert run_job("x", words, lambda parser: None, lambda start: 1 / 0) == 70
    assert "ZeroDivisionError" in capsys.readouterr().err and read_record(root, "r").exit_code == 70
    assert run_job("x", words, lambda parser: None, lambda start: {"n": 1, "table": [1], "counts": {"a": 1}}) == 0
    assert capsys.readouterr().out == '{"n": 1, "counts": {"a": 1}}\n'

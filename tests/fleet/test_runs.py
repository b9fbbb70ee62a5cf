import pytest

from tagfleet.errors import ConflictError, NotFoundError, StorageError, UsageError
from tagfleet.fleet.runs import open_run, read_metrics, read_recipe, read_result, reported, write_json, write_metrics
from tagfleet.store.objects import Storage
from tests.fleet.synthetic import recipe


@pytest.fixture
def root(tmp_path):
    return Storage(str(tmp_path))


def test_a_run_id_is_taken_once(root):
    open_run(root, "r1", recipe())
    with pytest.raises(ConflictError) as refused:
        open_run(root, "r1", recipe())
    assert "--resume r1" in refused.value.hint
    assert read_recipe(root, "r1") == recipe()


@pytest.mark.parametrize("run_id", ["", "a/b", "..", "-x", "a\nb", "a\x1b[31m", " ", "曲", "r" * 101])
def test_what_is_no_name_is_no_run(root, run_id):
    with pytest.raises(UsageError, match="cannot be called"):
        open_run(root, run_id, recipe())


def test_what_was_never_started_cannot_go_on(root):
    with pytest.raises(NotFoundError, match="no training run r1"):
        read_recipe(root, "r1")


def test_epochs_are_reported_once_each_and_not_those_of_an_earlier_start(root):
    epochs = [{"epoch": n, "曲": "名"} for n in range(1, 5)]
    assert read_metrics(root, "r1") == []
    write_metrics(root, "r1", epochs[:1])
    lines = []
    with reported(root, "r1", lines.append):
        write_metrics(root, "r1", epochs[:2])
        write_metrics(root, "r1", epochs)
    assert lines == epochs[1:]


def test_a_report_that_cannot_be_stored_delays_nothing_and_is_not_repeated(root):
    lines = []

    def fails(line):
        raise StorageError("disk full")

    with reported(root, "r1", fails, lines.append):
        write_metrics(root, "r1", [{"epoch": 1}, {"epoch": 2}])
    assert lines == [{"epoch": 1}, {"epoch": 2}]


def test_what_happened_before_a_failure_is_still_reported(root):
    lines = []
    with pytest.raises(RuntimeError), reported(root, "r1", lines.append):
        write_metrics(root, "r1", [{"epoch": 1}])
        raise RuntimeError
    assert lines == [{"epoch": 1}]


def test_a_result_marks_the_end(root):
    assert read_result(root, "r1") is None
    write_json(root, "r1", "result.json", {"model": "tagger:1"})
    assert read_result(root, "r1") == {"model": "tagger:1"}

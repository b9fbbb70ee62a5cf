import pytest

from tagfleet.errors import ConflictError, DigestMismatch, NotFoundError
from tagfleet.fleet.runs import open_run, read_metrics, read_result, reported, write_metrics, write_result
from tagfleet.store.objects import Storage
from tests.fleet.synthetic import recipe


@pytest.fixture
def root(tmp_path):
    return Storage(str(tmp_path))


def test_a_run_id_is_taken_once(root):
    open_run(root, "r1", recipe(), resume=False)
    with pytest.raises(ConflictError) as refused:
        open_run(root, "r1", recipe(), resume=False)
    assert "--resume" in refused.value.hint
    open_run(root, "r1", recipe(), resume=True)


def test_what_was_never_started_cannot_go_on(root):
    with pytest.raises(NotFoundError, match="no training run r1"):
        open_run(root, "r1", recipe(), resume=True)


def test_another_recipe_cannot_go_on_and_the_difference_is_named(root):
    open_run(root, "r1", recipe(epochs=3), resume=False)
    with pytest.raises(DigestMismatch, match=r"recipe: train changed"):
        open_run(root, "r1", recipe(epochs=4), resume=True)


def test_epochs_are_reported_once_each_and_not_those_of_an_earlier_start(root):
    epochs = [{"epoch": n, "曲": "名"} for n in range(1, 5)]
    assert read_metrics(root, "r1") == []
    write_metrics(root, "r1", epochs[:1])
    lines = []
    with reported(root, "r1", lines.append):
        write_metrics(root, "r1", epochs[:2])
        write_metrics(root, "r1", epochs)
    assert lines == epochs[1:]


def test_what_happened_before_a_failure_is_still_reported(root):
    lines = []
    with pytest.raises(RuntimeError), reported(root, "r1", lines.append):
        write_metrics(root, "r1", [{"epoch": 1}])
        raise RuntimeError
    assert lines == [{"epoch": 1}]


def test_a_result_marks_the_end(root):
    assert read_result(root, "r1") is None
    write_result(root, "r1", {"model": "tagger:1"})
    assert read_result(root, "r1") == {"model": "tagger:1"}

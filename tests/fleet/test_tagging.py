from hypothesis import given
from hypothesis import strategies as st

from tagfleet.fleet import stages
from tagfleet.fleet.plan import PlanFile
from tagfleet.fleet.tagging import adopt
from tagfleet.store.parts import PartFile, Tally
from tests.fleet.test_plan import plan_of

N = 12
PLAN_OF_12 = plan_of(files=(PlanFile(key="a", n_rows=5), PlanFile(key="b", n_rows=7)))


def part(path, *rows, replaces=(), last=False, **tally):
    n_rows = sum(stop - first for first, stop in rows)
    return PartFile(
        path=path,
        run_id="r1",
        n_rows=n_rows,
        id_checksum=0,
        rows=rows,
        replaces=replaces,
        last=last,
        tally=Tally(**tally),
    )


def paths(found):
    return [part.path for part in adopt(found, PLAN_OF_12)]


def test_all_that_was_finished_is_taken():
    assert paths([part("a", (5, 12)), part("b", (0, 3), (4, 5)), part("c", replaces=("f1", "f2"))]) == ["a", "b", "c"]


def test_of_two_parts_of_one_block_one_is_taken():
    # The worker died after it had written, and the block was made again.
    assert paths([part("a", (0, 5)), part("b", (0, 5)), part("c", (4, 6)), part("d", (5, 6))]) == ["a", "d"]
    assert paths([part("a", replaces=("f1",)), part("b", replaces=("f1", "f2"))]) == ["a"]


def test_what_was_given_up_for_a_passing_reason_is_tried_again():
    assert paths([part("a", (0, 2), last=True, failures={"fetch/unreachable": 1})]) == []
    assert paths([part("a", (0, 2), last=True)]) == ["a"]
    assert paths([part("a", (0, 2), failures={"decode/corrupt": 2})]) == ["a"]


ranges = st.tuples(st.integers(0, N - 1), st.integers(1, N)).filter(lambda r: r[0] < r[1])


@given(st.lists(ranges, max_size=8))
def test_no_row_is_taken_twice_and_none_that_could_be_is_left(made):
    found = [part(f"{n:03d}", rows) for n, rows in enumerate(made)]
    taken = list(adopt(found, PLAN_OF_12))
    rows = [row for one in taken for first, stop in one.rows for row in range(first, stop)]
    assert len(rows) == len(set(rows))
    for one in found:
        if one not in taken:
            assert any(row in rows for first, stop in one.rows for row in range(first, stop))


def test_the_cpu_time_of_a_part_is_that_of_all_its_pieces(monkeypatch):
    clock = iter([1.0, 3.0, 10.0, 14.0])
    monkeypatch.setattr(stages.time, "process_time", lambda: next(clock))
    spent = {}
    for _ in range(2):
        with stages._cpu_time(spent, "network"):
            pass
    assert spent == {"network": 6.0}

from hypothesis import given
from hypothesis import strategies as st

from tagfleet.fleet import tallying
from tagfleet.fleet.tallying import Made, add_up
from tagfleet.store.parts import PartFile, Tally

counts = st.integers(0, 9)
tallies = st.builds(
    Tally,
    n_tagged=counts,
    failures=st.dictionaries(st.sampled_from(["decode/corrupt", "fetch/timeout"]), counts),
    n_new_failures=counts,
    labels=st.dictionaries(st.sampled_from("gm"), st.dictionaries(st.sampled_from("abc"), counts, min_size=1)),
    flips=st.dictionaries(st.sampled_from("gm"), st.tuples(counts, counts)),
    n_bytes=counts,
    cpu_s=st.dictionaries(st.sampled_from(["listen", "network"]), counts.map(float)),
    began_at=counts.map(float),
    wall_s=counts.map(float),
    peak_memory_mb=counts.map(float),
)
parts = st.builds(
    PartFile,
    path=st.text("ab", max_size=3),
    run_id=st.just("r"),
    n_rows=counts,
    id_checksum=counts,
    replaces=st.lists(st.just("f"), max_size=1).map(tuple),
    tally=tallies,
)


@given(st.lists(parts, max_size=12), st.integers(2, 4))
def test_the_sum_of_the_parts_is_kept_and_of_each_what_the_commit_needs(given_parts, at_once):
    kept, tallying._TALLIES_AT_ONCE = tallying._TALLIES_AT_ONCE, at_once
    try:
        made = Made(given_parts)
    finally:
        tallying._TALLIES_AT_ONCE = kept
    assert made.tally == add_up(part.tally for part in given_parts)
    assert made.n_heard == sum(part.n_rows for part in given_parts if not part.replaces)
    assert [part.n_failed for part in made.parts] == [part.n_failed for part in given_parts]
    empty = {"tally": Tally()}
    assert [p.model_copy(update=empty) for p in made.parts] == [p.model_copy(update=empty) for p in given_parts]

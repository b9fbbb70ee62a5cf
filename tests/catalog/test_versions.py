import pytest

from tagfleet.catalog.rows import RawRow, check_rows
from tagfleet.catalog.versions import Changes, compare, replace_below, stats
from tagfleet.errors import CatalogError


def catalog(root, **uris):
    rows = [RawRow(line=1, values={"track_id": k, "uri": v, "tags": "a|b", "creator_id": "c"}) for k, v in uris.items()]
    return check_rows(rows, audio_root=root).tracks


def test_compare_counts_by_id_over_all_columns():
    old = catalog("/m", a="1", b="2", c="3")
    new = catalog("/m", b="2", c="4", d="5")
    assert compare(old, new) == Changes(added=1, changed=1, removed=1, unchanged=1)
    assert compare(None, new) == Changes(added=3, changed=0, removed=0, unchanged=0)


def test_a_scan_replaces_only_what_lies_below_its_root():
    old = replace_below(catalog("/m/a", a="1", b="2"), catalog("/m/b", c="3"), "/m/b")
    assert old["track_id"].to_pylist() == ["a", "b", "c"]
    new = replace_below(old, catalog("/m/a", b="2"), "/m/a")
    assert new["track_id"].to_pylist() == ["b", "c"]


def test_a_folder_whose_name_begins_alike_is_elsewhere():
    both = replace_below(catalog("/m/ab", x="1"), catalog("/m/a", y="1"), "/m/a")
    assert both["track_id"].to_pylist() == ["x", "y"]


def test_an_id_that_belongs_to_another_file_is_refused():
    with pytest.raises(CatalogError, match="belong to other files") as caught:
        replace_below(catalog("/m/a", x="1"), catalog("/m/b", x="1"), "/m/b")
    assert "--id-prefix" in caught.value.hint


def test_stats_count_what_is_there_and_what_is_missing():
    facts = stats(catalog("/m", a="1.MP3", b="2.wav"))
    assert facts["n_tracks"] == 2
    assert facts["file_types"] == {".mp3": 1, ".wav": 1}
    assert facts["top_tags"] == {"a": 2, "b": 2}
    assert facts["n_creators"] == 1
    assert facts["n_without_duration"] == 2

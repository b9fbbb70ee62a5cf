from datetime import UTC, datetime

import pytest

from tagfleet.catalog.files import read_table
from tagfleet.errors import CatalogError
from tagfleet.labels.build import build_labels, correct_labels
from tagfleet.labels.config import LabelsConfig
from tagfleet.labels.corrections import COLUMNS, apply_corrections, merge_corrections, read_corrections
from tagfleet.labels.revision import TaxonomyChange, revise
from tests.labels.words import READER, TAXONOMY, tracks

NOW = datetime(2026, 11, 26, tzinfo=UTC)
TABLE = tracks(("1", ["ロック", "ピアノ"]), ("2", ["ピアノ"]), ("3", None))
CONFIG = LabelsConfig()


def read(text, encoding="utf-8", taxonomy=TAXONOMY):
    rows = read_table(("track_id,axis,label,note\n" + text).encode(encoding), COLUMNS[:3])
    return read_corrections(rows, taxonomy, {"1", "2", "3"}, NOW)


def said(table):
    return [(row["track_id"], row["axis"], row["label"]) for row in table.to_pylist()]


def built(corrections):
    return build_labels(TABLE, TAXONOMY, CONFIG, READER, corrections=corrections)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp932"])
def test_labels_are_taken_by_id_name_or_synonym(encoding):
    table = read("1,genre,ポップ,違う\n2,instrument,drums,\n2,instrument,エレキ,\n3,genre,NONE,効果音\n", encoding)
    assert said(table) == [
        ("1", "genre", "pops"),
        ("2", "instrument", "drums"),
        ("2", "instrument", "electric_guitar"),
        ("3", "genre", "none"),
    ]
    assert [row["note"] for row in table.to_pylist()] == ["違う", None, None, "効果音"]


def test_every_bad_row_is_told_with_its_line_and_nothing_is_taken():
    with pytest.raises(CatalogError) as caught:
        read(
            "9,genre,rock,\n1,tempo,fast,\n1,genre,ジャズ,\n2,genre,rock,\n2,genre,pops,\n3,instrument,none,\n3,instrument,piano,\n"
        )
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "line 2",
        "line 3",
        "line 4",
        "line 6",
        "line 8",
    ]


def test_a_file_without_the_columns_is_refused():
    with pytest.raises(CatalogError, match="no column 'label'"):
        list(read_table(b"track_id,axis\n", COLUMNS[:3]))


def test_a_correction_wins_over_every_rule_and_brings_the_parent():
    rows = built(read("1,genre,pops,\n1,instrument,エレキギター,\n")).labels.to_pylist()
    mine = [(row["axis"], row["label"], row["rule"], row["source"]) for row in rows if row["track_id"] == "1"]
    assert mine == [
        ("genre", "pops", "correction", "person"),
        ("instrument", "electric_guitar", "correction", "person"),
        ("instrument", "guitar", "correction", "person"),
    ]


def test_no_label_is_a_row_too():
    build = built(read("1,genre,none,効果音\n"))
    row = next(row for row in build.labels.to_pylist() if row["axis"] == "genre")
    assert (row["label"], row["evidence"]) == ("none", "効果音")
    assert build.counts["genre", "rock"]["n_tracks"] == 0


def test_what_is_said_anew_replaces_what_was_said_of_that_track_and_axis():
    first = read("1,genre,pops,\n1,instrument,piano,\n")
    merged = merge_corrections(first, read("1,instrument,drums,\n2,genre,rock,\n"))
    assert said(merged) == [("1", "genre", "pops"), ("1", "instrument", "drums"), ("2", "genre", "rock")]
    assert merge_corrections(None, first) is first


def test_corrections_follow_a_revised_taxonomy_and_say_when_they_cannot():
    change = TaxonomyChange.model_validate(
        {
            "rename": [{"axis": "genre", "label": "pops", "id": "jpop"}],
            "drop": [{"axis": "instrument", "label": "drums"}],
        }
    )
    corrections = merge_corrections(read("1,genre,pops,\n"), read("2,instrument,drums,\n"))
    applied = apply_corrections(corrections, revise(TAXONOMY, change), {"1", "2"})
    assert [(row["track_id"], row["label"]) for row in applied.rows.to_pylist()] == [("1", "jpop")]
    assert applied.void == ["2 instrument drums: the taxonomy has no such label"]
    gone = apply_corrections(corrections, TAXONOMY, {"2"})
    assert gone.void == ["1 genre pops: the catalogue has no such track"]


def test_correcting_stored_labels_is_building_with_corrections():
    corrections = read("1,genre,pops,\n3,instrument,none,\n")
    plain = build_labels(TABLE, TAXONOMY, CONFIG, READER).labels
    corrected, void = correct_labels(plain, corrections, TABLE, TAXONOMY, CONFIG)
    assert corrected.equals(built(corrections).labels)
    assert void == []

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.catalog.files import decode_text, our_columns, read_rows
from tagfleet.catalog.rows import check_rows
from tagfleet.errors import CatalogError

JAPANESE_CSV = '曲ID,ファイル,タイトル,説明,タグ\n001,a b/①.mp3,髙～㈱,"改行\nあり",ロック|暗い\n'
MAPPING = {"track_id": "曲ID", "uri": "ファイル", "title": "タイトル", "description": "説明", "tags": "タグ"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp932"])
def test_the_same_csv_in_every_encoding_people_have(encoding):
    (row,) = read_rows(JAPANESE_CSV.encode(encoding), "csv", mapping=MAPPING)
    track = check_rows([row], audio_root="/music").tracks.to_pylist()[0]
    assert track["track_id"] == "001"
    assert track["uri"] == "/music/a b/①.mp3"
    assert track["title"] == "髙～㈱"
    assert track["description"] == "改行\nあり"
    assert track["tags"] == ["ロック", "暗い"]


def test_undecodable_bytes_name_the_line():
    with pytest.raises(CatalogError, match=r"not UTF-8 \(line 2\) and not cp932 \(line 2\)"):
        decode_text(b"a,b\n\xff\xff\x81\n")
    with pytest.raises(CatalogError, match="line 1 is not ascii"):
        decode_text("曲".encode(), "ascii")
    with pytest.raises(CatalogError, match="encoding 'klingon' is not known"):
        decode_text(b"x", "klingon")


def test_lines_are_counted_as_an_editor_counts_them():
    text = 'track_id,uri\n1,"a\nb"\n\n2,c\n'
    assert [(row.line, row.values["track_id"]) for row in read_rows(text.encode(), "csv")] == [(2, "1"), (5, "2")]


def test_a_row_with_too_many_cells_is_a_problem_of_that_row():
    checked = check_rows(read_rows(b"track_id,uri\n1,a,b\n2,c\n", "csv"), audio_root="/music")
    assert str(checked.problems[0]) == "line 2: 3 cells, the header has 2"
    assert checked.tracks["track_id"].to_pylist() == ["2"]


@pytest.mark.parametrize(
    ("header", "mapping", "said"),
    [
        (["uri"], {}, "no column 'track_id'"),
        ([], {}, "there are: none"),
        (["track_id", "uri"], {"title": "曲名"}, "no column '曲名'"),
        (["track_id", "uri", "x", "X"], {}, "columns of one name"),
        (["track_id", "uri", "title", "t"], {"title": "t"}, "columns of one name"),
        (["track_id", "uri"], {"colour": "x"}, "no column of ours is called colour"),
    ],
)
def test_wrong_columns_stop_the_import(header, mapping, said):
    with pytest.raises(CatalogError, match=said):
        our_columns(header, mapping)


def test_json_lines_keep_types_and_report_each_bad_line():
    lines = [
        json.dumps({"track_id": "1", "uri": "a", "tags": ["x", "y"], "bpm": 120}),
        "not json",
        "[1]",
        json.dumps({"track_id": 7, "uri": "b"}),
        "",
        json.dumps({"track_id": "2", "uri": "c", "title": None}),
    ]
    checked = check_rows(read_rows("\n".join(lines).encode(), "jsonl"), audio_root="/music")
    assert [problem.line for problem in checked.problems] == [2, 3, 4]
    assert checked.tracks["track_id"].to_pylist() == ["1", "2"]
    assert checked.tracks["bpm"].to_pylist() == ["120", None]


def test_parquet_lists_stay_lists_and_number_ids_are_refused():
    buffer = io.BytesIO()
    pq.write_table(pa.table({"track_id": ["1", "2"], "uri": ["a", "b"], "tags": [["z", "a"], None]}), buffer)
    checked = check_rows(read_rows(buffer.getvalue(), "parquet"), audio_root="/music")
    assert checked.tracks["tags"].to_pylist() == [["z", "a"], []]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"track_id": [1], "uri": ["a"]}), buffer)
    checked = check_rows(read_rows(buffer.getvalue(), "parquet"), audio_root="/music")
    assert "track_id must be text, given 1" in checked.problems[0].message
    with pytest.raises(CatalogError, match="not a Parquet file"):
        list(read_rows(b"PAR0", "parquet"))


@given(st.binary(max_size=300), st.sampled_from(["csv", "tsv", "jsonl", "parquet"]))
def test_no_bytes_crash_an_import(data, format):
    try:
        checked = check_rows(read_rows(data, format), audio_root="/music")
    except CatalogError:
        return
    assert all(checked.tracks["track_id"].to_pylist())
    assert all(uri.startswith("/music/") for uri in checked.tracks["uri"].to_pylist())


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=1))
def test_a_csv_comes_back_cell_for_cell(cells):
    import csv

    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([("track_id", "uri", "note"), *cells])
    try:
        data = buffer.getvalue().encode()
    except UnicodeEncodeError:
        return
    read = [tuple(row.values.values()) for row in read_rows(data, "csv", encoding="utf-8")]
    assert read == [tuple(row) for row in cells]


def test_a_mapped_key_may_be_missing_in_some_lines_but_not_in_all():
    lines = b'{"track_id": "1", "uri": "a", "t": "x"}\n{"track_id": "2", "uri": "b"}\n{"track_id": "3", "uri": 1}\n'
    checked = check_rows(read_rows(lines, "jsonl", mapping={"title": "t"}), audio_root="/music")
    assert checked.tracks["title"].to_pylist() == ["x", None]
    with pytest.raises(CatalogError, match="no line has 'q'"):
        list(read_rows(lines, "jsonl", mapping={"title": "q"}))


def test_a_number_of_5000_digits_and_a_damaged_page_are_told():
    line = b'{"track_id": "1", "uri": "a", "x": ' + b"9" * 5000 + b"}"
    assert "not JSON" in str(check_rows(read_rows(line, "jsonl"), audio_root="/m").problems[0])
    buffer = io.BytesIO()
    pq.write_table(pa.table({"track_id": ["1"] * 99, "uri": ["a"] * 99}), buffer, compression="zstd")
    damaged = bytearray(buffer.getvalue())
    damaged[4:40] = bytes(36)
    with pytest.raises(CatalogError, match="not a Parquet file"):
        list(read_rows(bytes(damaged), "parquet"))

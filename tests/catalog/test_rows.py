import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagfleet.catalog.rows import RawRow, check_rows, resolve_uri
from tagfleet.schemas import TRACKS

ROOT = "/music"


def rows(*values: dict[str, object]) -> list[RawRow]:
    return [RawRow(line=n, values=value) for n, value in enumerate(values, start=2)]


def test_a_good_row_keeps_every_word_as_it_was_typed():
    nfd = unicodedata.normalize("NFD", "が.mp3")
    checked = check_rows(
        rows(
            {
                "track_id": "007",
                "uri": nfd,
                "tags": " ロック | ﾋﾟｱﾉ ||暗い",
                "title": " [bold]x[/] 🎸",
                "評価 (5段階)": "4",
            },
            {"track_id": "008", "uri": "が.mp3", "tags": ["b", "a", "b"], "bpm": 120.5, "duration_s": "3.5"},
        ),
        audio_root=ROOT,
    )
    assert not checked.problems
    first, second = checked.tracks.to_pylist()
    assert first["track_id"] == "007"
    assert first["uri"] == f"/music/{nfd}" != second["uri"]
    assert first["tags"] == ["ロック", "ﾋﾟｱﾉ", "暗い"]
    assert first["title"] == " [bold]x[/] 🎸"
    assert first["評価 (5段階)"] == "4"
    assert second["tags"] == ["b", "a", "b"]
    assert second["bpm"] == "120.5"
    assert second["duration_s"] == 3.5
    assert checked.tracks.schema.names[: len(TRACKS)] == TRACKS.names


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"uri": "a.mp3"}, "track_id is missing"),
        ({"track_id": "1"}, "uri is missing"),
        ({"track_id": 1, "uri": "a.mp3"}, "track_id must be text"),
        ({"track_id": "1", "uri": "../a.mp3"}, "climbs out"),
        ({"track_id": "1", "uri": "/etc/passwd"}, "not below the audio root"),
        ({"track_id": "1", "uri": "http://x/a.mp3"}, "not below the audio root"),
        ({"track_id": "1", "uri": "concat:a|b"}, "not below the audio root"),
        ({"track_id": "1", "uri": "/music2/a.mp3"}, "not below the audio root"),
        ({"track_id": "1", "uri": "a\0.mp3"}, "NUL"),
        ({"track_id": "1", "uri": "a.mp3", "duration_s": "long"}, "duration_s must be a number"),
        ({"track_id": "1", "uri": "a.mp3", "duration_s": "nan"}, "finite"),
        ({"track_id": "1", "uri": "a.mp3", "size_bytes": 1.5}, "whole number"),
        ({"track_id": "1", "uri": "a.mp3", "tags": {"a": 1}}, "tags must be"),
        ({"track_id": "1", "uri": "a.mp3", "title": "\ud800"}, "lone surrogate"),
        ({"track_id": "1", "uri": "a.mp3", "updated_at": "yesterday"}, "ISO 8601"),
        ({"track_id": "1", "uri": "a.mp3", "updated_at": "0001-01-01T00:00:00+09:00"}, "out of range"),
        ({"track_id": "1", "uri": "a.mp3", "size_bytes": 10**400}, "size_bytes must be a number"),
        ({"track_id": "1", "uri": "a.mp3", "\ud800": "x"}, "lone surrogate"),
        ({"track_id": "1", "uri": "a.mp3", "extra": ["\ud800"]}, "lone surrogate"),
        ({"track_id": "1", "uri": "a.mp3", "updated_at": "2026-11-23T03:00:00"}, "no time zone"),
    ],
)
def test_a_bad_row_says_what_is_wrong_and_where(values, said):
    checked = check_rows(rows(values, {"track_id": "good", "uri": "g.mp3"}), audio_root=ROOT)
    assert [problem.line for problem in checked.problems] == [2]
    assert said in checked.problems[0].message
    assert checked.tracks["track_id"].to_pylist() == ["good"]


def test_the_second_row_of_one_id_is_the_bad_one():
    checked = check_rows(rows({"track_id": "1", "uri": "a"}, {"track_id": "1", "uri": "b"}), audio_root=ROOT)
    assert str(checked.problems[0]) == "line 3: track_id '1' stood already in line 2"
    assert checked.tracks["uri"].to_pylist() == ["/music/a"]


@given(st.text(), st.sampled_from(["/music", "s3://music/a b"]))
def test_no_uri_leaves_its_root(uri, root):
    try:
        resolved = resolve_uri(uri, root)
    except ValueError:
        return
    assert resolved.startswith(root + "/")
    assert ".." not in resolved[len(root) :].split("/")


@given(st.lists(st.fixed_dictionaries({"track_id": st.text(), "uri": st.text(), "tags": st.lists(st.text())})))
def test_every_row_is_good_or_rejected_never_lost(values):
    checked = check_rows(rows(*values), audio_root=ROOT)
    assert checked.tracks.num_rows + len(checked.problems) == len(values)
    assert len(checked.problems) == len(checked.rejected)
    assert len(set(checked.tracks["track_id"].to_pylist())) == checked.tracks.num_rows


def test_a_path_has_one_spelling_and_a_key_many():
    assert resolve_uri("./x//b.wav", "/music") == resolve_uri("/music/x/./b.wav", "/music") == "/music/x/b.wav"
    assert resolve_uri("./x//b.wav", "s3://music") == "s3://music/./x//b.wav"


def test_one_column_spelled_two_ways_is_a_problem_of_the_later_row():
    checked = check_rows(
        rows({"track_id": "1", "uri": "a", "BPM": "1"}, {"track_id": "2", "uri": "b", "bpm": "2"}), audio_root=ROOT
    )
    assert str(checked.problems[0]) == "line 3: column 'bpm' is called 'BPM' in an earlier row"

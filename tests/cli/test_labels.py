"""The catalogue owner's walk: a cp932 CSV of one's own, from import to diff, as a new user types it."""

import csv
import io
import json
import xml.etree.ElementTree as ET

import pytest

from tagfleet.cli.main import exit_code

ROWS = [
    ("曲ID", "タイトル", "説明", "タグ"),
    ("001", "朝の散歩①", "爽やかで明るい、アコースティックギターの曲です。", "ポップス、ｱｺｷﾞ、爽やか、作業用BGM"),
    ("002", "夜の㈱会議", "暗くはありません。ピアノは入っていません。", "ジャズ、ドラムレス、おしゃれ"),
    ("003", "鍵を開ける音", "ロックを解除する音です。", "効果音"),
    ("004", "髙い空～", "クラシックギターのソロ。悲しい、切ない旋律。", "クラシックギター、切ない、悲しい"),
    ("005", "[red]Title[/red]", "", "ロック、バラード、エレキギター、作業用BGM"),
    ("0005", "無題", "", ""),
]


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A folder with a catalogue as Excel saves it, and two of its files."""
    text = io.StringIO()
    csv.writer(text).writerows(ROWS)
    (tmp_path / "曲一覧.csv").write_bytes(text.getvalue().encode("cp932"))
    (tmp_path / "001.wav").write_bytes(b"not read here")
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "002.mp3").write_bytes(b"not read here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def run(capsys):
    def run(*words, code=0):
        assert exit_code(list(words)) == code
        printed = capsys.readouterr()
        return printed.out, printed.err

    return run


MAP = [
    word for pair in ("track_id=曲ID", "title=タイトル", "description=説明", "tags=タグ") for word in ("--map", pair)
]


@pytest.fixture
def imported(library, run):
    run("catalog", "import", "曲一覧.csv", *MAP, "--tag-separator", "、")
    return library


def as_json(run, *words):
    return json.loads(run(*words, "--json")[0])


def test_a_csv_without_uris_finds_the_files_that_are_called_like_the_tracks(library, run):
    _, err = run("catalog", "import", "曲一覧.csv", *MAP, "--tag-separator", "、")
    assert "No uri column" in err
    assert "5 of 7" not in err and "4 of 6 tracks have no file" in err
    track = as_json(run, "catalog", "show", "002")
    assert track["uri"] == str(library / "album" / "002.mp3")
    assert track["title"] == "夜の㈱会議"
    assert as_json(run, "catalog", "show", "0005")["uri"] == str(library / "0005")


def test_the_walk(imported, run):
    out, err = run("labels", "mine", "--min-tracks", "1", "--limit", "0")
    assert "作業用bgm\t2" in out.casefold()
    out, err = run("labels", "check")
    assert "no contradiction" in err
    out, err = run("labels", "build", "all")
    assert "Labels version 0 by taxonomy default-" in err
    assert "acoustic_guitar\tアコースティックギター\t2" in out
    assert "several labels; most often ロック / バラード 1" in err
    assert "tracks without a mood word" in err
    out, _ = run("labels", "explain", "004")
    assert "クラシックではない" in out and "切ない" in out
    run("labels", "build", "all", "--drop", "instrument:acoustic_guitar")
    out, err = run("labels", "diff")
    assert "instrument\tlost\tアコースティックギター\t2" in out
    assert "From labels version 0 to 1: 2 tracks have other labels." in err
    out, _ = run("labels", "history")
    assert [line.split("\t")[0] for line in out.splitlines()] == ["version", "1", "0"]


def test_the_same_in_english(imported, run):
    run("labels", "build", "all")
    out, _ = run("--lang", "en", "labels", "explain", "002")
    assert "not Drums: 'ドラム' in tag 2 is denied by 'レス'" in out
    assert "not Piano" in out and "not Dark" in out
    out, _ = run("--lang", "en", "labels", "explain", "003")
    assert "not Rock: 'ロック' in description, character 1 belongs to" in out
    assert "no label: no mood word" in out
    out, _ = run("--lang", "en", "labels", "diff", "0", "0")
    assert out.splitlines() == ["axis\tchange\tlabel\ttracks\trule\texamples"]


def test_titles_cannot_harm_the_terminal(imported, run):
    run("labels", "build", "all")
    out, _ = run("labels", "explain", "005")
    assert "[red]Title[/red]" in out


def test_explaining_comes_before_building_too(imported, run):
    out, err = run("labels", "explain", "001")
    assert "⟦ｱｺｷﾞ⟧" in out
    assert "There are no labels yet" in err
    _, err = run("labels", "explain", "404", code=1)
    assert "no track '404'" in err


def test_corrections_are_merged_and_explained(imported, run):
    run("labels", "build", "all")
    (imported / "直し.csv").write_bytes(
        "track_id,axis,label,note\n003,genre,none,効果音\n005,genre,バラード,聴いた\n".encode("cp932")
    )
    assert as_json(run, "labels", "merge", "直し.csv", "-n")["version"] is None
    assert as_json(run, "labels", "merge", "直し.csv")["version"] == 1
    out, _ = run("labels", "explain", "005")
    assert "バラード: 人による修正 (聴いた)" in out
    out, _ = run("labels", "explain", "003")
    assert "ラベルなし: 人による修正 (効果音)" in out
    run("labels", "build", "all")
    explained = as_json(run, "labels", "explain", "005")
    assert [axis["labels"] for axis in explained["axes"] if axis["axis"] == "genre"] == [["ballad"]]
    (imported / "bad.csv").write_text("track_id,axis,label,note\n404,genre,rock,\n", encoding="utf-8")
    _, err = run("labels", "merge", "bad.csv", code=1)
    assert "line 2: the catalogue has no track '404'" in err


def test_a_taxonomy_is_printed_edited_and_given_back(imported, run):
    run("labels", "taxonomy", "-o", "mine.toml")
    text = (imported / "mine.toml").read_text(encoding="utf-8")
    (imported / "mine.toml").write_text(
        text.replace('"ロック"', '"岩"', 1).replace('name = "default"', 'name = "mine"'), encoding="utf-8"
    )
    out, _ = run("labels", "taxonomy", "--taxonomy", "mine.toml")
    assert 'name = "mine"' in out and 'ja = "岩"' in out
    report = as_json(run, "labels", "build", "all", "--taxonomy", "mine.toml")
    assert report["taxonomy"].startswith("mine-")
    assert as_json(run, "labels", "check")["taxonomy"] == report["taxonomy"]
    (imported / "mine.toml").write_text("name = 1", encoding="utf-8")
    _, err = run("labels", "check", "--taxonomy", "mine.toml", code=1)
    assert "contradicts itself" in err


def test_a_change_file_revises_the_taxonomy(imported, run):
    run("labels", "build", "all")
    (imported / "change.toml").write_text('[[merge]]\naxis = "genre"\nlabels = ["rock", "ballad"]\ninto = "rock"\n')
    report = as_json(run, "labels", "build", "all", "--change", "change.toml")
    assert report["axes"]["genre"]["n_conflicting"] == 0
    _, err = run("labels", "build", "all", "--change", "change.toml", code=1)
    assert "no label 'ballad'" in err


def test_mining_has_tables_csv_and_json(imported, run):
    out, _ = run("labels", "mine", "--csv", "--min-tracks", "1", "--source", "tags")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["phrase"] for row in rows} >= {"効果音", "作業用BGM"}
    run("labels", "mine", "-o", "terms.csv", "--min-tracks", "1")
    assert (imported / "terms.csv").read_bytes().startswith(b"\xef\xbb\xbfphrase,")
    terms = as_json(run, "labels", "mine", "--min-tracks", "1", "--uncovered", "--limit", "0")
    assert "効果音" in {term["phrase"] for term in terms}
    assert all(term["covered"] != "yes" for term in terms)
    _, err = run("labels", "mine", "--source", "title", code=2)
    assert "one of all, tags, description" in err


def test_no_cell_is_a_formula_to_a_spreadsheet(library, run):
    (library / "c.csv").write_text("track_id,tags\n1,=HYPERLINK(1)|@SUM(A1)|＝1+1\n", encoding="utf-8")
    run("catalog", "import", "c.csv")
    out, _ = run("labels", "mine", "--csv", "--min-tracks", "1")
    assert not any(row["phrase"][0] in "=@+-" for row in csv.DictReader(io.StringIO(out)))


def test_files_that_cannot_be_written_or_read_are_errors_not_bugs(imported, run):
    _, err = run("labels", "taxonomy", "-o", "no/such/folder.toml", code=2)
    assert "cannot write no/such/folder.toml" in err
    (imported / "open.csv").write_text('track_id,axis,label,"no' + "t" * 200_000, encoding="utf-8")
    _, err = run("labels", "merge", "open.csv", code=1)
    assert "is a quote not closed" in err
    out = imported / "dry.svg"
    run("labels", "build", "all", "-n", "--histogram", str(out))
    assert not out.exists()
    (imported / "bad.toml").write_text(
        '[[merge]]\naxis = "genre"\nlabels = ["rock", "punk"]\ninto = "R R"\nja = "x"\nen = "y"\n'
    )
    _, err = run("labels", "build", "all", "--change", "bad.toml", code=1)
    assert "the change makes no valid label" in err


def test_the_histogram_and_the_lexicons_are_files(imported, run):
    (imported / "pn.dic").write_bytes("高い:たかい:形容詞:0.9\r\n".encode("cp932"))
    _, err = run("labels", "build", "all", "--histogram", "scores.svg", "--lexicon", "pn.dic")
    assert ET.parse(imported / "scores.svg").getroot().tag.endswith("svg")
    assert "+0.9 … +1.0" in err
    _, err = run("labels", "build", "genre", "--histogram", "scores.svg", code=2)
    assert "no axis that is made comes from a score" in err
    _, err = run("labels", "build", "all", "--lexicon", "none.dic", code=1)
    assert "cannot read none.dic" in err


def test_settings_name_a_taxonomy_beside_their_file(imported, run, tmp_path):
    (imported / "conf").mkdir()
    run("labels", "taxonomy", "-o", "conf/own.toml")
    (imported / "conf" / "t.toml").write_text(
        'root = "../tagfleet-root"\n[labels]\ntaxonomy = "own.toml"\nmin_per_side = 1\n'
    )
    report = as_json(run, "-c", "conf/t.toml", "labels", "build", "all", "-n")
    assert report["version"] is None
    _, err = run("-c", "conf/t.toml", "labels", "build", "genre", "--conflicts", "last", code=1)
    assert "conflicts" in err


def test_dropping_names_its_axis(imported, run):
    _, err = run("labels", "build", "all", "--drop", "rock", code=2)
    assert "--drop AXIS:LABEL" in err
    run("labels", "build", "all")
    report = as_json(run, "labels", "build", "genre", "--drop", "rock")
    assert "rock" not in {row["label"] for row in report["labels"]}

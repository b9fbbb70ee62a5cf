"""The doorway: exit codes, errors as a line and a hint or as JSON, settings from every layer."""

import json
from pathlib import Path

import pytest

from tagfleet.cli.main import exit_code
from tests.signals import encode, tone


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def run(capsys, *words):
    code = exit_code(list(words))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_version_and_help_go_to_stdout(capsys):
    assert run(capsys, "--version") == (0, "tagfleet 0.1.0\n", "")
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(
        group in out for group in ("catalog", "labels", "train", "retag", "predictions", "models", "config", "demo")
    )


@pytest.mark.parametrize(
    ("words", "expected", "said"),
    [
        (("nonsense",), 2, "No such command 'nonsense'"),
        (("retag", "--only", "some"), 2, "'some' is not one of 'new', 'changed'"),
        (("catalog", "stats"), 1, "there are no catalog in"),
        (("catalog", "scan", "nowhere"), 1, "is no folder"),
        (("retag",), 1, "no model 'production'"),
        (("predictions", "query", "1=1"), 1, "there are no predictions in"),
        (("models", "show", "x:1"), 1, "no model 'x:1'"),
        (("-c", "missing.toml", "config", "show"), 1, "cannot read missing.toml"),
        (("--tz", "Tokyo", "config", "show"), 1, "no time zone"),
        (("config", "show", "-s", "train.epoch=1"), 1, "train.epoch"),
        (("--root", "ftp://x", "catalog", "stats"), 1, "neither a folder nor s3://"),
        (("predictions", "export", "xml", "out"), 2, "'xml' is not one of 'parquet', 'ndjson', 'csv'"),
        (("train", "--resume", "a", "--run-id", "b"), 2, "--resume goes on with the recipe"),
        (("train", "--recipe", "genre6"), 2, "there is no recipe 'genre6'; there are all-axes"),
        (("train", "--recipe", "genre5", "--from-tune", "t"), 2, "both name settings"),
        (("train", "--resume", "a"), 1, "no training run a"),
        (("evaluate", "x"), 1, "no model 'x'"),
        (("evaluate", "x", "--split", "train"), 2, "'train' is not one of 'test', 'validation'"),
        (("report", "x"), 1, "no model 'x'"),
        (("models", "promote", "x", "--require", "much"), 2, "cannot read requirement 'much'"),
        (("models", "rollback"), 1, "no model was in production before"),
        (("train", "--from-tune", "t"), 1, "t"),
    ],
)
def test_an_error_is_one_line_with_a_hint_and_a_meaningful_code(capsys, words, expected, said):
    code, out, err = run(capsys, *words)
    assert code == expected
    assert out == ""
    lines = err.strip().splitlines()
    assert lines[0].startswith("Error: ")
    assert said in lines[0]
    assert lines[-1].startswith("Hint: ")
    assert "Traceback" not in err


def test_with_json_an_error_is_one_json_document(capsys):
    code, out, err = run(capsys, "catalog", "stats", "--json")
    assert code == 1
    assert json.loads(out)["error"]["code"] == "not-found"
    assert err == ""


def test_config_show_names_the_source_of_each_value(capsys, monkeypatch):
    Path("tagfleet.toml").write_text("[train]\nepochs = 5\n", encoding="utf-8")
    monkeypatch.setenv("TAGFLEET_TRAIN__SEED", "9")
    _, out, _ = run(capsys, "--root", "elsewhere", "config", "show", "-s", "retag.workers=2", "--json")
    shown = json.loads(out)
    assert shown["train.epochs"] == {"value": 5, "source": "./tagfleet.toml"}
    assert shown["train.seed"] == {"value": 9, "source": "environment"}
    assert shown["root"] == {"value": "elsewhere", "source": "flag"}
    assert shown["retag.workers"] == {"value": 2, "source": "flag"}
    assert shown["lang"] == {"value": "ja", "source": "default"}


def test_config_init_writes_a_file_that_changes_nothing(capsys):
    before = json.loads(run(capsys, "config", "show", "--json")[1])
    assert run(capsys, "config", "init")[0] == 0
    assert json.loads(run(capsys, "config", "show", "--json")[1]) == before
    assert run(capsys, "config", "init")[0] == 2


def test_import_refuses_bad_rows_as_a_whole_or_puts_them_aside(capsys):
    Path("a.wav").write_bytes(encode(tone(440, 1, 16_000), 16_000, "wav"))
    Path("c.csv").write_text("track_id,uri,bpm\n1,a.wav,120\n1,b.wav,\n,c.wav,\n", encoding="utf-8")
    code, _, err = run(capsys, "catalog", "import", "c.csv")
    assert code == 1
    assert "2 bad rows; nothing was imported" in err
    assert "line 3: track_id '1' stood already in line 2" in err
    assert "line 4: track_id is missing" in err
    code, out, err = run(capsys, "catalog", "import", "c.csv", "--skip-bad", "--json")
    assert code == 0, err
    assert json.loads(out)["n_tracks"] == 1
    rejects = [json.loads(line) for line in Path("rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [reject["line"] for reject in rejects] == [3, 4]
    shown = json.loads(run(capsys, "catalog", "show", "1", "--json")[1])
    assert (shown["bpm"], shown["size_bytes"] > 0, shown["etag"].startswith("mtime-")) == ("120", True, True)


def test_importing_the_same_file_again_makes_no_new_version(capsys):
    Path("c.csv").write_text("track_id,uri\n1,a.wav\n", encoding="utf-8")
    assert json.loads(run(capsys, "catalog", "import", "c.csv", "--json")[1])["version"] == 0
    assert json.loads(run(capsys, "catalog", "import", "c.csv", "--json")[1])["version"] is None


def test_validate_lists_what_a_retag_would_fail_on(capsys):
    Path("good.wav").write_bytes(encode(tone(440, 1, 16_000), 16_000, "wav"))
    Path("bad.mp3").write_bytes(b"no audio")
    assert run(capsys, "catalog", "scan", ".")[0] == 0
    code, out, _ = run(capsys, "catalog", "validate", "--decode", "--json")
    assert code == 4
    assert [failure["reason"] for failure in json.loads(out)["failures"]] == ["unsupported-container"]


def test_an_import_without_a_good_row_leaves_the_catalogue(capsys):
    Path("c.csv").write_text("track_id,uri\n1,a.wav\n", encoding="utf-8")
    assert run(capsys, "catalog", "import", "c.csv")[0] == 0
    Path("empty.csv").write_text("track_id,uri\n", encoding="utf-8")
    code, _, err = run(capsys, "catalog", "import", "empty.csv")
    assert (code, "the catalogue stays as it is" in err) == (1, True)
    assert json.loads(run(capsys, "catalog", "stats", "--json")[1])["n_tracks"] == 1


def test_a_dry_run_writes_nothing(capsys):
    Path("c.csv").write_text("track_id,uri\n1,a.wav\n1,b.wav\n", encoding="utf-8")
    assert run(capsys, "catalog", "import", "c.csv", "--skip-bad", "-n")[0] == 0
    assert not Path("rejects.jsonl").exists()
    assert run(capsys, "catalog", "stats")[0] == 1


def test_the_file_knows_its_size_better_than_the_catalogue_file(capsys):
    Path("a.wav").write_bytes(encode(tone(440, 1, 16_000), 16_000, "wav"))
    Path("c.csv").write_text("track_id,uri,etag,size_bytes\n1,a.wav,old,10\n", encoding="utf-8")
    assert run(capsys, "catalog", "import", "c.csv")[0] == 0
    shown = json.loads(run(capsys, "catalog", "show", "1", "--json")[1])
    assert shown["size_bytes"] == Path("a.wav").stat().st_size
    assert shown["etag"].startswith("mtime-")


def test_quiet_means_no_remarks_but_errors(capsys):
    Path("c.csv").write_text("track_id,uri\n1,a.wav\n", encoding="utf-8")
    assert run(capsys, "-q", "catalog", "import", "c.csv") == (0, "", "")
    assert "Error: " in run(capsys, "-q", "catalog", "show", "x")[2]


def test_bad_rows_are_all_in_the_json_error(capsys):
    Path("c.csv").write_text("track_id,uri\n" + ",a.wav\n" * 30, encoding="utf-8")
    code, out, _ = run(capsys, "catalog", "import", "c.csv", "--json")
    assert code == 1
    assert len(json.loads(out)["error"]["problems"]) == 30


def test_a_demo_never_uses_a_configured_root(capsys, monkeypatch, tmp_path):
    from tagfleet.cli.demo import _demo_root
    from tagfleet.cli.session import Session
    from tagfleet.config import Layer

    Path("tagfleet.toml").write_text('root = "s3://company/prod"\n', encoding="utf-8")
    monkeypatch.setenv("TAGFLEET_ROOT", "s3://company/prod2")
    assert _demo_root(Session(), Path("demo")) == str(tmp_path / "demo" / "root")
    named = Session(flags=(Layer(name="flag", values={"root": "s3://mine/x"}),))
    assert _demo_root(named, Path("demo")) == "s3://mine/x"


def test_hostile_titles_reach_the_screen_as_text(capsys):
    row = {"track_id": "1", "uri": "a.wav", "title": "[bold]\x1b[2J\u202e"}
    Path("c.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert run(capsys, "catalog", "import", "c.jsonl")[0] == 0
    _, out, _ = run(capsys, "catalog", "show", "1")
    assert r"[bold]\x1b[2J\u202e" in out

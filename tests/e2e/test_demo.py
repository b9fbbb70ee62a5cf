"""The README as a user types it: the demo, the commands that it suggests, then a folder of one's own."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from tagfleet.cli.main import exit_code
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions
from tests.e2e.library import BROKEN, N_TRACKS, make_library
from tests.model.taggers import random_tagger


@pytest.fixture(scope="module")
def demo(tmp_path_factory, ray_local):
    out = tmp_path_factory.mktemp("x") / "demo 曲 #1"
    assert exit_code(["demo", "--out", str(out), "--tracks", "40", "--epochs", "1"]) == 0
    return out


def test_the_demo_ends_with_results_failures_and_commands_that_work(demo, capsys, ray_local):
    assert exit_code(["demo", "--out", str(demo), "--tracks", "40", "--epochs", "1"]) == 0
    printed = capsys.readouterr()
    assert "already" in printed.err
    assert re.search(r"n_tagged +0\n", printed.out), "a second demo has nothing to tag"
    assert all(reason in printed.out for reason in ("empty", "truncated", "unsupported-container"))
    suggested = re.findall(r"^  \S*tagfleet (-c .*)$", printed.err, re.MULTILINE)
    assert len(suggested) == 5
    for command in suggested:
        assert exit_code(shlex.split(command)) == 0, command
    assert list((demo / "export").glob("snapshot-v000001-*/part-0.parquet"))


def test_each_night_does_what_it_must_and_no_more(demo, tmp_path, capsys, ray_local):
    """One file, one tag, one name, the thresholds, the model: what the run reports say of each."""
    at = ["-c", str(demo / "tagfleet.toml")]
    listed, audio = tmp_path / "catalog.csv", str(demo / "audio")
    listed.write_bytes((demo / "catalog.csv").read_bytes())

    def run(*words):
        capsys.readouterr()
        assert exit_code([*at, *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    def night():
        run("catalog", "import", str(listed), "--audio-root", audio)
        report = run("retag")
        assert report["n_tagged"] + report["n_failed"] + report["n_unchanged"] == report["n_catalog"] == 40
        return report

    def did(report):
        return report["reasons"], report["work"]

    first = night()
    assert did(first) == ({}, {}) and first["n_bytes"] == 0
    one, other = (demo / "audio" / track["uri"] for track in rows_of(listed)[:2])
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    report = night()
    assert did(report) == ({"audio": 1}, {"decode": 1}) and 0 < report["n_bytes"] <= 2 * other.stat().st_size
    one.write_bytes(kept)
    assert did(night()) == ({"audio": 1}, {"decode": 1})

    listed.write_text(listed.read_text(encoding="utf-8").replace("ロック", "ジャズ", 1), encoding="utf-8")
    report = night()
    assert did(report) == ({}, {}), "tags teach models; a row is what the model hears"
    assert report["catalog_version"] > first["catalog_version"] and report["version"] == first["version"] + 2

    moved = one.with_name("moved " + one.name)
    one.rename(moved)
    listed.write_text(listed.read_text(encoding="utf-8").replace(one.name, moved.name, 1), encoding="utf-8")
    report = night()
    assert did(report) == ({"moved": 1}, {"stored": 1}) and report["n_bytes"] == 0

    root = Storage(str(demo / "root"))
    models, first_model = ModelStore(root), str(ModelStore(root).production())
    run("models", "promote", run("models", "revise", "--threshold", "instrument.piano=0.9")["model"], "--force")
    report = night()
    assert did(report) == ({"thresholds": 40}, {"stored": 40}) and report["n_bytes"] == report["audio_s"] == 0

    statuses = Predictions(root).dataset().to_table(columns=["status"])["status"].to_pylist()
    tagger = random_tagger()
    models.promote(models.publish("other", tagger.to_files(), tagger.model_id), by="test")
    report = night()
    assert did(report) == ({"model": 40}, {"decode": statuses.count("tagged"), "stored": statuses.count("failed")})

    run("models", "promote", first_model, "--force")
    listed.write_bytes((demo / "catalog.csv").read_bytes())
    moved.rename(one)
    assert night()["n_unchanged"] == 0


def test_a_folder_of_ones_own_is_tagged_with_the_demos_model(demo, tmp_path, capsys, ray_local):
    make_library(tmp_path)
    at = ["-c", str(demo / "tagfleet.toml")]
    assert exit_code([*at, "catalog", "scan", str(tmp_path)]) == 0
    assert exit_code([*at, "retag"]) == 0
    printed = capsys.readouterr().out
    assert re.search(rf"n_tagged +{N_TRACKS - len(BROKEN)}\n", printed)
    assert re.search(r"n_unchanged +40\n", printed)
    genres = ("rock", "fusion", "ballad", "pops", "classical")
    assert sum(n_rows(at, f"genre = '{genre}'", tmp_path, capsys) for genre in genres) == N_TRACKS - len(BROKEN)


def rows_of(file):
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def test_going_back_a_version_is_a_new_version(demo, tmp_path, capsys, ray_local):
    at = ["-c", str(demo / "tagfleet.toml")]
    make_library(tmp_path)
    assert exit_code([*at, "catalog", "scan", str(tmp_path), "--id-prefix", "more/"]) == 0
    assert exit_code([*at, "retag", "--run-id", "more"]) == 0
    assert n_rows(at, "true", tmp_path, capsys) == N_TRACKS
    assert exit_code([*at, "predictions", "rollback"]) == 0
    assert n_rows(at, "true", tmp_path, capsys) == 0
    assert exit_code([*at, "predictions", "history"]) == 0
    latest, before = (line.split("\t") for line in capsys.readouterr().out.splitlines()[1:3])
    assert (latest[2], before[3]) == ("restore", "more")
    assert exit_code([*at, "predictions", "rollback", "0"]) == 1
    assert "version 0 is the empty table" in capsys.readouterr().err


def test_the_walk_of_a_model_from_recipe_to_production(demo, tmp_path, capsys, ray_local):
    """docs/training.md: train, report, evaluate, promote, a warm start without pops, and back."""
    at = ["-c", str(demo / "tagfleet.toml")]
    quick = ["-s", "train.epochs=2", "-s", "network.width=8", "-s", "data.clips_per_track=1"]

    def run(*words, code=0):
        assert exit_code([*at, *words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    capsys.readouterr()
    plan = run("train", "--recipe", "genre5", *quick, "-n")
    assert plan["labels"] == {"genre": 5} and plan["n_parameters"] > 10_000
    trained = run("train", "--recipe", "genre5", "--run-id", "g5", *quick)
    assert trained["model"] == "genre5:1"
    measured = run("evaluate", "genre5")
    assert measured["axes"] == trained["evaluation"]["axes"]
    assert run("evaluate", "genre5", "--min-accuracy", "1.0", code=3)["error"]["code"] == "gate-refused"
    page = Path(run("report", "genre5", "-o", str(tmp_path))["path"]).read_text(encoding="utf-8")
    assert "g5" in page and "<script" not in page

    refused = run("models", "promote", "genre5", "--require", "accuracy>=0.999", code=3)["error"]
    assert "genre5:1 not promoted" in refused["message"] and "tagfleet report genre5:1" in refused["hint"]
    assert run("models", "promote", "genre5", "--force", "--why", "test")["production"] == "genre5:1"

    child = ["train", "--recipe", "genre4-from-genre5", "--init-from", "genre5", *quick]
    assert run(*child, "-n")["dropped"] == ["genre:pops"]
    assert run(*child)["model"] == "genre4:1"
    against = run("evaluate", "genre4", "--baseline", "genre5")["against"]
    assert set(against) == {"genre"}
    assert run("models", "rollback")["production"] == "tagger:1"
    assert [entry["action"] for entry in run("models", "history")][:3] == ["rollback", "promote", "promote"]
    assert run("train", "--resume", "g5")["already_finished"]
    assert run("train", "--resume", "g5", "--recipe", "smoke", code=2)["error"]["code"] == "usage"
    run("models", "export", "genre4", "-o", str(tmp_path / "genre4"))
    assert (tmp_path / "genre4" / "README.md").exists()


def n_rows(at, where, folder, capsys):
    capsys.readouterr()
    condition = f"{where} AND starts_with(uri, '{folder}')"
    assert exit_code([*at, "predictions", "query", condition, "--limit", "0"]) == 0
    return len(capsys.readouterr().out.splitlines()) - 1

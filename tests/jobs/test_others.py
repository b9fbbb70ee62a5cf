"""The other jobs as a cluster starts them, in this process."""

import json
from pathlib import Path

import pytest

from jobs import export, retag, tune
from tagfleet.cli.main import exit_code
from tagfleet.fleet.plan import Ask
from tagfleet.fleet.records import read_progress, read_record
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tests.e2e.library import N_GOOD, N_TRACKS, make_library
from tests.fleet.synthetic import store_catalog, store_log_mels
from tests.model.taggers import random_tagger


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tagfleet.toml").write_text('root = "root"\n[audio]\nclip_frames = 32\n[network]\nwidth = 8\n')
    return Storage(str(tmp_path / "root"))


def run(capsys, main, *words):
    capsys.readouterr()
    code = main(list(words))
    printed = capsys.readouterr()
    return code, json.loads(printed.out.splitlines()[-1]) if printed.out else None, printed.err


def test_a_retag_and_what_is_exported_of_it(here, capsys, ray_local):
    make_library(Path("library"))
    Path("tagfleet.toml").write_text('root = "root"\n')
    assert exit_code(["catalog", "scan", "library"]) == 0
    models, tagger = ModelStore(here), random_tagger()
    models.promote(models.publish("tagger", tagger.to_files(), tagger.model_id), by="test")
    code, made, err = run(capsys, retag.main, "--run-id", "night", "--max-error-rate", "0.5")
    assert (code, made["n_tagged"], made["n_failed"]) == (0, N_GOOD, N_TRACKS - N_GOOD)
    assert f"Tagging: {N_TRACKS}/{N_TRACKS}" in err and read_progress(here, "night").done == N_TRACKS
    code, again, _ = run(capsys, retag.main, "--run-id", "night", "--max-error-rate", "0.5")
    assert (code, again) == (0, made) and read_record(here, "night").n_starts == 2
    code, refused, err = run(capsys, retag.main, "--only", "all", "--run-id", "strict", "--max-error-rate", "0.01")
    assert (code, refused) == (4, None) and "3 of 12 tracks failed" in err
    code, made, _ = run(capsys, export.main, "parquet", str(Path("out").absolute()), "--run-id", "out")
    assert (code, made["n_rows"]) == (0, N_TRACKS) and Path("out/latest.json").is_file()


def test_every_word_of_a_retag_arrives(here, capsys, monkeypatch):
    called = []
    monkeypatch.setattr(retag, "retag", lambda root, ask, **rest: called.append((ask, rest)) or {})
    words = ["--model", "a:1", "--catalog", "0", "--only", "new", "--limit", "0", "--retry-failed", "--no-publish"]
    assert run(capsys, retag.main, *words, "--run-id", "r", "-s", "price_per_hour=2.5")[:2] == (0, {})
    assert run(capsys, retag.main, "--run-id", "s")[:2] == (0, {})
    (asked, rest), (plain, defaults) = called
    assert asked == Ask(model="a:1", run_id="r", only="new", catalog_version=0, limit=0, retry_failed=True)
    assert (rest["publish"], rest["price_per_hour"], rest["audio"].clip_frames) == (False, 2.5, 32)
    assert (plain, defaults["publish"]) == (Ask(run_id="s"), True)


def test_a_search_that_is_started_twice_is_one(here, capsys, ray_local):
    store_catalog(here, 60)
    store_log_mels(here, 60)
    words = ("--run-id", "t", "--recipe", "smoke", "--trials", "1", "--vary", "network.dropout={ choice = [0.0, 0.1] }")
    fast = ("-s", "audio.clip_frames=32", "-s", "network.width=8", "-s", "train.batch_size=4", "-s", "train.epochs=1")
    code, made, err = run(capsys, tune.main, *words, *fast)
    assert (code, made["n_trials"]) == (0, 1) and "Trial " in err
    code, again, _ = run(capsys, tune.main, *words, *fast)
    assert (code, again["already_finished"]) == (0, True)

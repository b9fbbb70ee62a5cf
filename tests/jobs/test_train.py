"""The jobs as a cluster starts them: a training that is started twice is one, then its tagger is measured again."""

import json
from pathlib import Path

import pytest

from jobs import evaluate, train
from tagfleet.fleet.records import read_record
from tagfleet.store.objects import Storage
from tests.fleet.synthetic import store_catalog, store_log_mels


@pytest.fixture
def config(tmp_path):
    root = Storage(str(tmp_path / "root"))
    store_catalog(root, 60)
    store_log_mels(root, 60)
    (tmp_path / "tagfleet.toml").write_text('root = "root"\n[audio]\nclip_frames = 32\n[network]\nwidth = 8\n')
    return str(tmp_path / "tagfleet.toml")


def run(capsys, main, *words):
    code = main(list(words))
    printed = capsys.readouterr()
    return code, json.loads(printed.out) if printed.out else None, printed.err


def test_a_job_trains_goes_on_and_measures(config, capsys, ray_local):
    words = ("--run-id", "r", "-c", config, "--recipe", "smoke", "-s", "train.batch_size=4")
    code, first, _ = run(capsys, train.main, *words)
    assert (code, first["model"], first["n_epochs"]) == (0, "smoke:1", 2)
    record = read_record(Storage(str(Path(config).parent / "root")), "r")
    assert (record.status, record.exit_code, record.n_starts) == ("finished", 0, 1)
    code, again, _ = run(capsys, train.main, *words)
    assert (code, again["already_finished"], again["model_id"]) == (0, True, first["model_id"])
    code, found, _ = run(capsys, evaluate.main, "smoke", "-c", config, "--run-id", "measured")
    again = read_record(Storage(str(Path(config).parent / "root")), "measured")
    assert code == 0 and found["folder"] and again.result["axes"] == record.result["evaluation"]["axes"]


def test_a_job_that_cannot_run_says_why_and_leaves_with_its_code(config, capsys):
    code, _, err = run(capsys, train.main, "--run-id", "r", "-c", config, "-s", "train.batch_size=3")
    assert code == 1 and "not a multiple" in err and "Hint:" in err
    code, _, err = run(capsys, train.main, "--run-id", "r", "-c", config, "--recipe", "genre6")
    assert code == 2 and "there is no recipe" in err
    code, _, err = run(capsys, evaluate.main, "nobody", "-c", config)
    assert code == 1 and "no model 'nobody'" in err

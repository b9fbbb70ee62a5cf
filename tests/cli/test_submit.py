"""What `submit` sends is what the job reads: every option of the local command arrives, with the same settings."""

import importlib
import inspect
import json
import shlex

import pytest

from tagfleet.cli import evaluate, retag, submit, train, tune
from tagfleet.cli.main import exit_code
from tagfleet.config import assignment_layer
from tagfleet.fleet.recipes import recipe_layer
from tagfleet.fleet.tune_space import read_space, space_of
from tagfleet.job import job_parser
from tagfleet.settings import load_settings

EVERY = {
    "train": ["--recipe", "genre5", "--init-from", "genre5:1", "--run-id", "r", "--workers", "4", "--gpu"],
    "tune": ["--recipe", "genre5", "--run-id", "r", "--trials", "4", "--max-hours", "1.5"],
    "evaluate": ["production", "--split", "validation", "--labels", "3", "--folds", "4", "--baseline", "a:1"],
    "retag": [
        *("--model", "a:1", "--catalog", "3", "--only", "new", "--limit", "7", "--retry-failed"),
        *("--run-id", "r", "--max-error-rate", "0.5", "--no-publish"),
    ],
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "tagfleet.toml").write_text(
        'root = "s3://b/根"\nprice_per_hour = 2.5\n[optimiser]\nweight_decay = 0.5\n'
    )
    return tmp_path


def sent(capsys, kind, *words):
    """The document of a dry run, what the job's own parser makes of it, and the settings that the job would have."""
    code = exit_code(["submit", kind, *words, "-n", "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.out
    document = json.loads(printed.out)
    python, _, module, *rest = shlex.split(document["entrypoint"])
    assert (python, module) == ("python", f"jobs.{kind}")
    given = job_parser(kind, importlib.import_module(module).declare).parse_args(rest)
    recipe = recipe_layer(given.recipe) if getattr(given, "recipe", None) else None
    settings = load_settings(recipe=recipe, flags=[assignment_layer(given.set)], environ={}, folder=None).settings
    return document, given, settings


def test_a_training_arrives_whole(capsys, here):
    document, given, settings = sent(capsys, "train", *EVERY["train"], "-s", "train.epochs=3")
    (here / "tagfleet.toml").unlink()
    document, given, settings = (
        document,
        given,
        load_settings(recipe=recipe_layer("genre5"), flags=[assignment_layer(given.set)], environ={}).settings,
    )
    assert (given.run_id, given.recipe, settings.train.epochs) == ("r", "genre5", 3)
    assert (settings.train.init_from, settings.workers.n_workers, settings.workers.use_gpu) == ("genre5:1", 4, True)
    assert (settings.root, settings.optimiser.weight_decay, settings.price_per_hour) == ("s3://b/根", 0.5, 2.5)
    assert document["needs"] == {"cpus": 4.0, "gpus": 4.0, "memory_mb": 0.0}
    assert document["submission_id"] == document["metadata"]["run_id"] == "r"


def test_a_recipe_file_arrives_by_its_settings_and_its_name(capsys, here):
    (here / "mine.toml").write_text("[train]\nepochs = 9\n[network]\nwidth = 12\n")
    _, given, settings = sent(capsys, "train", "--recipe", "mine.toml")
    assert (given.recipe, given.called) == (None, "mine")
    assert (settings.train.epochs, settings.network.width) == (9, 12)


def test_the_best_trial_is_looked_up_where_the_root_is(capsys):
    _, given, _ = sent(capsys, "train", "--from-tune", "t1")
    assert given.from_tune == "t1"
    _, given, _ = sent(capsys, "train", "--resume", "t2")
    assert (given.resume, given.run_id) == ("t2", "t2")


def test_a_space_arrives_line_by_line(capsys, here):
    (here / "space.toml").write_text(
        '"network.width" = { choice = [8, 16] }\n"optimiser.learning_rate" = { low = 1e-4, high = 1e-2, log = true }\n'
    )
    _, given, settings = sent(capsys, "tune", *EVERY["tune"], "--space", "space.toml")
    assert (given.trials, given.max_hours) == (4, 1.5)
    varied = space_of(assignment_layer(given.vary).values, settings.training)
    assert varied == read_space(here / "space.toml", settings.training)


def test_an_evaluation_and_a_retag_arrive_whole(capsys):
    _, given, _ = sent(capsys, "evaluate", *EVERY["evaluate"], "--min-accuracy", "0.7")
    found = (given.model, given.split, given.labels, given.folds, given.baseline, given.min_accuracy)
    assert found == ("production", "validation", 3, 4, "a:1", 0.7)
    _, given, settings = sent(capsys, "retag", *EVERY["retag"])
    assert (given.model, given.catalog, given.only, given.run_id) == ("a:1", 3, "new", "r")
    assert (given.limit, given.retry_failed, given.publish) == (7, True, False)
    _, given, _ = sent(capsys, "retag")
    local = {name: option.default for name, option in inspect.signature(retag.retag).parameters.items()}
    for name in ("model", "catalog", "only", "limit", "retry_failed", "publish"):
        assert getattr(given, name) == local[name], f"unsaid, {name} is the same here and there"
    assert (settings.retag.max_error_rate, settings.retag.min_errors) == (0.5, 1)


@pytest.mark.parametrize(
    ("kind", "local"),
    [("train", train.train), ("tune", tune.tune), ("evaluate", evaluate.evaluate), ("retag", retag.retag)],
)
def test_every_local_option_is_there(kind, local, capsys):
    assert exit_code(["submit", kind, "--help"]) == 0
    shown = capsys.readouterr().out
    for name in inspect.signature(local).parameters:
        option = {"context": "--profile", "settings": "--set", "as_json": "--json", "model": "model"}.get(name, name)
        assert option.replace("_", "-").lower() in shown.lower(), f"{kind}: {name}"
    for name in inspect.signature(submit.Sending).parameters:
        assert f"--{name.replace('_', '-').removeprefix('as-')}" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["retag", "--only", "old"], "only"),
        (["evaluate", "m", "--split", "train"], "split"),
        (["train", "--recipe", "genre6"], "there is no recipe"),
        (["train", "-s", "train.epoch=3"], "epoch"),
        (["train", "--resume", "r", "--recipe", "genre5"], "takes no --recipe"),
        (["train", "--recipe", "genre5", "--from-tune", "t"], "both name settings"),
        (["retag", "--submission-id", "a b"], "cannot be called"),
        (["retag", "--address", "ftp://x"], "no address"),
        (["retag", "--profile", "nowhere"], "no profile 'nowhere'"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_sent(words, told, capsys):
    assert exit_code(["submit", *words]) in (1, 2)
    assert told in capsys.readouterr().err

import contextlib
import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import boto3
import optuna
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from tagfleet.audio.config import DecodeLimits
from tagfleet.cli.main import exit_code
from tagfleet.errors import ConfigError, ConflictError, DigestMismatch, JobError, NotFoundError, UsageError
from tagfleet.fleet import tune_trial
from tagfleet.fleet.config import TrainSettings
from tagfleet.fleet.dataset import rows_of, stored_examples
from tagfleet.fleet.features import read_index
from tagfleet.fleet.recipes import packaged_recipes, recipe_layer
from tagfleet.fleet.resources import RayConfig
from tagfleet.fleet.taggers import load_tagger
from tagfleet.fleet.training_data import resolve
from tagfleet.fleet.tune import best_trial, plan_tune, resume_tune, tune
from tagfleet.fleet.tune_board import ENDED, Leaderboard, Search, Trial, open_search, read_search
from tagfleet.fleet.tune_search import METRIC, Proposals, early_stopping, grace_epochs, optuna_distribution
from tagfleet.fleet.tune_space import FIXED, read_space, setting, space_of, with_values
from tagfleet.fleet.tune_trial import SearchJob, run_trial
from tagfleet.labels.split import split_of
from tagfleet.model.network import cost_of
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table
from tests.conftest import HARD_NAME
from tests.fleet.alone import published
from tests.fleet.synthetic import FOLDER, TAXONOMY, settings, store_catalog, store_log_mels, tracks_and_labels
from tests.fleet.test_train import processes_of, until

N_TRACKS = 73
N_TRIALS = 4
BASE = settings(train={"epochs": 2}, workers={"cpus_per_worker": 1.5})  # one trial at a time: one process to start
SPACE = space_of(
    {
        "network.n_blocks": {"choice": [5, 6]},
        "network.dropout": {"low": 0.0, "high": 0.5},
        "optimiser.learning_rate": {"low": 2e-3, "high": 2e-2, "log": True},
    },
    BASE,
)
MACHINES = {"limits": DecodeLimits(), "ray_config": RayConfig()}


def search_for(root, run_id, *, ray_config=MACHINES["ray_config"], **options):
    return tune(
        root, BASE, SPACE, n_trials=N_TRIALS, limits=DecodeLimits(), ray_config=ray_config, run_id=run_id, **options
    )


def store_all(root, **changes):
    store_catalog(root, N_TRACKS)
    store_log_mels(root, N_TRACKS, **changes)
    return root


def hide_test_tracks(root):
    """The audio of the test tracks is another now, and cannot be had: there are no features of it."""
    tracks, _ = tracks_and_labels(N_TRACKS)
    sides = [split_of(f"creator {creator}") for creator in tracks["creator_id"].to_pylist()]
    etags = ["gone" if side == "test" else etag for side, etag in zip(sides, tracks["etag"].to_pylist(), strict=True)]
    changed = tracks.set_column(tracks.schema.get_field_index("etag"), "etag", pa.array(etags, pa.string()))
    Table(root, "catalog").replace(changed, note="")
    return sides.count("test")


class Watched:
    """A watch that remembers what it was told."""

    def __init__(self):
        self.told = []

    @contextlib.contextmanager
    def __call__(self, what, total):
        yield lambda done, failed: self.told.append((what, done, failed))


# The space


def test_what_comes_with_tagfleet_can_be_searched_under_every_recipe():
    for name in packaged_recipes():
        base = TrainSettings.model_validate(recipe_layer(name).values)
        assert len(list(read_space(None, base).feature_choices())) == 2


def test_every_draw_from_the_packaged_space_is_a_network_that_can_be_built():
    base = TrainSettings()
    space = read_space(None, base)
    words = {name: optuna_distribution(d, type(setting(base, name))) for name, d in space.distributions.items()}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    costs = set()
    for _ in range(15):
        chosen = with_values(base, study.ask(words).params)
        mels, frames = chosen.audio.log_mel.n_mels, chosen.audio.clip_frames
        costs.add(cost_of(chosen.network, {"genre": 3}, n_mels=mels, n_frames=frames).n_multiply_adds)
    assert len(costs) > 5


def test_dotted_and_nested_names_are_one():
    dotted = {"network.width": {"choice": [8, 16]}, "audio.log_mel.n_mels": {"choice": [64]}}
    nested = {"network": {"width": {"choice": [8, 16]}}, "audio": {"log_mel": {"n_mels": {"choice": [64]}}}}
    assert space_of(dotted, BASE) == space_of(nested, BASE)


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ({}, "names no setting"),
        ({"network.blocks": {"choice": [5]}}, "no setting network.blocks"),
        ({"network.width.x": {"choice": [5]}}, "no setting network.width.x"),
        ({"network": {"choice": [5]}}, "network is a section"),
        ({"network.width": 8}, "says not which values"),
        ({"network.width": {}}, "give choice"),
        ({"network.width": {"choice": []}}, "give choice"),
        ({"network.width": {"choice": [8, 8]}}, "stands twice"),
        ({"network.width": {"chioce": [8]}}, "chioce is not known"),
        ({"network.width": {"choice": [9]}}, "width 9 is odd"),
        ({"network.width": {"choice": ["8"]}}, "whole numbers, not '8'"),
        ({"network.width": {"choice": [True]}}, "whole numbers, not True"),
        ({"network.width": {"low": 8.0, "high": 16.0}}, "whole numbers, not 8.0"),
        ({"network.width": {"low": 8, "high": 17, "step": 2}}, "does not lead from low 8 to high 17"),
        ({"network.width": {"low": 16, "high": 8}}, "low 16 is not below high 8"),
        ({"network.width": {"low": 16}}, "both low and high"),
        ({"network.preset": {"low": 1, "high": 2}}, "a word"),
        ({"network.preset": {"choice": ["vgg"]}}, "'vgg'"),
        ({"network.dropout": {"low": 0.0, "high": 1.0}}, "less than 1"),
        ({"network.dropout": {"low": 0.0, "high": 0.5, "log": True}}, "log needs a low above 0"),
        ({"optimiser.learning_rate": {"choice": [float("inf")]}}, "inf and nan"),
        ({"audio.log_mel.n_mels": {"low": 64, "high": 96}}, "log-mels of its own"),
        ({"workers.readers": {"choice": [1, 2]}}, "workers.readers cannot be searched"),
        *(({name: {"choice": [1]}}, f"{name} cannot be searched") for name in FIXED),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_reason(described, told):
    with pytest.raises(ConfigError, match=told) as refused:
        space_of(described, BASE)
    assert refused.value.hint


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no file"):
        read_space(tmp_path / "space.toml", BASE)


def test_values_that_only_do_not_go_together_are_no_fault_of_the_space():
    five_blocks = settings(network={"n_blocks": 5})
    space_of({"network.preset": {"choice": ["fcn", "conv11"]}}, five_blocks)
    assert with_values(five_blocks, {"network.preset": "fcn"}).network.depth == 5
    with pytest.raises(ConfigError, match="conv11 has six blocks"):
        with_values(five_blocks, {"network.preset": "conv11"})


# The leaderboard


def make_search(root, *, space=SPACE, n_trials=N_TRIALS, base=BASE):
    return Search(settings=base, recipe=resolve(root, base).recipe, space=space, n_trials=n_trials)


VALUES = {"network.n_blocks": 5, "network.dropout": 0.25, "optimiser.learning_rate": 0.004}


def a_trial(n, status="finished", metrics=(0.5,), **facts):
    return Trial(trial_id=f"t{n:03d}", settings=VALUES, status=status, metrics=metrics, **facts)


@given(
    st.lists(
        st.tuples(st.sampled_from([*ENDED, "running", "out of time"]), st.lists(st.floats(0, 1), max_size=3)),
        max_size=8,
    )
)
def test_the_best_is_the_highest_of_those_that_were_measured_and_did_not_fail(told):
    trials = [a_trial(n, status, tuple(metrics)) for n, (status, metrics) in enumerate(told, 1)]
    board = Leaderboard(Storage("nowhere"), "r", None, trials)
    counted = [trial.metric for trial in trials if trial.status in ("finished", "stopped", "out of time")]
    measured = sorted((metric for metric in counted if metric is not None), reverse=True)
    rows = board.rows()
    assert [row["metric"] for row in rows if row["rank"]] == measured
    assert [row["rank"] for row in rows if row["rank"]] == list(range(1, len(measured) + 1))
    assert (board.best.metric if board.best else None) == (measured[0] if measured else None)
    assert sorted(row["trial_id"] for row in rows) == [trial.trial_id for trial in trials]


def test_a_search_is_read_back_as_it_was_and_its_best_is_a_recipe(tmp_path):
    root = store_all(Storage(str(tmp_path)))
    board = open_search(root, "s", make_search(root))
    with pytest.raises(NotFoundError, match="no trial of structure search s") as none_yet:
        best_trial(root, "s")
    assert none_yet.value.hint == "tagfleet tune --resume s"
    board.put(a_trial(1, metrics=(0.4, 0.6)), a_trial(2, "failed", (0.9,), reason="the loss is nan"))
    again = read_search(root, "s")
    assert (again.search, again.trials, again.best) == (board.search, board.trials, board.trials[0])
    assert TrainSettings.model_validate(best_trial(root, "s").values) == with_values(BASE, VALUES)
    lines = list(csv.DictReader(root.read("runs/s/leaderboard.csv").decode().splitlines()))
    assert [(line["rank"], line["metric"], line["reason"]) for line in lines] == [
        ("1", "0.6", ""),
        ("", "0.9", "the loss is nan"),
    ]
    assert float(lines[0]["network.dropout"]) == VALUES["network.dropout"]


def test_a_search_that_is_not_there_is_taken_or_was_changed_is_refused(tmp_path):
    root = store_all(Storage(str(tmp_path)))
    with pytest.raises(NotFoundError, match="no structure search s"):
        best_trial(root, "s")
    open_search(root, "s", make_search(root))
    with pytest.raises(ConflictError, match="a run s already"):
        search_for(root, "s")
    described = json.loads(root.read("runs/s/tune.json"))
    described["space"]["distributions"]["network.n_blocks"]["choice"] = [7]
    root.write("runs/s/tune.json", json.dumps(described).encode())
    with pytest.raises(DigestMismatch, match="was changed"):
        resume_tune(root, "s", **MACHINES)


# What is proposed, and what is stopped


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return store_all(Storage(str(tmp_path_factory.mktemp("root"))))


def make_job(root, parent=None, **changes):
    search = make_search(root, **changes)
    examples, index = resolve(root, search.settings).examples, read_index(root, FOLDER)
    sides = {split: stored_examples(rows_of(examples, split), index) for split in ("train", "validation")}
    return SearchJob(root=root, search=search, parent=parent, stored={FOLDER: sides})


def drawn(job, board):
    """All that a search with this leaderboard would still run."""
    proposals = Proposals(job, board)
    found = []
    while (proposed := proposals.suggest(f"tune's own {len(found)}")) != Searcher.FINISHED:
        found.append(proposed)
    return found


def test_a_resumed_search_begins_with_what_was_cut_off_and_repeats_nothing(local, tmp_path):
    job = make_job(local, n_trials=6)
    board = open_search(Storage(str(tmp_path)), "s", job.search)
    first = drawn(job, board)
    assert [proposed["trial_id"] for proposed in first] == [f"t00{n}" for n in range(1, 7)]
    done = [
        board["t001"].model_copy(update={"status": "finished", "metrics": (0.5,)}),
        board["t002"],
        board["t003"].model_copy(update={"status": "failed"}),
        board["t004"].model_copy(update={"status": "out of time", "metrics": (0.4,)}),
    ]
    later = Leaderboard(board.root, "s", job.search, done)
    left = drawn(job, later)
    assert left[:2] == [first[1], first[3]]
    assert [proposed["trial_id"] for proposed in left] == ["t002", "t004", "t005", "t006"]
    assert not [proposed for proposed in left[2:] if proposed["settings"] in [p["settings"] for p in first]]
    assert (
        drawn(
            job,
            Leaderboard(
                board.root, "s", job.search, [t.model_copy(update={"status": "stopped"}) for t in board.trials]
            ),
        )
        == []
    )


def test_values_that_do_not_go_together_are_a_skipped_trial_with_its_reason(local, tmp_path):
    space = space_of({"network.preset": {"choice": ["fcn", "conv11"]}, "network.n_blocks": {"choice": [5, 6]}}, BASE)
    job = make_job(local, space=space, n_trials=12)
    board = open_search(Storage(str(tmp_path)), "s", job.search)
    ran = drawn(job, board)
    skipped = [trial for trial in board.trials if trial.status == "skipped"]
    assert len(board) == 12 == len(ran) + len(skipped)
    assert skipped and all("conv11 has six blocks" in trial.reason for trial in skipped)
    assert all(trial.settings == {"network.preset": "conv11", "network.n_blocks": 5} for trial in skipped)
    assert all(board[proposed["trial_id"]].n_parameters > 0 for proposed in ran)


def test_trials_start_from_the_parents_weights_where_their_network_is_the_parents(tmp_path):
    root = store_all(Storage(str(tmp_path)))
    published(root, train={"epochs": 1})
    base = settings(train={"epochs": 1, "init_from": "tagger"})
    space = space_of({"network.width": {"choice": [8, 12]}}, base)
    _, parent = load_tagger(root, "tagger")
    job = make_job(root, parent, base=base, space=space, n_trials=8)
    board = open_search(root, "s", job.search)
    assert {proposed["settings"]["network.width"] for proposed in drawn(job, board)} == {8}
    skipped = [trial for trial in board.trials if trial.status == "skipped"]
    assert skipped and all("the model to start from" in trial.reason for trial in skipped)
    initial = job.initial(job.recipe({"network.width": 8}))
    assert all(bool((initial[name] == weights).all()) for name, weights in parent.weights.items())


def test_a_resumed_search_stops_what_lags_behind_the_trials_before(local, tmp_path):
    class Laggard:
        trial_id = "new"

    base = settings(train={"epochs": 8})
    search = make_search(local, base=base)
    assert grace_epochs(search) == 2
    good = [a_trial(n, metrics=(0.5, 0.8 + n / 100, *[0.9] * 6)) for n in range(1, 4)]
    decisions = []
    for trials in ([], good):
        scheduler = early_stopping(search, Leaderboard(Storage(str(tmp_path)), "s", search, trials))
        scheduler.on_trial_add(None, Laggard)
        decisions += [scheduler.on_trial_result(None, Laggard, {"epoch": n, METRIC: 0.1}) for n in (1, 2)]
    proceed, stop = TrialScheduler.CONTINUE, TrialScheduler.STOP
    assert decisions == [proceed, proceed, proceed, stop]


@pytest.fixture
def reports(monkeypatch):
    told = []
    monkeypatch.setattr(tune_trial.tune, "report", told.append)
    return told


def test_a_trial_trains_and_reports_each_epoch_and_how_it_ended(local, reports):
    run_trial({"trial_id": "t001", "settings": VALUES}, make_job(local))
    assert [told["epoch"] for told in reports] == [1, 2, 2]
    assert [told.get("outcome") for told in reports] == [None, None, "finished"]
    assert reports[-1][METRIC] > 0.5 and reports[-1]["clips_per_s"] > 0


def test_what_is_maximised_is_the_best_epoch_so_far(local, reports, monkeypatch):
    lines = [{"validation_metric": value, "clips_per_s": 1.0, "seconds": 2.0} for value in (0.5, 0.7, None)]

    def three_epochs(job, team):
        for n in (1, 2, 3):
            team.report({"history": lines[:n]}, None)

    monkeypatch.setattr(tune_trial, "run_epochs", three_epochs)
    run_trial({"trial_id": "t001", "settings": VALUES}, make_job(local))
    assert [told[METRIC] for told in reports] == [0.5, 0.7, 0.7, 0.7]
    assert [told["validation_metric"] for told in reports[:3]] == [0.5, 0.7, 0.0]
    assert reports[-1]["seconds"] == 6.0


def test_a_loss_that_is_no_number_is_the_end_of_one_trial(tmp_path, reports):
    root = store_all(Storage(str(tmp_path)), broken=2)
    run_trial({"trial_id": "t001", "settings": VALUES}, make_job(root))
    assert (reports[-1]["outcome"], reports[-1][METRIC]) == ("failed", 0.0)
    assert "the loss is nan in epoch 1" in reports[-1]["reason"] and "t002" in reports[-1]["reason"]


# Whole searches


@pytest.fixture(scope="module")
def killed(s3):
    """A search on S3 that was killed, where the test tracks cannot be heard: root, ended trials, what it had said."""
    bucket = f"tuning-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    root = store_all(Storage(f"s3://{bucket}/{HARD_NAME}"))
    assert hide_test_tracks(root) > 0
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.fleet.tune_child", root.root, "s"],
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
    )
    try:
        until(lambda: ended(root, "s") or child.poll() is not None, timeout_s=150)
        child.kill()
    finally:
        for process in processes_of(child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        said = child.communicate()
    return root, ended(root, "s"), said


@pytest.fixture(scope="module")
def searched(killed, ray_local):
    """The same search after it went on to its end: root, result, ids of the trials told, features watched."""
    root, _, _ = killed
    watched, told = Watched(), []
    result = resume_tune(root, "s", watch=watched, told=lambda trial, board: told.append(trial.trial_id), **MACHINES)
    return root, result, told, watched


def test_a_killed_search_goes_on_and_repeats_no_trial_that_had_ended(killed, searched):
    _, done, _ = killed
    _, result, told, _ = searched
    after = {row["trial_id"]: row | {"rank": 0} for row in result.trials}
    assert 1 <= len(done) < N_TRIALS
    assert {trial_id: after[trial_id] for trial_id in done} == done
    assert sorted([*done, *told]) == sorted(after) == ["t001", "t002", "t003", "t004"]


def test_ray_says_nothing(killed):
    _, _, (out, err) = killed
    assert out == ""
    assert "trial" not in err.lower() and "│" not in err


def test_all_trials_end_and_the_best_is_first(searched):
    root, result, _, _ = searched
    assert {row["status"] for row in result.trials} <= {"finished", "stopped"}
    assert [row["rank"] for row in result.trials] == [1, 2, 3, 4]
    metrics = [max(row["metrics"]) for row in result.trials]
    assert metrics == sorted(metrics, reverse=True) and result.best.metric == metrics[0] > 0.5
    assert json.loads(root.read("runs/s/leaderboard.json"))["trials"] == result.trials
    heads = {axis.axis: len(axis.labels) for axis in TAXONOMY.axes}
    for row in result.trials:
        network = with_values(BASE, row["settings"]).network
        assert row["n_parameters"] == cost_of(network, heads, n_mels=96, n_frames=32).n_parameters
        assert row["clips_per_s"] > 0 and row["n_epochs"] == (2 if row["status"] == "finished" else 1)


def test_the_test_side_takes_no_part(searched):
    root, _, _, watched = searched
    assert watched.told == []  # nothing was tried to be decoded, though no test track has features
    plan = plan_tune(root, BASE, SPACE, n_trials=1, max_hours=None, ray_config=RayConfig(n_cpus=2))
    assert set(plan.n_tracks) == {"train", "validation"}
    assert sum(plan.n_undecoded.values()) == 0


def test_a_finished_search_says_so_and_does_nothing(searched):
    root, result, _, _ = searched
    told = []
    again = resume_tune(root, "s", told=lambda trial, board: told.append(trial), **MACHINES)
    assert again == result.model_copy(update={"already_finished": True}) and told == []


def test_train_takes_the_best_trial_from_the_search(searched, tmp_path, monkeypatch, capsys):
    root, result, _, _ = searched
    monkeypatch.chdir(tmp_path)
    assert exit_code(["--root", root.root, "train", "--from-tune", "s", "-n", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["settings"]
    assert told["network"]["n_blocks"] == result.best.settings["network.n_blocks"]
    assert told["optimiser"]["learning_rate"] == result.best.settings["optimiser.learning_rate"]


def test_the_plan_is_told_and_nothing_done(searched, tmp_path, monkeypatch, capsys):
    root, _, _, _ = searched
    monkeypatch.chdir(tmp_path)
    Path("space.toml").write_text('"network.width" = { low = 8, high = 16, step = 2 }\n')
    before = [info.key for info in root.list("runs")]
    options = [
        "--root",
        root.root,
        "tune",
        "--space",
        "space.toml",
        "--trials",
        "3",
        "-s",
        "audio.clip_frames=32",
        "-n",
    ]
    assert exit_code([*options, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["trials"], plan["space"]) == (3, {"network.width": {"low": 8, "high": 16, "step": 2}})
    assert exit_code(options) == 0
    assert "8 … 16, step 2" in capsys.readouterr().out
    assert [info.key for info in root.list("runs")] == before
    assert exit_code(["--root", root.root, "tune", "--resume", "s", "--recipe", "smoke"]) == 2


def test_no_time_at_all_is_an_error_and_the_search_can_go_on(ray_local, local):
    with pytest.raises(JobError, match="none had time for an epoch"):
        search_for(local, "late", max_hours=1e-9)
    assert not read_search(local, "late").complete


def test_without_optuna_the_extra_is_named(local, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="optuna") as refused:
        search_for(local, "none")
    assert refused.value.hint == "pip install 'tagfleet[tune]'"


def ended(root, run_id):
    """Rows of the trials that have ended, by id, without the rank that later ones may change."""
    try:
        rows = json.loads(root.read(f"runs/{run_id}/leaderboard.json"))["trials"]
    except NotFoundError:
        return {}
    return {row["trial_id"]: row | {"rank": 0} for row in rows if row["status"] in ENDED}

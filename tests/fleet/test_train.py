import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import boto3
import pytest

from tagfleet.audio.config import DecodeLimits
from tagfleet.errors import ConfigError, ConflictError, DigestMismatch, JobError, TaxonomyError
from tagfleet.fleet.config import TrainConfig
from tagfleet.fleet.resources import RayConfig
from tagfleet.fleet.runs import read_metrics
from tagfleet.fleet.train import train
from tagfleet.model.tagger import Tagger
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tests.conftest import HARD_NAME
from tests.fleet.synthetic import AUDIO, NETWORK, TAXONOMY, log_mel, store_features, tracks_and_labels, truth

N_TRACKS = 73  # an odd number of training tracks: two workers cannot share them evenly
EPOCHS = 6


def run_training(root, run_id, *, resume=False, ray_config=None, report=lambda line: None, **settings):
    tracks, labels = tracks_and_labels(N_TRACKS)
    return train(
        root,
        tracks,
        labels,
        TAXONOMY,
        config=TrainConfig(**{"batch_size": 4, "clips_per_track": 4, "learning_rate": 0.01} | settings),
        audio=AUDIO,
        network=NETWORK,
        limits=DecodeLimits(),
        ray_config=ray_config or RayConfig(),
        run_id=run_id,
        resume=resume,
        report=report,
    )


@pytest.fixture(scope="module")
def trained(ray_local):
    """A finished run of two workers on S3: its root, its result and what was reported on the way."""
    bucket = f"training-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    root = Storage(f"s3://{bucket}/{HARD_NAME}")
    store_features(root, N_TRACKS)
    lines = []
    return root, run_training(root, "r1", report=lines.append, epochs=EPOCHS), lines


def test_two_workers_learn_what_can_be_heard(trained):
    _, result, _ = trained
    measured = {axis.axis: axis for axis in result.metrics}
    assert measured["genre"].value > measured["genre"].chance + 0.3
    assert measured["instrument"].value > 0.75
    assert (result.n_train + result.n_validation + result.n_test, result.n_failed) == (N_TRACKS, 0)


def test_every_epoch_is_reported_and_the_best_is_published(trained):
    root, result, lines = trained
    assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + 1))
    assert lines == read_metrics(root, "r1")
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert result.epoch == min(lines, key=lambda line: line["validation_loss"])["epoch"]


def test_the_published_tagger_is_in_production_and_hears_the_labels(trained):
    root, result, _ = trained
    ref, files = ModelStore(root).load("production")
    assert str(ref) == result.model
    tagger = Tagger.from_files(files, expected_id=result.model_id)
    assert tagger.facts.metrics == result.metrics and tagger.facts.run_id == "r1"
    prediction = tagger.tag(log_mel(1, 32).astype("float32").T[None].copy())
    assert prediction.accepted["genre"][0].label == truth(1)[0]


def test_checkpoints_do_not_pile_up(trained):
    root, _, _ = trained
    folders = {info.key.split("/")[3] for info in root.list("runs/r1/checkpoints") if info.key.endswith("safetensors")}
    assert 2 <= len(folders) <= 3  # the two best and the last


def test_a_finished_run_says_so_and_publishes_nothing_more(trained):
    root, result, _ = trained
    again = run_training(root, "r1", resume=True, epochs=EPOCHS)
    assert again == result.model_copy(update={"already_finished": True})
    assert len(ModelStore(root).published()) == 1


def test_a_taken_run_id_and_another_recipe_are_refused(trained):
    root, _, _ = trained
    with pytest.raises(ConflictError):
        run_training(root, "r1", epochs=EPOCHS)
    with pytest.raises(DigestMismatch, match="train changed"):
        run_training(root, "r1", resume=True, epochs=EPOCHS + 1)


def test_a_killed_run_goes_on_and_ends_with_the_weights_of_one_that_was_not(trained, tmp_path):
    _, whole, _ = trained
    killed = Storage(str(tmp_path))
    store_features(killed, N_TRACKS)
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.fleet.train_child", killed.root, "r", str(EPOCHS)],
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
    )
    try:
        until(lambda: len(read_metrics(killed, "r")) >= 2)
        child.kill()
        # Ray notices within seconds that its driver is gone; until then its workers may finish another epoch.
        until(lambda: not any("Train" in name for name in processes_of(child.pid).values()))
    finally:
        for process in processes_of(child.pid):  # Ray's own agents would stay for another minute
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        child.wait()
    done = read_metrics(killed, "r")
    assert 2 <= len(done) < EPOCHS

    lines = []
    resumed = run_training(killed, "r", resume=True, epochs=EPOCHS, report=lines.append)
    assert [line["epoch"] for line in lines] == list(range(len(done) + 1, EPOCHS + 1))
    assert read_metrics(killed, "r") == [*done, *lines]
    assert (resumed.epoch, resumed.model_id) == (whole.epoch, whole.model_id)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_track(ray_local, tmp_path):
    root = Storage(str(tmp_path))
    store_features(root, N_TRACKS, broken=2)
    with pytest.raises(JobError, match=r"the loss is nan in epoch 1, at tracks .*t002") as stopped:
        run_training(root, "r", n_workers=1, epochs=2)
    assert "learning_rate" in stopped.value.hint
    assert ModelStore(root).published() == []


def test_what_cannot_be_learnt_or_measured_is_refused_before_anything_is_written(tmp_path):
    tracks, labels = tracks_and_labels(N_TRACKS)
    settings = {
        "config": TrainConfig(),
        "audio": AUDIO,
        "network": NETWORK,
        "limits": DecodeLimits(),
        "ray_config": RayConfig(),
        "run_id": "r",
    }
    root = Storage(str(tmp_path))
    with pytest.raises(ConfigError, match="the train split has 1 labelled"):
        train(root, tracks[:1], labels, TAXONOMY, **settings)
    rock = labels.filter([label != "rock" for label in labels["label"].to_pylist()])
    with pytest.raises(TaxonomyError, match="genre:rock"):
        train(root, tracks, rock, TAXONOMY, **settings)
    assert list(root.list("runs")) == []


def until(true, timeout_s=90):
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def processes_of(session):
    """Running processes of the session that the child leads, and what they call themselves."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, session_of, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(session_of) == session and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text()
    return found

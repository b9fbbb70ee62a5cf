import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import boto3
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tagfleet.audio.config import DecodeLimits
from tagfleet.errors import ConfigError, ConflictError, JobError, NotFoundError, StorageError, TaxonomyError
from tagfleet.fleet.recovery import SNAPSHOT_FILE
from tagfleet.fleet.resources import RayConfig
from tagfleet.fleet.runs import read_metrics
from tagfleet.fleet.train import resume, train
from tagfleet.model.evaluation import Evaluation
from tagfleet.model.tagger import Tagger
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table
from tests.conftest import HARD_NAME
from tests.fleet.synthetic import log_mel, settings, store_catalog, store_log_mels, tracks_and_labels, truth

N_TRACKS = 73  # an odd number of training tracks: two workers cannot share them evenly
EPOCHS = 6
MACHINES = {"limits": DecodeLimits(), "ray_config": RayConfig()}


def run_training(root, run_id, *, report=lambda line: None, ray_config=MACHINES["ray_config"], **changes):
    return train(root, settings(**changes), run_id=run_id, limits=DecodeLimits(), ray_config=ray_config, report=report)


def store_all(root, **changes):
    store_catalog(root, N_TRACKS)
    store_log_mels(root, N_TRACKS, **changes)
    return root


@pytest.fixture(scope="module")
def trained(ray_local):
    """A finished run of two workers on S3: its root, its result and what was reported on the way."""
    bucket = f"training-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    root = store_all(Storage(f"s3://{bucket}/{HARD_NAME}"))
    lines = []
    return root, run_training(root, "r1", report=lines.append), lines


def test_two_workers_learn_what_can_be_heard(trained):
    _, result, _ = trained
    found = result.evaluation
    measured = {axis.axis: axis for axis in found.axes}
    assert measured["genre"].model.value > measured["genre"].guessing.majority + 0.3
    assert measured["instrument"].model.value > measured["instrument"].guessing.chance + 0.15
    assert (found.n_train + found.n_validation + found.n_test, found.n_failed) == (N_TRACKS, 0)


def test_every_epoch_is_reported_and_the_best_is_published(trained):
    root, result, lines = trained
    assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + 1))
    assert lines == read_metrics(root, "r1")
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert result.epoch == max(lines, key=lambda line: (line["validation_metric"], -line["validation_loss"]))["epoch"]


def test_the_published_tagger_hears_the_labels_and_says_where_it_comes_from(trained):
    root, result, _ = trained
    _, files = ModelStore(root).load(result.model)
    assert {"tagger.json", "weights.safetensors", "metrics.json", "splits.parquet", "README.md"} == set(files)
    tagger = Tagger.from_files(files, expected_id=result.model_id)
    assert (tagger.facts.run_id, tagger.facts.recipe_digest) == ("r1", result.recipe_digest)
    assert Evaluation.model_validate_json(files["metrics.json"]) == result.evaluation
    prediction = tagger.tag(log_mel(1, 32).astype("float32").T[None].copy())
    assert prediction.accepted["genre"][0].label == truth(1)[0]


def test_a_run_folder_holds_everything_that_the_numbers_come_from(trained):
    root, result, _ = trained
    names = {info.key.removeprefix("runs/r1/") for info in root.list("runs/r1")}
    assert {"recipe.json", "metrics.jsonl", "environment.json", "result.json", "curves-loss.svg"} <= names
    assert {f"evaluation-test/{name}" for name in ("evaluation.json", "probabilities.parquet", "mistakes.csv")} <= names
    assert any(name.startswith("tensorboard/events") for name in names)
    rows = pq.read_table(io.BytesIO(root.read("runs/r1/evaluation-test/probabilities.parquet")))
    genre = rows.filter(pc.equal(rows["axis"], "genre")).to_pandas()
    top = genre.loc[genre.groupby("track_id")["probability"].idxmax()]
    assert top["target"].mean() == pytest.approx(result.evaluation.axes[0].model.value)


def test_checkpoints_do_not_pile_up(trained):
    root, _, _ = trained
    folders = {info.key.split("/")[3] for info in root.list("runs/r1/checkpoints") if info.key.endswith("safetensors")}
    assert len(folders) == 2


def test_a_finished_run_says_so_and_publishes_nothing_more(trained):
    root, result, _ = trained
    again = resume(root, "r1", **MACHINES)
    assert again == result.model_copy(update={"already_finished": True})
    assert len(ModelStore(root).published()) == 1


def test_a_taken_run_id_and_one_that_is_not_there_are_refused(trained):
    root, _, _ = trained
    with pytest.raises(ConflictError, match="r1 already"):
        run_training(root, "r1")
    with pytest.raises(NotFoundError, match="no training run r2"):
        resume(root, "r2", **MACHINES)


def test_a_killed_run_goes_on_and_ends_with_the_weights_of_one_that_was_not(trained, tmp_path):
    _, whole, _ = trained
    killed = store_all(Storage(str(tmp_path)))
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.fleet.train_child", killed.root, "r"],
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
    resumed = resume(killed, "r", report=lines.append, **MACHINES)
    assert [line["epoch"] for line in lines] == list(range(len(done) + 1, EPOCHS + 1))
    assert read_metrics(killed, "r") == [*done, *lines]
    assert (resumed.epoch, resumed.model_id) == (whole.epoch, whole.model_id)


def test_a_worker_that_is_killed_is_started_again_from_the_last_epoch(trained, tmp_path):
    _, whole, _ = trained
    root = store_all(Storage(str(tmp_path)))
    killed, lines = [], []

    def kill_one(line):
        lines.append(line)
        if line["epoch"] == 2:
            workers = [process for process, name in processes_of(None).items() if "RayTrainWorker" in name]
            killed.append(workers[-1])
            os.kill(workers[-1], signal.SIGKILL)

    result = run_training(root, "r", report=kill_one)
    assert len(killed) == 1
    assert [line["epoch"] for line in lines] == list(range(1, EPOCHS + 1))
    assert (result.epoch, result.model_id) == (whole.epoch, whole.model_id)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own, of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("no file system can be mounted here (not root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_in_an_error_with_a_hint_and_the_last_checkpoint_remains(trained, small_disk):
    _, whole, _ = trained
    root = store_all(Storage(str(small_disk / "root")))
    filler = small_disk / "filler"

    def fill(line):
        if line["epoch"] == 2:
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

    with pytest.raises(JobError, match=r"No space left on device|space") as stopped:
        run_training(root, "r", report=fill, workers={"max_failures": 0, "cpus_per_worker": 0.5})
    assert "--resume r" in stopped.value.hint
    filler.unlink()
    done = read_metrics(root, "r")
    assert 2 <= len(done) < EPOCHS
    lines = []
    resumed = resume(root, "r", report=lines.append, **MACHINES)
    assert lines[0]["epoch"] == len(done) + 1
    assert resumed.model_id == whole.model_id


def test_a_list_of_checkpoints_that_was_cut_off_costs_no_epoch(trained, tmp_path):
    """Ray writes its list in place: a full disk or a kill leaves half of it."""
    _, whole, _ = trained
    root = store_all(Storage(str(tmp_path)))

    def stop(line):
        if line["epoch"] == 3:
            for process, name in processes_of(None).items():
                if "RayTrainWorker" in name:
                    os.kill(process, signal.SIGKILL)

    with pytest.raises(JobError):
        run_training(root, "r", report=stop, workers={"max_failures": 0, "cpus_per_worker": 0.5})
    done = len(read_metrics(root, "r"))
    assert 3 <= done < EPOCHS
    root.write(f"runs/r/checkpoints/{SNAPSHOT_FILE}", root.read(f"runs/r/checkpoints/{SNAPSHOT_FILE}")[:40])
    lines = []
    resumed = resume(root, "r", report=lines.append, **MACHINES)
    assert lines[0]["epoch"] == done + 1
    assert [line["epoch"] for line in read_metrics(root, "r")] == list(range(1, EPOCHS + 1))
    assert resumed.model_id == whole.model_id


def test_a_bucket_that_is_not_there_is_told_before_anything_is_started(s3):
    with pytest.raises(StorageError) as refused:
        run_training(Storage("s3://no-such-bucket-here/root"), "r")
    assert "no-such-bucket-here" in refused.value.message


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_track(ray_local, tmp_path):
    root = store_all(Storage(str(tmp_path)), broken=2)
    with pytest.raises(JobError, match=r"the loss is nan in epoch 1, at tracks .*t002") as stopped:
        run_training(root, "r", workers={"n_workers": 2}, train={"epochs": 2})
    assert "learning_rate" in stopped.value.hint
    assert ModelStore(root).published() == []


def test_what_cannot_be_learnt_or_measured_is_refused_before_anything_is_written(tmp_path):
    root = Storage(str(tmp_path))
    store_catalog(root, N_TRACKS)
    tracks, labels = tracks_and_labels(N_TRACKS)
    Table(root, "catalog").replace(tracks[:1], note="one")
    with pytest.raises(ConfigError, match="the train split has 1 labelled"):
        run_training(root, "r")
    Table(root, "catalog").replace(tracks, note="all")
    rows = labels.select(["label", "split"]).to_pylist()
    side = labels.filter([row != {"label": "rock", "split": "test"} for row in rows])
    Table(root, "labels").replace(side, note="no rock to test")
    with pytest.raises(TaxonomyError, match="genre:rock"):
        run_training(root, "r")
    assert list(root.list("runs")) == []


def until(true, timeout_s=150):
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def processes_of(session):
    """Running processes of the session that a child leads (None: of all), and what they call themselves."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, _, _, session_of, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            if session in (None, int(session_of)) and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text()
    return found

import struct
import sys

import pytest

from tagfleet.errors import ConfigError
from tagfleet.fleet.tracking import environment, event_file, tracked, write_curves
from tagfleet.store.objects import Storage
from tests.fleet.synthetic import recipe

HISTORY = [
    {"epoch": n, "train_loss": 1.0 / n, "validation_loss": 0.5 + n, "validation_metric": None, "finished_at": "2026"}
    for n in (1, 2, 3)
]


def scalars(data):
    """What a TensorBoard reads: records of length, two checksums and an event each."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found += [(value.tag, event.step, round(value.simple_value, 4)) for value in event.summary.value]
        data = data[16 + length :]
    return found


def test_an_event_file_holds_every_number_of_every_epoch():
    found = scalars(event_file(HISTORY))
    assert ("train_loss", 3, 0.3333) in found and ("validation_loss", 1, 1.5) in found
    assert {tag for tag, _, _ in found} == {"train_loss", "validation_loss"} and len(found) == 6


def test_curves_and_events_lie_in_the_run_folder(tmp_path):
    root = Storage(str(tmp_path))
    write_curves(root, "r", HISTORY)
    names = {info.key for info in root.list("runs/r")}
    assert {"runs/r/curves-loss.svg", "runs/r/curves-metric.svg"} < names
    assert root.read("runs/r/curves-loss.svg").startswith(b"<svg")


def test_the_environment_names_what_decides_the_numbers():
    found = environment(None)
    assert found["packages"]["torch"].startswith("2.") and "warm_start" not in found


def test_without_a_tracking_uri_nothing_leaves_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    root = Storage(str(tmp_path))
    with tracked(root, "r", recipe()) as track:
        for line in HISTORY:
            track(line)
    (name,) = [info.key for info in root.list("runs/r/tensorboard")]
    assert len(scalars(root.read(name))) == 6


def test_a_tracking_uri_without_mlflow_is_told_with_the_extra(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with (
        pytest.raises(ConfigError, match="mlflow is not installed") as refused,
        tracked(Storage(str(tmp_path)), "r", recipe()),
    ):
        pass
    assert "tagfleet[mlflow]" in refused.value.hint


@pytest.mark.filterwarnings("default")  # mlflow warns of its own future
def test_mlflow_gets_the_settings_and_every_epoch(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with tracked(Storage(str(tmp_path / "root")), "r", recipe()) as track:
        for line in HISTORY:
            track(line)
    (run,) = mlflow.search_runs(output_format="list")
    assert run.data.tags["mlflow.runName"] == "r"
    assert run.data.params["optimiser.learning_rate"] == "0.01"
    assert run.data.metrics["train_loss"] == pytest.approx(1 / 3)

"""From a laptop to a real Ray cluster of two nodes, with storage on a real S3 server, by the commands users type."""

import json
import os
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from tagfleet.fleet.runs import read_metrics
from tagfleet.store.models import ModelStore
from tagfleet.store.objects import Storage
from tagfleet.store.predictions import Predictions
from tests import s3server
from tests.e2e.library import N_GOOD, N_TRACKS, make_library
from tests.e2e.raycluster import BIN, free_ports, two_nodes
from tests.fleet.synthetic import store_catalog, store_log_mels
from tests.model.taggers import random_tagger

pytestmark = pytest.mark.timeout(900)

TINY = ["--recipe", "smoke", "-s", "audio.clip_frames=32", "-s", "network.width=8", "-s", "train.batch_size=4"]
TWO_WORKERS = ["--workers", "2", "-s", "workers.cpus_per_worker=1"]


@pytest.fixture(scope="module")
def cluster(s3):
    # Short: the sockets' names, which Ray puts below, must not pass 107 characters.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        two_nodes(Path(folder), dict(os.environ)) as running,
    ):
        yield running


class Laptop:
    """Calls tagfleet as somebody would who sits before the cluster."""

    def __init__(self, cluster, root, folder):
        self.cluster, self.root, self.folder = cluster, root, folder
        self.environ = {**cluster.environ, "RAY_API_SERVER_ADDRESS": cluster.address}

    def start(self, *words, environ=None):
        return subprocess.Popen(
            # Whoever started the tests may have told them to ignore Ctrl-C.
            ["env", "--default-signal=INT", str(BIN / "tagfleet"), "--root", self.root, *words],
            cwd=self.folder,
            env=environ or self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words, environ=None):
        running = self.start(*words, environ=environ)
        out, err = running.communicate(timeout=400)
        return running.returncode, out, err

    def json(self, *words, expected=0):
        code, out, err = self.run(*words, "--json")
        assert code == expected, f"{code}\n{out}\n{err}"
        return json.loads(out)

    def until(self, happened, timeout_s=240):
        deadline = time.monotonic() + timeout_s
        while not happened():
            assert time.monotonic() < deadline, f"not within {timeout_s} s"
            time.sleep(0.5)

    def api(self, path):
        request = urllib.request.Request(self.cluster.address + path)
        request.add_header("Authorization", f"Bearer {self.cluster.token.read_text()}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()


@pytest.fixture
def laptop(cluster, bucket, tmp_path):
    return Laptop(cluster, f"s3://{bucket}/根 #1", tmp_path)


@pytest.fixture
def labelled(laptop):
    """A root from which a training can start, without audio: the tracks' uris lead nowhere."""
    root = Storage(laptop.root)
    store_catalog(root, 60)
    store_log_mels(root, 60)
    return root


def test_a_node_dies_the_job_is_stopped_and_the_same_id_goes_on_to_the_end(laptop, labelled):
    # Both nodes are needed: one CPU each.
    words = ["submit", "train", *TINY, *TWO_WORKERS, "-s", "train.epochs=20", "--submission-id", "long"]
    assert laptop.json(*words)["new"] is True
    laptop.until(lambda: len(read_metrics(labelled, "long")) >= 2)
    laptop.cluster.kill_worker()
    waiting, following = laptop.start("jobs", "status", "long", "--wait"), laptop.start("jobs", "logs", "long", "-f")
    code, out, _ = laptop.run("jobs", "stop", "long")
    assert code == 0
    out, err = waiting.communicate(timeout=120)
    assert (waiting.returncode, out) == (6, "") and "long was stopped" in err
    out, _ = following.communicate(timeout=60)
    assert following.returncode == 0 and "was stopped" in out
    stopped = laptop.json("jobs", "status", "long")
    assert (stopped["status"], stopped["exit_code"], stopped["record"]["status"]) == ("STOPPED", 6, "stopped")
    before = stopped["epoch"]["epoch"]

    laptop.cluster.start_worker()
    sent = laptop.start(*words, "--wait")
    laptop.until(lambda: len(read_metrics(labelled, "long")) > before)
    status = laptop.json("jobs", "status", "long")
    assert (status["attempt"], status["record"]["n_starts"], status["run_id"]) == (2, 2, "long")
    sent.send_signal(2)  # Ctrl-C: only the view ends
    out, err = sent.communicate(timeout=60)
    assert sent.returncode == 130 and "Detached" in err and "jobs logs long -f" in err
    # The same id again is the same job, running or over.
    found = laptop.json(*words, "--wait")
    assert (found["status"], found["exit_code"], found["new"]) == ("SUCCEEDED", 0, False)
    assert found["result"]["model"] == "smoke:1"
    assert str(ModelStore(labelled).resolve("smoke")) == "smoke:1"
    code, out, _ = laptop.run("jobs", "logs", "long")
    assert code == 0 and out.count("Epoch 4:") <= 1

    look_at_what_the_cluster_keeps(laptop, labelled)


def look_at_what_the_cluster_keeps(laptop, labelled):
    # Another command of that id is refused, and no job may ask for more than there is.
    refused = laptop.json("submit", "evaluate", "smoke", "--submission-id", "long", expected=1)
    assert "long is another command: python -m jobs.train" in refused["error"]["message"]
    error = laptop.json("submit", "train", *TINY, "--workers", "4", "--submission-id", "large", expected=1)["error"]
    assert "train needs 4 CPUs (there: 2) at once" in error["message"]

    status = laptop.json("jobs", "status", "long")
    assert status["record"]["status"] == "finished" and status["epoch"]["epoch"] == status["epochs"] == 20
    code, out, _ = laptop.run("jobs", "list")
    listed = [line.split("\t")[:3] for line in out.splitlines()[1:]]
    assert code == 0 and ["long", "train", "SUCCEEDED"] in listed
    code, out, _ = laptop.run("jobs", "logs", "long", "--tail", "2")
    assert code == 0 and len(out.splitlines()) == 2 and '"model": "smoke:1"' in out

    # A job's failure is the command's: message, hint and code are the job's own.
    error = laptop.json("submit", "retag", "--model", "smoke", "--submission-id", "lost", "--wait", expected=4)["error"]
    assert "60 of 60 tracks failed" in error["message"]
    assert laptop.json("jobs", "status", "lost")["record"]["status"] == "refused"

    # Nothing that anybody can read there is a secret.
    kept = laptop.api("/api/jobs/") + "".join(laptop.api(f"/api/jobs/{job}/logs") for job in ("long", "lost"))
    for secret in (s3server.SECRET_KEY, s3server.ACCESS_KEY, laptop.cluster.token.read_text()):
        assert secret not in kept
    files = "".join(labelled.read(info.key).decode("utf-8", "replace") for info in labelled.list("runs/long"))
    assert s3server.SECRET_KEY not in files and laptop.cluster.token.read_text() not in files


def test_retag_and_code_that_is_sent(laptop):
    library = laptop.folder / "library"
    make_library(library)
    assert laptop.run("catalog", "scan", str(library))[0] == 0
    root, tagger = Storage(laptop.root), random_tagger()
    models = ModelStore(root)
    models.promote(models.publish("tagger", tagger.to_files(), tagger.model_id), by="test")
    sent = laptop.start("submit", "retag", "--submission-id", "night", "--upload", "--wait", "--json")
    names = ("tracks_total", "run_done", "worker_peak_memory_mb")
    missing = {*(f"ray_tagfleet_{name}" for name in names), 'outcome="failed"', 'reason="decode/'}
    missing |= {'step="Tagging"', 'stage="listen"'}

    def shown():
        # While it works: Ray forgets the gauges of a process 20 s after it has ended.
        for port in laptop.cluster.metrics:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                text = answer.read().decode()
            missing.difference_update([name for name in missing if name in text])
        return not missing or sent.poll() not in (None, 0)

    laptop.until(shown)
    out, err = sent.communicate(timeout=400)
    assert sent.returncode == 0, f"{out}\n{err}"
    assert not missing
    found = json.loads(out)
    assert (found["result"]["n_tagged"], found["result"]["n_failed"]) == (N_GOOD, N_TRACKS - N_GOOD)
    assert len(Predictions(root).query("status = 'tagged'", columns=["track_id"]).to_pylist()) == N_GOOD
    progress = laptop.json("jobs", "status", "night")["progress"]
    assert (progress["what"], progress["done"], progress["total"]) == ("Tagging", N_TRACKS, N_TRACKS)


def test_who_may_not_or_cannot_is_told_why(laptop):
    wrong = laptop.folder / "token"
    wrong.write_text("not-the-token-of-this-cluster-but-long-enough")
    environ = {**laptop.environ, "RAY_AUTH_TOKEN_PATH": str(wrong)}
    code, _, err = laptop.run("jobs", "list", environ=environ)
    assert code == 1 and "refuses: the token is not the cluster's" in err and "RAY_AUTH_TOKEN_PATH" in err
    environ = {name: value for name, value in laptop.environ.items() if not name.startswith("RAY_AUTH")}
    environ |= {"RAY_AUTH_MODE": "disabled", "HOME": str(laptop.folder)}
    code, _, err = laptop.run("jobs", "list", environ=environ)
    assert code == 1 and "refuses: it wants a token" in err

    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    code, _, err = laptop.run("submit", "retag", "--address", dead)
    assert code == 1 and f"no Ray cluster answers at {dead} (connection refused)" in err
    assert "kubectl -n tagfleet port-forward svc/tagfleet-head-svc" in err

    code, _, err = laptop.run("jobs", "logs", "nobody")
    assert code == 1 and "knows no job nobody" in err

    laptop.root = "s3://no-such-bucket-here/root"
    code, _, err = laptop.run("submit", "retag")
    assert code == 1 and "seen from the cluster" in err and "no-such-bucket-here" in err


def test_the_doctor_looks_from_outside_and_from_inside(laptop):
    code, out, _ = laptop.run("doctor", "--address", laptop.cluster.address)
    assert "cluster: storage root" in out and "cluster: all machines" in out and "2 see the root" in out
    assert code == 1 and "tagfleet catalog scan" in out  # an empty root has no catalogue yet

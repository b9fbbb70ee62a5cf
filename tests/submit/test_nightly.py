"""The night against an API server that knows RayJobs: a real HTTP server, because Kubernetes runs nowhere here."""

import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jobs import nightly as job
from tagfleet.errors import ClusterError, ConflictError, JobError, JobStopped, NotFoundError, TimedOut
from tagfleet.submit import nightly
from tagfleet.submit.nightly import ApiServer, forget_old, job_of, run_night, tonight

TEMPLATE = {
    "metadata": {"name": "tagfleet-retag", "labels": {"a": "b"}, "resourceVersion": "7"},
    "spec": {"suspend": True, "entrypoint": "python -m jobs.retag", "shutdownAfterJobFinishes": True},
}
DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
FAILED = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": "a\nlast line"}


class Kubernetes:
    """Objects by name; what is created goes through `statuses`, one per look."""

    def __init__(self, *statuses):
        self.objects = {"tagfleet-retag": TEMPLATE}
        self.statuses = list(statuses)
        self.created = []

    def get(self, name):
        if name not in self.objects:
            raise NotFoundError("none")
        if name != "tagfleet-retag" and self.statuses:
            found = self.statuses.pop(0)
            if isinstance(found, Exception):
                raise found
            self.objects[name] = {**self.objects[name], "status": found}
        return self.objects[name]

    def create(self, body):
        if body["metadata"]["name"] in self.objects:
            raise ConflictError("there")
        self.objects[body["metadata"]["name"]] = body
        self.created.append(body)

    def delete(self, name):
        if name not in self.objects:
            raise NotFoundError("none")
        del self.objects[name]


def night(api, run_id="nightly-20261126", timeout_s=60.0):
    said = []
    run_night(api, "tagfleet-retag", run_id, say=said.append, timeout_s=timeout_s, sleep=lambda s: None)
    return said


def test_a_night_is_made_from_the_template_and_watched_to_its_end():
    api = Kubernetes({}, {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "c"}, DONE)
    said = night(api)
    (made,) = api.created
    assert made["metadata"]["name"] == "tagfleet-nightly-20261126"
    assert made["spec"] == {
        "entrypoint": "python -m jobs.retag --run-id nightly-20261126",
        "shutdownAfterJobFinishes": True,
    }
    assert "resourceVersion" not in made["metadata"]
    assert any("Running, RUNNING, c" in line for line in said)
    assert TEMPLATE["spec"]["suspend"] is True


def test_a_second_start_of_a_night_finds_it_running():
    api = Kubernetes(DONE)
    api.objects["tagfleet-nightly-20261126"] = {"status": {"jobDeploymentStatus": "Running"}}
    api.statuses = [{"jobDeploymentStatus": "Running"}, DONE]
    assert "is there already" in night(api)[0]
    assert api.created == []


def test_a_night_that_failed_is_made_again_under_the_same_run():
    api = Kubernetes(FAILED)
    with pytest.raises(JobError, match="failed: AppFailed last line"):
        night(api)
    api.statuses = [FAILED, DONE]
    night(api)
    assert [made["spec"]["entrypoint"].split()[-1] for made in api.created] == ["nightly-20261126"] * 2


def test_the_api_server_may_be_away_for_a_while():
    away = ClusterError("the API server does not answer")
    night(Kubernetes(*[away] * 20, DONE))
    with pytest.raises(ClusterError, match="does not answer"):
        night(Kubernetes(*[away] * 40))


@pytest.mark.parametrize(
    ("statuses", "error"),
    [
        ([{"jobDeploymentStatus": "Suspended"}], JobStopped),
        ([NotFoundError("gone")], JobStopped),
        ([{"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}], JobStopped),
        ([{"jobDeploymentStatus": "Complete", "jobStatus": "FAILED"}], JobError),
        ([{"jobDeploymentStatus": "ValidationFailed", "message": "bad"}], JobError),
    ],
)
def test_every_end_has_its_exit_code(statuses, error):
    with pytest.raises(error):
        night(Kubernetes(*statuses))


def test_a_night_does_not_wait_for_ever():
    with pytest.raises(TimedOut):
        night(Kubernetes({"jobDeploymentStatus": "Running"}), timeout_s=0.01)


def test_nights_of_two_weeks_ago_are_removed_and_younger_ones_kept():
    api = Kubernetes()
    for day in range(1, 27):
        api.objects[f"tagfleet-nightly-202611{day:02d}"] = {}
    forget_old(api, datetime(2026, 11, 25, 18, tzinfo=UTC), "Asia/Tokyo")
    assert sorted(api.objects) == [f"tagfleet-nightly-202611{day}" for day in range(13, 27)] + ["tagfleet-retag"]


def test_a_template_that_would_run_by_itself_is_refused():
    with pytest.raises(ClusterError, match="is not suspended"):
        job_of({**TEMPLATE, "spec": {**TEMPLATE["spec"], "suspend": False}}, "r")


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: 1900 < moment.year < 9999))
def test_every_night_has_a_name_that_kuberay_takes(moment):
    name = job_of(TEMPLATE, tonight(moment, "Asia/Tokyo"))["metadata"]["name"]
    assert len(name) <= 47 and name.replace("-", "").isalnum() and name == name.lower()


@contextmanager
def api_server(kubernetes, monkeypatch, folder):
    """`kubernetes` behind HTTP, and a kubeconfig that leads there."""
    base = "/apis/ray.io/v1/namespaces/tagfleet/rayjobs"
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, act):
            seen.append((self.command, self.path.removeprefix(base), self.headers["Authorization"]))
            try:
                code, body = 200, act(self.path.removeprefix(f"{base}/"))
            except NotFoundError:
                code, body = 404, {}
            except ConflictError:
                code, body = 409, {}
            except ClusterError:
                code, body = 403, {"message": "forbidden"}
            data = json.dumps(body or {}).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            self._answer(kubernetes.get)

        def do_DELETE(self):
            self._answer(kubernetes.delete)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(lambda name: kubernetes.create(body))

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t0ken"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(folder / "kubeconfig"))
    monkeypatch.setattr(nightly, "POLL_S", 0.01)
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()


def test_the_job_talks_to_an_api_server_as_its_role_allows(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    kubernetes = Kubernetes(FAILED)
    with api_server(kubernetes, monkeypatch, tmp_path) as seen:
        assert job.main(["--namespace", "tagfleet", "--run-id", "nightly-1"]) == 5
        assert "AppFailed last line" in capsys.readouterr().err
        kubernetes.statuses = [FAILED, {}, DONE]
        assert job.main(["--namespace", "tagfleet", "--run-id", "nightly-1"]) == 0
        assert {method for method, _, _ in seen} == {"GET", "POST", "DELETE"}
        assert {token for _, _, token in seen} == {"Bearer t0ken"}
        monkeypatch.setattr(kubernetes, "get", lambda name: (_ for _ in ()).throw(ClusterError("no")))
        assert job.main(["--namespace", "tagfleet", "--run-id", "nightly-2"]) == 1
        assert "answers 403" in capsys.readouterr().err
        assert ApiServer("tagfleet").namespace == "tagfleet"

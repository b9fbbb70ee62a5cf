"""Views of rendered documents: pods as they will be made, Ray clusters, quantities."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]

_SCALE = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(text: str | int | float) -> float:
    """A Kubernetes quantity as a number.

    >>> quantity("500m"), quantity("2Gi"), quantity(4)
    (0.5, 2147483648.0, 4.0)
    """
    text = str(text)
    digits = text.rstrip("mkMGTKi")
    return float(digits) * _SCALE[text[len(digits) :]]


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod template, wherever it stands."""

    where: str
    labels: dict[str, str]
    spec: Document
    claims: tuple[str, ...] = ()
    """Names of the volumes that come from claims of the owner."""

    @property
    def containers(self) -> list[Document]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Head or workers of one kind of a Ray cluster."""

    where: str
    name: str
    spec: Document
    pod: Pod

    @property
    def is_head(self) -> bool:
        return self.name == "head"


def name_of(document: Document) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def names(documents: list[Document], kind: str) -> set[str]:
    return {document["metadata"]["name"] for document in of_kind(documents, kind)}


def ray_clusters(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Where it stands, and the spec of each Ray cluster."""
    for document in of_kind(documents, "RayCluster"):
        yield name_of(document), document["spec"]
    for document in of_kind(documents, "RayJob"):
        yield name_of(document), document["spec"]["rayClusterSpec"]


def groups(documents: list[Document]) -> Iterator[Group]:
    """Head and worker groups of all Ray clusters; a head has its autoscaler, as KubeRay will put it there."""
    for where, spec in ray_clusters(documents):
        head = spec["headGroupSpec"]
        pod = _pod(f"{where} head", head["template"])
        if spec.get("enableInTreeAutoscaling"):
            ray = pod.spec["containers"][0]
            options = spec.get("autoscalerOptions", {})
            sidecar = {"name": "autoscaler", "image": ray["image"], **_container_fields(options)}
            pod = Pod(where=pod.where, labels=pod.labels, spec={**pod.spec, "containers": [ray, sidecar]})
        yield Group(where=pod.where, name="head", spec=head, pod=pod)
        for worker in spec.get("workerGroupSpecs", ()):
            pod = _pod(f"{where} group {worker['groupName']}", worker["template"])
            yield Group(where=pod.where, name=worker["groupName"], spec=worker, pod=pod)


def pods(documents: list[Document]) -> list[Pod]:
    """Every pod that the documents lead to, besides what KubeRay adds to them."""
    found = [group.pod for group in groups(documents)]
    for document in documents:
        spec = document.get("spec", {})
        where = name_of(document)
        if document["kind"] in ("Deployment", "DaemonSet", "Job"):
            found.append(_pod(where, spec["template"]))
        elif document["kind"] == "StatefulSet":
            claims = tuple(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ()))
            found.append(_pod(where, spec["template"], claims))
        elif document["kind"] == "CronJob":
            found.append(_pod(where, spec["jobTemplate"]["spec"]["template"]))
        elif document["kind"] == "RayJob" and "submitterPodTemplate" in spec:
            found.append(_pod(f"{where} submitter", spec["submitterPodTemplate"]))
    return found


def selected(selector: Document, labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for term in selector.get("matchExpressions", ()):
        has, values = term["key"] in labels, term.get("values", ())
        takes = {
            "In": labels.get(term["key"]) in values,
            "NotIn": labels.get(term["key"]) not in values,
            "Exists": has,
            "DoesNotExist": not has,
        }
        if not takes[term["operator"]]:
            return False
    return True


def _pod(where: str, template: Document, claims: tuple[str, ...] = ()) -> Pod:
    labels = template.get("metadata", {}).get("labels", {})
    return Pod(where=where, labels=labels, spec=template["spec"], claims=claims)


def _container_fields(options: Document) -> Document:
    return {
        key: options[key]
        for key in ("image", "env", "envFrom", "resources", "securityContext", "volumeMounts")
        if key in options
    }

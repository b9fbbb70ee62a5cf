"""Rules about names: what is referred to exists, under the name that is used for it."""

import json
import re

from tests.k8s.documents import Document, Pod, name_of, names, of_kind, pods, selected
from tests.k8s.rendering import REPOSITORY

GIVEN_SECRETS = {"tagfleet-s3", "tagfleet-redis"}
"""Secrets that the operator creates; no commit holds them."""
GIVEN_CONFIGMAPS = {"kube-root-ca.crt"}
"""Kubernetes puts it into every namespace."""


def references_resolve(documents: list[Document]) -> list[str]:
    """ConfigMaps, Secrets, accounts, claims, Services, roles and RayJob templates that are named are there."""
    there = {
        "ConfigMap": names(documents, "ConfigMap") | GIVEN_CONFIGMAPS,
        "Secret": names(documents, "Secret") | GIVEN_SECRETS,
        "ServiceAccount": names(documents, "ServiceAccount"),
        "PersistentVolumeClaim": names(documents, "PersistentVolumeClaim"),
        "Service": names(documents, "Service"),
        "Role": names(documents, "Role"),
        "RayJob": names(documents, "RayJob"),
    }
    asked = [(pod.where, *reference) for pod in pods(documents) for reference in _of_pod(pod)]
    for document in documents:
        asked += [(name_of(document), *reference) for reference in _of_document(document)]
    return [f"{where}: no {kind} is called {name}" for where, kind, name in asked if name not in there[kind]]


def _of_pod(pod: Pod) -> list[tuple[str, str]]:
    found = [("ServiceAccount", pod.spec.get("serviceAccountName", "default"))]
    found += [("Secret", secret["name"]) for secret in pod.spec.get("imagePullSecrets", ())]
    for volume in pod.spec.get("volumes", ()):
        for source in (volume, *volume.get("projected", {}).get("sources", ())):
            if "configMap" in source:
                found.append(("ConfigMap", source["configMap"]["name"]))
            if "secret" in source:
                found.append(("Secret", source["secret"].get("secretName") or source["secret"]["name"]))
        if "persistentVolumeClaim" in volume:
            found.append(("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
    for container in pod.containers:
        for source in (*container.get("envFrom", ()), *(env.get("valueFrom", {}) for env in container.get("env", ()))):
            for key, kind in (("configMapRef", "ConfigMap"), ("configMapKeyRef", "ConfigMap")):
                found += [(kind, source[key]["name"])] if key in source else []
            for key in ("secretRef", "secretKeyRef"):
                found += [("Secret", source[key]["name"])] if key in source else []
    return found


def _of_document(document: Document) -> list[tuple[str, str]]:
    spec = document.get("spec", {})
    found = []
    if document["kind"] == "StatefulSet":
        found.append(("Service", spec["serviceName"]))
    if document["kind"] == "RoleBinding":
        found.append(("Role", document["roleRef"]["name"]))
        found += [("ServiceAccount", subject["name"]) for subject in document["subjects"]]
    if document["kind"] == "CronJob":
        for container in spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]:
            words = [*container.get("command", ()), *container.get("args", ())]
            found += [("RayJob", words[words.index("--template") + 1])] if "--template" in words else []
    if options := spec.get("gcsFaultToleranceOptions"):
        found.append(("Service", options["redisAddress"].split("://")[-1].partition(":")[0]))
        for part in ("redisPassword", "redisUsername"):
            if key := options.get(part, {}).get("valueFrom", {}).get("secretKeyRef"):
                found.append(("Secret", key["name"]))
    return found


def mounts_match_volumes(documents: list[Document]) -> list[str]:
    """Every mount has a volume, every volume a mount, and no two share a path."""
    wrong = []
    for pod in pods(documents):
        volumes = {volume["name"] for volume in pod.spec.get("volumes", ())} | set(pod.claims)
        used = set()
        for container in pod.containers:
            mounts = container.get("volumeMounts", ())
            paths = [mount["mountPath"] for mount in mounts]
            used |= {mount["name"] for mount in mounts}
            wrong += [
                f"{pod.where}: {container['name']} mounts {name}, which is no volume"
                for name in sorted({mount["name"] for mount in mounts} - volumes)
            ]
            wrong += [
                f"{pod.where}: {container['name']} mounts {path} twice"
                for path in sorted({path for path in paths if paths.count(path) > 1})
            ]
        wrong += [f"{pod.where}: nobody mounts volume {name}" for name in sorted(volumes - used)]
    return wrong


def selectors_select(documents: list[Document]) -> list[str]:
    """Services, budgets and monitors find pods, and a port of that name; budgets count by minAvailable.

    Kubernetes does not know how many pods a RayCluster wants: of such pods it understands an integer minAvailable only.
    """
    wrong = []
    for document in of_kind(documents, "Service", "PodDisruptionBudget", "PodMonitor"):
        spec = document["spec"]
        selector = {"matchLabels": spec["selector"]} if document["kind"] == "Service" else spec["selector"]
        found = [pod for pod in pods(documents) if selected(selector, pod.labels)]
        if not found:
            wrong.append(f"{name_of(document)}: selects no pod")
            continue
        wanted = {port.get("targetPort") for port in spec.get("ports", ())}
        wanted |= {port.get("port") for port in spec.get("podMetricsEndpoints", ())}
        for pod in found:
            there = {port.get("name") for container in pod.containers for port in container.get("ports", ())}
            wrong += [
                f"{name_of(document)}: {pod.where} has no port {port}" for port in sorted(wanted - there, key=str)
            ]
        if document["kind"] == "PodDisruptionBudget" and not isinstance(spec.get("minAvailable"), int):
            wrong.append(f"{name_of(document)}: needs a whole number as minAvailable")
    return wrong


def metrics_exist(documents: list[Document]) -> list[str]:
    """What dashboards show and alerts compare is a metric of ours, with the prefix that Ray's exporter gives it."""
    ours = set(re.findall(r'"(tagfleet_\w+)"', (REPOSITORY / "tagfleet/fleet/metrics.py").read_text(encoding="utf-8")))
    wrong = []
    for document in of_kind(documents, "ConfigMap", "PrometheusRule"):
        for name, text in document.get("data", {}).items():
            if name.endswith(".json"):
                json.loads(text)
        asked = set(re.findall(r"\bray_(tagfleet_\w+)", json.dumps(document)))
        wrong += [f"{name_of(document)}: tagfleet has no metric {name}" for name in sorted(asked - ours)]
    return wrong

"""Rules about every pod: a rule answers with what is wrong, one sentence each; none is fine."""

from tests.k8s.documents import Document, groups, name_of, of_kind, pods, quantity

RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}


def requests_within_limits(documents: list[Document]) -> list[str]:
    """Every container asks for CPU and memory, for no more than it may have, and for all of that memory."""
    wrong = []
    for pod in pods(documents):
        for container in pod.containers:
            who = f"{pod.where}: {container['name']}"
            requests, limits = (container.get("resources", {}).get(part, {}) for part in ("requests", "limits"))
            for name in ("cpu", "memory"):
                if name not in requests or name not in limits:
                    wrong.append(f"{who}: no request or no limit of {name}")
            for name in requests.keys() & limits.keys():
                if quantity(requests[name]) > quantity(limits[name]):
                    wrong.append(f"{who}: requests {requests[name]} {name}, more than the limit {limits[name]}")
            if requests.get("memory") != limits.get("memory"):
                wrong.append(f"{who}: a memory request below the limit is memory that the node may not have")
    return wrong


def gpus_whole_and_placed(documents: list[Document]) -> list[str]:
    """GPUs are whole, asked for as they are limited, and their pods go where GPUs are; others do not."""
    wrong = []
    for pod in pods(documents):
        asked = {}
        for container in pod.containers:
            for part in ("requests", "limits"):
                for name, value in container.get("resources", {}).get(part, {}).items():
                    if name.endswith("/gpu"):
                        asked.setdefault(name, set()).add(quantity(value))
        tolerated = {term.get("key") for term in pod.spec.get("tolerations", ())}
        placed = any(key.startswith("nvidia.com/gpu") for key in pod.spec.get("nodeSelector", {}))
        for name, values in asked.items():
            if any(value != int(value) or value < 1 for value in values) or len(values) > 1:
                wrong.append(
                    f"{pod.where}: {name} must be one whole number in requests and limits, is {sorted(values)}"
                )
            if name not in tolerated:
                wrong.append(f"{pod.where}: asks for {name} and does not tolerate the taint {name}")
            if not placed:
                wrong.append(f"{pod.where}: asks for {name} and has no node selector for it")
        if not asked and (placed or "nvidia.com/gpu" in tolerated):
            wrong.append(f"{pod.where}: goes to GPU machines and asks for no GPU")
    return wrong


def nobody_is_root(documents: list[Document]) -> list[str]:
    """What the Pod Security level `restricted` wants, user 1000, and a root file system that nobody writes."""
    wrong = []
    for pod in pods(documents):
        context = pod.spec.get("securityContext", {})
        for key in ("runAsUser", "runAsGroup", "fsGroup"):
            if context.get(key) != 1000:
                wrong.append(f"{pod.where}: {key} is {context.get(key)}, not 1000")
        if context.get("runAsNonRoot") is not True:
            wrong.append(f"{pod.where}: may run as root")
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            wrong.append(f"{pod.where}: no seccomp profile")
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(key):
                wrong.append(f"{pod.where}: {key}")
        for volume in pod.spec.get("volumes", ()):
            if "hostPath" in volume:
                wrong.append(f"{pod.where}: volume {volume['name']} is a folder of the node")
        for container in pod.containers:
            own = container.get("securityContext", {})
            who = f"{pod.where}: {container['name']}"
            for key, value in RESTRICTED.items():
                if own.get(key) is not value:
                    wrong.append(f"{who}: {key} is {own.get(key)}, not {value}")
            if own.get("capabilities") != {"drop": ["ALL"]}:
                wrong.append(f"{who}: keeps capabilities")
            if own.get("privileged") or own.get("runAsUser", 1000) != 1000 or own.get("runAsNonRoot", True) is not True:
                wrong.append(f"{who}: a security context of its own makes it more than user 1000")
    for namespace in of_kind(documents, "Namespace"):
        if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            wrong.append(f"{name_of(namespace)}: does not enforce the Pod Security level restricted")
    return wrong


def images_are_pinned(documents: list[Document]) -> list[str]:
    """Every image has a tag, not `latest`, and no registry: where images lie is the operator's."""
    wrong = []
    tags = set()
    for pod in pods(documents):
        for container in pod.containers:
            name, _, tag = container["image"].partition(":")
            who = f"{pod.where}: image {container['image']}"
            if not tag or tag == "latest":
                wrong.append(f"{who} has no tag that stays")
            if "/" in name:
                wrong.append(f"{who} names a registry")
            if name == "tagfleet":
                tags.add(tag)
    if len(tags) > 1:
        wrong.append(f"more than one tagfleet: {', '.join(sorted(tags))}")
    return wrong


def no_service_links(documents: list[Document]) -> list[str]:
    """TAGFLEET_…_SERVICE_HOST variables, which Kubernetes makes of Services, would be refused as unknown settings."""
    return [
        f"{pod.where}: enableServiceLinks must be false"
        for pod in pods(documents)
        if pod.spec.get("enableServiceLinks") is not False
    ]


def tokens_where_needed(documents: list[Document]) -> list[str]:
    """The API token is mounted for the nightly, and into the autoscaler; accounts hand out none by themselves."""
    wrong = [
        f"{name_of(account)}: hands its token to every pod"
        for account in of_kind(documents, "ServiceAccount")
        if account.get("automountServiceAccountToken") is not False
    ]
    for pod in pods(documents):
        if pod.spec.get("automountServiceAccountToken") is not (pod.labels.get("tagfleet.io/role") == "nightly"):
            wrong.append(f"{pod.where}: automountServiceAccountToken is {pod.spec.get('automountServiceAccountToken')}")
        tokens = {
            volume["name"]
            for volume in pod.spec.get("volumes", ())
            if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", ()))
        }
        for container in pod.containers:
            mounted = tokens & {mount["name"] for mount in container.get("volumeMounts", ())}
            if mounted and container["name"] != "autoscaler":
                wrong.append(f"{pod.where}: {container['name']} is given the API token")
    return wrong


def volumes_are_bounded(documents: list[Document]) -> list[str]:
    """Every emptyDir has a size: a full one ends its pod, not the node."""
    return [
        f"{pod.where}: emptyDir {volume['name']} has no size limit"
        for pod in pods(documents)
        for volume in pod.spec.get("volumes", ())
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]
    ]


def workers_are_alike(documents: list[Document]) -> list[str]:
    """Worker pods of one cluster differ in size and place only: a task may run on any of them."""
    wrong = []
    seen: dict[str, tuple[str, Document]] = {}
    for group in groups(documents):
        if group.is_head:
            continue
        pod = {key: value for key, value in group.pod.spec.items() if key not in ("nodeSelector", "tolerations")}
        pod["containers"] = [{**container, "resources": {}} for container in pod["containers"]]
        pod["volumes"] = [_without_size(volume) for volume in pod["volumes"]]
        cluster = group.where.split()[0]
        other, first = seen.setdefault(cluster, (group.where, pod))
        for key in sorted(first.keys() | pod.keys()):
            if first.get(key) != pod.get(key):
                wrong.append(f"{group.where}: {key} is not that of {other}")
    return wrong


def _without_size(volume: Document) -> Document:
    return {**volume, "emptyDir": {**volume["emptyDir"], "sizeLimit": ""}} if "emptyDir" in volume else volume

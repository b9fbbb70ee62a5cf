"""Rules about who may do what, and who reaches whom."""

from tests.k8s.documents import Document, name_of, names, of_kind, pods, ray_clusters, selected

RESOURCES = {
    "": {"configmaps", "endpoints", "events", "namespaces", "persistentvolumeclaims", "pods", "pods/log", "secrets",
         "serviceaccounts", "services"},
    "apps": {"daemonsets", "deployments", "replicasets", "statefulsets"},
    "batch": {"cronjobs", "jobs"},
    "networking.k8s.io": {"ingresses", "networkpolicies"},
    "policy": {"poddisruptionbudgets"},
    "ray.io": {"rayclusters", "raycronjobs", "rayjobs", "rayservices"},
}  # fmt: skip
"""What the API server knows, of what we could have a use for."""
VERBS = {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
NIGHTLY_CALLS = {("ray.io", "rayjobs", "get"), ("ray.io", "rayjobs", "create"), ("ray.io", "rayjobs", "delete")}
"""All that `jobs.nightly` asks of the API server."""
OUTSIDE_LABELS = [{"tagfleet.io/submitter": "true"}]
"""Pods that people start themselves."""


def rights_are_real(documents: list[Document]) -> list[str]:
    """A rule that names no resource of the API server gives nothing, silently; nothing is given by wildcards."""
    wrong = [
        f"{name_of(role)}: rights in all namespaces" for role in of_kind(documents, "ClusterRole", "ClusterRoleBinding")
    ]
    for role in of_kind(documents, "Role"):
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                wrong += [
                    f"{name_of(role)}: no {resource} in API group {group!r}"
                    for resource in rule["resources"]
                    if resource not in RESOURCES.get(group, set())
                ]
            wrong += [f"{name_of(role)}: {verb} is no verb" for verb in rule["verbs"] if verb not in VERBS]
    return wrong


def the_nightly_may_what_it_does(documents: list[Document]) -> list[str]:
    """Each call that it makes, and no other; nobody else has a Role from us."""
    held: dict[str, set[tuple[str, str, str]]] = {}
    roles = {role["metadata"]["name"]: role for role in of_kind(documents, "Role")}
    for binding in of_kind(documents, "RoleBinding"):
        role = roles.get(binding["roleRef"]["name"], {"rules": []})
        rights = {
            (group, resource, verb)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        for subject in binding["subjects"]:
            held.setdefault(subject["name"], set()).update(rights)
    wrong = []
    for cron in of_kind(documents, "CronJob"):
        account = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"]
        rights = held.pop(account, set())
        wrong += [f"{name_of(cron)}: may not {verb} {resource}" for _, resource, verb in sorted(NIGHTLY_CALLS - rights)]
        wrong += [
            f"{name_of(cron)}: may {verb} {resource}, for nothing"
            for _, resource, verb in sorted(rights - NIGHTLY_CALLS)
        ]
    wrong += [f"ServiceAccount/{account}: has rights that nobody planned" for account in sorted(held)]
    return wrong


def no_public_doors(documents: list[Document]) -> list[str]:
    """Whoever reaches the dashboard runs code: no Ingress, no route, no Service but within the cluster."""
    wrong = [name_of(door) for door in of_kind(documents, "Ingress", "HTTPRoute", "Gateway", "Route", "IngressRoute")]
    for service in of_kind(documents, "Service"):
        spec = service["spec"]
        if spec.get("type", "ClusterIP") != "ClusterIP" or spec.get("externalIPs"):
            wrong.append(f"{name_of(service)}: reached from outside ({spec.get('type')})")
    for where, spec in ray_clusters(documents):
        head = spec["headGroupSpec"]
        if head.get("serviceType") != "ClusterIP" or head.get("enableIngress") or head.get("ingressOptions"):
            wrong.append(f"{where}: head reached from outside ({head.get('serviceType')})")
        if head.get("headService", {}).get("spec", {}).get("type", "ClusterIP") != "ClusterIP":
            wrong.append(f"{where}: head's own Service reached from outside")
    for pod in pods(documents):
        for container in pod.containers:
            wrong += [f"{pod.where}: port of the node" for port in container.get("ports", ()) if "hostPort" in port]
    return wrong


def policies_cover_all(documents: list[Document]) -> list[str]:
    """Every pod is denied both ways by default, and every policy, and every peer in it, means a pod that there is."""
    policies = of_kind(documents, "NetworkPolicy")
    labels = [pod.labels for pod in pods(documents)] + OUTSIDE_LABELS
    wrong = []
    closed = [
        policy["spec"]["podSelector"]
        for policy in policies
        if not {"ingress", "egress"} & policy["spec"].keys()
        and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    ]
    for pod in pods(documents):
        if not any(selected(selector, pod.labels) for selector in closed):
            wrong.append(f"{pod.where}: no policy denies by default")
    for policy in policies:
        spec, where = policy["spec"], name_of(policy)
        peers = [
            peer["podSelector"]
            for rule in (*spec.get("ingress", ()), *spec.get("egress", ()))
            for peer in (*rule.get("from", ()), *rule.get("to", ()))
            if "podSelector" in peer and "namespaceSelector" not in peer
        ]
        for selector in (spec["podSelector"], *peers):
            if not any(selected(selector, given) for given in labels):
                wrong.append(f"{where}: means pods that there are not: {selector}")
        if {"Ingress", "Egress"} - set(spec["policyTypes"]) and spec["podSelector"] == {} and "ingress" in spec:
            wrong.append(f"{where}: lets something reach every pod")
        for rule in spec.get("ingress", ()):
            if not rule.get("from"):
                wrong.append(f"{where}: lets everybody in")
        for rule in spec.get("egress", ()):
            if not rule.get("to") and not rule.get("ports"):
                wrong.append(f"{where}: lets everything out")
    return wrong


def ways_are_open(documents: list[Document]) -> list[str]:
    """Who must talk may: workers with their head, submitters and the operator with the dashboard, heads with Redis and
    the API server, Ray with object storage.
    """
    wrong = []
    everyone = pods(documents)
    by_role: dict[str, list] = {}
    for pod in everyone:
        by_role.setdefault(pod.labels.get("tagfleet.io/role", ""), []).append(pod)
    ways = [
        (worker, head, 6379)
        for worker in by_role.get("worker", ())
        for head in by_role.get("head", ())
        if worker.where.split()[0] == head.where.split()[0]
    ]
    ways += [
        (submitter, head, 8265)
        for submitter in by_role.get("submitter", ())
        for head in by_role.get("head", ())
        if submitter.where.split()[0] == head.where.split()[0]
    ]
    if of_kind(documents, "StatefulSet"):
        ways += [
            (head, redis, 6379)
            for head in by_role.get("head", ())
            for redis in by_role.get("redis", ())
            if head.where.startswith("RayCluster/")
        ]
    for source, target, port in ways:
        if not (_open(documents, source, target, port, "egress") and _open(documents, source, target, port, "ingress")):
            wrong.append(f"{source.where} does not reach {target.where} on {port}")
    for role, port in (("head", 443), ("worker", 443), ("head", 6443), ("nightly", 6443), ("nightly", 443)):
        wrong += [
            f"{pod.where} does not get out on {port}"
            for pod in by_role.get(role, ())
            if not _open(documents, pod, None, port, "egress")
        ]
    operator = {"kubernetes.io/metadata.name": "kuberay-system"}
    for head in by_role.get("head", ()):
        if not any(
            selected(policy["spec"]["podSelector"], head.labels)
            and any(
                _port(rule, 8265) and peer.get("namespaceSelector", {}).get("matchLabels") == operator
                for rule in policy["spec"].get("ingress", ())
                for peer in rule["from"]
            )
            for policy in of_kind(documents, "NetworkPolicy")
        ):
            wrong.append(f"KubeRay's operator does not reach {head.where} on 8265")
    return wrong


def clusters_are_apart(documents: list[Document]) -> list[str]:
    """Pods of one Ray cluster do not reach those of another: each has a label of its own, and so have policies."""
    wrong = []
    by_cluster: dict[str, list] = {}
    for where, _ in ray_clusters(documents):
        for pod in pods(documents):
            if pod.where.startswith(f"{where} ") and "tagfleet.io/cluster" in pod.labels:
                by_cluster.setdefault(where, []).append(pod)
    for here, sources in by_cluster.items():
        for there, targets in by_cluster.items():
            for source in sources if here != there else ():
                wrong += [
                    f"{source.where} reaches {target.where}"
                    for target in targets
                    if _open(documents, source, target, 6379, "egress")
                    and _open(documents, source, target, 6379, "ingress")
                ]
    if missing := {name_of(job) for job in of_kind(documents, "RayJob")} - by_cluster.keys():
        wrong.append(f"no label tagfleet.io/cluster: {sorted(missing)}")
    return wrong


def known_accounts(documents: list[Document]) -> list[str]:
    """Heads share no account with anybody: KubeRay gives it rights over the cluster's pods."""
    heads = {pod.spec["serviceAccountName"] for pod in pods(documents) if pod.labels.get("tagfleet.io/role") == "head"}
    return [
        f"{pod.where}: has the head's account"
        for pod in pods(documents)
        if pod.labels.get("tagfleet.io/role") != "head" and pod.spec.get("serviceAccountName") in heads
    ] + [f"no ServiceAccount/{account}" for account in sorted(heads - names(documents, "ServiceAccount"))]


def _open(documents: list[Document], source, target, port: int, way: str) -> bool:
    subject, other = (source, target) if way == "egress" else (target, source)
    side = "to" if way == "egress" else "from"
    for policy in of_kind(documents, "NetworkPolicy"):
        spec = policy["spec"]
        if not selected(spec["podSelector"], subject.labels):
            continue
        for rule in spec.get(way, ()):
            peers = rule.get(side)
            meets = (
                peers is None
                if other is None
                else peers is not None
                and any(
                    "podSelector" in peer
                    and "namespaceSelector" not in peer
                    and selected(peer["podSelector"], other.labels)
                    for peer in peers
                )
            )
            if meets and _port(rule, port):
                return True
    return False


def _port(rule: Document, port: int) -> bool:
    return "ports" not in rule or port in {term["port"] for term in rule["ports"]}

"""Rules about Ray clusters: what KubeRay accepts without a word, and then does otherwise than meant."""

import re
import tomllib

from tagfleet.errors import ConfigError
from tests.k8s.documents import Document, groups, name_of, of_kind, quantity, ray_clusters
from tests.k8s.rendering import REPOSITORY

_PIN = re.compile(r"^ray(?:\[[^]]*\])?==(\S+)", re.MULTILINE)
IMAGE_TAG = re.compile(r"(?P<tagfleet>\d+\.\d+\.\d+)-ray(?P<ray>\d+\.\d+\.\d+)-(?P<kind>cpu|cuda)")


def pinned_ray() -> str:
    """Ray's version in the constraints that the image is made of."""
    found = _PIN.search((REPOSITORY / "cluster/constraints.txt").read_text())
    assert found, "cluster/constraints.txt pins no Ray"
    return found[1]


def pinned_tagfleet() -> str:
    """Our own version."""
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]


def group_names_differ(documents: list[Document]) -> list[str]:
    """Two groups of one name make KubeRay create and delete pods for ever."""
    wrong = []
    for where, spec in ray_clusters(documents):
        given = [group["groupName"] for group in spec["workerGroupSpecs"]]
        wrong += [f"{where}: more than one group {name}" for name in sorted(set(given)) if given.count(name) > 1]
    return wrong


def replicas_in_order(documents: list[Document]) -> list[str]:
    """0 <= minReplicas <= replicas <= maxReplicas, all said."""
    wrong = []
    for group in groups(documents):
        if group.is_head:
            continue
        given = [group.spec.get(key) for key in ("minReplicas", "replicas", "maxReplicas")]
        if None in given or not 0 <= given[0] <= given[1] <= given[2]:
            wrong.append(f"{group.where}: minReplicas, replicas, maxReplicas are {given}")
    return wrong


def versions_agree(documents: list[Document]) -> list[str]:
    """rayVersion, the image's tag and the pinned packages are of one version: KubeRay trusts rayVersion, Ray itself."""
    wrong = [
        f"{where}: rayVersion is {spec.get('rayVersion')!r}, the image has {pinned_ray()}"
        for where, spec in ray_clusters(documents)
        if spec.get("rayVersion") != pinned_ray()
    ]
    for group in groups(documents):
        tag = group.pod.spec["containers"][0]["image"].partition(":")[2]
        found = IMAGE_TAG.fullmatch(tag)
        if not found:
            wrong.append(f"{group.where}: tag {tag!r} is not <tagfleet>-ray<ray>-<cpu|cuda>")
        elif (found["tagfleet"], found["ray"]) != (pinned_tagfleet(), pinned_ray()):
            wrong.append(f"{group.where}: tag {tag} is not of tagfleet {pinned_tagfleet()} with Ray {pinned_ray()}")
        elif _gpus(group.pod.spec["containers"][0]) and found["kind"] != "cuda":
            wrong.append(f"{group.where}: has GPUs and an image without CUDA")
    return wrong


def ray_sees_the_limits(documents: list[Document]) -> list[str]:
    """Ray hands out what the pod has: whole CPUs, its memory, its GPUs; a head hands out no CPU, drivers have it."""
    wrong = []
    for group in groups(documents):
        container, params = group.pod.spec["containers"][0], group.spec.get("rayStartParams", {})
        limits = container["resources"]["limits"]
        for name, limit in (("num-cpus", limits["cpu"]), ("memory", limits["memory"]), ("num-gpus", _gpus(container))):
            expected = 0 if group.is_head and name == "num-cpus" else quantity(limit)
            said = float(params[name]) if name in params else None
            if said not in (None, expected) or (said is None and group.is_head and name == "num-cpus"):
                wrong.append(f"{group.where}: {name} is {said}, the pod has {limit}")
        if group.spec.get("resources"):
            wrong.append(f"{group.where}: resources beside the limits of the pod")
        if quantity(limits["cpu"]) % 1:
            wrong.append(f"{group.where}: KubeRay rounds {limits['cpu']} CPUs up")
    return wrong


def objects_fit_the_shared_memory(documents: list[Document]) -> list[str]:
    """/dev/shm is memory, holds Ray's object store, and leaves half of the pod's memory to work; spills go to disk."""
    wrong = []
    for group in groups(documents):
        container, params = group.pod.spec["containers"][0], group.spec["rayStartParams"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume.get("emptyDir", {}) for volume in group.pod.spec["volumes"]}
        shm = volumes.get(mounts.get("/dev/shm"), {})
        size, store = quantity(shm.get("sizeLimit", 0)), float(params.get("object-store-memory", 0))
        if shm.get("medium") != "Memory" or not 0 < store <= size:
            wrong.append(
                f"{group.where}: an object store of {store:.0f} bytes does not fit /dev/shm ({size:.0f} bytes)"
            )
        if size > 0.5 * quantity(container["resources"]["limits"]["memory"]):
            wrong.append(f"{group.where}: /dev/shm takes more than half of the memory")
        spill = params.get("object-spilling-directory")
        if spill not in mounts or volumes.get(mounts[spill], {}).get("medium") == "Memory":
            wrong.append(f"{group.where}: spills to {spill}, which is no volume on disk")
    return wrong


def clusters_are_guarded(documents: list[Document]) -> list[str]:
    """Token authentication, and autoscaler v2 with pods that do not restart in place: a new pod is a new Ray node."""
    wrong = []
    for where, spec in ray_clusters(documents):
        if spec.get("authOptions", {}).get("mode") != "token":
            wrong.append(f"{where}: whoever reaches it runs code: authOptions.mode must be token")
        if spec.get("enableInTreeAutoscaling") is not True or spec["autoscalerOptions"].get("version") != "v2":
            wrong.append(f"{where}: no autoscaler v2")
    for group in groups(documents):
        if group.pod.spec.get("restartPolicy") != "Never":
            wrong.append(f"{group.where}: restartPolicy must be Never")
    return wrong


def jobs_have_the_cluster(documents: list[Document]) -> list[str]:
    """A job's own cluster is the long-lived one, but for its label and the fault tolerance that a job cannot use.

    Red where an overlay names components/jobs too early: what comes after it shapes the RayCluster alone.
    """
    wrong = []
    clusters = {name_of(document): document["spec"] for document in of_kind(documents, "RayCluster")}
    long_lived = clusters.get("RayCluster/tagfleet", {})
    for document in of_kind(documents, "RayJob"):
        spec = document["spec"].get("rayClusterSpec", {})
        label = document["metadata"]["name"]
        for key in sorted((spec.keys() | long_lived.keys()) - {"gcsFaultToleranceOptions"}):
            if _relabelled(spec.get(key), label) != long_lived.get(key):
                wrong.append(f"{name_of(document)}: {key} is not that of RayCluster/tagfleet")
        if "gcsFaultToleranceOptions" in spec:
            wrong.append(f"{name_of(document)}: a driver dies with its head, whatever Redis remembers")
    return wrong


def _relabelled(value: object, label: str) -> object:
    if isinstance(value, dict):
        key = "tagfleet.io/cluster"
        return {
            name: "tagfleet" if name == key and inner == label else _relabelled(inner, label)
            for name, inner in value.items()
        }
    return [_relabelled(inner, label) for inner in value] if isinstance(value, list) else value


def _gpus(container: Document) -> float:
    return sum(quantity(value) for name, value in container["resources"]["limits"].items() if name.endswith("/gpu"))


def settings_load(documents: list[Document]) -> list[str]:
    """tagfleet.toml in the ConfigMap is read without complaint, and says of the cluster what is true.

    ray.address is `auto`: empty, a job would start a Ray of its own on the head; max_cpus and max_gpus are the groups'.
    """
    from tests.k8s.settings_file import settings_of

    wrong = []
    for document in of_kind(documents, "ConfigMap"):
        if "tagfleet.toml" not in document["data"]:
            continue
        try:
            settings = settings_of(document["data"]["tagfleet.toml"])
        except ConfigError as error:
            wrong.append(f"{name_of(document)}: {error.message}")
            continue
        if settings.ray.address != "auto":
            wrong.append(f"{name_of(document)}: ray.address is {settings.ray.address!r}, not auto")
        if not settings.root.startswith("s3://"):
            wrong.append(f"{name_of(document)}: root {settings.root} is not what all pods share")
        for where, spec in ray_clusters(documents):
            most = [
                sum(
                    group["maxReplicas"] * size(group["template"]["spec"]["containers"][0])
                    for group in spec["workerGroupSpecs"]
                )
                for size in (lambda container: quantity(container["resources"]["limits"]["cpu"]), _gpus)
            ]
            if most != [settings.ray.max_cpus, settings.ray.max_gpus]:
                wrong.append(
                    f"{name_of(document)}: ray.max_cpus, max_gpus: {settings.ray.max_cpus}, {settings.ray.max_gpus}; "
                    f"{where} grows to {most}"
                )
    if "ConfigMap/tagfleet-config" not in map(name_of, documents):
        wrong.append("no ConfigMap/tagfleet-config")
    return wrong

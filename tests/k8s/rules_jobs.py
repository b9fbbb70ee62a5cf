"""Rules about what runs for a while: RayJobs, and the CronJob of the night."""

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from tagfleet.config import ENV_PREFIX
from tests.k8s.documents import Document, name_of, of_kind, pods
from tests.k8s.settings_file import is_setting

LONGEST_NAME = 47
"""KubeRay adds 6 characters for the cluster, and 10 for its Services, which must not pass 63."""
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
NIGHT = "YYYYMMDD"
"""What `jobs.nightly` puts behind the CronJob's name."""
SUBMISSION_MODES = {"K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"}
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def rayjobs_are_templates(documents: list[Document]) -> list[str]:
    """Names that KubeRay takes, suspended, and with an end: a deadline, a shutdown, a time to live."""
    wrong = []
    for job in of_kind(documents, "RayJob"):
        name, spec, where = job["metadata"]["name"], job["spec"], name_of(job)
        if len(name) > LONGEST_NAME or not DNS_LABEL.fullmatch(name):
            wrong.append(f"{where}: the name must be a DNS label of at most {LONGEST_NAME} characters")
        if spec.get("suspend") is not True:
            wrong.append(f"{where}: would start when it is applied")
        if spec.get("shutdownAfterJobFinishes") is not True:
            wrong.append(f"{where}: its cluster would stay; KubeRay refuses to suspend it")
        for key in ("ttlSecondsAfterFinished", "activeDeadlineSeconds", "preRunningDeadlineSeconds"):
            if not isinstance(spec.get(key), int) or spec[key] <= 0:
                wrong.append(f"{where}: {key} must be above 0, is {spec.get(key)}")
        if "backoffLimit" not in spec:
            wrong.append(f"{where}: no backoffLimit: it is tried once only")
        if "clusterSelector" in spec or "rayClusterSpec" not in spec:
            wrong.append(f"{where}: has no cluster of its own")
    return wrong


def submission_modes_are_known(documents: list[Document]) -> list[str]:
    """Written as KubeRay writes them, and with a submitter that the namespace lets run."""
    wrong = []
    for job in of_kind(documents, "RayJob"):
        mode = job["spec"].get("submissionMode")
        if mode not in SUBMISSION_MODES:
            wrong.append(f"{name_of(job)}: submissionMode {mode!r} would wait for ever")
        if (mode == "K8sJobMode") is not ("submitterPodTemplate" in job["spec"]):
            wrong.append(f"{name_of(job)}: {mode} and submitterPodTemplate do not go together")
    return wrong


def environments_name_settings(documents: list[Document]) -> list[str]:
    """runtimeEnvYAML is a runtime environment, and every TAGFLEET_ variable anywhere is a setting."""
    given = [
        (f"{pod.where}: {container['name']}", env["name"])
        for pod in pods(documents)
        for container in pod.containers
        for env in container.get("env", ())
    ]
    wrong = []
    for job in of_kind(documents, "RayJob"):
        where = f"{name_of(job)}: runtimeEnvYAML"
        try:
            environment = yaml.safe_load(job["spec"].get("runtimeEnvYAML", "{}"))
        except yaml.YAMLError as error:
            wrong.append(f"{where} is no YAML: {error}")
            continue
        if not isinstance(environment, dict) or set(environment) - {"env_vars"}:
            wrong.append(f"{where} has more than env_vars: packages and code are the image's")
            continue
        variables = environment.get("env_vars", {})
        wrong += [
            f"{where}: {name} is {value!r}, not text" for name, value in variables.items() if type(value) is not str
        ]
        given += [(where, name) for name in variables]
    wrong += [
        f"{where}: {name} is no setting"
        for where, name in given
        if name.startswith(ENV_PREFIX) and not is_setting(name)
    ]
    return wrong


def the_night_is_sound(documents: list[Document]) -> list[str]:
    """Schedule and zone exist, one night at a time, a name that fits, and time for all tries of the RayJob."""
    wrong = []
    templates = {job["metadata"]["name"]: job["spec"] for job in of_kind(documents, "RayJob")}
    for cron in of_kind(documents, "CronJob"):
        spec, where = cron["spec"], name_of(cron)
        job = spec["jobTemplate"]["spec"]
        if not _is_schedule(spec["schedule"]):
            wrong.append(f"{where}: {spec['schedule']!r} is no schedule")
        try:
            ZoneInfo(spec.get("timeZone", ""))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            wrong.append(f"{where}: {spec.get('timeZone')!r} is no time zone")
        if spec.get("concurrencyPolicy") != "Forbid":
            wrong.append(f"{where}: two nights at once: only one could publish")
        for key in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
            if not spec.get(key):
                wrong.append(f"{where}: no {key}")
        if "backoffLimit" not in job:
            wrong.append(f"{where}: no backoffLimit")
        if len(f"{cron['metadata']['name']}-{NIGHT}") > LONGEST_NAME:
            wrong.append(f"{where}: {cron['metadata']['name']}-{NIGHT} is longer than {LONGEST_NAME} characters")
        words = job["template"]["spec"]["containers"][0]["args"]
        template = templates.get(words[words.index("--template") + 1], {}) if "--template" in words else {}
        tries = template.get("activeDeadlineSeconds", 0) * (template.get("backoffLimit", 0) + 1)
        if not tries < job.get("activeDeadlineSeconds", 0) < 86400:
            wrong.append(
                f"{where}: activeDeadlineSeconds must be above {tries}, all tries of the RayJob, and below a day"
            )
    return wrong


def _is_schedule(text: str) -> bool:
    """Five fields of cron, each `*`, a number, a range, a step or a list of these.

    >>> _is_schedule("0 3 * * *"), _is_schedule("*/15 1-5 * * 1,3"), _is_schedule("0 25 * * *"), _is_schedule("3 * * *")
    (True, True, False, False)
    """
    fields = text.split()
    return len(fields) == 5 and all(map(_is_field, fields, _RANGES))


def _is_field(text: str, allowed: tuple[int, int]) -> bool:
    low, high = allowed
    for part in text.split(","):
        found = re.fullmatch(r"(\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
        if not found or found[4] == "0":
            return False
        if found[2] and not low <= int(found[2]) <= int(found[3] or found[2]) <= high:
            return False
    return True

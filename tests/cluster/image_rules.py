"""What hadolint does not ask of the image: each rule reads the files' text and says in a sentence what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import NamedTuple

OCI_LABELS = ("title", "description", "version", "revision", "licenses")
SECRET = re.compile(r"token|secret|passw|credential|api_?key|access_?key|private_?key", re.IGNORECASE)
WHOLE_TAG = re.compile(r"[\w./-]+:\d+\.\d+\.\d+-[\w.-]+(@sha256:[0-9a-f]{64})?")
WANTED = ("pyproject.toml", "README.md", "cluster/install.sh", "tagfleet/labels/default_taxonomy.toml", "jobs/train.py")
UNWANTED = (
    *(".git/config", ".venv/bin/python", "demo/tagfleet.toml", "tests/conftest.py", "data/a.wav", "shared/data/a.wav"),
    *(".env", "cluster/.env", "tagfleet/__pycache__/a.pyc", "jobs/__pycache__/a.pyc", ".hypothesis/a", "k8s/a.yaml"),
)


class Instruction(NamedTuple):
    """One instruction of a Dockerfile, continued lines joined."""

    name: str
    words: str


def instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [Instruction(name.upper(), words) for name, _, words in (line.partition(" ") for line in whole) if name]


def last_stage(text: str) -> list[Instruction]:
    found = instructions(text)
    return found[max(n for n, each in enumerate(found) if each.name == "FROM") :]


def dockerfile_problems(text: str) -> Iterator[str]:
    """Everything that is wrong with a Dockerfile."""
    yield from base_problems(text)
    final = last_stage(text)
    users = [each.words for each in final if each.name == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        yield "the last USER is no number:number above 0 (Kubernetes' runAsNonRoot reads numbers only)"
    if not any(each.name == "HEALTHCHECK" and each.words != "NONE" for each in final):
        yield "no HEALTHCHECK in the last stage"
    labels = " ".join(each.words for each in final if each.name == "LABEL")
    for label in OCI_LABELS:
        if not re.search(rf'org\.opencontainers\.image\.{label}="[^"]+"', labels):
            yield f"no label org.opencontainers.image.{label}"
    for each in instructions(text):
        if each.name == "ADD":
            yield f"ADD {each.words}: COPY what is in the context, and let install.sh fetch by hash"
        if each.name in ("ARG", "ENV"):
            for name in re.findall(r"([A-Za-z_]\w*)(?==|\s|$)", re.sub(r'="[^"]*"|=\S+', "=", each.words)):
                if SECRET.search(name):
                    yield f"{each.name} {name} looks like a secret, and stays in the image's history"
    for each in final:
        if each.name == "COPY" and "--from=" in each.words and "--chown=0:0" not in each.words:
            yield f"COPY {each.words}: say --chown=0:0, so that the container's user cannot change the code"
        if each.name in ("ENTRYPOINT", "CMD") and not each.words.startswith("["):
            yield f"{each.name} {each.words}: a shell would stand between it and SIGTERM"
    if not any(each.name == "ENTRYPOINT" and "tini" in each.words for each in final):
        yield "ENTRYPOINT without tini: nobody reaps what Ray leaves behind"


def base_problems(text: str) -> Iterator[str]:
    """Every FROM names an earlier stage, or an image of a whole version."""
    arguments, stages = {}, set()
    for each in instructions(text):
        if each.name == "ARG":
            name, _, default = each.words.partition("=")
            arguments[name] = default
        if each.name == "FROM":
            image, _, stage = each.words.partition(" AS ")
            image = re.sub(r"\$\{(\w+)\}", lambda found: arguments.get(found[1], ""), image)
            if image not in stages and not WHOLE_TAG.fullmatch(image):
                yield f"FROM {image or each.words}: name a whole version (3.11.15-slim-bookworm), best with its digest"
            stages.add(stage)


def script_problems(script: str, lock: str) -> Iterator[str]:
    """What is wrong with the install steps."""
    if "set -euo pipefail" not in script.splitlines():
        yield "install.sh goes on after an error"
    for line in script.replace("\\\n", " ").splitlines():
        words = line.split()
        if words[:2] == ["apt-get", "install"]:
            if "--no-install-recommends" not in words:
                yield "apt-get install without --no-install-recommends"
            for word in words[2:]:
                if not word.startswith("-") and "=" not in word:
                    yield f"apt-get install {word}: name its version"
                if re.search(r"gcc|g\+\+|build-essential|-dev\b", word):
                    yield f"apt-get install {word}: no compilers in the image"
        if re.search(r"\bpip\W+install\b", line) and "wanted[@]" not in line:
            if "--no-deps" not in words:
                yield f"{line.strip()}: it may install what the lock does not know"
            elif "--require-hashes" not in words and not line.endswith('"$tools"/tagfleet-*.whl'):
                yield f"{line.strip()}: no hash is asked for"
    if not re.search(r"wanted=\([^)]*--require-hashes[^)]*--require-build-hashes", script):
        yield "the packages are installed without --require-hashes and --require-build-hashes"
    if "rm -rf /var/lib/apt/lists/*" not in script:
        yield "apt's lists stay in the image"
    names = re.search(r"^NOT_ON_CPU=\(([^)]*)\)", script, re.MULTILINE)
    for name in names[1].split() if names else ():
        if f"\n{name}==" not in lock:
            yield f"NOT_ON_CPU names {name}, which the lock no longer has"


def sent(ignore: str, path: str) -> bool:
    """Whether the builder is sent `path`: the last line that matches it or a folder above it decides."""
    found = True
    for line in ignore.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        keep, pattern = pattern.startswith("!"), pattern.lstrip("!").strip("/")
        parts = path.split("/")
        folders = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        if any(_matches(folder, pattern) for folder in folders):
            found = keep
    return found


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch(path.rpartition("/")[2], pattern[3:])
    return path.count("/") == pattern.count("/") and fnmatch(path, pattern)


def context_problems(ignore: str) -> Iterator[str]:
    """What the builder must not, or must, be sent."""
    for path in UNWANTED:
        if sent(ignore, path):
            yield f".dockerignore lets {path} go to the builder"
    for path in WANTED:
        if not sent(ignore, path):
            yield f".dockerignore keeps {path} from the builder"

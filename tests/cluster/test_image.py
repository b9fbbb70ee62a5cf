"""The image's files obey the linters and our own rules, and each of those notices a mistake that is planted for it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tagfleet
from tests.cluster.image_rules import context_problems, dockerfile_problems, script_problems

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "cluster/Dockerfile").read_text("utf-8")
SCRIPT = (ROOT / "cluster/install.sh").read_text("utf-8")
LOCK = (ROOT / "cluster/constraints.txt").read_text("utf-8")
IGNORE = (ROOT / ".dockerignore").read_text("utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def planted(text, old, new):
    assert old in text, f"the mistake cannot be planted: {old!r} has gone"
    return text.replace(old, new)


def lint(tool, text, *options):
    """Exit code and findings of a linter, this environment's if it has it."""
    program = shutil.which(tool, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    assert program, f"{tool} is not installed: it comes with the dev extra"
    run = subprocess.run([program, *options, "-"], input=text, capture_output=True, text=True, check=False)
    return run.returncode, run.stdout + run.stderr


def make(*words, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "-s", "image", *words], cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=False
    )


def test_the_rules_find_nothing():
    assert not list(dockerfile_problems(DOCKERFILE))
    assert not list(script_problems(SCRIPT, LOCK))
    assert not list(context_problems(IGNORE))


def test_hadolint_finds_nothing():
    assert lint("hadolint", DOCKERFILE, "--failure-threshold", "style") == (0, "")


@pytest.mark.parametrize("script", sorted((ROOT / "cluster").glob("*.sh")), ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    assert lint("shellcheck", script.read_text("utf-8"), "--severity=style") == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("RUN bash /tmp", "RUN apt-get update && apt-get install curl && bash /tmp", "DL3008"),
        ("RUN bash /tmp", "RUN pip install ray && bash /tmp", "DL3013"),
        ("RUN bash /tmp", "RUN cd /opt && bash /tmp", "DL3003"),
        ("RUN bash /tmp", "RUN sudo bash /tmp", "DL3004"),
        ("RUN bash /tmp", "RUN test $HOME = /root && bash /tmp", "SC2086"),
        ("WORKDIR /opt/tagfleet", "WORKDIR opt/tagfleet", "DL3000"),
        ("USER 1000:1000", "USER root", "DL3002"),
        ("FROM ${PYTHON_IMAGE} AS build", "FROM python:latest AS build", "DL3007"),
        ('CMD ["tagfleet", "--help"]', "CMD tagfleet --help", "DL3025"),
        ("--from=build", "--from=biuld", "DL3022"),
    ],
)
def test_hadolint_notices(old, new, rule):
    code, findings = lint("hadolint", planted(DOCKERFILE, old, new))
    assert code == 1
    assert rule in findings


def test_shellcheck_notices():
    code, findings = lint("shellcheck", planted(SCRIPT, 'mkdir -p "$PREFIX"', "mkdir -p $PREFIX"))
    assert code == 1
    assert "SC2086" in findings


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("python:3.11.15-slim-bookworm\n", "python:latest\n", "FROM python:latest"),
        ("python:3.11.15-slim-bookworm\n", "python\n", "FROM python"),
        ("python:3.11.15-slim-bookworm\n", "python:3.11-slim\n", "FROM python:3.11-slim"),
        ("USER 1000:1000\n", "", "USER"),
        ("USER 1000:1000", "USER tagfleet", "USER"),
        ("USER 1000:1000", "USER 0:0", "USER"),
        ("COPY cluster cluster", "ADD https://example.org/a.tar.gz /src", "ADD https"),
        ("HEALTHCHECK", "# HEALTHCHECK", "HEALTHCHECK"),
        ("org.opencontainers.image.revision=", "revision=", "image.revision"),
        ('"${VERSION}"', '""', "image.version"),
        ("ARG VARIANT=cpu", "ARG VARIANT=cpu\nARG RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN"),
        ("LANG=C.UTF-8", "AWS_SECRET_ACCESS_KEY=x", "AWS_SECRET_ACCESS_KEY"),
        ("--chown=0:0 /opt/tagfleet/jobs", "/opt/tagfleet/jobs", "--chown"),
        ("--chown=0:0", "--chown=1000:1000", "--chown"),
        ('ENTRYPOINT ["tini", "--"]', 'ENTRYPOINT ["bash", "-c"]', "tini"),
        ('CMD ["tagfleet", "--help"]', "CMD tagfleet --help", "SIGTERM"),
    ],
)
def test_a_mistake_in_the_dockerfile_is_noticed(old, new, complaint):
    assert any(complaint in problem for problem in dockerfile_problems(planted(DOCKERFILE, old, new)))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("set -euo pipefail", "set -e", "goes on after an error"),
        ("--no-install-recommends ", "", "--no-install-recommends"),
        ("'wget=1.21.*'", "wget", "name its version"),
        ("'wget=1.21.*'", "gcc=4:12.2.*", "no compilers"),
        ("rm -rf /var/lib/apt/lists/*", "true", "apt's lists"),
        ('--constraint "$LOCK" --require-hashes', '--constraint "$LOCK"', "--require-hashes"),
        ("--require-build-hashes", "", "--require-build-hashes"),
        ("--no-deps --require-hashes -r", "--no-deps -r", "no hash is asked for"),
        ("--no-deps --require-hashes -r", "--require-hashes -r", "the lock does not know"),
        ('--no-deps "$tools"', '"$tools"', "the lock does not know"),
        ("NOT_ON_CPU=(triton", "NOT_ON_CPU=(tritium", "tritium"),
    ],
)
def test_a_mistake_in_the_script_is_noticed(old, new, complaint):
    assert any(complaint in problem for problem in script_problems(planted(SCRIPT, old, new), LOCK))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("*\n!pyproject.toml", "!pyproject.toml", "lets data/a.wav"),
        ("*\n!pyproject.toml", ".git\n.venv\n!pyproject.toml", "lets tests/conftest.py"),
        ("!cluster\n", "!cluster\n!demo\n", "lets demo/tagfleet.toml"),
        ("**/.*\n", "", "lets cluster/.env"),
        ("**/__pycache__\n", "", "lets jobs/__pycache__"),
        ("!jobs\n", "", "keeps jobs/train.py"),
    ],
)
def test_a_mistake_in_dockerignore_is_noticed(old, new, complaint):
    assert any(complaint in problem for problem in context_problems(planted(IGNORE, old, new)))


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_the_tag_tells_tagfleet_ray_and_variant(variant):
    """`ENGINE=echo` prints what would be built."""
    ray = re.search(r"^ray==(\S+)", LOCK, re.MULTILINE)[1]
    built = make("ENGINE=echo", f"VARIANT={variant}").stdout
    assert f"--tag tagfleet:{tagfleet.__version__}-ray{ray}-{variant} " in built
    assert f"--build-arg VARIANT={variant} --build-arg VERSION={tagfleet.__version__} " in built
    assert PYPROJECT["project"]["version"] == tagfleet.__version__


def test_without_an_engine_one_line_says_so():
    run = make("ENGINE=no-such-engine")
    assert run.returncode != 0
    said = [line for line in run.stderr.splitlines() if not line.startswith("make:")]
    assert said == ["no-such-engine does not answer: start it, or name an engine that runs (make image ENGINE=podman)"]

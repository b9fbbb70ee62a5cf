"""Fixtures that several areas share: a real S3 server, storage roots on it and in a folder, one local Ray."""

import tempfile
import uuid
from functools import cache
from pathlib import Path

import boto3
import hypothesis
import pytest

from tests import s3server

# The same examples every time, and no judgement of time: CI shares its machine.
hypothesis.settings.register_profile("tagfleet", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tagfleet")

HARD_NAME = "曲 一覧 #1?50%&a+b=c"
"""Part of every root: Japanese, spaces, and what urls take for their own."""


_ROOT = Path(__file__).parents[1]
_ON_RAY = ("tests/e2e/", "tests/jobs/", "tests/chaos/test_chaos.py")


@cache
def _group(file):
    """What a file's tests are run with: all that use Ray in one process, one after the other."""
    return "ray" if file.startswith(_ON_RAY) or "ray_local" in (_ROOT / file).read_text(encoding="utf-8") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """For `-n 2`: the tests on Ray in one process, file by file the rest in the other."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return _group(nodeid.partition("::")[0])

    return ByGroup(config, log)


def pytest_report_header():
    return f"S3 server: {s3server.kind()}"


@pytest.fixture(scope="session")
def s3():
    """The S3 server, and the environment that leads every client here and in child processes to it."""
    with s3server.running() as server, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def bucket(s3):
    """The name of a new, empty bucket."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture(params=["local", "s3"])
def any_root(request):
    """A storage root that does not exist yet: a folder, then a prefix of a bucket."""
    if request.param == "local":
        return str(request.getfixturevalue("tmp_path") / HARD_NAME)
    return f"s3://{request.getfixturevalue('bucket')}/{HARD_NAME}"


@pytest.fixture(scope="session")
def ray_local(s3):
    """The one local Ray of the test session, with two CPUs and a GPU in name; its workers find the S3 server."""
    from tagfleet.fleet.cluster import ray_cluster
    from tagfleet.fleet.resources import RayConfig

    # Short: the sockets' names, which Ray puts below, must not pass 107 characters.
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 1}')
        with ray_cluster(RayConfig(n_cpus=2)):
            yield

import pytest

from tests import s3server
from tests.store import faulty


@pytest.fixture(scope="session")
def _running():
    with faulty.running() as server:
        yield server


@pytest.fixture
def faulty_server(_running, monkeypatch):
    """An S3 server as new: empty, without faults."""
    # The first credentials of a process stay: they must be right for the real server too.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3server.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3server.SECRET_KEY)
    _running.reset()
    return _running

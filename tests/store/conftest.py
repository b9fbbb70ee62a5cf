import pytest

from tests.store import faulty


@pytest.fixture(scope="session")
def _running():
    with faulty.running() as server:
        yield server


@pytest.fixture
def faulty_server(_running, monkeypatch):
    """An S3 server as new: empty, without faults."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    _running.reset()
    return _running

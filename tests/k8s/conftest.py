"""The rendered overlays, once per session; `everything` is prod-gpu with the optional components."""

import pytest

from tests.k8s.rendering import OVERLAYS, copied, rendered


@pytest.fixture(scope="session")
def overlays(tmp_path_factory):
    """Name of the overlay -> its documents. Not to be changed: tests take copies."""
    k8s = copied(tmp_path_factory.mktemp("rendered"))
    return {name: rendered(k8s / "overlays" / name) for name in (*OVERLAYS, "everything")}


@pytest.fixture
def k8s_copy(tmp_path):
    """A copy of k8s/ to spoil."""
    return copied(tmp_path)

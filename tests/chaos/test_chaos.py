"""A telling fault at a small size; `make chaos` has them all, at 400 tracks and with five seeds."""

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.harness import try_fault, world

TOLD = ("worker killed: read",)


@pytest.fixture(scope="module")
def small_world(s3, ray_local):
    with world(s3, 40) as made:
        yield made


@pytest.mark.timeout(900)  # a Ray or two, each a process of its own, on machines that do other things as well
@pytest.mark.parametrize("name", TOLD)
def test_nothing_is_lost_doubled_or_half_seen(small_world, name):
    (fault,) = (fault for fault in FAULTS if fault.name == name)
    result = try_fault(small_world, fault, seed=1)
    assert result.struck, result
    assert result.survived, result

"""A structure search in a process of its own, for a test to kill: python -m tests.fleet.tune_child ROOT RUN."""

import sys

from tagfleet.fleet.resources import RayConfig
from tagfleet.store.objects import Storage
from tests.fleet.test_tune import search_for

if __name__ == "__main__":
    search_for(Storage(sys.argv[1]), sys.argv[2], ray_config=RayConfig(n_cpus=2))

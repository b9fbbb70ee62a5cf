"""A training run in a process of its own, for a test to kill: python -m tests.fleet.train_child ROOT RUN."""

import sys

from tagfleet.fleet.resources import RayConfig
from tagfleet.store.objects import Storage
from tests.fleet.test_train import run_training

if __name__ == "__main__":
    run_training(Storage(sys.argv[1]), sys.argv[2], ray_config=RayConfig(n_cpus=2))

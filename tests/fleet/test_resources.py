import pytest
from pydantic import ValidationError

from tagfleet.errors import ConfigError
from tagfleet.fleet.resources import RayConfig, Resources, RetagConfig, refuse_unfit, retag_demand, total

TWO = [Resources(cpus=1, memory_mb=4000), Resources(cpus=1, memory_mb=4000)]


def test_stages_that_would_wait_for_each_other_for_ever_are_refused():
    refuse_unfit("retag", retag_demand(RetagConfig()), TWO, None)
    refuse_unfit("retag", retag_demand(RetagConfig(workers=2)), TWO, None)
    with pytest.raises(ConfigError, match=r"retag needs 3 CPUs \(there: 2\) and 1 GPUs \(there: 0\) at once"):
        refuse_unfit("retag", retag_demand(RetagConfig(workers=2, gpu_workers=1)), TWO, None)


def test_a_process_that_no_machine_can_hold_is_refused_though_all_together_could():
    with pytest.raises(ConfigError, match=r"one process of train needs 2 CPUs \(there: 1\), more than any machine"):
        refuse_unfit("train", [Resources(cpus=2)], TWO, None)


def test_gpus_and_memory_that_are_not_there_are_named():
    config = RetagConfig(gpu_workers=2, gpus_per_worker=0.5, worker_memory_mb=9000)
    with pytest.raises(ConfigError, match=r"1 GPUs \(there: 0\) and 9000 MiB of memory \(there: 8000\)"):
        refuse_unfit("retag", retag_demand(config), TWO, None)


def test_a_cluster_that_may_grow_counts_as_grown():
    limit = RayConfig(max_cpus=64, max_gpus=2).limit
    refuse_unfit("retag", retag_demand(RetagConfig(gpu_workers=2)), [], limit)
    with pytest.raises(ConfigError, match=r"3 GPUs \(there: 2\) at once, .*as far as it may grow"):
        refuse_unfit("retag", retag_demand(RetagConfig(gpu_workers=3)), TWO, limit)


def test_one_and_a_half_gpus_are_none():
    with pytest.raises(ValidationError, match=r"cannot have 1\.5 GPUs"):
        RetagConfig(gpus_per_worker=1.5)
    assert total([Resources(gpus=0.25).times(4)]).gpus == 1

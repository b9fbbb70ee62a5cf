"""The connection to Ray: an existing cluster, or one inside this process that ends with it."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import pyarrow as pa

from tagfleet.errors import JobError
from tagfleet.fleet.ray_health import Look, has_room, head_answers, watched
from tagfleet.fleet.resources import RayConfig, Resources
from tagfleet.store.s3 import AWS_SDK_SETTINGS  # in the environment before Ray's processes are started

_OF_STAGES = "UserCodeException"
"""Ray Data's, around what a stage raised."""
_RAISED = re.compile(r"(?:\w+\.)*[A-Z]\w*(?:: |$)")
"""A traceback's line that names an exception."""
_OURS = re.compile(r"^tagfleet\.errors\.\w+: ")


@contextmanager
def ray_cluster(config: RayConfig) -> Iterator[None]:
    """A Ray to run stages on; one that was there before stays, one that was started here is stopped.

    Raises JobError when the address does not answer, and when Ray is lost while it is used (`ray_health.py`).
    """
    # Ray reports usage to its makers unless told otherwise; a library of other people's music does not.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        quieten()
        yield
        return
    terminated = signal.getsignal(signal.SIGTERM)
    # It tells of the token that protects a local cluster, at every start.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    try:
        if config.address:
            ray.init(
                address=config.address,
                runtime_env={"env_vars": AWS_SDK_SETTINGS},
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        else:
            # Ray Data's actor pools make Ray's core print an error about itself at every start (ray issue 53727).
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            ray.init(
                address="local",
                num_cpus=config.n_cpus or usable_cpus(),
                object_store_memory=config.object_store_mb << 20,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise JobError(
            f"no Ray cluster answers at {config.address or 'this machine'}: {error}",
            hint="check ray.address, or leave it empty to run on this machine",
        ) from error
    # Ray puts its own in that place, which ends the process without a word of what it was about.
    if callable(terminated) and current_thread() is main_thread():
        signal.signal(signal.SIGTERM, terminated)
    try:
        quieten()
        with watched(_looks(config)):
            yield
    finally:
        ray.shutdown()


def _looks(config: RayConfig) -> list[Look]:
    import ray

    looks = [head_answers(ray.get_runtime_context().gcs_address)]
    node: Any = ray._private.worker._global_node
    if node is not None and not config.address:
        looks.append(has_room(Path(node.get_session_dir_path())))
    return looks


@contextmanager
def ray_job(config: RayConfig) -> Iterator[None]:
    """`ray_cluster` for one job; what Ray prints meanwhile goes to stderr, because stdout is for data."""
    with ray_cluster(config), redirect_stdout(sys.stderr):
        yield


@dataclass(frozen=True)
class _Calling:
    call: Callable[[Any], Any]
    arguments: Sequence[Any]

    def __call__(self, asked: pa.Table) -> pa.Table:
        """One JSON answer per place in `arguments`."""
        answers = [json.dumps(self.call(self.arguments[n])) for n in asked["n"].to_pylist()]
        return pa.table({"answer": pa.array(answers, pa.string())})


def on_workers(call: Callable[[Any], Any], arguments: Sequence[Any], *, num_cpus: float = 1.0) -> Iterator[Any]:
    """What `call` answers to each argument, in any order, from tasks of the connected Ray; answers travel as JSON.

    A task that dies is called again: `call` must leave the same behind. Raises JobError when one fails.
    """
    import ray.data

    asked = [pa.table({"n": pa.array([n], pa.int64())}) for n in range(len(arguments))]
    if not asked:
        return
    answered = ray.data.from_arrow(asked).map_batches(
        _Calling(call, arguments), batch_size=None, batch_format="pyarrow", num_cpus=num_cpus
    )
    try:
        table: pa.Table
        for table in answered.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from map(json.loads, table["answer"].to_pylist())
    except ray.exceptions.RayError as error:
        raise JobError(f"a task failed: {root_cause(error)}", hint="start again; what is finished is kept") from error


def quieten() -> None:
    """Keep Ray's own progress bars and plans off the screen: tagfleet shows its own progress."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Ray 2.60 warns of its own future default; it changes nothing here.
    warnings.filterwarnings("ignore", message=".*RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO.*", category=FutureWarning)


def root_cause(error: BaseException) -> str:
    """In a line what a stage raised: Ray wraps it several times."""
    # Ray Data raises what happened "from" an empty exception of its own: causes without text tell nothing.
    told = []
    while (inner := getattr(error, "cause", None) or error.__cause__) is not None and str(inner).strip():
        told.append(str(error))
        error = inner
    if type(error).__name__ == _OF_STAGES and told:
        # On the way between processes it lost its cause; what it wrapped is in the traceback that came along.
        raised = [line for line in told[-1].splitlines() if _RAISED.match(line) and _OF_STAGES not in line]
        if raised:
            return _OURS.sub("", raised[-1])
    return _OURS.sub("", (str(error).strip() or type(error).__name__).splitlines()[-1])


def cluster_nodes() -> list[Resources]:
    """The machines of the connected Ray that are alive."""
    import ray

    nodes = (node["Resources"] for node in ray.nodes() if node["Alive"])  # type: ignore[no-untyped-call]  # Ray's
    return [
        Resources(
            cpus=node.get("CPU", 0.0), gpus=node.get("GPU", 0.0), memory_mb=round(node.get("memory", 0) / (1 << 20))
        )
        for node in nodes
    ]


def usable_cpus() -> int:
    """CPUs that this process may use: by its affinity and its container's quota. At least 2, on which all stages fit:
    Ray counts CPUs, it does not tie anything to them.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()  # "max 100000" without a quota
        allowed = min(allowed, math.ceil(int(quota) / int(period)))
    return max(2, allowed)

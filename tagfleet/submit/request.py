"""What is sent to a cluster: one command line, with every setting that somebody made, and nothing secret."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagfleet import __version__
from tagfleet.config import leaves
from tagfleet.fleet.resources import Resources, retag_demand
from tagfleet.settings import Loaded, Settings
from tagfleet.submit.cluster import ATTEMPT, KIND, ROOT, RUN_ID, SUBMISSION

STOP_WAIT_S = 30
"""From SIGTERM to SIGKILL when a job is stopped; Ray's own 3 s are less than a checkpoint takes."""
LOCAL = ("root", "tz", "lang", "labels.", "ray.")
"""Settings of the laptop, which mean nothing on the cluster; the root is sent as it was resolved."""
DERIVED = "GPU"
"""The layer that follows from others, there as here."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One submission."""

    kind: str
    submission_id: str
    run_id: str
    words: tuple[str, ...]
    settings: Settings

    @property
    def entrypoint(self) -> str:
        """The command line that the cluster runs."""
        return shlex.join(["python", "-m", f"jobs.{self.kind}", "--run-id", self.run_id, *self.words])

    def metadata(self, attempt: int) -> dict[str, str]:
        """What the cluster keeps with the job; everybody who reaches it can read that."""
        return {
            "tagfleet": __version__,
            KIND: self.kind,
            SUBMISSION: self.submission_id,
            ATTEMPT: str(attempt),
            RUN_ID: self.run_id,
            ROOT: root_of(self.settings),
        }

    def runtime_env(self, package: Path | None) -> dict[str, Any]:
        """Ray's runtime environment. No credentials: the cluster has its own."""
        env: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}}
        return env | ({"working_dir": str(package)} if package else {})

    @property
    def demand(self) -> list[Resources]:
        """What the job must have side by side, per process."""
        workers = self.settings.workers
        if self.kind == "retag":
            return retag_demand(self.settings.retag)
        if self.kind == "train":
            one = Resources(cpus=workers.cpus_per_worker, gpus=float(workers.use_gpu))
            return [one] * workers.n_workers
        return [Resources(cpus=max(workers.decode_cpus, workers.cpus_per_worker), gpus=float(workers.use_gpu))]


def root_of(settings: Settings) -> str:
    """The storage root, as the cluster is told of it."""
    return settings.root if "://" in settings.root else str(Path(settings.root).absolute())


def setting_words(loaded: Loaded, root: str, skip: Sequence[str] = ()) -> list[str]:
    """`-s` words for every setting that a file, a profile, the environment or an option made.

    skip: names of layers that travel otherwise (a packaged recipe goes by its name).
    """
    values = dict(leaves(loaded.settings))
    words = ["-s", f"root={json.dumps(root, ensure_ascii=False)}", "-s", 'ray.address="auto"']
    for name in ("ray.max_cpus", "ray.max_gpus"):
        if name in loaded.sources:
            words += ["-s", f"{name}={json.dumps(values[name])}"]
    for name, source in sorted(loaded.sources.items()):
        value = values.get(name)
        if name.startswith(LOCAL) or source in (*skip, DERIVED) or value is None:
            continue
        words += ["-s", f"{name}={json.dumps(value, ensure_ascii=False)}"]
    return words

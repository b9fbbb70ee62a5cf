"""`tagfleet doctor`: what is installed, reachable, writable; what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from typing import TYPE_CHECKING

import typer

from tagfleet import __version__
from tagfleet.cli.output import Json, emit_json, emit_table, say
from tagfleet.cli.session import Session
from tagfleet.cli.submit import Address, ProfileName
from tagfleet.errors import StorageError, TagfleetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tagfleet.fleet.doctor import Check

PACKAGES = ("ray", "torch", "torchaudio", "av", "pyarrow", "deltalake", "fugashi", "unidic-lite")
EXTRAS = {"optuna": "tune", "mlflow-skinny": "mlflow", "kubernetes": "k8s"}


def doctor(context: typer.Context, address: Address = None, profile: ProfileName = None, as_json: Json = False) -> None:
    """Look at this machine and the storage root; with --address or --profile at a cluster too, from inside.

    Exits with 1 when something does not work. Writes nothing that stays.
    """
    from tagfleet.submit.profiles import ADDRESS_VARIABLE, find_profile

    session: Session = context.obj
    checks = list(_machine())
    if address or profile or os.environ.get(ADDRESS_VARIABLE):
        found = find_profile(profile, address)
        session = session.with_profile(found.layer)
        checks += _root(session)
        checks += _cluster(session, found.address)
    else:
        checks += _root(session)
    if as_json:
        emit_json([check.model_dump() for check in checks])
    else:
        rows = [("ok" if check.ok else "FAILS", check.name, check.told, check.hint or "") for check in checks]
        emit_table(("", "what", "found", "what to do"), rows)
    if failed := [check for check in checks if not check.ok]:
        say(f"\n{len(failed)} of {len(checks)} do not work.")
        raise typer.Exit(1)


def _machine() -> Iterator[Check]:
    from tagfleet.fleet.doctor import Check

    yield Check(name="tagfleet", ok=True, told=f"{__version__}, Python {platform.python_version()}")
    versions = {name: _version(name) for name in (*PACKAGES, *EXTRAS)}
    missing = [name for name in PACKAGES if versions[name] is None]
    told = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    hint = f"install them: pip install {' '.join(missing)}" if missing else None
    yield Check(name="packages", ok=not missing, told=told, hint=hint)
    for name, extra in EXTRAS.items():
        if versions[name] is None:
            yield Check(name=f"extra {extra}", ok=True, told="not installed", hint=f"pip install 'tagfleet[{extra}]'")
    free = shutil.disk_usage(os.environ.get("RAY_TMPDIR", "/tmp")).free >> 30
    yield Check(
        name="disk for Ray",
        ok=free >= 2,
        told=f"{free} GiB free",
        hint=None if free >= 2 else "RAY_TMPDIR names another folder",
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _root(session: Session) -> list[Check]:
    from tagfleet.fleet.doctor import Check, check_root

    try:
        return list(check_root(session.root))
    except TagfleetError as error:
        name = "storage root" if isinstance(error, StorageError) else "settings"
        return [Check(name=name, ok=False, told=error.message, hint=error.hint)]


def _cluster(session: Session, address: str) -> list[Check]:
    from tagfleet.fleet.doctor import Check
    from tagfleet.submit.checks import ask
    from tagfleet.submit.cluster import Cluster
    from tagfleet.submit.request import root_of, setting_words

    try:
        cluster = Cluster(address)
        say(f"Asking the cluster at {address} …")
        asked = ask(cluster, setting_words(session.loaded, root_of(session.settings)))
    except TagfleetError as error:
        return [Check(name="cluster", ok=False, told=error.message, hint=error.hint)]
    sent = None if asked.same_tagfleet else "submit sends the code of this checkout; or use an image of this version"
    versions = f"Ray {asked.ray}, Python {asked.python}, tagfleet {asked.tagfleet or 'none'}"
    there = ", ".join(f"{m.cpus:g} CPUs {m.gpus:g} GPUs {m.memory_mb:g} MiB" for m in asked.inside.machines)
    return [
        Check(name="cluster: versions", ok=True, told=versions, hint=sent),
        Check(name="cluster: machines", ok=True, told=there),
        *(check.model_copy(update={"name": f"cluster: {check.name}"}) for check in asked.inside.checks),
    ]

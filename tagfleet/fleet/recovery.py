"""The last whole checkpoint of a run whose list of checkpoints, which Ray keeps, was cut off by a full disk or a kill.

Ray writes `checkpoint_manager_snapshot.json` in place. Without it Ray would begin at the first epoch, with a broken one
it does not begin at all.
"""

from __future__ import annotations

import json
from pathlib import Path

from tagfleet.errors import NotFoundError
from tagfleet.store.objects import Storage

SNAPSHOT_FILE = "checkpoint_manager_snapshot.json"
SIZES_FILE = "sizes.json"
"""In a checkpoint's folder: the sizes of the other files, so that one that was cut off is known."""


def write_sizes(folder: Path) -> None:
    """Say how large the files of a checkpoint are; to be called when all are there."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / SIZES_FILE).write_text(json.dumps(sizes))


def broken_list(root: Storage, run_id: str) -> bool:
    """Whether Ray's list of the run's checkpoints is there but cannot be read."""
    try:
        return not isinstance(json.loads(root.read(_snapshot(run_id))), dict)
    except NotFoundError:
        return False
    except ValueError:
        return True


def forget_broken_list(root: Storage, run_id: str) -> str:
    """Delete a broken list; the folder of the newest whole checkpoint, "" for none, or when nothing is broken."""
    if not broken_list(root, run_id):
        return ""
    root.delete(_snapshot(run_id))
    return newest_whole(root, run_id)


def newest_whole(root: Storage, run_id: str) -> str:
    """The folder of the newest checkpoint whose files are all as long as they were written; "" for none."""
    found: dict[str, dict[str, int]] = {}
    for info in root.list(f"runs/{run_id}/checkpoints"):
        folder, _, name = info.key.rpartition("/")
        found.setdefault(folder, {})[name] = info.size_bytes
    for folder in sorted(found, reverse=True):  # named by the time
        sizes = found[folder]
        if SIZES_FILE not in sizes:
            continue
        try:
            wanted = json.loads(root.read(f"{folder}/{SIZES_FILE}"))
        except ValueError:
            continue
        if wanted == {name: size for name, size in sizes.items() if name != SIZES_FILE}:
            return folder
    return ""


def fetch(root: Storage, checkpoint: str, folder: Path) -> None:
    """Copy the files of a checkpoint into a local folder."""
    for info in root.list(checkpoint):
        (folder / info.key.rpartition("/")[2]).write_bytes(root.read(info.key))


def _snapshot(run_id: str) -> str:
    return f"runs/{run_id}/checkpoints/{SNAPSHOT_FILE}"

"""Published taggers: named versions of a few files, whose content is checked, and the one that is in production.

models/<name>/<version>/<file>            written first
models/<name>/<version>/manifest.json     written last, exclusively: what has none is no version
models/production/<number>.json           who put which version into production, or took it back, when and why
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from tagfleet.config import Section
from tagfleet.errors import ConflictError, DigestMismatch, NotFoundError, UsageError
from tagfleet.store.objects import Storage, ensure_exclusive_create

PRODUCTION = "production"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_TRIES = 20


@dataclass(frozen=True, order=True)
class ModelRef:
    """One version of one model; reads as name:version."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """What the store knows of a version without opening its files."""

    ref: ModelRef
    model_id: str
    created_at: datetime
    in_production: bool


class Promotion(Section):
    """An entry of the history of what is in production."""

    action: Literal["promote", "rollback"]
    model: str
    """name:version that is in production from then on."""
    by: str
    """user@machine."""
    why: str = ""
    against: tuple[str, ...] = ()
    """What spoke against it, where it was forced."""
    at: datetime
    """UTC."""


class ModelStore:
    """The models below a storage root."""

    def __init__(self, root: Storage) -> None:
        self.root = root

    def publish(self, name: str, files: Mapping[str, bytes], model_id: str) -> ModelRef:
        """Store `files` as the next version of `name`; two at once get two versions.

        Raises UsageError for a name that is not allowed.
        """
        if not _NAME.fullmatch(name) or name == PRODUCTION:
            raise UsageError(
                f"a model cannot be called {name!r}", hint="small letters, digits, - and _; e.g. genre (not production)"
            )
        ensure_exclusive_create(self.root)
        manifest = {
            "model_id": model_id,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {file: hashlib.sha256(data).hexdigest() for file, data in sorted(files.items())},
        }
        for _ in range(_TRIES):
            ref = ModelRef(name, max((ref.version for ref in self._refs() if ref.name == name), default=0) + 1)
            # Claiming the number before the files are written keeps two publishers out of one folder.
            if self.root.create(_key(ref, "claim"), model_id.encode()):
                for file, data in files.items():
                    self.root.write(_key(ref, file), data)
                self.root.write(_key(ref, "manifest.json"), json.dumps(manifest, indent=2).encode())
                return ref
        raise ConflictError(f"other writers keep publishing {name}", hint="try again")

    def load(self, text: str, only: Sequence[str] | None = None) -> tuple[ModelRef, dict[str, bytes]]:
        """The files of a model by alias, name or name:version; those named in `only`, where it has them.

        DigestMismatch names a file that was changed.
        """
        ref = self.resolve(text)
        files = {}
        for file, expected in self._manifest(ref)["files"].items():
            if only is not None and file not in only:
                continue
            files[file] = self.root.read(_key(ref, file))
            if hashlib.sha256(files[file]).hexdigest() != expected:
                raise DigestMismatch(
                    f"{self.root.uri(_key(ref, file))} is not the file that was published",
                    hint="restore it, or promote another version",
                )
        return ref, files

    def resolve(self, text: str) -> ModelRef:
        """`production`, `name` (its newest version) or `name:version`; NotFoundError says what there is."""
        published = self._published_refs()
        if text == PRODUCTION:
            found = self.production()
        elif ":" in text:
            found = next((ref for ref in published if str(ref) == text), None)
        else:
            found = max((ref for ref in published if ref.name == text), default=None)
        if found is None:
            there_are = ", ".join(map(str, published)) or "none yet"
            raise NotFoundError(
                f"no model {text!r} in {self.root.root}; there are: {there_are}",
                hint="tagfleet models promote NAME:VERSION" if published else "tagfleet train",
            )
        return found

    def published(self) -> list[PublishedModel]:
        """All published versions, by name and version."""
        production = self.production()
        models = []
        for ref in self._published_refs():
            manifest = self._manifest(ref)
            models.append(
                PublishedModel(
                    ref=ref,
                    model_id=manifest["model_id"],
                    created_at=datetime.fromisoformat(manifest["created_at"]),
                    in_production=ref == production,
                )
            )
        return models

    def production(self) -> ModelRef | None:
        """The version that `retag` takes, or None."""
        standing = _standing(self.history())
        return standing[-1] if standing else None

    def promote(
        self, ref: ModelRef, *, by: str, why: str = "", against: Sequence[str] = (), n_before: int | None = None
    ) -> None:
        """Make `ref` the version in production; what was there stays in the history.

        against: what spoke against it. n_before: length of the history that the decision was made on. Raises
        NotFoundError when there is no such version, ConflictError when another promotion came first.
        """
        self.resolve(str(ref))
        n_before = len(self.history()) if n_before is None else n_before
        entry = Promotion(action="promote", model=str(ref), by=by, why=why, against=tuple(against), at=_now())
        self._add(entry, n_before)

    def rollback(self, *, by: str, why: str = "") -> ModelRef:
        """Take back the last promotion that stands; NotFoundError when there is none before it."""
        history = self.history()
        standing = _standing(history)
        if len(standing) < 2:
            raise NotFoundError("no model was in production before the current one", hint="tagfleet models history")
        self._add(Promotion(action="rollback", model=str(standing[-2]), by=by, why=why, at=_now()), len(history))
        return standing[-2]

    def history(self) -> list[Promotion]:
        """All promotions and rollbacks, the first first."""
        keys = sorted(info.key for info in self.root.list(f"models/{PRODUCTION}"))
        return [Promotion.model_validate_json(self.root.read(key)) for key in keys]

    def _add(self, entry: Promotion, n_before: int) -> None:
        ensure_exclusive_create(self.root)
        if not self.root.create(
            f"models/{PRODUCTION}/{n_before + 1:06d}.json", entry.model_dump_json(indent=2).encode()
        ):
            raise ConflictError("another promotion came first", hint="look at tagfleet models history, then try again")

    def _manifest(self, ref: ModelRef) -> dict[str, Any]:
        return dict(json.loads(self.root.read(_key(ref, "manifest.json"))))

    def _refs(self) -> set[ModelRef]:
        return {ref for ref, _ in self._keys()}

    def _published_refs(self) -> list[ModelRef]:
        return sorted({ref for ref, file in self._keys() if file == "manifest.json"})

    def _keys(self) -> list[tuple[ModelRef, str]]:
        found = []
        for info in self.root.list("models"):
            _, name, *rest = info.key.split("/")
            if len(rest) == 2 and rest[0].isdecimal():
                found.append((ModelRef(name, int(rest[0])), rest[1]))
        return found


def _standing(history: Sequence[Promotion]) -> list[ModelRef]:
    """Promotions that were not taken back."""
    standing: list[ModelRef] = []
    for entry in history:
        if entry.action == "rollback":
            standing.pop()
        elif not standing or str(standing[-1]) != entry.model:
            name, _, version = entry.model.partition(":")
            standing.append(ModelRef(name, int(version)))
    return standing


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _key(ref: ModelRef, file: str) -> str:
    return f"models/{ref.name}/{ref.version}/{file}"

"""What can go wrong, as one tree; each class is one sentence, and carries the hint and the exit code.

TagfleetError           something the user can mend                                   exit 1
├── UsageError          the call's words are off                                      exit 2
├── ConfigError         a setting, recipe or TOML file is not valid
├── CatalogError        catalogue rows were refused, each with its line
├── TaxonomyError       a taxonomy contradicts itself
├── StorageError        a folder, bucket or object cannot be read or written
│   └── NotFoundError   there is no such object, table, version, model or run
├── LeakError           tracks that shall measure a model were among those that it has learnt from
├── DigestMismatch      trained and serving code or files are not the same
├── ConflictError       another run committed first; nothing of this run was written
├── CountsError         tagged + failed + unchanged is not the catalogue; nothing was published
├── ClusterError        no Ray cluster answers, or it refuses us, or it does not fit
├── JobError            the run itself failed (a worker died, a stage raised)         exit 5
├── JobStopped          somebody stopped the run; it goes on where it was             exit 6
├── TimedOut            what was waited for did not happen in time                    exit 7
├── GateRefused         a gate said no; what was made is kept, nothing was published  exit 3
├── TooManyFailures     finished, but more bad tracks than allowed                    exit 4
└── TrackError          one track failed: becomes a row, never stops a run
    ├── FetchError      its bytes could not be had
    └── DecodeError     its bytes are no audio that we take
"""

from __future__ import annotations

from typing import ClassVar


class TagfleetError(Exception):
    """Something the user can mend: `message` says what was given and what is allowed, `hint` what to do."""

    code: ClassVar[str] = "error"
    exit_code: int = 1

    def __init__(self, message: str, *, hint: str | None = None, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = problems
        """Each of several things that are wrong, where there are several."""

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders (Ray): rebuild from the attributes, not from positional arguments."""
        return (_rebuild, (type(self), dict(self.__dict__), str(self)))


def _rebuild(cls: type[TagfleetError], state: dict[str, object], text: str) -> TagfleetError:
    error = cls.__new__(cls)
    error.args = (text,)
    error.__dict__.update(state)
    return error


class UsageError(TagfleetError):
    """The call's words are off."""

    code = "usage"
    exit_code = 2


class ConfigError(TagfleetError):
    """A setting, recipe or TOML file is not valid."""

    code = "config"


class CatalogError(TagfleetError):
    """Catalogue rows were refused; `problems` lists each with its line."""

    code = "catalog"


class LeakError(TagfleetError):
    """Tracks that shall measure a model were among those that it has learnt from; `problems` lists them."""

    code = "leak"


class TaxonomyError(TagfleetError):
    """A taxonomy contradicts itself."""

    code = "taxonomy"


class StorageError(TagfleetError):
    """A folder, bucket or object cannot be read or written."""

    code = "storage"


class NotFoundError(StorageError):
    """There is no such object, table, version, model or run."""

    code = "not-found"


class DigestMismatch(TagfleetError):
    """Trained and serving code or files are not the same."""

    code = "digest-mismatch"


class ConflictError(TagfleetError):
    """Another run committed first; nothing of this run was written."""

    code = "conflict"


class RunAtWork(ConflictError):
    """The same run was started before and has not ended; this start did nothing."""


class CountsError(TagfleetError):
    """tagged + failed + unchanged is not the catalogue; nothing was published."""

    code = "counts"


class JobError(TagfleetError):
    """The run itself failed: a worker died or a stage raised."""

    code = "job-failed"
    exit_code = 5


class ClusterError(TagfleetError):
    """No Ray cluster answers, or it refuses us, or it does not fit what is asked of it."""

    code = "cluster"


class JobStopped(TagfleetError):
    """Somebody stopped the run; it goes on where it was."""

    code = "job-stopped"
    exit_code = 6


class TimedOut(TagfleetError):
    """What was waited for did not happen in time."""

    code = "timeout"
    exit_code = 7


class GateRefused(TagfleetError):
    """A gate said no; what was made is kept, nothing was published."""

    code = "gate-refused"
    exit_code = 3


class TooManyFailures(TagfleetError):
    """Finished, but more bad tracks than allowed."""

    code = "too-many-failures"
    exit_code = 4


class TrackError(TagfleetError):
    """One track failed: becomes a row with `stage`, `reason` (a stable code) and the message as detail."""

    code = "track"
    stage: ClassVar[str] = "track"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class FetchError(TrackError):
    """The bytes of a track could not be had. Says nothing of them: the next run tries again.

    Reasons: not-found, not-a-file, forbidden, unreachable, too-large, unsupported-uri, timeout (its server was too
    slow), changed (replaced while it was read).
    """

    code = "fetch"
    stage = "fetch"
    reasons: ClassVar[frozenset[str]] = frozenset(
        ["not-found", "not-a-file", "forbidden", "unreachable", "too-large", "unsupported-uri", "timeout", "changed"]
    )


class DecodeError(TrackError):
    """The bytes of a track are no audio that we take. Reasons are listed in `tagfleet.audio.decode.REASONS`."""

    code = "decode"
    stage = "decode"

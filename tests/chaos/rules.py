"""What a proxy does to which requests, and what it notes of each."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.chaos.messages import Message

Seen = Callable[[Message], None]


@dataclass(eq=False, kw_only=True)
class Rule:
    """Which requests, and what happens to them. Without any of the latter it only counts."""

    method: str = ".*"
    path: str = ".*"
    """Found anywhere in /bucket/key."""
    first: int = 1
    """The number of the first match that it applies to."""
    n: float = float("inf")
    """To how many it applies."""
    share: float = 1.0
    """To which share of those, drawn with `seed`."""
    seed: int = 0

    busy: bool = False
    """503 SlowDown; the server does not hear of it."""
    delay_s: float = 0.0
    """Between the server's answer and the client."""
    keep: float | None = None
    """This share of the answer's body, then the end of the connection."""
    drop: Literal["request", "answer"] | None = None
    """The connection ends: before the server heard of it, or after it did what was asked."""
    before: Seen | None = None
    """Called before the server hears of it."""
    answered: Seen | None = None
    """Called after the server has answered, before the client knows."""
    after: Seen | None = None
    """Called after the answer was passed on."""

    def __post_init__(self) -> None:
        self.n_matches = self.n_applied = 0
        self._random = random.Random(self.seed)

    def applies(self, request: Message) -> bool:
        """Whether it does to this request, which is counted."""
        if not re.fullmatch(self.method, request.method) or not re.search(self.path, request.path):
            return False
        self.n_matches += 1
        if self.n_matches < self.first or self.n_applied >= self.n or self._random.random() >= self.share:
            return False
        self.n_applied += 1
        return True


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One request in the log."""

    at: float
    """time.monotonic() when it had come."""
    method: str
    path: str
    query: str
    range_start: int
    status: int
    """What the server answered; 503 where the proxy did; 0 where it did not hear of it."""
    n_bytes: int
    """Of the body that the client was sent."""
    whole: bool
    """Whether the client was sent all of the server's answer."""

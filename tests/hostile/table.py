"""What becomes of each kind of hostile file: `python -m tests.hostile.table` prints it as Markdown."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from tests.hostile.make import make
from tests.hostile.outcomes import LIMITS, Outcome, hear_all


def line(group: str, outcomes: list[Outcome]) -> str:
    """One row: how many, what became of them, the most memory, and times from least to most."""
    results = Counter(o.result for o in outcomes)
    told = ", ".join(name if n == len(outcomes) else f"{name} {n}" for name, n in results.most_common())
    times = sorted(1000 * o.seconds for o in outcomes)
    memory = max(o.peak_mb for o in outcomes)
    span = f"{times[0]:,.0f}" if len(times) == 1 else f"{times[0]:,.0f}–{times[-1]:,.0f}"
    return f"| {group} | {len(outcomes)} | {told} | {memory:,.0f} | {span} |"


def main() -> None:
    groups: dict[str, list[Outcome]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for outcome in hear_all(make(Path(folder)), Path(folder), LIMITS):
            groups.setdefault(outcome.file.group, []).append(outcome)
    print("| what | files | outcome | peak MiB | ms |\n|---|---|---|---|---|")
    for group, outcomes in groups.items():
        print(line(group, outcomes))


if __name__ == "__main__":
    main()

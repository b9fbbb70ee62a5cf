"""What the harness prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.chaos.harness import Result

_HEAD = ("fault", "seeds", "struck", "survived", "lost", "doubled", "wrong", "heard again (bound)", "starts", "seconds")


def line(result: Result) -> str:
    """One try, as it ends."""
    verdict = "survived" if result.survived else "NOT SURVIVED"
    found = result.findings
    text = f"{result.fault}, seed {result.seed}: {verdict}{'' if result.struck else ' (did not strike)'}, exit codes"
    text += f" {', '.join(map(str, result.codes))}; lost {len(found.lost)}, doubled {len(found.doubled)}, wrong"
    text += f" {len(found.wrong)}; heard again {result.repeated} (bound {result.bound}), {result.n_orphans} orphans,"
    text += f" {result.seconds:.0f} s{f' [{result.note}]' if result.note else ''}"
    return "\n".join([text, *(f"    {problem}" for problem in found.wrong[:5])])


def table(results: Sequence[Result], left_out: Mapping[str, str]) -> str:
    """Markdown, a row per fault."""
    rows = [_HEAD, tuple("---" for _ in _HEAD)]
    for fault in dict.fromkeys(result.fault for result in results):
        tries = [result for result in results if result.fault == fault]
        counts = (
            len(tries),
            sum(result.struck for result in tries),
            sum(result.survived for result in tries),
            sum(len(result.findings.lost) for result in tries),
            sum(len(result.findings.doubled) for result in tries),
            sum(len(result.findings.wrong) for result in tries),
            f"{sum(result.repeated for result in tries)} ({sum(result.bound for result in tries)})",
            sum(len(result.codes) for result in tries),
            f"{sum(result.seconds for result in tries):.0f}",
        )
        rows.append((fault, *map(str, counts)))
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, *(f"\nNot tried: {fault}: {why}" for fault, why in left_out.items())])

"""The benchmark's figures as text that people read."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.on_ray import N_CPUS
from benchmarks.tracks import BenchTrack

IN_ONE_PROCESS = {
    "tutorial": "(a) librosa, whole tracks",
    "tutorial-clips": "(a') librosa, our clips",
    "one-process": "(b) ours, one process",
}


def report(measured: Mapping[str, Any], tracks: Sequence[BenchTrack], load: float) -> str:
    """Tables of what was measured, then each aim with what came out; what was left out is not mentioned.

    load: how many processes ran before the measurement began; with 1 and more the figures are too low.
    """
    audio_s: dict[str, float] = {}
    for track in tracks:
        audio_s[track.format] = audio_s.get(track.format, 0.0) + track.duration_s
    n_tracks = len(tracks) // len(audio_s)
    minutes = sum(audio_s.values()) / 60
    lines = [f"{len(tracks)} tracks, {minutes:.0f} minutes; {platform.machine()}; load at the start {load:.1f}", ""]
    lines += _speeds(measured, audio_s)
    lines += _parts(measured, audio_s, n_tracks)
    lines += _ray(measured)
    return "\n".join([*lines, *_aims(measured, audio_s, n_tracks)])


def _speeds(measured: Mapping[str, Any], audio_s: Mapping[str, float]) -> list[str]:
    lines = ["x realtime per core", _row("", [*audio_s, "all", "start s", "first s", "peak MB"])]
    for variant, title in IN_ONE_PROCESS.items():
        if result := measured.get(variant):
            cpu_s = result["cpu_s"]
            cells: list[object] = [audio_s[name] / cpu_s[name] if name in cpu_s else "-" for name in audio_s]
            cells.append(sum(audio_s[name] for name in cpu_s) / sum(cpu_s.values()))
            lines.append(
                _row(title, [*cells, *(f"{result[x]:.1f}" for x in ("startup_s", "first_s")), result["peak_mb"]])
            )
    notes = "start: CPU s of imports and of loading the model; first: of the first track of each format, not counted."
    return [*lines, notes, "-: librosa has no decoder for it here, and `all` is without it.", ""]


def _parts(measured: Mapping[str, Any], audio_s: Mapping[str, float], n_tracks: int) -> list[str]:
    if "parts" not in measured:
        return []
    parts = measured["parts"]["parts_ms"]
    names = list(next(iter(parts.values())))
    lines = ["CPU ms per track, in the parts of (b)", _row("", [*names, "sum", "whole (b)", "floor x"])]
    whole = measured.get("one-process", {}).get("cpu_s", {})
    for format, ms in parts.items():
        cells = [f"{ms[name]:.1f}" for name in names] + [f"{sum(ms.values()):.1f}"]
        cells.append(f"{1000 * whole[format] / n_tracks:.1f}" if whole else "-")
        lines.append(_row(format, [*cells, audio_s[format] / n_tracks / ms["decode"] * 1000]))
    return [*lines, "decode alone is the floor; floor x: its x realtime per core. mix: frames to one channel.", ""]


def _ray(measured: Mapping[str, Any]) -> list[str]:
    if "ray" not in measured:
        return []
    ray = measured["ray"]
    lines = [f"(c) ours under Ray Data, {N_CPUS} CPUs", _row("", ["wall s", "CPU s", "x realtime"])]
    for name, title in (
        ("start", "Ray starts"),
        ("first", "first run, every file once"),
        ("again", "second run, the same"),
        ("long", "third run, many rounds"),
    ):
        run = ray[name]
        speed = run["audio_s"] / run["wall_s"] if "audio_s" in run else "-"
        lines.append(_row(title, [f"{run['wall_s']:.1f}", f"{run['cpu_s']:.1f}", speed]))
    lines.append(_row("without start-up", ["", "", _steady(ray, "wall_s")]))
    lines.append(_row("without start-up, per core", ["", "", _steady(ray, "cpu_s")]))
    lines += [f"peak {peak} MB: {name}" for name, peak in sorted(ray["worker_peaks_mb"].items())]
    return [
        *lines,
        "x realtime: audio s / wall s. Without start-up: third run minus second. CPU s: all of Ray's processes.",
        "Peaks count Ray's shared memory in every worker that reads it.",
        "",
    ]


def _steady(ray: Mapping[str, Any], seconds: str) -> float:
    long, short = ray["long"], ray["again"]
    return (long["audio_s"] - short["audio_s"]) / (long[seconds] - short[seconds])


def _aims(measured: Mapping[str, Any], audio_s: Mapping[str, float], n_tracks: int) -> list[str]:
    if "one-process" not in measured:
        return []
    ours = measured["one-process"]["cpu_s"]
    lines = []
    for variant, aim in (("tutorial", 6.0), ("tutorial-clips", 1.5)):
        if peer := measured.get(variant, {}).get("cpu_s"):
            ratio = sum(peer.values()) / sum(ours[name] for name in peer)
            lines.append(_aim(f"(b) as a multiple of {IN_ONE_PROCESS[variant]}", ratio, ">=", aim))
    if "parts" in measured:
        floor_s = sum(ms["decode"] for ms in measured["parts"]["parts_ms"].values()) * n_tracks / 1000
        lines.append(_aim("CPU of (b) as a multiple of the decode floor", sum(ours.values()) / floor_s, "<=", 1.25))
    if "ray" in measured:
        one_core = sum(audio_s.values()) / sum(ours.values())
        share = _steady(measured["ray"], "wall_s") / (N_CPUS * one_core)
        lines.append(_aim(f"(c) without start-up as a share of {N_CPUS} x (b)", share, ">=", 0.9))
    return lines


def _aim(what: str, measured: float, sign: str, aim: float) -> str:
    met = measured >= aim if sign == ">=" else measured <= aim
    return f"aim {sign} {aim:<4} measured {measured:5.2f}  {'ok    ' if met else 'missed'}  {what}"


def _row(title: str, cells: Sequence[object]) -> str:
    texts = [f"{cell:,.0f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return f"{title:28}" + "".join(f"{text:>11}" for text in texts)

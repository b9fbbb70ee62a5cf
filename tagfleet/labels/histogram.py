"""The scores of a catalogue as a histogram: for a terminal, and as SVG."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

N_BINS = 20
_BAR = "█"


def bins_of(scores: NDArray[np.float64]) -> list[tuple[float, float, int]]:
    """(from, to, tracks) over [-1, 1]; a bin holds its lower edge, the last one its upper edge too."""
    counts, edges = np.histogram(scores, bins=N_BINS, range=(-1, 1))
    return [(float(a), float(b), int(n)) for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]


def text_histogram(scores: NDArray[np.float64], n_unscored: int, *, width: int = 40) -> str:
    """One line per bin, and the tracks that have no score."""
    bins = bins_of(scores)
    most = max([n for _, _, n in bins] + [1])
    lines = [
        f"{low:+.1f} … {high:+.1f}  {_BAR * (round(width * n / most) or (n > 0)):<{width}}  {n}"
        for low, high, n in reversed(bins)
    ]
    return "\n".join([*lines, f"not scored: {n_unscored} tracks without a mood word"])


def svg_histogram(
    scores: NDArray[np.float64], n_unscored: int, *, title: str, bounds: tuple[float | None, float | None]
) -> str:
    """A stand-alone SVG; `bounds` are the scores where the low end stops and the high end begins."""
    bins = bins_of(scores)
    most = max([n for _, _, n in bins] + [1])
    left, top, width, height = 50, 40, 600, 220
    bar = width / N_BINS
    shapes = [
        f'<rect x="{left + i * bar + 1:.1f}" y="{top + height * (1 - n / most):.1f}" width="{bar - 2:.1f}" '
        f'height="{height * n / most:.1f}" fill="#4878a8"><title>{low:+.1f} to {high:+.1f}: {n} tracks</title></rect>'
        for i, (low, high, n) in enumerate(bins)
    ]
    for bound in bounds:
        if bound is not None:
            x = left + (bound + 1) / 2 * width
            shapes.append(
                f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}" stroke="#c44" stroke-dasharray="4 3"/>'
                f'<text x="{x:.1f}" y="{top - 4}" text-anchor="middle" fill="#c44">{bound:+.2f}</text>'
            )
    ticks = [
        f'<text x="{left + (tick + 1) / 2 * width:.1f}" y="{top + height + 18}" text-anchor="middle">{tick:+.1f}</text>'
        for tick in (-1, -0.5, 0, 0.5, 1)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {top + height + 50}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n'
        f'<text x="{left}" y="18" font-size="14">{escape(title)}</text>\n'
        f'<text x="{left - 6}" y="{top + 10}" text-anchor="end">{most}</text>\n'
        f'<line x1="{left}" y1="{top + height}" x2="{left + width}" y2="{top + height}" stroke="#333"/>\n'
        + "\n".join([*shapes, *ticks])
        + f'\n<text x="{left}" y="{top + height + 40}">{len(scores)} tracks scored, {n_unscored} not</text>\n</svg>\n'
    )

"""Which excerpts of a track are heard."""

from __future__ import annotations


def plan_clips(duration_s: float, n_clips: int, clip_s: float) -> list[float]:
    """Where each clip starts, in seconds: in the middle of `n_clips` equal parts of the track.

    A track with room for fewer clips gets fewer; one shorter than a clip gets one, at 0. Clips neither overlap nor
    reach beyond the end. With `n_clips` 0 they follow each other from the start, and what is left at the end, shorter
    than a clip, is not heard.

    >>> plan_clips(60.0, n_clips=3, clip_s=4.0)
    [8.0, 28.0, 48.0]
    >>> plan_clips(9.0, n_clips=3, clip_s=4.0)
    [0.25, 4.75]
    >>> plan_clips(9.0, n_clips=0, clip_s=4.0)
    [0.0, 4.0]
    """
    room = max(1, int(duration_s / clip_s))
    if n_clips == 0:
        return [i * clip_s for i in range(room)]
    n = min(n_clips, room)
    return [max(0.0, ((i + 0.5) * duration_s / n) - clip_s / 2) for i in range(n)]

"""Makes the hostile files in a folder: `python -m tests.hostile.make DIR`. The same bytes every time."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from tests.hostile import bombs, changing, lying, places, referring, truncated
from tests.hostile.files import TAGGED, Data, Hostile

BENCH = Path(__file__).parents[3] / "shared" / "data" / "flac_test_files"
"""The FLAC decoder test bench of the IETF, where it is."""

_BENCH = {
    "faulty/01": "corrupt",
    "faulty/03": "corrupt",
    "faulty/06": "corrupt",
    "faulty/07": "corrupt",
    "faulty/08": "corrupt",
    "faulty/09": "corrupt",
    "faulty/11": "truncated",
    "uncommon/01": "changed-mid-stream",
    "uncommon/02": "changed-mid-stream",
    "uncommon/03": "changed-mid-stream",
    "uncommon/04": "corrupt",
    "uncommon/10": "unsupported-container",
    "uncommon/11": "unsupported-container",
}
"""Its files that are not tagged. The last two begin with a frame and with junk; FFmpeg refuses 04's other bit depth."""

_HOLE = 1 << 16


def make(folder: Path, port: int = 9) -> list[Hostile]:
    """All of them, written below `folder`; those that refer to a server name `port` of this machine."""
    files = list(
        itertools.chain(
            referring.second(),
            truncated.cut(),
            truncated.empty(),
            truncated.misnamed(),
            lying.lengths(),
            lying.rates_and_channels(),
            lying.samples(),
            lying.sizes(),
            bombs.silence(),
            bombs.cover_art(),
            bombs.memory_and_time(),
            changing.changing(),
            changing.behind(),
            referring.playlists(folder, port),
            referring.pointing(folder, port),
            referring.archives(),
            places.twins(),
        )
    )
    for file in files:
        if file.data is not None:
            write(folder / file.name, file.data())
    places.build(folder)
    return [*files, *places.uris(folder, port), *bench()]


def bench() -> list[Hostile]:
    """Real files with uncommon and faulty contents; empty where they are not on this machine."""
    files = sorted(BENCH.glob("*/*.flac"))
    return [
        Hostile(
            name=f"{path.parent.name}/{path.name}",
            group=f"FLAC test bench, {path.parent.name}",
            expected=frozenset(_BENCH.get(f"{path.parent.name}/{path.name[:2]}", TAGGED).split()),
            uri=str(path),
        )
        for path in files
    ]


def write(path: Path, data: Data) -> None:
    """`data` with its zeros as holes: cover art of 160 MB takes no room on the disk."""
    with path.open("xb") as file:
        for piece in [data] if isinstance(data, bytes) else data:
            if isinstance(piece, int):
                file.seek(piece, 1)
                continue
            for at in range(0, len(piece), _HOLE):
                part = piece[at : at + _HOLE]
                if part.strip(b"\0"):
                    file.write(part)
                else:
                    file.seek(len(part), 1)
        file.truncate(file.tell())


if __name__ == "__main__":
    made = make(Path(sys.argv[1]))
    print(f"{len(made)} cases, their files in {sys.argv[1]}")

"""Makes the hostile files in a folder: `python -m tests.hostile.make DIR`. The same bytes every time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.hostile import bombs, lying, truncated
from tests.hostile.files import Data, Hostile

_HOLE = 1 << 16


def all_files() -> Iterator[Hostile]:
    """Every case that is a file with bytes of its own."""
    yield from truncated.cut()
    yield from truncated.empty()
    yield from truncated.misnamed()
    yield from lying.lengths()
    yield from lying.rates_and_channels()
    yield from lying.samples()
    yield from lying.sizes()
    yield from bombs.silence()
    yield from bombs.cover_art()
    yield from bombs.memory_and_time()


def make(folder: Path) -> list[Hostile]:
    """All of them, written below `folder`."""
    files = list(all_files())
    assert len({file.name for file in files}) == len(files), "two are called the same"
    for file in files:
        write(folder / file.name, file.data() if file.data else b"")
    return files


def write(path: Path, data: Data) -> None:
    """`data` with its zeros as holes: cover art of 160 MB takes no room on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for piece in [data] if isinstance(data, bytes) else data:
            if isinstance(piece, int):
                file.seek(piece, 1)
            else:
                for at in range(0, len(piece), _HOLE):
                    part = piece[at : at + _HOLE]
                    if part.strip(b"\0"):
                        file.write(part)
                    else:
                        file.seek(len(part), 1)
        file.truncate(file.tell())


if __name__ == "__main__":
    made = make(Path(sys.argv[1]))
    print(f"{len(made)} files in {sys.argv[1]}")

"""What a decoder opens: its calls as strace sees them, and a server on this machine that nobody should ask.

strace sees every open and socket of the decoder's process and threads, whoever makes them, FFmpeg in C too. It does not
see what is done through a file that was open before, nor what only another input would make it open.
"""

from __future__ import annotations

import re
import shutil
import socketserver
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tagfleet

_CALL = re.compile(r'(\w+)\((?:AT_FDCWD, )?"((?:\\x[0-9a-f]{2})*)"(?:\.\.\.)?, ([^)]*)\)')
_PATHS = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
_CODE = tuple(str(path) for each in _PATHS for path in (each, each.resolve()))
_OURS = str(Path(tagfleet.__file__).parent)


def strace_works() -> bool:
    """Whether it is installed, and allowed to trace."""
    return (
        shutil.which("strace") is not None
        and not subprocess.run(
            ["strace", "-qq", "-D", "-e", "trace=openat", "-o", "/dev/null", "true"], capture_output=True, check=False
        ).returncode
    )


def calls(trace: Path) -> list[str]:
    """All lines of one process, after its tracer has written the last."""
    deadline = time.monotonic() + 60
    while not (lines := trace.read_text().splitlines()) or not lines[-1].startswith("+++"):
        assert time.monotonic() < deadline, "the tracer does not end"
        time.sleep(0.05)
    return lines[:-1]


def opened(line: str) -> str | None:
    """The name that was opened for reading; None for any other call."""
    found = _CALL.match(line)
    if not found or not found[1].startswith("open") or re.search("O_WRONLY|O_RDWR|O_CREAT", found[3]):
        return None
    return bytes.fromhex(found[2].replace("\\x", "")).decode(errors="surrogateescape")


def is_code(name: str) -> bool:
    """A module that is imported where it is first used."""
    return name.startswith((*_CODE, _OURS))


@contextmanager
def server() -> Iterator[tuple[int, list[str]]]:
    """A port of this machine, and who has come to it."""
    guests: list[str] = []

    class Guest(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            guests.append(str(self.client_address))

    with socketserver.TCPServer(("127.0.0.1", 0), Guest) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield listening.server_address[1], guests
        finally:
            listening.shutdown()
            thread.join()

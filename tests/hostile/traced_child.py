"""A decoder whose every open and socket is written down by strace; started as the child of a `Decoder`.

Decoder and tracer swap places (-D): the process that the parent sees, measures and kills is the decoder itself.
"""

from __future__ import annotations

import os
import sys

TRACE = "TAGFLEET_TEST_TRACE"
"""Names the file that is written; the process id is put behind it."""
CALLS = "open,openat,openat2,creat,open_by_handle_at,socket,connect,execve,execveat,io_uring_setup"

if __name__ == "__main__":
    strace = ["strace", "-D", "-ff", "--seccomp-bpf", "-q", "-s", "1000", "-xx", "-e", f"trace={CALLS}"]
    decoder = [sys.executable, "-P", "-m", "tagfleet.fleet.decoder_child", *sys.argv[1:]]
    os.execvp("strace", [*strace, "-o", os.environ[TRACE], *decoder])

"""A decoder whose tracks do what their names say; started as the child of a `Decoder`."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from tagfleet.fleet import decoder_child

real, real_open = decoder_child.decode_clips, decoder_child.open_uri
opened = []


def open_uri(uri, *words, **options):
    opened.append(Path(uri).name)
    return real_open(uri, *words, **options)


def decode_clips(file, audio, limits):
    name = opened[-1]
    if name.startswith("segv"):
        ctypes.string_at(0)
    if name.startswith("abort"):
        sys.stderr.write("first line\nthe last \x1b[31mline\n")
        sys.stderr.flush()
        os.abort()
    if name.startswith("exit"):
        os._exit(3)
    if name.startswith("hang"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        time.sleep(1000)
    if name.startswith("memory"):
        return np.ones(1 << 33, np.uint8)
    if name.startswith("creeping"):
        hoard = []
        while True:
            hoard.append(np.ones(1 << 24, np.uint8))
    if name.startswith("killed-once") and not (mark := Path(os.environ["MARK"])).exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("killed-always"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("garbage"):
        os.write(3, b"\xff" * 100_000)
        os._exit(0)
    return real(file, audio, limits)


decoder_child.decode_clips, decoder_child.open_uri = decode_clips, open_uri

if __name__ == "__main__":
    sys.exit(decoder_child.main())

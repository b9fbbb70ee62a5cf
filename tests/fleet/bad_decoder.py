"""A decoder whose tracks do what their names say; started as the child of a `Decoder`."""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np

from tagfleet.fleet import decoder_child

real, real_open = decoder_child.decode_clips, decoder_child.open_uri
hoard = []
name = ""


def open_uri(uri, *words, **options):
    global path, name, began_s
    began_s = time.process_time()
    path = Path(uri)
    name = path.name
    if name == "dies-before-it-is-open":
        os.abort()
    if name == "hangs-before-it-is-open":
        time.sleep(1000)
    return real_open(uri, *words, **options)


def tell_how(path):
    files = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.exists() or entry.is_symlink()]
    known = {
        "limits": [resource.getrlimit(which) for which in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)],
        "files": sorted(str(file).partition(":")[0] for file in files if not str(file).startswith("/proc")),
        "privileges": "NoNewPrivs:\t1" in Path("/proc/self/status").read_text(),
        "session": os.getsid(0) == os.getpid(),
        "folder": str(Path.cwd()),
        "heavy": sorted({"torch", "ray", "boto3", "pyarrow"} & set(sys.modules)),
    }
    path.with_suffix(".json").write_text(json.dumps(known))


def decode_clips(file, audio, limits):
    if name == "segv":
        ctypes.string_at(0)
    if name == "abort":
        sys.stderr.write("first line\nthe last \x1b[31mline\n")
        sys.stderr.flush()
        os.abort()
    if name == "exit":
        while time.process_time() < began_s + 0.1:
            pass
        os._exit(3)
    if name == "raises":
        raise AssertionError("a mistake of ours 夜")
    if name == "hang":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        # As a loop in native code would: no other Python code runs.
        ctypes.PyDLL(None).sleep(1000)
    if name == "memory":
        return np.ones(1 << 33, np.uint8)
    if name == "creeping":
        while True:
            hoard.append(np.ones(1 << 24, np.uint8))
    if name == "hoards":
        hoard.append(np.ones(120 << 20, np.uint8))
    if name == "needs-much":
        np.ones(120 << 20, np.uint8)
    if name == "killed-once" and not (mark := Path(os.environ["MARK"])).exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "killed-always":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "garbage":
        os.write(int(sys.argv[1]), b"\xff" * 100_000)
        os._exit(0)
    if name == "hangs-up":
        os.close(int(sys.argv[1]))
        time.sleep(1000)
    if name == "noisy":
        for _ in range(300):
            with contextlib.suppress(BlockingIOError):
                os.write(2, b"x" * 9_000 + b"\n")
    if name == "confined":
        tell_how(path)
    return real(file, audio, limits)


decoder_child.decode_clips, decoder_child.open_uri = decode_clips, open_uri

if __name__ == "__main__":
    decoder_child.main(*map(int, sys.argv[1:]))

"""What hostile audio does to its decoder costs that one track; what a decoder says is taken as hostile, too."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.decode import REASONS, decode_clips
from tagfleet.errors import JobError
from tagfleet.fleet import decoder as decoders
from tagfleet.fleet.decoder import Decoder
from tagfleet.store.config import StorageConfig
from tests.signals import encode, music

AUDIO = AudioConfig()
BAD = "tests.fleet.bad_decoder"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and signals are Linux's here")


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    """One good file under many names, and some that are no audio."""
    folder = tmp_path_factory.mktemp("tracks")
    data = encode(music(20, 22_050), 22_050, "wav")
    names = ["good", "segv", "abort", "exit", "hang", "memory", "creeping", "killed-once", "killed-always", "garbage"]
    for name in names:
        (folder / name).write_bytes(data)
    (folder / "cut").write_bytes(data[:2000])
    (folder / "empty").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def good(tracks):
    with (tracks / "good").open("rb") as file:
        return decode_clips(file, AUDIO, DecodeLimits())


def decoder(*, child=BAD, **limits):
    return Decoder(AUDIO, DecodeLimits(**limits), StorageConfig(), child=child)


def is_good(heard, good):
    return heard.error is None and np.array_equal(heard.waveforms, good[0]) and heard.duration_s == good[1]


def test_the_same_bits_as_without_a_process_between(tracks, good):
    with decoder(child=decoders.CHILD) as one:
        heard = one.listen(str(tracks / "good"))
        assert is_good(heard, good)
        assert heard.fingerprint.startswith("mtime-")
        assert heard.cpu_s > 0
        assert 20 < one.peak_memory_mb < 400
        for name, reason in (("cut", "truncated"), ("empty", "empty"), ("absent", "not-found")):
            heard = one.listen(str(tracks / name))
            assert (heard.error.reason, heard.waveforms) == (reason, None)
        assert one.n_restarts == 0


@pytest.mark.parametrize(
    ("name", "reason", "told"),
    [
        ("segv", "decoder-crash", "signal 11"),
        ("abort", "decoder-crash", r"signal 6 \(the last \ufffd\[31mline\)"),
        ("exit", "decoder-crash", "exit code 3"),
        ("memory", "memory", "more than 600 MiB"),
        ("creeping", "memory", "more than 600 MiB"),
        ("killed-always", "memory", "killed by the system"),
        ("garbage", "decoder-crash", "exit code 0|nonsense"),
    ],
)
def test_a_track_that_kills_its_decoder_costs_itself_alone(tracks, good, name, reason, told):
    with decoder(max_memory_mb=600) as one:
        heard = one.listen(str(tracks / name))
        assert (heard.error.stage, heard.error.reason) == ("decode", reason)
        assert heard.fingerprint, "the track must be known again"
        assert reason in REASONS
        assert re.search(told, heard.error.message)
        assert is_good(one.listen(str(tracks / "good")), good)


def test_a_decoder_that_hangs_is_killed_at_the_deadline(tracks, good):
    with decoder(max_track_s=1.0) as one:
        assert is_good(one.listen(str(tracks / "good")), good)
        start = time.monotonic()
        heard = one.listen(str(tracks / "hang"))
        assert (heard.error.stage, heard.error.reason) == ("decode", "timeout")
        assert time.monotonic() - start < 60
        assert is_good(one.listen(str(tracks / "good")), good)


def test_a_decoder_that_somebody_killed_is_replaced_and_the_track_is_heard(tracks, good, tmp_path, monkeypatch):
    monkeypatch.setenv("MARK", str(tmp_path / "killed"))
    with decoder() as one:
        assert is_good(one.listen(str(tracks / "killed-once")), good)
        assert (tmp_path / "killed").exists()
        assert one.n_restarts == 1


def test_a_dead_decoder_between_two_tracks_is_no_tracks_fault(tracks, good):
    with decoder() as one:
        one.listen(str(tracks / "good"))
        os.kill(one._child._process.pid, signal.SIGKILL)
        assert is_good(one.listen(str(tracks / "good")), good)


HOLDER = """
import sys
from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.fleet.decoder import Decoder
from tagfleet.store.config import StorageConfig
one = Decoder(AudioConfig(), DecodeLimits(max_track_s=600), StorageConfig(), child=sys.argv[1])
one.listen(sys.argv[2])
print(one._child._process.pid, flush=True)
one.listen(sys.argv[3])
sys.stdin.read()
"""


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_no_decoder_outlives_its_parent(tracks):
    command = [sys.executable, "-c", HOLDER, BAD, str(tracks / "good"), str(tracks / "good")]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_machine_on_which_no_decoder_starts_is_told(tracks):
    with pytest.raises(JobError, match="no decoder could be started"):
        decoder(child="tests.fleet.no_such_module").listen(str(tracks / "good"))


class Said:
    """A child that has said `data` and ended."""

    def __init__(self, data):
        self.data = data

    def _read(self, n, deadline):
        if n > len(self.data):
            raise decoders._Ended
        part, self.data = self.data[:n], self.data[n:]
        return bytearray(part)

    told = decoders._Child.told
    samples = decoders._Child.samples

    def ask(self, what):
        pass

    def end(self):
        return 0

    last_words = ""

    def peak_memory_mb(self):
        return 0.0


def framed(document):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return len(text).to_bytes(4, "little") + text


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(
    ["opened", "stage", "reason", "message", "n_clips", "duration_s", "cpu_s", "n_bytes", "n_requests", "n_retries"]
)
documents = st.dictionaries(keys, anything | st.sampled_from(["fetch", "decode", "corrupt", 1, 0.5])) | anything


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40) | documents.map(framed), max_size=4).map(b"".join))
def test_whatever_a_child_says_the_parent_gets_an_outcome(data):
    one = decoder()
    one._start = lambda: Said(data)
    heard = one.listen("/x")
    assert (heard.waveforms is None) == (heard.error is not None)
    if heard.error is not None:
        assert decoders._REASON.fullmatch(heard.error.reason)
        assert heard.error.message.isprintable()


@pytest.mark.parametrize(
    "told",
    [
        {"n_clips": 6, "duration_s": 1.0, "cpu_s": 0.1},
        {"n_clips": 0, "duration_s": 1.0, "cpu_s": 0.1},
        {"n_clips": True, "duration_s": 1.0, "cpu_s": 0.1},
        {"n_clips": 1, "duration_s": float("nan"), "cpu_s": 0.1},
        {"n_clips": 1, "duration_s": 1.0, "cpu_s": -1},
        {"n_clips": 1, "duration_s": 1.0},
        {"stage": "commit", "reason": "corrupt", "message": "x", "cpu_s": 0},
        {"stage": "decode", "reason": "no such\nreason", "message": "x", "cpu_s": 0},
        {"stage": "decode", "reason": "corrupt", "message": 7, "cpu_s": 0},
    ],
)
def test_an_answer_that_cannot_be_true_is_a_crash(told):
    one = decoder()
    one._start = lambda: Said(framed({"opened": "e:1"}) + framed(told) + bytes(4 * 5 * AUDIO.clip_samples))
    heard = one.listen("/x")
    assert (heard.error.reason, heard.fingerprint) == ("decoder-crash", "e:1")

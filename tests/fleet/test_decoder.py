"""What hostile audio does to its decoder costs that one track; what a decoder says is taken as hostile, too."""

import contextlib
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagfleet.audio import stretch
from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.audio.decode import REASONS, TRANSIENT, decode_clips
from tagfleet.errors import FetchError, JobError
from tagfleet.fleet import decoder_child, decoder_messages, decoder_process
from tagfleet.fleet.decoder import Decoder, Heard
from tagfleet.fleet.decoder_messages import Channel, Orders, Outcome
from tagfleet.store.config import StorageConfig
from tests.signals import encode, music
from tests.store import faulty

AUDIO = AudioConfig()
REAL, BAD = "tagfleet.fleet.decoder_child", "tests.fleet.bad_decoder"
MEMORY_MB = 200
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and signals are Linux's here")


class Tracks:
    """One good file under any name, and some that are no audio."""

    def __init__(self, folder):
        self.folder = folder
        self.data = encode(music(20, 22_050), 22_050, "wav")
        (folder / "cut").write_bytes(self.data[:2000])
        (folder / "empty").write_bytes(b"")
        (folder / "other").write_bytes(encode(music(20, 22_050, seed=1), 22_050, "wav"))

    def uri(self, name):
        path = self.folder / name
        if name != "absent" and not path.exists():
            path.write_bytes(self.data)
        return str(path)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    return Tracks(tmp_path_factory.mktemp("tracks"))


def clips_of(uri):
    with Path(uri).open("rb") as file:
        return decode_clips(file, AUDIO, DecodeLimits())


@pytest.fixture(scope="module")
def good(tracks):
    return clips_of(tracks.uri("good"))


def decoder(*, child=BAD, **limits):
    return Decoder(AUDIO, DecodeLimits(**limits), StorageConfig(), child=child)


@pytest.fixture(scope="module")
def bad():
    with decoder(max_memory_mb=MEMORY_MB) as one:
        yield one


def is_good(heard, good):
    return heard.error is None and np.array_equal(heard.waveforms, good[0]) and heard.duration_s == good[1]


# What comes through


def test_the_same_bits_as_without_a_process_between(tracks, good):
    with decoder(child=REAL) as one:
        assert one.pid is None, "nothing starts before it is needed"
        heard = one.listen(tracks.uri("good"))
        assert is_good(heard, good)
        assert heard.fingerprint.startswith("mtime-")
        assert heard.cpu_s > 0
        assert heard.n_bytes > 100_000
        assert heard.waveforms.flags.writeable
        assert 20 < one.peak_memory_mb < 400
        for name, reason in (("cut", "truncated"), ("empty", "empty"), ("absent", "not-found")):
            heard = one.listen(tracks.uri(name))
            assert (heard.error.reason, heard.waveforms, heard.duration_s) == (reason, None, None)
            assert (heard.fingerprint is None) == (name == "absent")
        for uri in ("relative", "/\udcff", "http://x/y", "/" + "x" * 100_000):
            assert one.listen(uri).error.stage == "fetch"
        assert one.n_restarts == 0
        one.close()
        assert is_good(one.listen(tracks.uri("good")), good)


@pytest.fixture
def server(monkeypatch, tracks):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with faulty.running() as one:
        one.data = tracks.data
        yield one


def test_an_object_in_a_bucket_and_what_it_cost(server, good):
    with Decoder(AUDIO, DecodeLimits(), server.config(), child=REAL) as one:
        server.faults.append(503)
        heard = one.listen(faulty.URI)
        assert is_good(heard, good)
        assert (heard.fingerprint, heard.n_retries) == (f"1:{len(server.data)}", 1)
        assert heard.n_requests == len(server.ranges)
        assert heard.n_bytes >= 100_000
        server.faults.append(403)
        assert one.listen(faulty.URI).error.reason == "forbidden"
        assert one.n_restarts == 0


class Said(list):
    """Stands for the channel to a parent."""

    def send(self, frame, body=None):
        self.append(json.loads(frame))


def test_a_server_that_is_too_slow_kills_no_decoder(server):
    said, orders = Said(), Orders(audio=AUDIO, limits=DecodeLimits(max_track_s=0.5), storage=server.config())
    decoder_child.answer(faulty.URI, orders, Said())  # imports take CPU time, once
    server.faults.append("drip")
    decoder_child.answer(faulty.URI, orders, said)
    (outcome,) = said
    assert (outcome["stage"], outcome["reason"]) == ("fetch", "timeout")
    assert decoder_child.GRACE < 1, "it tells so before its parent would kill it"


class Clocks:
    """Wall and CPU time of a track that took 10 s."""

    def __init__(self, cpu_s):
        self.monotonic, self.process_time = iter((0.0, 10.0)).__next__, iter((0.0, cpu_s, cpu_s)).__next__


@pytest.mark.parametrize(("cpu_s", "stage"), [(4.9, "fetch"), (5.1, "decode")])
def test_who_decodes_for_too_long_does_not_blame_the_storage(tracks, monkeypatch, cpu_s, stage):
    def too_late(file, audio, limits):
        raise FetchError("timeout", "no more reading")

    monkeypatch.setattr(decoder_child, "decode_clips", too_late)
    monkeypatch.setattr(decoder_child, "time", Clocks(cpu_s))
    said, orders = Said(), Orders(audio=AUDIO, limits=DecodeLimits(), storage=StorageConfig())
    decoder_child.answer(tracks.uri("good"), orders, said)
    assert said[0]["fingerprint"]
    assert (said[1]["reason"], said[1]["stage"]) == ("timeout", stage)


# What breaks


@pytest.mark.parametrize(
    ("name", "reason", "told"),
    [
        ("segv", "decoder-crash", "died of SIGSEGV"),
        ("abort", "decoder-crash", r"died of SIGABRT: the last \\x1b\[31mline"),
        ("raises", "decoder-crash", "exit code 1: AssertionError: a mistake of ours 夜"),
        ("killed-always", "decoder-crash", "died of SIGKILL"),
        ("garbage", "decoder-crash", "answer cannot be"),
        ("memory", "memory", f"more than {MEMORY_MB} MiB"),
    ],
)
def test_a_track_that_kills_its_decoder_costs_itself_alone(tracks, good, bad, name, reason, told):
    n_before = bad.n_restarts
    assert is_good(bad.listen(tracks.uri("good")), good)
    heard = bad.listen(tracks.uri(name))
    assert (heard.error.stage, heard.error.reason) == ("decode", reason)
    assert heard.fingerprint, "the track must be known again"
    assert reason in REASONS and reason not in TRANSIENT
    assert re.search(told, heard.error.message)
    assert heard.waveforms is None
    assert is_good(bad.listen(tracks.uri("good")), good)
    assert bad.n_restarts == n_before + 2, "it was tried twice"


def test_the_work_of_a_decoder_that_died_is_counted(tracks, bad):
    heard = bad.listen(tracks.uri("exit"))
    assert "exit code 3" in heard.error.message
    assert 0.2 < heard.cpu_s < 60, "0.1 s, twice"
    assert bad.listen(tracks.uri("creeping")).error.reason == "memory"
    assert MEMORY_MB < bad.peak_memory_mb < MEMORY_MB + 200


def test_what_dies_before_it_is_open_has_no_fingerprint(tracks, bad):
    heard = bad.listen(tracks.uri("dies-before-it-is-open"))
    assert (heard.fingerprint, heard.error.reason) == (None, "decoder-crash")


def test_a_decoder_that_hangs_is_killed_at_the_deadline(tracks, good):
    with decoder(max_track_s=1.0) as one:
        heard = one.listen(tracks.uri("hang"))
        assert (heard.error.stage, heard.error.reason) == ("decode", "timeout")
        assert heard.fingerprint
        heard = one.listen(tracks.uri("hangs-before-it-is-open"))
        assert (heard.error.stage, heard.error.reason, heard.fingerprint) == ("fetch", "timeout", None)
        assert one.n_restarts == 1, "who was too slow once is not tried twice"
        one._orders = Orders(audio=AUDIO, limits=DecodeLimits(), storage=StorageConfig())  # a busy machine needs time
        assert is_good(one.listen(tracks.uri("good")), good)


def test_who_hangs_up_and_lives_on_is_killed_by_its_parent_and_not_by_want_of_memory(tracks, bad, monkeypatch):
    monkeypatch.setattr(decoder_process, "_REAPING_S", 0.2)
    monkeypatch.setattr(decoder_process, "_n_oom_kills", iter(range(99)).__next__)
    error = bad.listen(tracks.uri("hangs-up")).error
    assert (error.reason, error.message) == ("decoder-crash", "the decoder died of SIGKILL")


def test_a_kill_while_the_system_kills_for_memory_is_taken_for_that(tracks, bad, monkeypatch):
    monkeypatch.setattr(decoder_process, "_n_oom_kills", iter(range(99)).__next__)
    error = bad.listen(tracks.uri("killed-always")).error
    assert (error.reason, "out of memory" in error.message) == ("memory", True)


@pytest.mark.parametrize(
    "words",
    [
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "MemoryError",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 9 GiB",
        "memory allocation of 9 bytes failed",
    ],
)
def test_last_words_that_tell_of_memory(words):
    assert decoder_process._OUT_OF_MEMORY.search(words)
    assert not decoder_process._OUT_OF_MEMORY.search("ValueError: MemoryError is a word")


# Who is not to blame


def test_a_decoder_that_somebody_killed_is_replaced_and_the_track_is_heard(tracks, good, bad, tmp_path, monkeypatch):
    monkeypatch.setenv("MARK", str(tmp_path / "killed"))
    bad.close()
    n_before = bad.n_restarts
    assert is_good(bad.listen(tracks.uri("killed-once")), good)
    assert (tmp_path / "killed").exists()
    assert bad.n_restarts == n_before + 2
    os.kill(bad.pid, signal.SIGKILL)  # between two tracks
    assert is_good(bad.listen(tracks.uri("good")), good)


def test_a_track_does_not_pay_for_the_memory_of_the_one_before(tracks, good, bad):
    assert is_good(bad.listen(tracks.uri("hoards")), good)
    assert is_good(bad.listen(tracks.uri("needs-much")), good)


def test_the_answer_to_an_interrupted_track_is_not_taken_for_the_next(tracks, bad, monkeypatch):
    """Ray cancels tasks by an exception at any place."""
    uris = tracks.uri("good"), tracks.uri("other")
    assert not np.array_equal(bad.listen(uris[0]).waveforms, clips_of(uris[1])[0])
    with monkeypatch.context() as patch:
        patch.setattr(decoder_messages, "_left_s", interrupted_at(4))
        with pytest.raises(KeyboardInterrupt):
            bad.listen(uris[0])
    assert is_good(bad.listen(uris[1]), clips_of(uris[1]))


def interrupted_at(n_calls):
    real, calls = decoder_messages._left_s, []

    def left_s(deadline):
        calls.append(deadline)
        if len(calls) == n_calls:
            raise KeyboardInterrupt
        return real(deadline)

    return left_s


# What a child may, and how it ends


def test_a_child_is_confined_and_holds_nothing_of_its_parents(tracks, bad):
    with (tracks.folder / "good").open("rb") as inherited:
        os.set_inheritable(inherited.fileno(), True)
        bad.close()
        assert bad.listen(tracks.uri("confined")).error is None
    known = json.loads((tracks.folder / "confined.json").read_text())
    assert known["limits"] == [[1, 1], [64, 64]]
    assert known["privileges"] and known["session"]
    assert known["folder"] == "/"
    assert known["heavy"] == []
    opened = str(tracks.folder / "confined")
    assert known["files"] == sorted(["/dev/null", "pipe", "pipe", "pipe", "socket", opened])


def test_what_a_library_prints_goes_nowhere_and_holds_nobody_up(tracks, good, bad, capfd):
    for _ in range(2):
        assert is_good(bad.listen(tracks.uri("noisy")), good)
    assert capfd.readouterr() == ("", "")


def open_files():
    return sorted(entry.name for entry in Path("/proc/self/fd").iterdir())


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def gone(pid):
    deadline = time.monotonic() + 60
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_nothing_is_left_open_by_children_that_came_and_went(tracks, bad):
    bad.close()
    before = open_files()
    for how in ("closed", "dropped"):
        one = decoder()
        one.listen(tracks.uri("good"))
        pid = one.pid
        if how == "closed":
            os.kill(pid, signal.SIGSEGV)
            assert one.listen(tracks.uri("good")).error is None
            pid = one.pid
            one.close()
        del one
        gc.collect()
        assert gone(pid)
        assert open_files() == before
    with pytest.raises(JobError, match=r"no decoder could be started .* No module named tests\.fleet\.nobody"):
        decoder(child="tests.fleet.nobody").listen(tracks.uri("good"))
    gc.collect()
    assert open_files() == before


HOLDER = """
import sys
from tagfleet.audio.config import AudioConfig, DecodeLimits
from tagfleet.fleet.decoder import Decoder
from tagfleet.store.config import StorageConfig
one = Decoder(AudioConfig(), DecodeLimits(max_track_s=600), StorageConfig(), child=sys.argv[1])
for uri in sys.argv[2:]:
    print(one.listen(uri).error, one.pid, flush=True)
sys.stdin.read()
"""


def holder(*uris, child, **words):
    command = [sys.executable, "-P", "-c", HOLDER, child, *uris]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **pipes, **words)


@pytest.mark.parametrize("last", ["hang", None])
def test_no_decoder_outlives_its_parent(tracks, last):
    uris = [tracks.uri(name) for name in ("good", last) if name]
    with holder(*uris, child=BAD) as parent:
        child = int(parent.stdout.readline().split()[-1])
        if last:  # it is at it as soon as it does not sleep for its parent
            while "unix_stream" in Path(f"/proc/{child}/wchan").read_text():
                time.sleep(0.01)
        assert alive(child)
        parent.kill()
    assert gone(child)


def test_no_code_is_taken_from_the_current_folder(tracks, tmp_path):
    """It may be full of somebody's music, and of what came with it."""
    for module in ("soxr", "av", "json", "tagfleet"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('taken')")
    with holder(tracks.uri("good"), child=REAL, cwd=tmp_path) as parent:
        assert parent.stdout.readline().startswith("None ")
        parent.stdin.close()


# What a child may say


SMALL = AudioConfig(clip_frames=16, n_clips=2)
CLIP_BYTES = 4 * SMALL.clip_samples


def told(*parts):
    """What is made of a child that answers `parts` (documents as text, samples as bytes) and ends."""
    ours, childs = socket.socketpair()
    one = Decoder(SMALL, DecodeLimits(), StorageConfig())
    one._ready = lambda: Channel(ours)
    with ours, childs:
        for part in parts:
            childs.sendall(framed(part) if isinstance(part, str) else part)
        childs.shutdown(socket.SHUT_WR)
        return one._listen(b"/x")


def framed(text):
    data = text.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(4, "big") + data


OPENED = '{"fingerprint": "e:1"}'


def test_a_true_answer_is_believed():
    heard = told(OPENED, '{"n_clips": 2, "duration_s": 1.5, "cpu_s": 0.25, "n_bytes": 7}', bytes(2 * CLIP_BYTES))
    assert heard.waveforms.shape == (2, SMALL.clip_samples)
    assert (heard.fingerprint, heard.duration_s, heard.cpu_s, heard.n_bytes) == ("e:1", 1.5, 0.25, 7)
    heard = told('{"stage": "fetch", "reason": "forbidden", "detail": "a\\u001b夜", "cpu_s": 0}')
    assert (type(heard.error), heard.error.reason, heard.error.message) == (FetchError, "forbidden", "a\\x1b夜")


LIE = [
    '{"n_clips": 3, "duration_s": 1.0, "cpu_s": 0}',
    '{"n_clips": 0, "duration_s": 1.0, "cpu_s": 0}',
    '{"n_clips": true, "duration_s": 1.0, "cpu_s": 0}',
    '{"n_clips": "1", "duration_s": 1.0, "cpu_s": 0}',
    '{"n_clips": 1, "duration_s": NaN, "cpu_s": 0}',
    '{"n_clips": 1, "duration_s": 1e999, "cpu_s": 0}',
    '{"n_clips": 1, "duration_s": 1.0, "cpu_s": -1}',
    '{"n_clips": 1, "duration_s": 1.0}',
    '{"n_clips": 1, "duration_s": 1.0, "cpu_s": 0, "n_bytes": 1e300}',
    f'{{"n_clips": 1, "duration_s": 1.0, "cpu_s": {"9" * 400}}}',
    f'{{"n_clips": {"9" * 400}, "duration_s": 1.0, "cpu_s": 0}}',
    '{"stage": "commit", "reason": "corrupt", "cpu_s": 0}',
    '{"stage": "decode", "reason": "not-found", "cpu_s": 0}',
    '{"stage": "decode", "reason": "no such\\nreason", "cpu_s": 0}',
    '{"stage": "decode", "reason": "corrupt", "detail": 7, "cpu_s": 0}',
    '{"stage": "decode", "reason": "corrupt", "detail": "\\ud800", "cpu_s": 0}',
    '{"stage": "decode", "reason": "corrupt", "cpu_s": 0, "__class__": "x"}',
    OPENED,
    "[" * 60_000,
    "7",
    "",
    "\udcff",
    "x" * ((1 << 16) + 1),
]


@pytest.mark.parametrize("lie", LIE, ids=lambda lie: lie[:70])
def test_an_answer_that_cannot_be_is_a_crash(lie):
    heard = told(OPENED, lie, bytes(2 * CLIP_BYTES))
    assert (heard.error.reason, heard.fingerprint) == ("decoder-crash", "e:1")
    assert heard.error.message.startswith("the decoder's answer cannot be")
    assert heard.error.message.isprintable()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e6, -2e6])
def test_samples_that_no_decoder_of_ours_gives_are_a_crash(value):
    samples = np.zeros(SMALL.clip_samples, "<f4")
    samples[7] = value
    heard = told(OPENED, '{"n_clips": 1, "duration_s": 1.0, "cpu_s": 0}', samples.tobytes())
    assert heard.error.reason == "decoder-crash"
    assert decoder_messages.MAX_AMPLITUDE == stretch.MAX_AMPLITUDE


documents = st.fixed_dictionaries(
    {"cpu_s": st.floats(0, 10)},
    optional={
        "stage": st.sampled_from(["fetch", "decode", None]),
        "reason": st.sampled_from(["", "corrupt", "timeout", "not-found", "x"]),
        "detail": st.text(max_size=5),
        "n_clips": st.integers(0, 3),
        "duration_s": st.floats(0, 10) | st.none(),
        "n_bytes": st.integers(0, 1 << 61),
    },
).map(lambda known: Outcome.model_construct(**known).model_dump_json(exclude_unset=True))
answers = st.just(OPENED) | documents | st.binary(max_size=40) | st.just(bytes(CLIP_BYTES)) | st.text(max_size=9)


@settings(max_examples=200)
@given(st.lists(answers, max_size=4))
def test_whatever_a_child_says_the_parent_gets_an_outcome(parts):
    heard = told(*parts)
    assert isinstance(heard, Heard)
    assert (heard.waveforms is None) == (heard.error is not None) == (heard.duration_s is None)
    if heard.error is not None:
        assert heard.error.reason in (FetchError.reasons if heard.error.stage == "fetch" else REASONS)
        assert heard.error.message.isprintable()


def test_a_child_that_does_not_read_does_not_hold_its_parent():
    ours, childs = socket.socketpair()
    with ours, childs, pytest.raises(TimeoutError):
        while True:
            Channel(ours).send(b"/x", deadline=time.monotonic() + 0.05)

"""Every hostile file has its outcome, costs no more than it may, and nothing but it is opened for it."""

import subprocess
import sys

import pytest

from tagfleet.audio.config import DecodeLimits
from tagfleet.audio.decode import REASONS
from tagfleet.catalog.rows import resolve_uri
from tagfleet.fleet.decoder import CHILD, Decoder
from tagfleet.fleet.scan import scan
from tagfleet.store.config import StorageConfig
from tests.hostile import fuzz, places, watched
from tests.hostile.files import TAGGED, song
from tests.hostile.make import bench, make
from tests.hostile.outcomes import LIMITS, hear_all
from tests.hostile.traced_child import CALLS, TRACE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are Linux's here")


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """The outcomes of all, the traces of their decoders (None without strace), and who asked the server."""
    folder, traces = tmp_path_factory.mktemp("hostile"), tmp_path_factory.mktemp("traces")
    traced = watched.strace_works()
    with watched.server() as (port, guests), pytest.MonkeyPatch.context() as patch:
        patch.setenv(TRACE, str(traces / "trace"))
        files = make(folder, port)
        child = "tests.hostile.traced_child" if traced else CHILD
        outcomes = list(hear_all(files, folder, child=child))
    return outcomes, sorted(traces.iterdir()) if traced else None, guests, folder


def test_each_has_the_outcome_that_it_must_have(heard):
    outcomes = heard[0]
    wrong = [f"{o.file.name}: {o.result} ({o.detail})" for o in outcomes if o.result not in o.file.expected]
    assert not wrong, "\n".join(wrong)
    known = {TAGGED, *REASONS, "not-found", "not-a-file", "unsupported-uri"}
    assert {o.result for o in outcomes} <= known
    assert len(outcomes) > 350


def test_none_takes_more_memory_than_a_decoder_may(heard):
    assert max(o.peak_mb for o in heard[0]) < LIMITS.max_memory_mb


def test_names_that_differ_by_normalisation_are_two_tracks(heard):
    one, other = (next(o for o in heard[0] if o.file.name == name) for name in places.TWINS)
    assert (one.detail, other.detail) == ("10.00 s", "5.00 s")


def test_nobody_asked_the_server(heard):
    assert heard[2] == []


def test_nothing_but_the_input_is_opened(heard):
    outcomes, traces, _, folder = heard
    if traces is None:
        pytest.skip("no strace here that may trace: files that FFmpeg opens are not seen")
    inputs = {str(folder / o.file.name) if o.file.uri is None else o.file.uri for o in outcomes}
    seen = set()
    for trace in traces:
        lines = watched.calls(trace)
        names = [watched.opened(line) for line in lines]
        begin = next((n for n, name in enumerate(names) if name in inputs), len(lines))
        others = [
            line
            for line, name in zip(lines[begin:], names[begin:], strict=True)
            if name is None or not (name in inputs or watched.is_code(name))
        ]
        told = [watched.opened(line) or line for line in others]
        assert told == [], "after the first track only inputs are opened, and code"
        seen.update(names[begin:])
    assert len(seen & inputs) > 350
    second = [
        name
        for trace in traces
        for name in map(watched.opened, watched.calls(trace))
        if name == str(folder / "second.wav")
    ]
    assert len(second) == 1, "what others point to was opened for itself, and for none of them"


def test_the_trace_sees_what_ffmpeg_opens(tmp_path):
    if not watched.strace_works():
        pytest.skip("no strace here that may trace")
    (tmp_path / "song.wav").write_bytes(song("wav"))
    with watched.server() as (port, guests):
        code = f"import av; av.open({str(tmp_path / 'song.wav')!r}); av.open('http://127.0.0.1:{port}/x')"
        strace = ["strace", "-f", "-qq", "-xx", "-s", "1000", "-e", f"trace={CALLS}", "-o", str(tmp_path / "trace")]
        subprocess.run([*strace, sys.executable, "-c", code], check=False, capture_output=True, timeout=200)
    lines = [line.split(maxsplit=1)[1] for line in (tmp_path / "trace").read_text().splitlines()]
    assert str(tmp_path / "song.wav") in map(watched.opened, lines)
    assert any(line.startswith("connect(") and "AF_INET" in line for line in lines)
    assert guests


def test_a_scan_takes_what_is_in_the_folder_and_nothing_else(tmp_path):
    music, elsewhere = tmp_path / "music", tmp_path / "elsewhere"
    music.mkdir()
    elsewhere.mkdir()
    (elsewhere / "secret.wav").write_bytes(song("wav"))
    (music / "out.wav").symlink_to(elsewhere / "secret.wav")
    (music / "up.wav").symlink_to("../elsewhere/secret.wav")
    (music / "folder").symlink_to(elsewhere)
    (music / "passwd.mp3").symlink_to("/etc/passwd")
    for name in places.TWINS:
        (music / name).write_bytes(song("mp3", 5.0))
    found = scan(str(music), StorageConfig(), DecodeLimits(), known=None, advance=lambda *_: None)
    assert found.tracks["track_id"].to_pylist() == sorted(places.TWINS)
    assert len(found.skipped) >= 3
    for uri in ("../elsewhere/secret.wav", f"{music}/../elsewhere/secret.wav", "/etc/passwd", "file:///etc/passwd"):
        with pytest.raises(ValueError, match=r"climbs out|not below"):
            resolve_uri(uri, str(music))


def test_broken_files_without_end(tmp_path):
    """The first ones of a fixed seed, and those that once killed a decoder; the rest is `tests.hostile.fuzz`."""
    tally = fuzz.Tally()
    with Decoder(fuzz.AUDIO, fuzz.LIMITS, StorageConfig()) as decoder:
        for index in range(150):
            fuzz.fuzz(decoder, 0, index, tmp_path / "track", tally)
        assert {"decoder-crash", "timeout"}.isdisjoint(tally.outcomes), tally.text()
        for seed, index, outcome in fuzz.REGRESSIONS:
            again = fuzz.Tally()
            fuzz.fuzz(decoder, seed, index, tmp_path / "track", again)
            assert set(again.outcomes) == {outcome}, again.text()
    assert tally.outcomes[TAGGED] > 20
    assert len(tally.outcomes) > 3


@pytest.mark.skipif(not bench(), reason="../shared/data/flac_test_files is not here: 63 real files are not tried")
def test_the_flac_test_bench_is_among_them(heard):
    assert sum(o.file.group.startswith("FLAC test bench") for o in heard[0]) >= 60


def test_the_same_input_every_time():
    first = fuzz.broken(5, 17)
    assert fuzz.broken(5, 17) == first

"""Playlists, archives, and audio files that point to others: nothing but the file itself may be opened."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.bytes import box, id3, with_box
from tests.hostile.files import Hostile, hostile, song

SECOND = "second.wav"
"""Beside the others, good audio; nothing may open it but who asks for it itself."""


def second() -> Iterator[Hostile]:
    yield hostile(SECOND, "the file that others point to", "tagged", lambda: song("wav"))


def playlists(folder: Path, port: int) -> Iterator[Hostile]:
    """Lists under their own suffix and under those of audio; `port` is the one of a server on this machine."""
    group = "playlists and other lists of files"
    path, url = folder / SECOND, f"http://127.0.0.1:{port}/{SECOND}"
    texts = {}
    for name, target in (("relative", SECOND), ("path", path), ("file", f"file://{path}"), ("http", url)):
        texts[f"{name}.m3u8"] = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"
        texts[f"{name}.ffconcat"] = f"ffconcat version 1.0\nfile '{target}'\n"
        texts[f"{name}.pls"] = f"[playlist]\nNumberOfEntries=1\nFile1={target}\n"
        texts[f"{name}.txt"] = f"{target}"
    texts["url.txt"] = f"concat:{path}|{path}"
    texts["session.sdp"] = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio {port} RTP/AVP 0\n"
    texts["x.mpd"] = f'<?xml version="1.0"?><MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>'
    texts["x.cue"] = f'FILE "{path}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n'
    texts["x.asx"] = f'<asx version="3.0"><entry><ref href="{url}"/></entry></asx>'
    for name, text in texts.items():
        yield hostile(f"list-{name}", group, "unsupported-container", text.encode())
    for suffix in ("mp3", "flac", "wav", "m4a", "ogg"):
        yield hostile(f"list.{suffix}", group, "unsupported-container", texts["http.m3u8"].encode())
    tag = id3(b"TXXX" + bytes(100))
    yield hostile("list-behind-id3.mp3", group, "unsupported-container", tag + texts["http.m3u8"].encode())


def pointing(folder: Path, port: int) -> Iterator[Hostile]:
    """MP4 and QuickTime may say that their samples, or all of them, are elsewhere."""
    group = "m4a whose audio is in another file"
    path, url = folder / SECOND, f"http://127.0.0.1:{port}/{SECOND}"
    references = {"alias": _alias(f"/{SECOND}"), "alias-path": _alias(str(path))}
    for name, target in (("path", str(path)), ("file", f"file://{path}"), ("http", url)):
        references[f"url-{name}"] = box(b"url ", bytes(4) + target.encode() + b"\0")
    for name, reference in references.items():
        yield hostile(f"{name}.m4a", group, "truncated corrupt empty tagged", lambda r=reference: elsewhere(r))
    for name, target in (("file", f"file://{path}"), ("http", url)):
        rdrf = box(b"rdrf", bytes(4) + b"url " + len(target).to_bytes(4, "big") + target.encode())
        film = box(b"moov", box(b"rmra", box(b"rmda", rdrf)))
        yield hostile(f"movie-{name}.m4a", group, "no-audio-stream corrupt", box(b"ftyp", b"qt  \0\0\0\0") + film)


def elsewhere(reference: bytes) -> bytes:
    """The song as m4a with `reference` as the place of its samples."""
    path = (b"moov", b"trak", b"mdia", b"minf", b"dinf")
    dref = box(b"dref", bytes(4) + b"\0\0\0\1" + reference)
    return with_box(song("m4a"), path, dref, instead=b"dref")


def _alias(path: str) -> bytes:
    """QuickTime's alias record with a POSIX path."""
    name = path.encode()
    record = bytes(4 + 10 + 28 + 12 + 64 + 16) + b"\0\1\0\1" + bytes(16)
    record += b"\0\2" + len(name).to_bytes(2, "big") + name + bytes(len(name) % 2) + b"\xff\xff\0\0"
    return box(b"alis", record)


def archives() -> Iterator[Hostile]:
    group = "archives"
    for suffix in ("zip", "gz", "tar", "mp3"):
        yield hostile(f"archive.{suffix}", group, "unsupported-container", lambda s=suffix: _archive(s))
    # A tar begins with the name of its first file, which may look like the first bytes of another format.
    for name, expected in (
        ("fLaC", "corrupt"),
        ("OggS", "corrupt"),
        ("RIFFxxxxWAVE", "truncated corrupt"),
        ("xxxxftyp", "corrupt no-audio-stream"),
    ):
        yield hostile(f"{name}.tar", group, expected, lambda name=name: _tar(name))


def _archive(suffix: str) -> bytes:
    if suffix == "gz":
        return gzip.compress(song("wav"), mtime=0)
    if suffix == "tar":
        return _tar("song.wav")
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(zipfile.ZipInfo("song.wav"), song("wav"))
    return target.getvalue()


def _tar(name: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(song("flac"))
        archive.addfile(member, io.BytesIO(song("flac")))
    return target.getvalue()

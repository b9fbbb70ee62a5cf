"""The golden path with everything in a bucket of a real S3 server, by the commands that users type."""

import json
import os
from pathlib import Path

import boto3
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

from tagfleet.cli.main import exit_code
from tagfleet.demo.catalog import write_demo
from tagfleet.demo.plan import TAXONOMY_FILE, plan_demo
from tests.signals import encode, music

N_TRACKS = 40
PREFIX = "カタログ #1?50%&a+b"
FAST = ["-s", "train.epochs=2", "-s", "network.width=8"]


@pytest.fixture
def music_bucket(bucket, tmp_path):
    """Demo audio in a bucket; the local copy is gone. Returns the prefix's uri and the catalogue file."""
    folder = tmp_path / "made"
    folder.mkdir()
    write_demo(folder, N_TRACKS, 7)
    client = boto3.client("s3")
    for path in sorted((folder / "audio").rglob("*")):
        if path.is_file():
            client.put_object(
                Bucket=bucket, Key=f"{PREFIX}/{path.relative_to(folder / 'audio').as_posix()}", Body=path.read_bytes()
            )
            path.unlink()
    return f"s3://{bucket}/{PREFIX}", folder / "catalog.csv"


def run(capsys, *words):
    """The JSON document that a command prints."""
    code = exit_code([*words, "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err + printed.out
    return json.loads(printed.out)


def test_catalogue_model_data_and_commit_live_in_the_bucket(
    music_bucket, bucket, tmp_path, capsys, monkeypatch, ray_local
):
    audio, catalog = music_bucket
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    at = ("--root", f"s3://{bucket}/根 #?%&+")

    imported = run(capsys, *at, "catalog", "import", str(catalog), "--audio-root", audio)
    assert imported["added"] == N_TRACKS
    assert run(capsys, *at, "catalog", "stats")["n_without_audio"] == 0
    run(capsys, *at, "labels", "build", "all", "--taxonomy", str(TAXONOMY_FILE))
    trained = run(capsys, *at, "train", *FAST, "--run-id", "t1")
    assert {axis["axis"] for axis in trained["evaluation"]["axes"]} == {"genre", "instrument", "mood"}

    assert run(capsys, *at, "models", "promote", "tagger", "--force")["production"] == "tagger:1"

    report = run(capsys, *at, "retag", "--run-id", "r1")
    assert report["n_tagged"] + report["n_failed"] == N_TRACKS
    assert report["n_failed"] == sum(track.bad not in (None, "silent") for track in plan_demo(N_TRACKS, 7))
    again = run(capsys, *at, "retag")
    assert (again["n_tagged"], again["n_unchanged"]) == (0, N_TRACKS)

    tagged = run(
        capsys, *at, "predictions", "query", "status = 'tagged'", "--limit", "0", "--columns", "track_id,uri,genre"
    )
    assert len(tagged) == report["n_tagged"]
    assert all(row["uri"].startswith(audio + "/") for row in tagged)
    one = run(capsys, *at, "predictions", "show", tagged[0]["track_id"])
    assert one["genre"] == tagged[0]["genre"]

    boto3.client("s3").put_object(Bucket=bucket, Key="own/曲 1.wav", Body=encode(music(9, 44_100), 44_100, "wav"))
    assert run(capsys, *at, "catalog", "scan", f"s3://{bucket}/own")["added"] == 1
    assert run(capsys, *at, "retag")["reasons"] == {"new": 1}
    (own,) = run(capsys, *at, "predictions", "query", "source_name = '曲 1.wav' AND genre IS NOT NULL")
    assert own["track_id"] == "曲 1.wav"

    exported = run(capsys, *at, "predictions", "export", "parquet", f"s3://{bucket}/export")
    s3 = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"].removeprefix("http://"), scheme="http")
    rows = pq.read_table(f"{bucket}/export/{exported['path']}", filesystem=s3)
    assert rows.num_rows == N_TRACKS + 1

    assert not list(here.iterdir())
    keys = [info.path for info in s3.get_file_info(fs.FileSelector(f"{bucket}/根 #?%&+", recursive=True))]
    for part in (
        "catalog/_delta_log",
        "labels/_delta_log",
        "reports/labels-0",
        "predictions/_delta_log",
        "models/tagger/1",
        "runs/t1",
        "runs/r1",
    ):
        assert any(f"/{part}/" in key for key in keys), part


def test_a_scan_of_a_bucket_is_the_catalogue(music_bucket, bucket, tmp_path, capsys):
    audio, _ = music_bucket
    root = ("--root", str(tmp_path / "root"))
    scanned = run(capsys, *root, "catalog", "scan", audio)
    assert scanned["n_tracks"] == N_TRACKS
    facts = run(capsys, *root, "catalog", "stats")
    assert facts["n_without_duration"] <= 3
    assert Path(root[1]).is_dir()
    assert run(capsys, *root, "catalog", "scan", audio) == {
        **scanned,
        "added": 0,
        "unchanged": N_TRACKS,
        "version": None,
    }

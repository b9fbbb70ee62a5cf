"""Real recordings: spoken digits (label = digit, creator = speaker), tagged for two speakers that were never heard."""

import json
from pathlib import Path

import pytest

from tagfleet.cli.main import exit_code
from tagfleet.labels.split import split_of

FSDD = Path(__file__).parents[3] / "shared" / "data" / "fsdd"
DIGITS = range(10)
SUFFIX = "-12"
"""Behind the speakers' names: puts two of the six on the test side and one on the validation side."""
CHANCE = 0.1

pytestmark = pytest.mark.skipif(not FSDD.is_dir(), reason="../shared/data/fsdd (spoken digits) is not on this machine")


def creator(recording: Path) -> str:
    return recording.stem.split("_")[1] + SUFFIX


@pytest.fixture
def settings(tmp_path):
    """A catalogue file, a taxonomy of ten digits, and settings for recordings of half a second."""
    with (tmp_path / "digits.jsonl").open("w", encoding="utf-8") as rows:
        for recording in sorted(FSDD.glob("*.wav")):
            row = {"track_id": recording.stem, "uri": recording.name, "tags": [recording.stem[0]]}
            rows.write(json.dumps({**row, "creator_id": creator(recording)}) + "\n")
    labels = "".join(f'[[axes.labels]]\nid = "{d}"\nja = "{d}"\nen = "{d}"\n' for d in DIGITS)
    (tmp_path / "digits.toml").write_text(f'name = "digits"\n[[axes]]\naxis = "digit"\nexclusive = true\n{labels}')
    (tmp_path / "tagfleet.toml").write_text(
        'root = "root"\n[audio]\nclip_frames = 48\nn_clips = 1\n[audio.log_mel]\nf_max = 4000\n'
        "[network]\nwidth = 16\nn_blocks = 5\n[data]\nclips_per_track = 1\n[train]\nepochs = 10\n"
    )
    return tmp_path / "tagfleet.toml"


def test_digits_of_two_unheard_speakers_are_told_apart(settings, tmp_path, capsys, ray_local):
    def run(*words):
        code = exit_code(["-c", str(settings), *words, "--json"])
        printed = capsys.readouterr()
        assert code == 0, printed.err + printed.out
        return json.loads(printed.out)

    recordings = sorted(FSDD.glob("*.wav"))
    unheard = {recording.stem for recording in recordings if split_of(f"creator {creator(recording)}") == "test"}
    assert len({name.split("_")[1] for name in unheard}) == 2

    run("catalog", "import", str(tmp_path / "digits.jsonl"), "--audio-root", str(FSDD))
    run("labels", "build", "all", "--taxonomy", str(tmp_path / "digits.toml"))
    trained = run("train", "--run-id", "digits")
    run("models", "promote", "tagger", "--force")
    report = run("retag", "--run-id", "tag-digits")
    assert report["n_tagged"] == len(recordings)
    rows = run("predictions", "query", "true", "--limit", "0", "--columns", "track_id,tags")
    right = [row["tags"][0]["label"] == row["track_id"][0] for row in rows if row["track_id"] in unheard]
    accuracy = sum(right) / len(right)
    with capsys.disabled():
        print(f"\nfsdd: {accuracy:.3f} of {len(right)} digits of two unheard speakers are right (chance {CHANCE})")
    measured = trained["evaluation"]["axes"][0]["model"]["measures"]["accuracy"]["value"]
    assert accuracy == pytest.approx(measured, abs=0.03)  # evaluation is what tagging gives
    assert accuracy > 2 * CHANCE  # 0.1 would be five standard errors below

"""`labels build` killed at any moment: readers see the labels before or after, and the next build needs no repair."""

import subprocess
import sys
import time

import pytest

from tagfleet.fleet.label_store import current_taxonomy
from tagfleet.fleet.labelling import label_catalog
from tagfleet.labels.config import LabelsConfig
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table
from tests.labels.words import tracks

TEXTS = [
    (["ロック", "ピアノ"], "明るい曲です。"),
    (["バラード"], "切ない、悲しい曲。"),
    ([], "ドラムは入っていません。"),
]


def test_a_killed_build_leaves_whole_labels(tmp_path):
    root = Storage(str(tmp_path / "root"))
    rows = [(f"t{n}", *TEXTS[n % len(TEXTS)]) for n in range(3000)]
    Table(root, "catalog").replace(tracks(*rows), note="")
    expected = label_catalog(root, current_taxonomy(root, LabelsConfig()), LabelsConfig()).build.labels
    labels = Table(root, "labels")
    words = [sys.executable, "-m", "tagfleet", "--root", root.root, "labels", "build", "all"]
    for delay_s in (0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1):
        before = labels.version()
        build = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
        time.sleep(delay_s)
        build.kill()
        build.wait()
        assert labels.version() in (before, before + 1)
        assert labels.read().equals(expected)
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert f"Labels version {labels.version()}" in done.stderr
    assert labels.read().equals(expected)


@pytest.mark.parametrize("second", ["all", "genre"])
def test_of_two_builds_at_once_nothing_is_lost(tmp_path, second):
    root = Storage(str(tmp_path / "root"))
    Table(root, "catalog").replace(tracks(*((f"t{n}", *TEXTS[n % 3]) for n in range(300))), note="")
    expected = label_catalog(root, current_taxonomy(root, LabelsConfig()), LabelsConfig()).build.labels
    words = [sys.executable, "-m", "tagfleet", "--root", root.root, "labels", "build"]
    builds = [
        subprocess.Popen([*words, axis], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        for axis in ("all", second)
    ]
    told = [build.communicate()[1] for build in builds]
    codes = [build.returncode for build in builds]
    labels = Table(root, "labels")
    assert labels.version() == codes.count(0)
    assert 0 in codes and set(codes) <= {0, 1}
    assert all("went from version" in text or "first" in text for text, code in zip(told, codes, strict=True) if code)
    assert labels.read().equals(expected)

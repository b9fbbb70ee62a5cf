"""Labels in a storage root: versions, the taxonomy they come from, one axis anew, corrections, and Ray."""

import json
from collections import Counter

import pyarrow.compute as pc
import pytest

from tagfleet.catalog.files import read_table
from tagfleet.errors import ConflictError, NotFoundError, TaxonomyError
from tagfleet.fleet.label_store import (
    current_taxonomy,
    report_key,
    store_taxonomy,
    stored_corrections,
    stored_labels,
    stored_report,
    taxonomy_key,
)
from tagfleet.fleet.labelling import label_catalog, merge_into_labels
from tagfleet.fleet.resources import RayConfig
from tagfleet.labels.config import LabelsConfig
from tagfleet.labels.corrections import COLUMNS
from tagfleet.labels.revision import TaxonomyChange, revise
from tagfleet.labels.taxonomy import load_taxonomy
from tagfleet.store.objects import Storage
from tagfleet.store.tables import Table
from tests.labels.words import TAXONOMY, tracks

CONFIG = LabelsConfig()
TEXTS = [
    (["ロック", "エレキギター", "明るい"], "ドラムは入っていません。とても楽しい曲です。"),
    (["ﾋﾟｱﾉ", "バラード", "ロック"], "切なくて悲しい、暗い曲。"),
    (["クラシックギター", "作業用BGM"], ""),
    ([], "エモい夜に。Happy and bright song without strings."),
    (["ポップアップ", "夏"], "3分くらいの曲です"),
]


def catalogue(n=25):
    return tracks(
        *(
            {"track_id": f"t{k:03d}", "tags": tags, "description": text, "creator_id": f"c{k % 9}"}
            for k, (tags, text) in ((k, TEXTS[k % len(TEXTS)]) for k in range(n))
        )
    )


@pytest.fixture
def root(any_root):
    storage = Storage(any_root)
    Table(storage, "catalog").replace(catalogue(), note="")
    return storage


def merged(root, text, **options):
    rows = read_table(f"track_id,axis,label,note\n{text}".encode(), COLUMNS[:3])
    return merge_into_labels(root, rows, CONFIG, dry_run=False, **options)


def labels_of(root, track_id):
    rows = Table(root, "labels").read(where={"track_id": track_id}).to_pylist()
    return {(row["axis"], row["label"], row["rule"]) for row in rows}


def test_labels_are_a_version_with_their_taxonomy_and_report(root):
    made = label_catalog(root, TAXONOMY, CONFIG)
    assert (made.version, made.previous, made.changes) == (0, None, [])
    labels, taxonomy = stored_labels(root)
    assert labels.equals(made.build.labels)
    assert taxonomy.parents == (TAXONOMY.version,)
    have = set(zip(labels["axis"].to_pylist(), labels["label"].to_pylist(), strict=True))
    assert {(axis.axis, label.id) for axis in taxonomy.axes for label in axis.labels} == have
    report = stored_report(root)
    assert report["axes"]["genre"]["conflicts"] == [{"first": "ballad", "other": "rock", "n_tracks": 5}]
    assert root.read(report_key(0, "polarity.svg")).startswith(b"<svg")


def test_a_dry_run_writes_nothing(root):
    assert label_catalog(root, TAXONOMY, CONFIG, dry_run=True).version is None
    assert not Table(root, "labels").exists()
    assert not root.exists(taxonomy_key(TAXONOMY.version))
    assert not root.exists(report_key(0, "report.json"))


def test_building_twice_gives_the_same_rows_and_no_change(root):
    first = label_catalog(root, TAXONOMY, CONFIG)
    again = label_catalog(root, TAXONOMY, CONFIG)
    assert again.build.labels.equals(first.build.labels)
    assert (again.version, again.previous, again.changes, again.n_changed_tracks) == (1, 0, [], 0)


def test_a_change_of_the_taxonomy_tells_which_tracks_moved(root):
    label_catalog(root, TAXONOMY, CONFIG)
    merge = [{"axis": "genre", "labels": ["rock", "ballad"], "into": "rock"}]
    made = label_catalog(root, revise(TAXONOMY, TaxonomyChange.model_validate({"merge": merge})), CONFIG)
    moved = [(c.kind, c.old, c.new, c.n_tracks) for c in made.changes]
    assert ("moved", "ballad", "rock", 5) in moved
    assert made.n_changed_tracks == 5
    sides = [
        dict(zip(t["track_id"].to_pylist(), t["split"].to_pylist(), strict=True))
        for t in map(Table(root, "labels").read, (0, 1))
    ]
    assert sides[0] == sides[1]  # a taxonomy re-draws nothing


def test_the_revised_taxonomy_is_used_until_another_is_named(root, tmp_path):
    assert current_taxonomy(root, CONFIG).name == "default"
    revised = revise(TAXONOMY, TaxonomyChange.model_validate({"drop": [{"axis": "genre", "label": "edm"}]}))
    label_catalog(root, revised, CONFIG)
    assert current_taxonomy(root, CONFIG) == revised
    path = tmp_path / "words.json.toml"
    import tomli_w

    path.write_text(tomli_w.dumps(TAXONOMY.model_dump(mode="json", exclude_none=True)))
    start = LabelsConfig(taxonomy=str(path))
    assert load_taxonomy(path) == TAXONOMY
    assert current_taxonomy(root, start) == revised  # it comes from the one in the settings
    assert current_taxonomy(root, start, path) == TAXONOMY
    path.write_text(path.read_text().replace('name = "words"', 'name = "other"'))
    assert current_taxonomy(root, start).name == "other"
    from pathlib import Path

    assert current_taxonomy(root, start, Path("default")).name == "default"


def test_one_axis_is_made_anew_and_the_others_stay(root):
    label_catalog(root, TAXONOMY, CONFIG)
    dropped = revise(TAXONOMY, TaxonomyChange.model_validate({"drop": [{"axis": "genre", "label": "ballad"}]}))
    made = label_catalog(root, dropped, CONFIG, axis="genre")
    before, after = Table(root, "labels").read(0), Table(root, "labels").read(1)
    others = [
        table.filter(pc.not_equal(table["axis"], "genre")).drop_columns("taxonomy_version") for table in (before, after)
    ]
    assert others[0].equals(others[1])
    assert set(after["taxonomy_version"].to_pylist()) == {dropped.version}
    assert after.equals(made.build.labels)
    both = revise(dropped, TaxonomyChange.model_validate({"drop": [{"axis": "mood", "label": "dark"}]}))
    with pytest.raises(TaxonomyError, match="the words of mood changed too"):
        label_catalog(root, both, CONFIG, axis="genre")
    with pytest.raises(TaxonomyError, match="no axis 'tempo'"):
        label_catalog(root, TAXONOMY, CONFIG, axis="tempo")


def test_one_axis_needs_labels_to_stand_beside(root):
    with pytest.raises(TaxonomyError, match="no labels to put genre beside"):
        label_catalog(root, TAXONOMY, CONFIG, axis="genre")


def test_corrections_win_now_and_after_a_rebuild(root):
    label_catalog(root, TAXONOMY, CONFIG)
    made = merged(root, "t001,genre,rock,聴いた\nt002,instrument,none,\n")
    assert (made.new.num_rows, made.version, made.void) == (2, 1, [])
    assert {(c.kind, c.old, c.new) for c in made.changes} >= {("moved", "ballad", "rock")}
    assert ("genre", "rock", "correction") in labels_of(root, "t001")
    assert {rule for axis, _, rule in labels_of(root, "t002") if axis == "instrument"} == {"correction"}
    assert label_catalog(root, TAXONOMY, CONFIG).n_changed_tracks == 0
    assert ("genre", "rock", "correction") in labels_of(root, "t001")
    assert stored_report(root)["n_corrected"] == 2


def test_corrections_may_come_before_labels(root):
    assert merged(root, "t001,genre,rock,\n").version is None
    label_catalog(root, TAXONOMY, CONFIG)
    assert ("genre", "rock", "correction") in labels_of(root, "t001")


def test_a_merge_keeps_every_track_on_its_side(root):
    label_catalog(root, TAXONOMY, CONFIG)
    moved = catalogue().to_pylist()
    for row in moved:
        row["creator_id"] = f"other {row['creator_id']}"
    Table(root, "catalog").replace(tracks(*moved), note="")
    merged(root, "t001,genre,rock,\n")
    sides = {}
    for row in Table(root, "labels").read().to_pylist():
        sides.setdefault(row["track_id"], set()).add(row["split"])
    assert all(len(of_track) == 1 for of_track in sides.values())


def test_a_build_that_was_killed_before_its_report_keeps_the_taxonomy(root):
    label_catalog(root, TAXONOMY, CONFIG)
    root.delete(report_key(0, "report.json"))
    assert current_taxonomy(root, CONFIG) == TAXONOMY


def test_the_report_on_one_axis_keeps_what_was_counted_on_the_others(root):
    many = [{**row, "creator_id": row["track_id"]} for row in catalogue(200).to_pylist()]
    Table(root, "catalog").replace(tracks(*many), note="")
    label_catalog(root, TAXONOMY, LabelsConfig(min_per_side=9))
    before = stored_report(root)
    assert any(name.startswith("instrument:") for name in before["rare"])
    made = label_catalog(root, TAXONOMY, CONFIG, axis="genre")
    after = stored_report(root)
    assert set(made.build.axes) == {"genre"}
    assert after["axes"]["mood"] == before["axes"]["mood"]
    assert after["scores"] == before["scores"]
    assert after["rare"] == {name: n for name, n in before["rare"].items() if not name.startswith("genre:")}
    stored = Table(root, "labels").read()
    there = Counter(zip(stored["axis"].to_pylist(), stored["label"].to_pylist(), strict=True))
    assert {(row["axis"], row["label"]): row["n_tracks"] for row in after["labels"] if row["n_tracks"]} == there


def test_an_empty_build_keeps_the_taxonomy(root):
    Table(root, "catalog").replace(tracks(("1", ["夏"])), note="")
    label_catalog(root, TAXONOMY, CONFIG)
    assert current_taxonomy(root, CONFIG) == TAXONOMY


def test_a_dry_merge_writes_nothing(root):
    label_catalog(root, TAXONOMY, CONFIG)
    rows = read_table(b"track_id,axis,label,note\nt001,genre,rock,\n", COLUMNS[:3])
    made = merge_into_labels(root, rows, CONFIG, dry_run=True)
    assert made.version is None and made.changes and stored_corrections(root) is None
    assert Table(root, "labels").version() == 0


def test_of_two_builds_at_once_one_commits_and_the_other_says_so(root, monkeypatch):
    label_catalog(root, TAXONOMY, CONFIG)
    from tagfleet.fleet import labelling

    settle = labelling.settle_labels

    def meanwhile(*args, **options):
        monkeypatch.setattr(labelling, "settle_labels", settle)
        label_catalog(root, TAXONOMY, CONFIG)
        return settle(*args, **options)

    monkeypatch.setattr(labelling, "settle_labels", meanwhile)
    with pytest.raises(ConflictError, match="went from version 0 to 1"):
        label_catalog(root, TAXONOMY, CONFIG)
    assert Table(root, "labels").version() == 1


def test_without_labels_there_is_nothing_to_learn(root):
    Table(root, "catalog").replace(tracks(("1", ["夏"])), note="")
    label_catalog(root, TAXONOMY, CONFIG)
    with pytest.raises(NotFoundError, match="nothing to learn"):
        stored_labels(root)


@pytest.mark.parametrize("block_tracks", [1, 7, 1000])
def test_ray_gives_the_same_rows_as_one_process(tmp_path, ray_local, monkeypatch, block_tracks):
    from tagfleet.fleet import labelling

    root = Storage(str(tmp_path / "root"))
    Table(root, "catalog").replace(catalogue(), note="")
    here = label_catalog(root, TAXONOMY, CONFIG)
    monkeypatch.setattr(labelling, "BLOCK_TRACKS", block_tracks)
    done = []
    there = label_catalog(
        root, TAXONOMY, CONFIG, ray_config=RayConfig(), advance=lambda n, failed: done.append(n), dry_run=True
    )
    assert there.build.labels.equals(here.build.labels)
    assert (there.build.counts, there.build.axes) == (here.build.counts, here.build.axes)
    assert done[-1] == 25
    assert there.n_changed_tracks == 0


def test_the_job_labels_the_catalogue_of_its_settings(tmp_path, ray_local, monkeypatch, capsys):
    from jobs.build_labels import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tagfleet.toml").write_text('root = "root"\n')
    root = Storage(str(tmp_path / "root"))
    Table(root, "catalog").replace(catalogue(), note="")
    store_taxonomy(root, TAXONOMY)
    assert main([]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["version"] == 0
    assert report["taxonomy"].startswith("default-")
    assert main(["tempo"]) == 1
    assert "no axis 'tempo'" in capsys.readouterr().err

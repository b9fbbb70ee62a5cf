from tagfleet.labels.build import build_labels
from tagfleet.labels.config import LabelsConfig
from tagfleet.labels.diff import diff_labels, n_changed_tracks
from tests.labels.words import READER, TAXONOMY, tracks


def labels(*rows):
    return build_labels(tracks(*rows), TAXONOMY, LabelsConfig(), READER).labels


OLD = labels(("1", ["ロック", "ピアノ"]), ("2", ["ロック"]), ("3", ["ロック"]), ("4", ["ドラム"]))
NEW = labels(
    ("1", ["ポップス", "ピアノ"]), ("2", ["ポップス"]), ("3", None), ("4", ["ドラム", "ピアノ"]), ("5", ["EDM"])
)


def told(old, new):
    return [(c.axis, c.kind, c.old, c.new, c.rule, c.n_tracks, c.examples) for c in diff_labels(old, new, {"genre"})]


def test_changes_are_gained_lost_or_moved_by_rule():
    assert told(OLD, NEW) == [
        ("genre", "moved", "rock", "pops", "name", 2, ("1", "2")),
        ("genre", "gained", None, "edm", "name", 1, ("5",)),
        ("genre", "lost", "rock", None, "name", 1, ("3",)),
        ("instrument", "gained", None, "piano", "name", 1, ("4",)),
    ]
    assert n_changed_tracks(OLD, NEW) == 5


def test_the_other_way_round_is_the_opposite():
    opposite = {"gained": "lost", "lost": "gained", "moved": "moved"}
    assert {(c[0], opposite[c[1]], c[3], c[2], c[5]) for c in told(NEW, OLD)} == {
        (c[0], c[1], c[2], c[3], c[5]) for c in told(OLD, NEW)
    }


def test_nothing_changed_is_nothing_told():
    assert told(OLD, OLD) == []
    assert n_changed_tracks(OLD, OLD) == 0


def test_a_move_exists_only_where_labels_exclude_each_other():
    one, other = labels(("1", ["ピアノ"])), labels(("1", ["ドラム"]))
    assert [c[1] for c in told(one, other)] == ["gained", "lost"]

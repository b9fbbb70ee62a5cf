"""Every part of k8s/ does something, and says what it means."""

import pytest
import yaml

from tests.k8s import rules_ray
from tests.k8s.rendering import rendered
from tests.k8s.sources import idle_parts, plain_switches, renaming


def edit(file, change):
    kustomization = yaml.safe_load(file.read_text())
    change(kustomization)
    file.write_text(yaml.safe_dump(kustomization))


def test_switches_are_not_plain(k8s_copy):
    assert plain_switches(k8s_copy) == []


def test_names_stay(k8s_copy):
    assert renaming(k8s_copy) == []


def test_every_part_changes_something(k8s_copy):
    before = {file: file.read_bytes() for file in k8s_copy.rglob("*.yaml")}
    assert idle_parts(k8s_copy) == []
    assert before == {file: file.read_bytes() for file in k8s_copy.rglob("*.yaml")}


@pytest.mark.parametrize("word", ["y", "No", "ON", "off"])
def test_a_plain_switch_is_named(k8s_copy, word):
    (k8s_copy / "base/odd.yaml").write_text(f"quoted: '{word}'\nanswer: {word}\n")
    assert plain_switches(k8s_copy) == [f"base/odd.yaml:2: plain {word}: write true, false or quotes"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda k: k.update(namePrefix="dev-"), "overlays/dev/kustomization.yaml: namePrefix"),
        (lambda k: k.pop("generatorOptions"), "overlays/dev/kustomization.yaml: configMapGenerator with hashes"),
        (lambda k: k.update(secretGenerator=[]), "overlays/dev/kustomization.yaml: secretGenerator"),
    ],
)
def test_a_renaming_is_named(k8s_copy, change, told):
    edit(k8s_copy / "overlays/dev/kustomization.yaml", change)
    assert renaming(k8s_copy) == [told]


def test_idle_patches_are_named(k8s_copy):
    only_dev = [
        file for file in k8s_copy.rglob("kustomization.yaml") if file.parent.name not in ("base", "dev", "jobs")
    ]
    for file in only_dev:  # what takes long is rendered in the test above
        file.unlink()
    dev = k8s_copy / "overlays/dev"
    edit(k8s_copy / "components/jobs/kustomization.yaml", lambda k: k.pop("replacements"))
    (dev / "twice.yaml").write_text(
        "- {op: replace, path: /spec/workerGroupSpecs/0/maxReplicas, value: 2}\n"
        "- {op: replace, path: /spec/workerGroupSpecs/0/minReplicas, value: 1}\n"
    )

    def change(kustomization):
        kustomization["patches"] += [
            {"target": {"kind": "RayCluster", "name": "tagflet"}, "patch": "- {op: remove, path: /spec/rayVersion}"},
            {"target": {"kind": "RayCluster", "name": "tagfleet"}, "path": "twice.yaml"},
        ]

    edit(dev / "kustomization.yaml", change)
    where = "overlays/dev/kustomization.yaml: patches"
    assert idle_parts(k8s_copy) == [
        f"{where} RayCluster tagflet changes nothing",
        f"{where} RayCluster tagfleet: /spec/workerGroupSpecs/0/maxReplicas changes nothing",
    ]


def test_components_in_the_wrong_order_are_named(k8s_copy):
    edit(k8s_copy / "overlays/prod-cpu/kustomization.yaml", lambda k: k["components"].reverse())
    told = rules_ray.jobs_have_the_cluster(rendered(k8s_copy / "overlays/prod-cpu"))
    assert "RayJob/tagfleet-retag: workerGroupSpecs is not that of RayCluster/tagfleet" in told
    assert "RayJob/tagfleet-retag: a driver dies with its head, whatever Redis remembers" in told

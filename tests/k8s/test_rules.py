"""Every overlay keeps every rule, and every rule sees the mistakes that it is for."""

import tomllib

import pytest

from tests.k8s import rules
from tests.k8s.documents import name_of, pods
from tests.k8s.planted import mistakes, spoilt
from tests.k8s.rendering import K8S, OVERLAYS, REPOSITORY

CHECKS = {check.__name__: check for check in (*rules.ALL, *rules.SCHEMAS)}


@pytest.mark.parametrize("overlay", [*OVERLAYS, "everything"])
@pytest.mark.parametrize("check", CHECKS)
def test_every_overlay_keeps_the_rule(overlays, overlay, check):
    assert CHECKS[check](overlays[overlay]) == []


@pytest.mark.parametrize("mistake", mistakes(), ids=str)
def test_a_planted_mistake_is_named(overlays, mistake):
    told = CHECKS[mistake.rule](spoilt(overlays["everything"], mistake))
    assert any(mistake.told in line for line in told), told


def test_every_rule_has_a_planted_mistake():
    assert CHECKS.keys() == {mistake.rule for mistake in mistakes()}


def test_pods_are_found_wherever_they_stand(overlays):
    found = {pod.where for pod in pods(overlays["everything"])}
    assert len(found) == 13  # three clusters of three groups, two submitters, the nightly, Redis
    assert {
        "RayCluster/tagfleet",
        "RayJob/tagfleet-retag",
        "RayJob/tagfleet-train",
        "CronJob/tagfleet-nightly",
        "StatefulSet/tagfleet-redis",
    } == {where.split()[0] for where in found}


def test_only_production_has_gpus_and_redis(overlays):
    text = {name: str(documents) for name, documents in overlays.items()}
    assert [name for name in OVERLAYS if "nvidia.com/gpu" in text[name]] == ["prod-gpu"]
    assert [name for name in OVERLAYS if "tagfleet-redis" in text[name]] == ["prod-cpu", "prod-gpu"]


def test_no_document_is_there_twice(overlays):
    for documents in overlays.values():
        names = [name_of(document) for document in documents]
        assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_profile_of_a_name_is_the_overlay(overlay):
    profile = tomllib.loads((REPOSITORY / "cluster/profiles.toml").read_text(encoding="utf-8"))[overlay]
    settings = tomllib.loads((K8S / "overlays" / overlay / "tagfleet.toml").read_text(encoding="utf-8"))
    settings["ray"].pop("address")  # inside the cluster it is found; the profile's is that of the Jobs API
    assert {key: profile.get(key) for key in settings} == settings

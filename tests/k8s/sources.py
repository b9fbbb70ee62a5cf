"""Rules about the files of k8s/ themselves: what a rendered document no longer shows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.k8s.rendering import RenderError, rendered_text

SWITCHES = {word for text in ("y", "n", "yes", "no", "on", "off") for word in (text, text.upper(), text.capitalize())}
RENAMING = ("namePrefix", "nameSuffix", "secretGenerator")


def plain_switches(k8s: Path) -> list[str]:
    """Words that YAML 1.1 reads as booleans and YAML 1.2 as text: quoted they are what they look like."""
    wrong = []
    for file in sorted(k8s.rglob("*.yaml")):
        for token in yaml.scan(file.read_text(encoding="utf-8")):
            if isinstance(token, yaml.ScalarToken) and token.plain and token.value in SWITCHES:
                line = token.start_mark.line + 1
                wrong.append(f"{file.relative_to(k8s)}:{line}: plain {token.value}: write true, false or quotes")
    return wrong


def renaming(k8s: Path) -> list[str]:
    """Prefixes, suffixes and hashes, which kustomize does not follow into ray.io kinds; Secrets belong in no commit."""
    wrong = []
    for file, kustomization in kustomizations(k8s):
        where = file.relative_to(k8s)
        wrong += [f"{where}: {key}" for key in RENAMING if key in kustomization]
        hashed = not kustomization.get("generatorOptions", {}).get("disableNameSuffixHash")
        if "configMapGenerator" in kustomization and hashed:
            wrong.append(f"{where}: configMapGenerator with hashes")
    return wrong


def idle_parts(k8s: Path) -> list[str]:
    """Patches, single operations of them, and replacements that change nothing.

    Each is taken out, and what can show its effect rendered again. A patch whose target matches nothing is no error to
    kustomize.
    """
    wrong = []
    whole: dict[Path, str] = {}
    for file, kustomization in kustomizations(k8s):
        probe = file.parent if "overlays" in file.parts else k8s / "overlays/everything"
        for key, index, part in _parts(kustomization):
            before = whole.setdefault(probe, rendered_text(probe))
            rest = [other for place, other in enumerate(kustomization[key]) if place != index]
            without = _rendered_with(file, {**kustomization, key: rest}, probe)
            where = f"{file.relative_to(k8s)}: {key} {_short(part)}"
            if without == before:
                wrong.append(f"{where} changes nothing")
            elif key == "patches":
                wrong += [f"{where}: {path} changes nothing" for path in _idle_operations(file, part, without)]
    return wrong


def kustomizations(k8s: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every kustomization.yaml, read."""
    for file in sorted(k8s.rglob("kustomization.yaml")):
        yield file, yaml.safe_load(file.read_text(encoding="utf-8"))


def _parts(kustomization: dict[str, Any]) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for key in ("patches", "replacements"):
        for index, part in enumerate(kustomization.get(key, ())):
            yield key, index, part


def _rendered_with(file: Path, kustomization: dict[str, Any], probe: Path) -> str:
    """What `probe` is with another kustomization.yaml; empty where it cannot be rendered."""
    before = file.read_text(encoding="utf-8")
    file.write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    try:
        return rendered_text(probe)
    except RenderError:
        return ""
    finally:
        file.write_text(before, encoding="utf-8")


def _idle_operations(file: Path, part: dict[str, Any], without: str) -> Iterator[str]:
    """Paths of a JSON patch whose value is there without the patch."""
    text = (file.parent / part["path"]).read_text(encoding="utf-8") if "path" in part else part.get("patch", "")
    operations = yaml.safe_load(text)
    for document in yaml.safe_load_all(without):
        if document["kind"] != part["target"]["kind"] or document["metadata"]["name"] != part["target"].get("name"):
            continue
        for operation in operations if isinstance(operations, list) else ():
            if operation["op"] != "test" and _at(document, operation["path"]) == operation.get("value"):
                yield operation["path"]


def _at(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer; None where there is none.

    >>> _at({"a": [{"b/c": 1}]}, "/a/0/b~1c"), _at({"a": []}, "/a/-")
    (1, None)
    """
    for word in pointer.split("/")[1:]:
        word = word.replace("~1", "/").replace("~0", "~")
        try:
            document = document[int(word)] if isinstance(document, list) else document[word]
        except (KeyError, IndexError, ValueError):
            return None
    return document


def _short(part: dict[str, Any]) -> str:
    source = part.get("target") or part.get("source") or {}
    return " ".join(str(source[key]) for key in ("kind", "name", "fieldPath") if key in source)

"""One wrong value in rendered documents."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.k8s.documents import Document, name_of

GONE = object()
SHORT = {
    "head": "spec.headGroupSpec.template.spec",
    "cpu": "spec.workerGroupSpecs.0.template.spec",
    "gpu": "spec.workerGroupSpecs.1.template.spec",
    "night": "spec.jobTemplate.spec.template.spec",
    "submitter": "spec.submitterPodTemplate.spec",
}


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """`value` at a dotted `path` (~ is a dot of a name) of the document `at`; GONE takes away what is there."""

    rule: str
    told: str
    """Part of what the rule says of it."""
    at: str
    path: str = ""
    value: Any = GONE

    def __str__(self) -> str:
        return f"{self.rule}: {self.told}"


def mistakes() -> list[Mistake]:
    """All of mistakes.yaml."""
    table = yaml.safe_load(Path(__file__).with_name("mistakes.yaml").read_text(encoding="utf-8"))
    return [_mistake(rule, *row) for rule, rows in table.items() for row in rows]


def _mistake(rule: str, told: str, at: str, path: str = "", value: Any = GONE) -> Mistake:
    return Mistake(rule=rule, told=told, at=at, path=path.format(**SHORT), value=value)


def spoilt(documents: list[Document], mistake: Mistake) -> list[Document]:
    """A copy with the mistake in it; the place must be there."""
    documents = copy.deepcopy(documents)
    document = next(document for document in documents if name_of(document) == mistake.at)
    if not mistake.path:
        documents.remove(document)
        return documents
    *way, last = [int(word) if word.isdigit() else word.replace("~", ".") for word in mistake.path.split(".")]
    place = document
    for word in way:
        place = place[word]
    if mistake.value is GONE:
        del place[last]
    elif last == "+":
        place.append(mistake.value)
    else:
        place[last] = mistake.value
    return documents

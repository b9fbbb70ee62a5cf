"""What a taxonomy's spellings do to each other that is no contradiction, but that a person should have decided."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tagfleet.labels.phrases import Phrase, PhraseIndex, phrases_of
from tagfleet.labels.taxonomy import Taxonomy, spelling_key
from tagfleet.labels.text import read_prose


@dataclass(frozen=True, kw_only=True)
class Remark:
    """One thing to look at."""

    kind: str
    """`overlap`, `two-axes`, `useless-stop` or `not-one-word`."""
    axis: str
    label: str
    spelling: str
    message: str


def check_taxonomy(taxonomy: Taxonomy) -> list[Remark]:
    """Remarks in the taxonomy's order. (Contradictions cannot be loaded: `load_taxonomy` refuses them.)

    - overlap: a spelling of one label stands inside another's of the axis; the longer wins (エレキギター over ギター);
    - two-axes: one spelling means a label on each of two axes; a track gets both;
    - useless-stop: no spelling of the label stands inside the stop phrase as words by themselves;
    - not-one-word: a spelling that is not found in prose, because the tokenizer sees no word boundary there.
    """
    index = PhraseIndex(phrases_of(taxonomy))
    phrases = list(phrases_of(taxonomy))
    remarks = []
    axes_of: dict[str, dict[str, Phrase]] = defaultdict(dict)
    for phrase in phrases:
        prose = read_prose(phrase.spelling)
        hits = index.find(prose)
        own = [hit for hit in hits if hit.phrase[:2] == phrase[:2]]
        if phrase.rule == "stop":
            if not any(hit.phrase.rule != "stop" for hit in own):
                remarks.append(_remark("useless-stop", phrase, "no spelling of the label stands in it as a word"))
            continue
        axes_of[spelling_key(phrase.spelling)].setdefault(phrase.axis, phrase)
        whole = (0, len(prose.folded.text))
        if not any(hit[1:] == whole for hit in own):
            remarks.append(_remark("not-one-word", phrase, "found as a whole tag, not in a description"))
        inside = {
            hit.phrase.label: hit
            for hit in hits
            if hit.phrase.axis == phrase.axis and hit.phrase.label != phrase.label and hit.phrase.rule != "stop"
        }
        remarks.extend(
            _remark("overlap", phrase, f"holds {prose.words(hit.start, hit.end)!r} of {label}; the longer wins")
            for label, hit in inside.items()
        )
    for by_axis in axes_of.values():
        first, *others = by_axis.values()
        for other in others:
            remarks.append(_remark("two-axes", first, f"is {other.axis}:{other.label} too; a track gets both"))
    return remarks


def _remark(kind: str, phrase: Phrase, message: str) -> Remark:
    return Remark(kind=kind, axis=phrase.axis, label=phrase.label, spelling=phrase.spelling, message=message)

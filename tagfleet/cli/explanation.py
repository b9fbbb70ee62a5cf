"""`labels explain` in words, Japanese or English."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from tagfleet.cli.output import printable
from tagfleet.labels.explain import Explanation, Reason
from tagfleet.labels.matching import Claim
from tagfleet.labels.polarity import ScoredWord
from tagfleet.labels.taxonomy import NO_LABEL, Taxonomy

_TEXTS = {
    "en": {
        "tag": "tag {n}",
        "description": "description, character {n}",
        "split": "split: {split}",
        "words": "mood words",
        "denied_by": "denied by {because!r}",
        "none": "no label",
        "said": "{label}: {evidence!r} in {where} ({rule})",
        "denied": "not {label}: {evidence!r} in {where} is denied by {because!r}",
        "stopped": "not {label}: {evidence!r} in {where} belongs to {because!r}, which means something else",
        "lost": "not {label}: {evidence!r} in {where} stands behind, and a track has one label here",
        "conflict": "not {label}: {evidence!r} in {where}, but tracks that name several labels here are skipped",
        "over": "not {label}: {evidence!r} in {where}, but the label has as many tracks as --per-class allows",
        "planned": "nothing was built yet: whether this is at an end of the ranking is not known",
        "corrected": "{label}: a person said so{detail}",
        "scored": "score {detail} from {n_words} words",
        "between": "no label: neither among the highest nor the lowest scores, or its creator has enough tracks there",
        "unscored": "no label: no mood word in tags or description",
        "rare": "not {label}: {evidence!r} in {where}, but too few tracks have it on a side of the split",
        "rare_end": "no label: too few tracks are at an end of the ranking on a side of the split",
        "stale": "{label}: the labels are older than the texts or the taxonomy; tagfleet labels build all",
        "silent": "no label: no spelling of any label in tags or description",
    },
    "ja": {
        "tag": "タグ{n}",
        "description": "説明の{n}文字目",
        "split": "分割: {split}",
        "words": "気分を表す語",
        "denied_by": "「{because}」で否定",
        "none": "ラベルなし",
        "said": "{label}: {where}の「{evidence}」({rule})",
        "denied": "{label}ではない: {where}の「{evidence}」は「{because}」で否定されている",
        "stopped": "{label}ではない: {where}の「{evidence}」は「{because}」の一部で、別の意味",
        "lost": "{label}ではない: {where}の「{evidence}」より先の語が優先(この軸のラベルは1つだけ)",
        "conflict": "{label}ではない: {where}に「{evidence}」があるが、この軸で複数のラベルを持つ曲は除かれる",
        "over": "{label}ではない: {where}に「{evidence}」があるが、このラベルの曲は --per-class の数に達している",
        "planned": "まだラベルを作っていないので、得点の順位は分からない",
        "corrected": "{label}: 人による修正{detail}",
        "scored": "得点 {detail}({n_words}語)",
        "between": "ラベルなし: 得点が上位にも下位にも入らない(または同じ制作者の曲がすでに十分ある)",
        "unscored": "ラベルなし: タグにも説明にも気分を表す語がない",
        "rare": "{label}ではない: {where}に「{evidence}」があるが、分割のどこかで曲が少なすぎる",
        "rare_end": "ラベルなし: 分割のどこかで、得点の端にある曲が少なすぎる",
        "stale": "{label}: ラベルが文章や分類より古い。tagfleet labels build all で更新",
        "silent": "ラベルなし: タグにも説明にも、どのラベルの表記もない",
    },
}

Language = Literal["ja", "en"]
OPEN, CLOSE = "⟦", "⟧"


def explanation_lines(explanation: Explanation, taxonomy: Taxonomy, language: Language) -> Iterator[str]:
    """The texts with the matches in ⟦ ⟧, each match, and what decided on each axis; safe for a terminal."""
    texts = _TEXTS[language]
    names = {(a.axis, label.id): str(getattr(label, language)) for a in taxonomy.axes for label in a.labels}
    yield f"{printable(explanation.track_id)}  {printable(explanation.title or '')}"
    fields = [("tag", n, tag) for n, tag in enumerate(explanation.tags)]
    if explanation.description:
        fields.append(("description", len(explanation.tags), explanation.description))
    claims_of: dict[int, list[Claim]] = defaultdict(list)
    words_of: dict[int, list[ScoredWord]] = defaultdict(list)
    for claim in explanation.claims:
        claims_of[claim.position].append(claim)
    for word in explanation.words:
        words_of[word.position].append(word)
    for source, position, text in fields:
        claims, words = claims_of[position], words_of[position]
        head = texts["tag"].format(n=position + 1) if source == "tag" else {"ja": "説明", "en": "description"}[language]
        yield f"  {head}: {_marked(text, [*claims, *words])}"
        for claim in claims:
            why = "" if claim.verdict == "stated" else f", {claim.verdict}: {claim.because}"
            yield printable(
                f"      {claim.evidence} → {claim.axis}: {names[claim.axis, claim.label]} ({claim.rule}{why})"
            )
    for axis in explanation.axes:
        labels = [names.get((axis.axis, label), label) if label != NO_LABEL else texts["none"] for label in axis.labels]
        yield printable(f"{axis.axis}: {', '.join(labels) or '-'}")
        for reason in axis.reasons:
            yield printable(f"    {_sentence(reason, axis.axis, names, texts)}")
        if axis.score is not None:
            told = ", ".join(
                f"{w.words} {w.valence:+.2f}"
                + (f" [{texts['denied_by'].format(because=w.denied_by)}]" if w.denied_by else "")
                for w in explanation.words
            )
            yield printable(f"    {texts['words']}: {told}")
    if explanation.split:
        yield texts["split"].format(split=explanation.split)


def _sentence(reason: Reason, axis: str, names: dict[tuple[str, str], str], texts: dict[str, str]) -> str:
    label = "" if reason.label is None else names.get((axis, reason.label), reason.label)
    if reason.label == NO_LABEL:
        label = texts["none"]
    claim = reason.claim
    if claim is None:
        detail = f" ({reason.detail})" if reason.kind == "corrected" and reason.detail else reason.detail
        return texts["rare_end" if reason.kind == "rare" else reason.kind].format(
            label=label, detail=detail, n_words=reason.n_words
        )
    n = claim.position + 1 if claim.source == "tag" else claim.start + 1
    return texts[reason.kind].format(
        label=label,
        evidence=claim.evidence,
        where=texts[claim.source].format(n=n),
        rule=claim.rule,
        because=claim.because,
        detail=reason.detail,
    )


def _marked(text: str, found: Sequence[Claim | ScoredWord]) -> str:
    shown = []
    place = 0
    for start, end in _merged(sorted((each.start, each.end) for each in found)):
        shown += [printable(text[place:start]), OPEN, printable(text[start:end]), CLOSE]
        place = end
    return "".join([*shown, printable(text[place:])])


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def explanation_as_plain(explanation: Explanation) -> dict[str, Any]:
    """For `--json`; places are characters of the original tag or description."""
    return {
        "track_id": explanation.track_id,
        "title": explanation.title,
        "tags": list(explanation.tags),
        "description": explanation.description,
        "split": explanation.split,
        "matches": [_plain(claim) for claim in explanation.claims],
        "mood_words": [word._asdict() for word in explanation.words],
        "axes": [
            {
                "axis": axis.axis,
                "labels": list(axis.labels),
                "score": axis.score,
                "reasons": [
                    {
                        "kind": reason.kind,
                        "label": reason.label,
                        "match": _plain(reason.claim) if reason.claim else None,
                        "detail": reason.detail,
                    }
                    for reason in axis.reasons
                ],
            }
            for axis in explanation.axes
        ],
    }


def _plain(claim: Claim) -> dict[str, Any]:
    values = claim._asdict()
    del values["place"]
    return values

"""The labelled examples in data/, and how well a reader does on them: `python -m tests.labels.examples`.

`examples_heldout.toml` and `polarity_heldout.toml` were labelled before there was a miner. Nobody who tunes words or
rules reads them: run this, look at the numbers only.
"""

import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from tagfleet.labels.lexicon import load_mood_lexicon, load_polarity_table
from tagfleet.labels.polarity import score_of
from tagfleet.labels.reading import TrackReader
from tagfleet.labels.taxonomy import load_taxonomy
from tests.labels.test_lexicon import PN_ROWS

DATA = Path(__file__).parent / "data"
AXES = ("genre", "instrument", "mood")


def examples(name):
    return tomllib.loads((DATA / f"{name}.toml").read_text(encoding="utf-8"))["examples"]


@dataclass
class Outcome:
    n: int = 0
    n_exact: int = 0
    right: dict = field(default_factory=lambda: dict.fromkeys(AXES, 0))
    extra: dict = field(default_factory=lambda: dict.fromkeys(AXES, 0))
    missing: dict = field(default_factory=lambda: dict.fromkeys(AXES, 0))
    errors: list = field(default_factory=list)

    @property
    def exact(self):
        return self.n_exact / self.n

    def precision(self, axis):
        return self.right[axis] / (self.right[axis] + self.extra[axis])

    def recall(self, axis):
        return self.right[axis] / (self.right[axis] + self.missing[axis])

    def __str__(self):
        axes = ", ".join(f"{axis} P {self.precision(axis):.3f} R {self.recall(axis):.3f}" for axis in AXES)
        return f"{self.n_exact} of {self.n} exact ({self.exact:.3f}); {axes}"


def wanted(example, taxonomy):
    instruments = taxonomy.axis("instrument")
    return {
        "genre": {example["genre"]} if example.get("genre") else set(),
        "instrument": {name for label in example["instrument"] for name in (label, *instruments.ancestors(label))},
        "mood": set(example["mood"]),
    }


def label_examples(name):
    """Exact: the labels of all three axes are those of the example, no more and no less."""
    taxonomy = load_taxonomy()
    reader = TrackReader(taxonomy)
    outcome = Outcome()
    for example in examples(name):
        held = reader.matcher.held(reader.read(example["tags"], example["description"]).claims)
        found = {axis: [claim.label for claim in held if claim.axis == axis] for axis in AXES}
        found["genre"] = found["genre"][:1]  # the first wins
        want = wanted(example, taxonomy)
        wrong = {axis: set(found[axis]) ^ want[axis] for axis in AXES}
        outcome.n += 1
        outcome.n_exact += not any(wrong.values())
        for axis in AXES:
            outcome.right[axis] += len(want[axis] & set(found[axis]))
            outcome.extra[axis] += len(set(found[axis]) - want[axis])
            outcome.missing[axis] += len(want[axis] - set(found[axis]))
        if any(wrong.values()):
            outcome.errors.append((example, wrong))
    return outcome


def score_examples(name, *, tables=(), own=None):
    """(right, wrong, without a score) of texts that are clearly positive or negative; a score of 0 is none."""
    reader = TrackReader(load_taxonomy(), load_mood_lexicon() if own is None else own, tables)
    counts = [0, 0, 0]
    for example in examples(name):
        score = score_of(reader.read((), example["text"]).words)
        counts[2 if not score else int((score > 0) != (example["polarity"] == "positive"))] += 1
    return tuple(counts)


def ten_pn_rows(folder):
    path = Path(folder) / "pn.dic"
    path.write_bytes(PN_ROWS.encode("cp932"))
    return load_polarity_table(path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        table = ten_pn_rows(folder)
    for side in ("develop", "heldout"):
        outcome = label_examples(f"examples_{side}")
        sys.stdout.write(f"labels, {side}: {outcome}\n")
        name = f"polarity_{side}"
        for what, counts in {
            "our lexicon": score_examples(name),
            "and ten PN rows": score_examples(name, tables=[table]),
            "ten PN rows alone": score_examples(name, tables=[table], own=()),
        }.items():
            sys.stdout.write(f"polarity, {side}, {what}: {counts[0]} right, {counts[1]} wrong, {counts[2]} without\n")
        if side == "develop":
            for example, wrong in outcome.errors:
                told = {axis: sorted(labels) for axis, labels in wrong.items() if labels}
                sys.stdout.write(f"  {example['tags']} {example['description']}\n      {told}\n")

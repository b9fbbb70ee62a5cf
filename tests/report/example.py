"""A made-up evaluation of a realistic size: genre, 38 instruments and mood, 300 mistakes."""

from datetime import UTC, datetime

import numpy as np

from tagfleet.labels.taxonomy import Label, LabelSet, Taxonomy
from tagfleet.model.calibration import AxisCalibration, CoveragePoint, Reliability, ReliabilityBin
from tagfleet.model.evaluation import AxisEvaluation, Evaluation
from tagfleet.model.health import AxisHealth, LabelHealth
from tagfleet.model.metrics import AxisMetrics, Difference, Guessing, LabelMetrics, Measured
from tagfleet.model.mistakes import Mistake, mistakes_of
from tagfleet.report.page import SECTIONS, ReportData

GENRES = [
    ("rock", "ロック"),
    ("fusion", "フュージョン"),
    ("ballad", "バラード"),
    ("pops", "ポップス"),
    ("classical", "クラシック"),
]
N_INSTRUMENTS = 38
N_TRACKS = 260
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></svg><script>alert(2)</script>",
    "{{7*7}}{% raw %}",
    "javascript:alert(1)",
    "&lt;b&gt; &amp;",
    "evil \u202egnp.exe\u2066 \u200f",
    "NUL \x00 and \x1b[31m and \ufeff",
    "x" * 10_000,
    "あ" * 10_000,
)


def taxonomy():
    genre = LabelSet(axis="genre", exclusive=True, labels=[Label(id=i, ja=ja, en=i.title()) for i, ja in GENRES])
    instruments = [Label(id=f"instrument-{n}", ja=f"楽器{n}", en=f"Instrument {n}") for n in range(N_INSTRUMENTS)]
    mood = [Label(id="bright", ja="明るい", en="Bright"), Label(id="dark", ja="暗い", en="Dark")]
    return Taxonomy(
        name="example",
        axes=[
            genre,
            LabelSet(axis="instrument", exclusive=False, labels=instruments),
            LabelSet(axis="mood", exclusive=True, labels=mood),
        ],
    )


def answers(labels, seed):
    """Probabilities and targets (N_TRACKS, n_labels) float32 of a model that is right more often than not; of multi
    axes the last label has no positive.
    """
    draw = np.random.default_rng(seed)
    shape = (N_TRACKS, len(labels.labels))
    if labels.exclusive:
        targets = np.eye(shape[1])[draw.integers(shape[1], size=N_TRACKS)]
        logits = draw.normal(size=shape) + 2 * targets
        return (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32), targets.astype(np.float32)
    targets = draw.random(shape) < np.linspace(0.4, 0.02, shape[1])
    targets[:, -1] = False
    return (1 / (1 + np.exp(2.2 - draw.normal(size=shape) - 3 * targets))).astype(np.float32), targets.astype(
        np.float32
    )


def measures(labels, probabilities, targets, shift=0.0):
    names = (
        ("accuracy", "balanced_accuracy", "macro_f1", "kappa")
        if labels.exclusive
        else ("pr_auc", "roc_auc", "macro_f1")
    )
    confusion = np.zeros((len(labels.labels),) * 2, int)
    np.add.at(confusion, (targets.argmax(1), probabilities.argmax(1)), 1)
    rows = []
    for column, label in enumerate(labels.labels):
        support = int(targets[:, column].sum())
        some = None if support == 0 else 0.3 + 0.6 * column / len(labels.labels)
        rows.append(
            LabelMetrics(
                label=label.id, support=support, prevalence=support / N_TRACKS,
                precision=some, recall=some, f1=some, roc_auc=some, pr_auc=some,
            )
        )  # fmt: skip
    value = float((probabilities.argmax(1) == targets.argmax(1)).mean()) if labels.exclusive else 0.41
    return AxisMetrics(
        axis=labels.axis,
        exclusive=labels.exclusive,
        n_tracks=N_TRACKS,
        n_groups=57,
        measures={
            name: Measured(
                value=value + shift - 0.03 * i,
                low=value + shift - 0.03 * i - 0.05,
                high=value + shift - 0.03 * i + 0.05,
            )
            for i, name in enumerate(names)
        },
        labels=rows,
        confusion=confusion.tolist() if labels.exclusive else (),
        without_positives=[row.label for row in rows if not row.support],
    )


def reliability(bend):
    bins = [
        ReliabilityBin(
            low=i / 10, high=(i + 1) / 10, n=(i * 37) % 23, confidence=i / 10 + 0.05, frequency=(i / 10 + 0.05) ** bend
        )
        for i in range(10)
    ]
    return Reliability(ece=0.2 * (bend - 1), bins=bins)


def axis_evaluation(labels, seed):
    probabilities, targets = answers(labels, seed)
    n = len(labels.labels)
    return AxisEvaluation(
        axis=labels.axis,
        model=measures(labels, probabilities, targets),
        baseline=measures(labels, probabilities, targets, shift=-0.11),
        guessing=Guessing(chance=1 / n, majority=1.4 / n),
        over_baseline=Difference(value=0.11, low=-0.02 if seed == 2 else 0.04, high=0.18, p_worse=0.004),
        calibration=AxisCalibration(
            axis=labels.axis,
            temperature=1.37,
            pooling=("mean",) * n if labels.exclusive else ("mean", "max") * (n // 2),
            thresholds=() if labels.exclusive else tuple(np.linspace(0.2, 0.7, n).tolist()),
            unknown_below=0.35 if labels.exclusive else 0.0,
        ),
        reliability_before=reliability(1.6),
        reliability_after=reliability(1.1),
        coverage=[
            CoveragePoint(threshold=t / 20, coverage=1 - (t / 20) ** 2, accuracy=0.7 + 0.28 * t / 20) for t in range(20)
        ]
        if labels.exclusive
        else (),
    )


def health(labels):
    verdicts = ("healthy", "diffuse", "confusable", "rare", "too-few")
    rows = [
        LabelHealth(
            label=label.id, verdict=verdicts[i % 5], partner=labels.labels[0].id if i % 5 == 2 else None,
            support=12 * i, f1=0.4 + 0.1 * i, masked_accuracy=0.85,
            masked_kappa_gain=0.08 - 0.04 * i, confusion_spread=0.2 * i,
        )
        for i, label in enumerate(labels.labels)
    ]  # fmt: skip
    return AxisHealth(axis=labels.axis, n_tracks=N_TRACKS, accuracy=0.78, kappa=0.71, labels=rows)


def mistakes(labels, seed, titles=()):
    probabilities, targets = answers(labels, seed)
    ids = [f"T{i:05}" for i in range(N_TRACKS)]
    return [
        Mistake(
            track_id=ids[one.index],
            axis=labels.axis,
            kind=one.kind,
            source_name=f"{ids[one.index]} 夜明け.mp3",
            title=titles[i % len(titles)] if titles else f"夜明けの歌 {i}",
            uri=f"s3://music/masters/2024/{ids[one.index]} 夜明け.mp3",
            true_label=one.true_label,
            evidence="" if one.true_label is None else "ロックっぽい",
            rule="" if one.true_label is None else "synonym",
            predicted_label=one.predicted_label,
            confidence=one.confidence,
            probabilities={
                label.id: float(p) for label, p in zip(labels.labels, probabilities[one.index], strict=True)
            },
        )
        for i, one in enumerate(mistakes_of(labels, ids, probabilities, targets))
    ]


def history(n_epochs=24):
    return [
        {
            "epoch": n,
            "train_loss": 3.1 * 0.9**n,
            "validation_loss": 2.4 * 0.93**n + 0.004 * n,
            "validation_genre": 1 - 0.7 * 0.9**n,
            "validation_instrument": None if n < 3 else 0.5 - 0.4 * 0.9**n,
            "validation_mood": 0.6 + 0.008 * n,
            "seconds": 31.25,
            "learning_rate": 0.003 * (1 - n / 30),
            "wait_share": 0.031,
        }
        for n in range(1, n_epochs + 1)
    ]


def report_data(*, titles=(), **changed):
    known = taxonomy()
    values = {
        "evaluation": Evaluation(
            model="tagger:12", model_id="9f31c0de77aa4b10", run_id="2026-11-20T03-00-00Z-train-4f2a", split="test",
            n_train=1843, n_validation=244, n_test=N_TRACKS, n_groups={"train": 401, "validation": 55, "test": 57},
            n_failed=9, labels_version=7, catalog_version=31, taxonomy_version=known.version,
            axes=[axis_evaluation(labels, seed) for seed, labels in enumerate(known.axes)],
            health=[health(labels) for labels in known.axes if labels.exclusive],
            health_source="4 folds of training and validation creators",
        ),
        "taxonomy": known,
        "history": history(),
        "epoch": 12,
        "recipe": {
            "train": {"model": "tagger", "epochs": 24, "learning_rate": 0.003, "note": None},
            "audio": {"sample_rate": 16000, "log_mel": {"n_fft": 512, "n_mels": 96}},
            "taxonomy": known.model_dump(mode="json"),
            "examples_digest": "5be0c0ffee5be0c0",
        },
        "mistakes": [m for seed, labels in enumerate(known.axes) for m in mistakes(labels, seed, titles)],
        "sources": {section: f"runs/4f2a/evaluation/{section}.json" for section in SECTIONS},
        "tz": "Asia/Tokyo",
        "lang": "ja",
        "created_at": datetime(2026, 11, 23, 18, 0, tzinfo=UTC),
    }  # fmt: skip
    return ReportData(**(values | changed))

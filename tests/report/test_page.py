import json
import math
import re
import time
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagfleet.model.calibration import Reliability
from tagfleet.model.metrics import Difference, Measured
from tagfleet.report.page import SECTIONS, pretty, render_page
from tagfleet.report.shown import catalogue_text
from tests.report.example import HOSTILE, history, report_data

VOID = {"meta", "link", "br", "img", "input"}


class Page(HTMLParser):
    """Elements with their attributes, and the visible text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        assert len({name for name, _ in attrs}) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def named(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]


@pytest.fixture(scope="module")
def page():
    return Page(render_page(report_data()))


def test_the_page_loads_nothing_links_nowhere_and_runs_nothing():
    page = Page(render_page(report_data(titles=HOSTILE)))
    tags = {tag for tag, _, _ in page.elements}
    assert not tags & {
        "script",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "input",
        "base",
        "audio",
        "video",
        "image",
        "use",
    }
    for tag, attributes, _ in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcdoc", "xlink:href")]
        if tag == "a":
            assert attributes["href"].startswith("#")
        if tag == "link":
            assert attributes == {"rel": "icon", "href": "data:,"}
    html = render_page(report_data())
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style


def test_the_policy_forbids_everything_but_the_style_and_stands_before_what_it_rules():
    page = Page(render_page(report_data()))
    head = [(tag, attributes) for tag, attributes, inside in page.elements if inside == ("html", "head")]
    policies = [
        i for i, (_, attributes) in enumerate(head) if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert head[policies[0]][1]["content"].startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert [tag for tag, _ in head[: policies[0]]] == ["meta"]  # the charset


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text_wherever_it_comes_from(text):
    data = report_data()
    one = data.mistakes[0].model_copy(
        update=dict.fromkeys(("title", "source_name", "uri", "evidence", "rule", "track_id"), text)
    )
    evaluation = data.evaluation.model_copy(
        update=dict.fromkeys(("model", "model_id", "run_id", "taxonomy_version", "health_source"), text)
    )
    html = render_page(
        report_data(
            mistakes=[one],
            evaluation=evaluation,
            recipe={text: {text: text}},
            sources={section: f"{section} {text}" for section in SECTIONS},
        )
    )
    page = Page(html)
    assert not page.named("script") and not page.named("img")
    assert page.text.count(" ".join(catalogue_text(text).split())) >= 5
    assert not re.search("[\x00-\x08\x0e-\x1f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", html)


@settings(max_examples=15)
@given(st.text(max_size=40))
def test_any_title_leaves_the_page_whole(title):
    data = report_data()
    page = Page(render_page(report_data(mistakes=[data.mistakes[0].model_copy(update={"title": title})])))
    assert catalogue_text(title) in "".join(page.texts)
    assert not page.named("script")


def test_every_section_is_there_and_names_its_file(page):
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    wanted = ["overview", "data", "training", "axis-genre", "axis-instrument", "axis-mood", "mistakes", "recipe"]
    assert [attributes["id"] for attributes in page.named("section")] == wanted
    assert {a["href"].removeprefix("#") for a in page.named("a")} <= set(ids)
    for section in SECTIONS:
        assert f"Numbers from runs/4f2a/evaluation/{section}.json" in page.text


def test_the_head_says_which_model_which_run_and_when_in_the_zone_of_the_reader(page):
    for text in (
        "tagger:12",
        "9f31c0de77aa4b10",
        "2026-11-20T03-00-00Z-train-4f2a",
        "2026-11-24 03:00:00 JST Asia/Tokyo",
    ):
        assert text in page.text
    assert "2026-11-23 18:00:00 UTC" in Page(render_page(report_data(tz="UTC"))).text


def test_the_numbers_of_the_evaluation_stand_on_the_page(page):
    evaluation = report_data().evaluation
    genre = evaluation.axes[0]
    for value in (genre.model.value, genre.baseline.value, genre.guessing.chance, genre.guessing.majority):
        assert f"{value:.3f}" in page.text
    for measured in genre.model.measures.values():
        assert f"{measured.value:.3f} {measured.low:.3f} to {measured.high:.3f}" in page.text
    assert "+0.110 (+0.040 to +0.180); worse in 0.4 % of the paired bootstrap draws" in page.text
    assert "1,843 401" in page.text and "260 57 measured here" in page.text and "failed 9" in page.text
    assert "version 7" in page.text and "version 31" in page.text and evaluation.taxonomy_version in page.text
    for row in genre.model.confusion:
        assert " ".join(map(str, [*row, sum(row)])) in page.text
    assert "No measured track has 楽器37 instrument-37" in page.text
    assert "4 folds of training and validation creators: 260 tracks, accuracy 0.780, kappa 0.710" in page.text
    assert "0.850 +0.070" in page.text


def test_labels_have_the_name_of_the_language_and_their_id():
    japanese, english = (Page(render_page(report_data(lang=lang))).text for lang in ("ja", "en"))
    assert "フュージョン fusion" in japanese and "Fusion fusion" not in japanese
    assert "Fusion fusion" in english and "フュージョン" not in english.replace('"ja": "フュージョン"', "")


def test_what_could_not_be_measured_is_a_dash():
    data = report_data()
    nothing = Measured(value=None)
    axes = []
    for one in data.evaluation.axes:
        labels = [
            label.model_copy(update=dict.fromkeys(("precision", "recall", "f1", "roc_auc", "pr_auc")))
            for label in one.model.labels
        ]
        empty = one.model.model_copy(
            update={
                "measures": dict.fromkeys(one.model.measures, nothing),
                "labels": labels,
                "n_tracks": 0,
                "confusion": (),
            }
        )
        axes.append(
            one.model_copy(
                update={
                    "model": empty, "baseline": empty, "over_baseline": Difference(value=None), "coverage": (),
                    "reliability_before": Reliability(ece=math.nan, bins=()),
                    "reliability_after": Reliability(ece=math.nan, bins=()),
                }
            )
        )  # fmt: skip
    lines = [{"epoch": 1, "train_loss": math.nan, "validation_loss": None}, {"epoch": 2}]
    evaluation = data.evaluation.model_copy(update={"axes": tuple(axes), "health": ()})
    text = Page(render_page(report_data(evaluation=evaluation, history=lines, mistakes=()))).text
    text = text[: text.index("Every setting")]
    assert not re.search(r"\b(nan|none|inf|null)\b", text.lower().replace("none of them", ""))
    assert "– – – – –" in text and "The difference to the baseline could not be measured" in text
    assert "genre: 0 mistakes" in text


@pytest.mark.parametrize("lines", [[], history(1), history(300)])
def test_any_number_of_epochs_is_drawn(lines):
    page = Page(render_page(report_data(history=lines, epoch=7)))
    assert ("No epoch was recorded" in page.text) == (not lines)
    if lines:
        assert "The weights are those of epoch 7," in page.text


def test_numbers_on_the_validation_tracks_come_with_a_warning():
    data = report_data()
    measured = data.evaluation.model_copy(update={"split": "validation"})
    assert "flatters the model" in Page(render_page(report_data(evaluation=measured))).text
    assert "flatters the model" not in Page(render_page(data)).text


def test_tables_and_pictures_say_what_they_are(page):
    assert page.named("html") == [{"lang": "en"}]
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.named("th"))
    pictures = page.named("svg")
    assert len(pictures) == 2 + 3 + 3 + 2 and all(attributes["role"] == "img" for attributes in pictures)
    assert all("div" in inside for tag, _, inside in page.elements if tag == "table")
    assert all(a["aria-label"] for a in page.named("div") if a.get("role") == "region")


def test_the_surest_mistakes_are_shown_and_the_csv_is_named(page):
    n = sum(m.axis == "instrument" for m in report_data().mistakes)
    assert n > 200
    assert f"instrument: {n} mistakes, the 200 surest shown" in page.text
    assert "runs/4f2a/evaluation/mistakes.json" in page.text
    assert len([1 for a in page.named("th") if a.get("class") == "track"]) < 300


def test_the_recipe_can_be_read_back(page):
    html = render_page(report_data())
    parts = re.findall(r"<details><summary>(\w+)</summary><pre>(.*?)</pre>", html, re.DOTALL)
    read = {name: json.loads(text.replace("&#34;", '"')) for name, text in parts}
    assert read == {k: v for k, v in report_data().recipe.items() if not isinstance(v, str)}
    assert 'examples_digest "5be0c0ffee5be0c0"' in page.text


def test_settings_that_json_does_not_know_are_null_or_text_and_hidden_characters_escapes():
    made = datetime(2026, 1, 1, tzinfo=UTC)
    text = pretty({"a": math.inf, "b": made, "c": (1, 2), "d": "x\u202ey\x00\n", 5: None})
    assert json.loads(text) == {"a": None, "b": str(made), "c": [1, 2], "d": "x\u202ey\x00\n", "5": None}
    assert "\u202e" not in text


def test_a_section_without_a_source_and_a_time_without_a_zone_are_refused():
    with pytest.raises(ValueError, match="no source is given for health, recipe"):
        report_data(sources={section: "x" for section in SECTIONS if section not in ("health", "recipe")})
    with pytest.raises(ValueError, match="no time zone"):
        report_data(created_at=datetime(2026, 1, 1))


def test_a_page_of_real_size_is_small_quick_and_always_the_same():
    data = report_data(titles=HOSTILE)
    assert len(data.mistakes) >= 300
    first = render_page(data)
    start = time.perf_counter()
    assert render_page(data) == first
    assert time.perf_counter() - start < 1
    assert len(first.encode()) < 2_000_000

"""The page in a real browser: what a person gets to see, and what the page does behind their back (nothing)."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tagfleet.labels.taxonomy import Label, LabelSet, Taxonomy
from tagfleet.report.page import render_page
from tagfleet.report.shown import catalogue_text
from tests.report.example import HOSTILE, axis_evaluation, health, report_data

CHROMIUM = shutil.which("chromium")
WIDTHS = (1280, 400)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine; apt-get install chromium to look at the report in a browser")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; pip install -e .[dev]")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A page opened from a file, with everything that it asked for or complained about."""

    def __init__(self, browser, path, width):
        self.requests, self.complaints = [], []
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.goto(path.as_uri(), wait_until="load")


@pytest.fixture(scope="module")
def visits(browser, tmp_path_factory):
    """The page with hostile titles at both widths, all of it unfolded."""
    path = tmp_path_factory.mktemp("報告 #1") / "報告 50%.html"
    path.write_text(render_page(report_data(titles=HOSTILE)), encoding="utf-8")
    opened = {width: Visit(browser, path, width) for width in WIDTHS}
    for visit in opened.values():
        visit.page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    return path, opened


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_asks_for_nothing_and_runs_nothing(visits, width):
    path, opened = visits
    visit = opened[width]
    visit.page.wait_for_timeout(300)
    assert visit.requests == [path.as_uri()]
    assert visit.complaints == []
    assert visit.page.locator("script, img, iframe, object, embed, form").count() == 0


def test_a_script_that_slipped_through_would_not_run(browser, tmp_path):
    html = render_page(report_data())
    path = tmp_path / "page.html"
    attack = '<script>document.title = "run"</script><img src=x onerror="document.title = \'run\'"><img src="http://127.0.0.1:9/x">'
    path.write_text(html.replace("</main>", attack + "</main>"), encoding="utf-8")
    visit = Visit(browser, path, 1280)
    visit.page.wait_for_timeout(300)
    assert visit.page.title() == "tagger:12: evaluation"
    assert [text for text in visit.complaints if "Content Security Policy" in text]
    assert not [text for text in visit.complaints if not text.startswith("console")]


@pytest.mark.parametrize("title", HOSTILE)
def test_hostile_titles_are_read_as_they_were_written(visits, title):
    _, opened = visits
    texts = opened[1280].page.locator("th.track > bdi").all_text_contents()
    assert catalogue_text(title) in texts


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_scroll_and_the_page_does_not(visits, width):
    _, opened = visits
    page = opened[width].page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wider = page.evaluate(
        f"""[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > {width} + 1
            && !e.closest('.scroll, pre')).map(e => e.outerHTML.slice(0, 80))"""
    )
    assert wider == []
    scrolls = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
    )
    assert scrolls > 0 or width > 400


def test_no_text_runs_over_its_neighbour(visits):
    _, opened = visits
    over = opened[1280].page.evaluate(
        """[...document.querySelectorAll('th, td, dd, dt')].filter(e => e.scrollWidth > e.clientWidth + 1)
            .map(e => e.textContent.slice(0, 80))"""
    )
    assert over == []


def test_all_headings_are_there_and_seen(visits):
    _, opened = visits
    page = opened[400].page
    assert page.locator("h1").all_text_contents() == ["Evaluation of tagger:12"]
    assert page.locator("h2").all_text_contents() == [
        "Overview", "Data and split", "Training", "Axis genre", "Axis instrument", "Axis mood", "Mistakes", "Recipe"
    ]  # fmt: skip
    genre = page.locator("#axis-genre h3").all_text_contents()
    assert genre == ["Confusion matrix", "Labels", "Calibration", "Class health"]
    assert page.locator("#axis-instrument h3").all_text_contents() == ["Labels", "Calibration"]
    assert all(heading.is_visible() for heading in page.locator("h1, h2, h3").all())


def test_pictures_have_names_for_those_who_do_not_see_them(visits):
    _, opened = visits
    page = opened[1280].page
    assert page.get_by_role("img", name=re.compile(r"\w+ \w+ \w+")).count() == page.locator("svg").count() == 10


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    """A page whose only axis has 40 exclusive labels with long names."""
    labels = [
        Label(id=f"genre-with-number-{n}", ja=f"とても長い名前のジャンル{n}", en=f"Genre number {n}") for n in range(40)
    ]
    axis = LabelSet(axis="genre", exclusive=True, labels=labels)
    evaluation = report_data().evaluation.model_copy(
        update={"axes": (axis_evaluation(axis, 0),), "health": (health(axis),)}
    )
    data = report_data(taxonomy=Taxonomy(name="forty", axes=[axis]), evaluation=evaluation, mistakes=())
    path = tmp_path_factory.mktemp("forty") / "page.html"
    path.write_text(render_page(data), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", WIDTHS)
def test_forty_labels_stay_readable(browser, forty, width):
    page = Visit(browser, forty, width).page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cells = page.locator(".confusion td.cell")
    assert cells.count() == 1600
    boxes = page.evaluate(
        "[...document.querySelectorAll('.confusion td.cell')].map(e => [e.clientWidth, e.clientHeight])"
    )
    assert np.min(boxes, axis=0)[0] >= 24 and np.min(boxes, axis=0)[1] >= 18
    outside = page.evaluate(
        """[...document.querySelectorAll('.confusion th *')].filter(e => {
            const [inner, cell] = [e, e.closest('th')].map(one => one.getBoundingClientRect());
            return inner.bottom > cell.bottom + 1 || inner.right > cell.right + 1 || inner.left < cell.left - 1;
        }).map(e => e.outerHTML)"""
    )
    assert outside == []
    rows = page.locator(".confusion tbody th").first.bounding_box()["width"]
    assert rows < page.locator(".scroll.tall").bounding_box()["width"] / 2
    # Scrolled to the last cell, its row and column are still named.
    page.evaluate(
        "(e => { e.scrollTop = 1e6; e.scrollLeft = 1e6; e.scrollIntoView(); })(document.querySelector('.tall'))"
    )
    for heading in (".confusion tbody tr:last-child th", ".confusion thead th:nth-child(41)"):
        box, frame = page.locator(heading).bounding_box(), page.locator(".scroll.tall").bounding_box()
        assert frame["x"] <= box["x"] + 1 and box["x"] < frame["x"] + frame["width"]
        assert frame["y"] <= box["y"] + 1 and box["y"] < frame["y"] + frame["height"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_stand_out_from_their_shade(browser, tmp_path, scheme):
    """WCAG 2.1, contrast (minimum): 4.5 to 1."""
    path = tmp_path / "page.html"
    path.write_text(render_page(report_data()), encoding="utf-8")
    page = browser.new_page(color_scheme=scheme)
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('.confusion td.cell').forEach(e => e.style.setProperty('--s', '1'))")
    paper = colour(page.evaluate("getComputedStyle(document.body).backgroundColor"), np.zeros(3))
    for selector in (
        "td.cell.right",
        "td.cell:not(.right)",
        ".badge.above",
        ".badge.diffuse",
        ".badge.rare",
        "small",
        "a",
    ):
        ink, shade = page.locator(selector).first.evaluate(
            "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
        )
        assert contrast(colour(ink, paper), colour(shade, paper)) >= 4.5, selector


def colour(css, behind):
    """`rgb(r, g, b)` or `rgba(r, g, b, alpha)` over another colour, as numbers from 0 to 255."""
    *rgb, alpha = [*map(float, css[css.index("(") + 1 : -1].split(",")), 1.0][:4]
    return alpha * np.array(rgb) + (1 - alpha) * behind


def contrast(a, b):
    def luminance(rgb):
        c = rgb / 255
        return float(np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_printing_unfolds_everything_on_white(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(render_page(report_data()), encoding="utf-8")
    page = browser.new_page(color_scheme="dark")
    page.goto(path.as_uri())
    folded = page.evaluate("document.documentElement.scrollHeight")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.documentElement.scrollHeight") > folded + 2000
    page.pdf(path=tmp_path / "page.pdf")
    assert Path(tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")

import xml.etree.ElementTree as ET

import numpy as np

from tagfleet.labels.histogram import N_BINS, bins_of, svg_histogram, text_histogram

SCORES = np.array([-1.0, -0.95, 0.0, 0.05, 0.99, 1.0])


def test_every_score_is_in_one_bin():
    bins = bins_of(SCORES)
    assert len(bins) == N_BINS
    assert sum(n for _, _, n in bins) == len(SCORES)
    assert (bins[0][2], bins[10][2], bins[-1][2]) == (2, 2, 2)


def test_the_text_says_what_was_not_scored():
    text = text_histogram(SCORES, 7)
    assert len(text.splitlines()) == N_BINS + 1
    assert text.splitlines()[0].startswith("+0.9 … +1.0") and text.splitlines()[0].endswith("  2")
    assert "7 tracks without a mood word" in text
    assert text_histogram(np.array([]), 0)


def test_the_picture_is_well_formed_and_safe():
    svg = svg_histogram(SCORES, 7, title='<script>"&', bounds=(-0.4, None))
    root = ET.fromstring(svg)
    texts = [element.text for element in root.iter() if element.text]
    assert '<script>"&' in texts
    assert "-0.40" in texts
    assert "6 tracks scored, 7 not" in texts

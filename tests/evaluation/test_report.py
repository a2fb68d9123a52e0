"""The report: complete, self-contained, well-formed."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from rbjax.evaluation import baselines, plots, report, scoring, variants
from rbjax.evaluation import results as results_lib
from rbjax.evaluation import suite as suite_lib
from rbjax.models.pixels import to_uint8
from tests.helpers.evaluation_world import vocabulary

EMPTY = {"meta", "img"}


class Balance(HTMLParser):
    """Fails on tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def page(world, vqa, tmp_path):
    suite = suite_lib.build(world.clusters, world.tags, vocabulary(), characters=5)
    made = baselines.collect(world.generate, suite, world.real_data())
    results = scoring.score(made, suite, vqa, read_images=world.images, resamples=50)
    losses = [(step, 1 / step) for step in range(1, 200)]
    config = {"name": "<b>&", "model": {"channels": [32, 64]}}
    folder = tmp_path / "report"
    path = report.write(
        folder,
        results,
        made,
        read_images=world.images,
        losses=losses,
        config=config,
        characters=3,
    )
    return path.read_text(encoding="utf-8")


def test_every_system_and_column_is_shown_and_explained(page):
    for name in (*baselines.SYSTEMS, *results_lib.COLUMNS):
        assert page.count(results_lib.label(name)) >= 2
    assert set(report.COLUMN_NOTES) == set(results_lib.COLUMNS)
    assert set(report.SYSTEM_NOTES) == {*baselines.SYSTEMS, *variants.VARIANTS}
    assert set(plots.COLOURS) == set(baselines.SYSTEMS)


def test_the_page_is_well_formed_and_escapes_what_it_is_given(page):
    parser = Balance()
    parser.feed(page)
    assert not parser.open
    assert "&lt;b&gt;&amp;" in page


def test_nothing_is_loaded_from_elsewhere(page):
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)


def test_references_generated_and_targets_are_shown(page):
    assert page.count('<div class="case">') == 3
    assert page.count("<figure>") == 3 * (4 + 4 + 2)


def test_a_report_without_training_or_model_is_possible(world, vqa, tmp_path):
    suite = suite_lib.build(world.clusters, world.tags, vocabulary(), characters=2, clothes=0)
    made = baselines.collect(world.generate, suite, world.real_data(), ("copy_reference",))
    results = scoring.score(made, suite, vqa, read_images=world.images, resamples=50)
    page = report.write(tmp_path, results, made, read_images=world.images).read_text()
    assert "Training" not in page and "Config" not in page and "Examples" not in page
    assert "–" in page


def test_without_scores_the_page_says_why(world, tmp_path):
    suite = suite_lib.build(world.clusters, world.tags, vocabulary(), characters=2)
    made = baselines.collect(world.generate, suite, world.real_data(), ("trained",))
    results = scoring.score(made, suite, None, read_images=world.images)
    page = report.write(tmp_path, results, made, read_images=world.images).read_text()
    assert "nothing was asked" in page and "By attribute" not in page
    assert page.count('<div class="case">') == 2


def test_images_in_html_are_png():
    image = np.random.default_rng(0).uniform(-1, 1, size=(4, 6, 3))
    head, _, data = report.data_uri(image).partition(",")
    read = np.array(Image.open(io.BytesIO(base64.b64decode(data))))
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(read, to_uint8(image))

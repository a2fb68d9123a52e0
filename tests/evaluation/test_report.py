"""The report: complete, self-contained, well-formed."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from rbjax.evaluation import baselines, plots, report, saved_images, scoring, variants
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
def written(world, vqa, tmp_path):
    """Returns (folder of the report, its results)."""
    suite = suite_lib.build(
        world.clusters, world.tags, vocabulary(), characters=5, repeats=2, open_characters=2
    )
    made = baselines.collect(world.generate, suite, world.real_data())
    made |= variants.collect(world.generate, made["trained"], characters=3)
    made["trained"].images[0] = np.nan
    results = scoring.score(made, suite, vqa, read_images=world.images, resamples=50)
    report.write(
        tmp_path,
        results,
        made,
        read_images=world.images,
        losses=[(step, 1 / step) for step in range(1, 200)],
        config={"name": "<b>&", "model": {"channels": [32, 64]}},
        characters=3,
    )
    return tmp_path, results


@pytest.fixture
def page(written):
    return (written[0] / "index.html").read_text(encoding="utf-8")


def test_every_system_and_column_is_shown_and_explained(page):
    for name in (*baselines.SYSTEMS, *results_lib.COLUMNS):
        assert page.count(results_lib.label(name)) >= 2
    assert set(report.COLUMN_NOTES) == set(results_lib.COLUMNS)
    assert set(report.SYSTEM_NOTES) == {*baselines.SYSTEMS, *variants.VARIANTS}


def test_the_page_is_well_formed_and_escapes_what_it_is_given(page):
    parser = Balance()
    parser.feed(page)
    assert not parser.open
    assert "&lt;b&gt;&amp;" in page


def test_nothing_is_loaded_from_elsewhere(page):
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)


def test_references_generated_and_targets_are_shown(page):
    shown = page[page.index("<h2>Examples") : page.index("<h2>The best")]
    assert shown.count('<div class="case">') == 3
    assert shown.count("<figure") == 3 * (4 + 4 + 2)
    assert "image is not finite" in shown


def test_every_image_has_its_questions_and_answers(page):
    shown = page[page.index("<h2>Examples") : page.index("<h2>The best")]
    assert "mouth: " in shown and "is there " in shown
    assert 'class="right"' in page and 'class="wrong"' in page


def test_every_row_that_was_made_is_shown(written, page):
    strips = page[page.index("<h2>Every row") : page.index("Controls of the metrics")]
    rows = written[1]["scored"]
    assert re.findall("<summary>([^<]*)</summary><div", strips) == [
        results_lib.label(r) for r in rows
    ]


def test_separability_variety_confusion_and_seeds_are_shown(page):
    for heading in (
        "What comes in through which reference",
        "Variety over seeds",
        "Answers about trained",
        "Answers about real images",
        "Sampling seeds",
        "References changed",
    ):
        assert heading in page
    assert "Not scored of trained: image is not finite (1)" in page


def test_it_is_drawn_again_from_results_and_saved_images(written, page):
    folder, results = written
    saved = sorted(p.name for p in (folder / "images" / "trained").iterdir())
    assert len(saved) == results["images"]["trained"]
    read = json.loads(json.dumps(results))
    again = report.draw(folder, read, losses=[], characters=3).read_text(encoding="utf-8")
    start, stop = "<h2>Examples", '<details class="fold"><summary>Config'
    cut = page[page.index(start) : page.index(stop)]
    assert again[again.index(start) :].startswith(cut.rstrip())


def test_saved_images_are_those_that_were_scored(written, world):
    folder, results = written
    record = results["scored"]["copy_reference"][0]
    copied = np.array(Image.open(saved_images.of_system(folder, "copy_reference", 0)))
    np.testing.assert_array_equal(copied, to_uint8(world.images([record["references"][2]])[0]))
    np.testing.assert_array_equal(
        copied, np.array(Image.open(saved_images.of_record(folder, record["references"][2])))
    )


def test_on_a_phone_nothing_is_wider_than_the_page(page):
    """Tables become cards, or scroll in a frame of their own; no width but the images' is fixed."""
    style, body = page.split("</style>")
    assert "@media (max-width: 640px)" in style and "width=device-width" in style
    assert all(int(width) <= 320 for width in re.findall(r"[^-]width: (\d+)px", style))
    tables = re.findall(r'(<div class="scroll">)?<table( class="cards")?', body)
    assert tables and all(scrolls or cards for scrolls, cards in tables)


def test_a_loss_that_is_not_finite_leaves_the_curve_as_it_is():
    values = np.linspace(2, 1, 60)
    smooth = plots._smooth(values)
    values[20] = np.nan
    with_gap = plots._smooth(values)
    assert np.isfinite(with_gap).all()
    np.testing.assert_allclose(np.delete(with_gap, [19, 20, 21]), np.delete(smooth, [19, 20, 21]))
    assert np.isnan(plots._smooth(np.full(3, np.nan))).all()


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
    assert page.count("<summary>trained</summary>") == 1 and page.count("<figure") > 8

"""A page of a small model that knows the tags of `avatars`, served for all tests of this folder,
and headless Chromium that uses it as a person would.
"""

import dataclasses
import pathlib

import pytest
from flax import nnx
from PIL import Image

from rbjax.demo_page import tags
from rbjax.demo_page.studio import Studio
from rbjax.interop.saved_model import Model
from rbjax.models.pipeline import abstract_pipeline
from rbjax.text.tokenizer import word_tokenizer
from rbjax.vqa.model import VQA
from tests.helpers import tiny_pipeline, tiny_saved_model
from tests.helpers.page_in_browser import CHROMIUM, WAIT, open_page
from tfds_retribooru.avatars import attributes

SIDE = 32


def small_model(seed: int = 0) -> Model:
    """SIDE pixels; its images are noise."""
    config, tokenizer = tiny_saved_model.config(), word_tokenizer(attributes.vocabulary())
    config.data.size, config.data.max_tokens = SIDE, 24
    graphdef, abstract = nnx.split(abstract_pipeline(config, tokenizer), nnx.Param)
    params = tiny_pipeline.random_params(nnx.to_pure_dict(abstract), seed)
    return Model(config, tokenizer, graphdef, params)


@pytest.fixture(scope="package")
def studio() -> Studio:
    model, vqa = small_model(), VQA.load()
    vqa.asked, vqa.phrases = (  # what ships is asked about 48 px at the least
        {name: (SIDE, *sizes) for name, sizes in found.items() if sizes}
        for found in (vqa.asked, vqa.phrases)
    )
    return Studio("small model", model, tags.vocabulary_of(model), vqa)


@pytest.fixture(scope="package")
def other_studio(studio) -> Studio:
    return dataclasses.replace(studio, name="other model", model=small_model(1))


@pytest.fixture(scope="package")
def workdir(tmp_path_factory) -> pathlib.Path:
    """What a training leaves that runs."""
    folder = tmp_path_factory.mktemp("runs") / "training"
    (folder / "samples").mkdir(parents=True)
    (folder / "config.json").write_text('{"total_steps": 20}')
    (folder / "loss.json").write_text("[[5, 0.75], [10, 0.5]]")
    Image.new("RGB", (8, 8)).save(folder / "samples" / "0000010.png")
    return folder


@pytest.fixture(scope="package")
def address(studio, other_studio, workdir):
    """Of the served page."""
    pytest.importorskip("gradio", reason="the page needs Gradio: pip install -e '.[demo]'")
    from rbjax.demo_page import page  # Gradio is optional

    built = page.build([studio, other_studio], [workdir])
    with page.serving(built, host="127.0.0.1", port=None, share=False) as address:
        yield address


@pytest.fixture(scope="package")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser, address):
    """The page, open; errors of its scripts fail the test."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    errors = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.set_default_timeout(WAIT)
    open_page(tab, address)
    yield tab
    tab.close()
    assert not errors

"""The numbers that the page starts with are ones that it takes."""

import pytest

gr = pytest.importorskip("gradio", reason="the page needs Gradio: pip install -e '.[demo]'")

from rbjax.demo_page import controls as controls_lib  # noqa: E402
from rbjax.demo_page import page  # noqa: E402
from rbjax.demo_page.studio import Studio  # noqa: E402
from rbjax.interop.saved_model import Model  # noqa: E402
from tests.helpers import tiny_saved_model  # noqa: E402


def studio_of(**sampling) -> Studio:
    """A model of which nothing but its sizes and its settings of sampling counts."""
    config = tiny_saved_model.config()
    config.sampling.update(sampling)
    return Studio("a", Model(config, None, None, {}), {"tags": {}, "questions": {}}, None)


OWN = {"steps": 250, "guidance_references": 7.5, "guidance_prompt": 12.0}


def test_what_the_page_starts_with_can_be_generated():
    studio = studio_of(**OWN)
    with gr.Blocks(analytics_enabled=False):
        controls = controls_lib.numbers(studio, gr.HTML(), gr.HTML(value="smile"))
    settings, _ = controls_lib.read(studio, *(one.value for one in controls.inputs()))
    found = settings.steps, settings.guidance_references, settings.guidance_prompt
    assert found == (100, 7.5, 12.0)
    for slider in (controls.steps, controls.guidance_references, controls.guidance_prompt):
        assert slider.minimum <= slider.value <= slider.maximum
    _, said = controls_lib.own_sampling(studio)
    assert said == ["The number of steps is 250; this page takes 1 to 100, so 100 is used."]


def test_the_first_image_is_compiled_with_what_the_page_starts_with(monkeypatch):
    made = []
    monkeypatch.setattr(Studio, "images", lambda self, settings, *_: made.append(settings) or [])
    page.warm_up(studio_of(**OWN))
    assert [settings.steps for settings in made] == [100]

"""Headless Chromium uses the page as a person would."""

import numpy as np
import pytest
from PIL import Image

from rbjax.demo_page import gallery, pictures
from tests.helpers.page_in_browser import (
    choose,
    draw_box,
    drop,
    generate,
    numbers,
    remove_all,
    upload,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    """Two portraits as files of a person."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{i}.png" for i in range(2)]
    for path, portrait in zip(paths, gallery.portraits(), strict=False):
        path.write_bytes(pictures.data_of(portrait.picture, "it"))
    return [str(path) for path in paths]


def test_compose_from_own_pictures_see_answers_and_map_and_restore(tab, files, tmp_path):
    remove_all(tab)
    upload(tab, files[0], "face")
    upload(tab, files[1], "clothes")
    whole = tab.get_attribute(".rb-slot >> nth=0 >> .rb-crop img", "src")
    draw_box(tab, 0)
    assert np.abs(np.array(numbers(tab, 0)) - [32, 32, 64, 64]).max() <= 1
    tab.wait_for_function(
        "before => document.querySelector('.rb-crop img').src !== before", arg=whole
    )
    tab.uncheck("#random-seed input")
    tab.fill("#seed input", "5")
    tab.fill("#rb-prompt-input", "frown, red background")
    choose(tab, "Sampler", "dpm++2m")
    generate(tab)

    rows = tab.locator(".rb-image").first.locator(".rb-answers tbody tr").all_inner_texts()
    assert any("background" in row and "red (prompt)" in row for row in rows)
    assert any("(reference 2)" in row for row in rows)
    assert all(row.split()[-1] in ("right", "wrong") for row in rows)

    tab.hover(".rb-explore >> nth=0", position={"x": 3, "y": 3})
    said = tab.inner_text(".rb-said >> nth=0")
    assert said.startswith("Row 1 of 16, column 1 of 16: ")
    assert "% from 1 face" in said and "% from 2 clothes" in said
    tab.focus(".rb-explore >> nth=0")
    tab.keyboard.press("ArrowDown")
    assert tab.inner_text(".rb-said >> nth=0").startswith("Row 2 of 16, column 1")

    with tab.expect_download() as download:
        tab.click(".rb-image >> nth=1 >> a[download]")
    made = tmp_path / download.value.suggested_filename
    download.value.save_as(made)
    assert made.name == "rbjax_000006.png"
    before = np.asarray(Image.open(made))
    assert before.shape == (32, 32, 3)

    tab.fill("#rb-prompt-input", "smile")
    remove_all(tab)
    choose(tab, "Sampler", "euler")
    drop(tab, "#results", made)  # anywhere
    tab.wait_for_function("document.querySelectorAll('.rb-slot').length === 2")
    for place, value in (
        *(("#rb-prompt-input", "frown, red background"), ("#seed input", "6")),
        ("input[aria-label='Sampler']", "dpm++2m"),
    ):
        tab.wait_for_function(
            "([place, value]) => document.querySelector(place).value === value",
            arg=[place, value],
        )
    generate(tab)
    source = tab.get_attribute(".rb-image >> nth=0 >> .rb-made", "src")
    assert (pictures.decode(source, "it") == before).all()


def test_the_prompt_is_completed_and_marked(tab):
    tab.fill("#rb-prompt-input", "smile, blue hair, zorgle, green b")
    tab.wait_for_selector("#rb-suggestions li")
    assert tab.locator("#rb-suggestions li").all_inner_texts() == ["green background"]
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert tab.input_value("#rb-prompt-input") == "smile, blue hair, zorgle, green background, "
    tab.wait_for_selector(".rb-decided")
    assert "the face reference decides this" in tab.inner_text(".rb-decided")
    assert "does not know zorgle" in tab.inner_text(".rb-unknown")
    tab.locator(".rb-slot button", has_text="Remove").first.click()  # the face
    tab.wait_for_selector(".rb-decided", state="detached")
    before = tab.input_value("#rb-prompt-input")
    tab.click("text=Random expression and background")  # of the eyes too, which were not named
    tab.wait_for_function(
        "before => document.querySelector('#rb-prompt-input').value !== before", arg=before
    )
    assert "zorgle" in tab.input_value("#rb-prompt-input")


def test_bad_input_gives_a_sentence(tab, tmp_path):
    text, large = tmp_path / "text.png", tmp_path / "large.png"
    text.write_text("hello")
    Image.new("1", (8000, 5000)).save(large)
    (tmp_path / "notes.txt").write_text("hello")
    tab.set_input_files(".rb-upload", str(tmp_path / "notes.txt"))
    tab.wait_for_selector("text=notes.txt is no picture")
    remove_all(tab)
    tab.set_input_files(".rb-upload", [str(text)])
    tab.wait_for_selector("text=Reference 1 cannot be used: the file is no picture")
    tab.click("#generate")
    tab.wait_for_selector("#status >> text=Reference 1 cannot be used")
    remove_all(tab)
    tab.set_input_files(".rb-upload", [str(large)])
    tab.wait_for_selector("text=40 megapixels, at most 32 can be used")
    remove_all(tab)
    for _ in range(7):
        tab.click(".rb-gallery button >> nth=0")
    tab.wait_for_selector("text=There are 6 references already")
    assert tab.locator(".rb-slot").count() == 6
    remove_all(tab)
    tab.fill("#rb-prompt-input", "")
    tab.click("#generate")
    tab.wait_for_selector("#status >> text=The prompt is empty")
    tab.set_input_files("#restore input", str(large))
    tab.wait_for_selector("#status >> text=The picture holds no settings")


def test_references_are_reordered_and_typed(tab):
    types = lambda: tab.locator(".rb-slot select").evaluate_all("all => all.map(s => s.value)")  # noqa: E731
    assert types() == ["face", "clothes"]
    tab.click("[aria-label='Move reference 2 up']")
    assert types() == ["clothes", "face"]
    tab.select_option(".rb-slot select >> nth=0", "character")
    assert types() == ["character", "face"]


def test_a_mask_gives_the_box(tab, tmp_path):
    mask = np.zeros((128, 128), np.uint8)
    mask[10:60, 20:100] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    tab.set_input_files(".rb-mask-file >> nth=0", str(tmp_path / "mask.png"))
    tab.wait_for_function("document.querySelector('.rb-numbers input').value === '20'")
    assert numbers(tab, 0) == [20, 10, 80, 50]
    Image.fromarray(mask[:50]).save(tmp_path / "small.png")
    tab.set_input_files(".rb-mask-file >> nth=0", str(tmp_path / "small.png"))
    tab.wait_for_selector("text=The mask of reference 1 cannot be used as a mask")


def test_two_models_are_compared_on_the_same_seeds(tab):
    tab.uncheck("#random-seed input")
    tab.fill("#seed input", "11")
    generate(tab)
    own = tab.get_attribute("#results .rb-made >> nth=0", "src")
    tab.click("role=tab[name=Compare]")
    tab.click("#compare")
    tab.wait_for_selector("#compare-second .rb-image >> nth=1")
    first, second = (
        tab.get_attribute(f"#compare-{side} .rb-made >> nth=0", "src")
        for side in ("first", "second")
    )
    first, second, own = (pictures.decode(url, "it") for url in (first, second, own))
    assert (first == own).all() and (first != second).any()
    tab.hover("#compare-second .rb-explore >> nth=0", position={"x": 3, "y": 3})
    assert tab.inner_text("#compare-second .rb-said >> nth=0").startswith("Row 1 of")


def test_a_training_is_shown_and_asked(tab, workdir):
    tab.click("role=tab[name=Training]")
    tab.wait_for_selector("#run-report >> text=Step 10 of 20, loss 0.5000")
    for request in ("sample", "save"):
        tab.click(f"#{request}-now")
        tab.wait_for_selector("#run-status >> text=Asked for")
        tab.wait_for_timeout(200)
    assert {"sample_now", "save_now"} <= {path.name for path in workdir.iterdir()}
    (workdir / "loss.json").write_text("[[5, 0.75], [10, 0.5], [15, 0.25]]")
    tab.wait_for_selector("#run-report >> text=Step 15 of 20, loss 0.2500")


def test_sizes_that_are_impossible_give_a_sentence(tab):
    for size, message in (("33", "must be a multiple of 2"), ("999", "at most 128 can be made")):
        tab.fill("input[aria-label='Size in pixels']", size)
        tab.keyboard.press("Enter")
        tab.click("#generate")
        tab.wait_for_selector(f"#status >> text={message}")

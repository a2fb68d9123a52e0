"""The command and the function that generate images of a saved model."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from rbjax import generate
from rbjax.data import images as images_lib
from rbjax.diffusion.guidance import Sampling, make_generate
from rbjax.inference import generation, model_loading
from rbjax.inference.reference import Reference
from rbjax.interop import saved_model
from rbjax.models.batch import Batch
from rbjax.models.pixels import to_uint8
from tests.helpers import tiny_pipeline, tiny_saved_model

PROMPT = "smile, red background"


@pytest.fixture(scope="module")
def model():
    return tiny_saved_model.model()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    saved_model.save(model, path)
    return path


def picture(seed: int, height: int = 9, width: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def references() -> list[Reference]:
    return [Reference("face", picture(0), (1, 2, 4, 5)), Reference("clothes", picture(1, 30, 40))]


@pytest.fixture(scope="module")
def images(model):
    return generate.generate(model, PROMPT, references(), num_images=2, seed=4)


def test_images_are_those_of_the_sampler(model, images):
    data = model.config.data
    words = {text: model.tokenizer.encode(text).ids for text in (PROMPT, "face", "clothes", "")}
    ids = {
        text: np.array(w + [0] * (tiny_pipeline.TOKENS - len(w)), np.int32)
        for text, w in words.items()
    }
    views = np.stack([r.crop(data.size, data.view) for r in references()])
    batch = Batch(
        target=np.zeros((2, data.size, data.size, 3), np.uint8),
        prompt=np.stack([ids[PROMPT]] * 2),
        references=np.stack([views] * 2),
        concepts=np.stack([[ids["face"][:3], ids["clothes"][:3]]] * 2),
        reference_mask=np.ones((2, 2), bool),
    )
    sampling = Sampling(**tiny_saved_model.SAMPLING)
    run = jax.jit(
        make_generate(
            model.graphdef, schedule=model.schedule, sampling=sampling, empty_prompt=ids[""]
        )
    )
    found = np.asarray(run(model.params, batch, np.array([4, 5], np.uint32)))
    assert np.abs(to_uint8(found).astype(int) - images).max() <= 1


def test_same_seed_same_bytes(model, images):
    again = generate.generate(model, PROMPT, references(), num_images=2, seed=4)
    assert again.tobytes() == images.tobytes()
    assert (images[0] != images[1]).any()


@pytest.mark.parametrize("progress", [False, True])
def test_other_prompts_seeds_and_references_compile_nothing(model, progress, caplog):
    def compiled(**arguments) -> bool:
        caplog.clear()
        with jax.log_compiles():
            generate.generate(model, progress=progress, **arguments)
        return "Compiling" in caplog.text

    arguments = {"prompt": PROMPT, "references": references(), "num_images": 3}
    assert compiled(**arguments, seed=4)
    assert not compiled(**arguments, seed=5)
    assert not compiled(**arguments | {"prompt": "open mouth"}, seed=5)
    assert not compiled(**arguments | {"references": references()[::-1]}, seed=4)
    assert not compiled(**arguments | {"sampling": Sampling(2, "euler", 1.7, 0.3)}, seed=4)
    assert compiled(**arguments | {"sampling": Sampling(1, "ddim", 1.0, 2.0)}, seed=4)


def test_a_model_that_is_loaded_again_compiles_nothing(folder, caplog):
    for seed in range(2):
        caplog.clear()
        loaded = model_loading.load_model(folder)
        with jax.log_compiles():
            generate.generate(loaded, PROMPT, num_images=2, seed=seed)
    assert "Compiling" not in caplog.text


def test_the_bar_counts_every_step_of_every_call(model, capsys):
    for _ in range(2):
        generate.generate(model, PROMPT, progress=True)
    assert capsys.readouterr().err.count("2/2") >= 2


def test_no_reference_is_a_number_of_references_too(model, images):
    found = generate.generate(model, PROMPT, num_images=1, seed=4)
    assert found.shape == (1, 8, 8, 3) and (found[0] != images[0]).any()


def test_the_order_of_references_does_not_matter(model, images):
    found = generate.generate(model, PROMPT, references()[::-1], num_images=2, seed=4)
    assert np.abs(found.astype(int) - images).max() <= 1


def test_unknown_words_are_named(model, caplog):
    generation._warn_of_unknown_words(model, "smile, zorgle, open nose")
    assert "does not know 'zorgle', 'nose'" in caplog.text


def test_a_prompt_that_is_too_long_is_refused(model):
    with pytest.raises(ValueError, match="has 7 tokens"):
        generate.generate(model, "smile, smile, smile, smile, smile")


def test_the_command_writes_images_grid_and_settings(folder, tmp_path, images, monkeypatch):
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    Image.fromarray(picture(1, 30, 40)).save(tmp_path / "b.png")
    monkeypatch.chdir(tmp_path)
    line = f"--checkpoint {folder} --face a.png@1,2,4,5 --clothes b.png --num_images 2 --seed 4"
    args = generate.parse_args([*line.split(), "--out", "out", "--prompt", PROMPT])
    files = generate.run(args)
    assert [file.name for file in files] == ["000004.png", "000005.png", "grid.png"]
    for i, file in enumerate(files[:2]):
        with Image.open(file) as opened:
            np.testing.assert_array_equal(np.asarray(opened), images[i])
            settings = json.loads(opened.text["rbjax"])
        assert settings["seed"] == 4 + i and settings["prompt"] == PROMPT
        assert settings["references"] == [["face", "a.png@1,2,4,5"], ["clothes", "b.png"]]
        assert settings["steps"] == 2 and settings["guidance_prompt"] == 3.0
        assert settings["size"] == 8 and settings["dtype"] == "float32"
    with Image.open(files[2]) as grid:
        scale = generation.GRID_PIXELS // 8
        assert grid.size == ((2 * 8 + images_lib.GAP) * scale,) * 2


def test_options_replace_the_settings_of_training(folder, tmp_path):
    line = f"--checkpoint {folder} --num_images 1 --steps 1 --method ddim --guidance_references 0"
    generate.run(generate.parse_args([*line.split(), "--out", str(tmp_path)]))
    with Image.open(tmp_path / "000000.png") as opened:
        settings = json.loads(opened.text["rbjax"])
    assert (settings["steps"], settings["method"], settings["guidance_references"]) == (
        1,
        "ddim",
        0,
    )


def test_another_size_is_that_of_images_and_grid(folder, tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    line = f"--checkpoint {folder} --num_images 1 --size 12 --face {tmp_path / 'a.png'}"
    files = generate.run(generate.parse_args([*line.split(), "--out", str(tmp_path)]))
    with Image.open(files[0]) as image, Image.open(files[1]) as grid:
        assert image.size == (12, 12)
        assert grid.size == (12 * 16, (2 * 12 + images_lib.GAP) * 16)


def test_width_and_height_are_those_of_images_and_squares_are_shown(folder, tmp_path):
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    line = f"--checkpoint {folder} --num_images 1 --size 12x8 --face {tmp_path / 'a.png'}"
    files = generate.run(generate.parse_args([*line.split(), "--out", str(tmp_path / "out")]))
    with Image.open(files[0]) as image, Image.open(files[-1]) as grid:
        assert image.size == (12, 8)
        assert json.loads(image.info["rbjax"])["size"] == [12, 8]
        assert grid.size == (12 * 16, (2 * 12 + images_lib.GAP) * 16)


@pytest.mark.parametrize("text", ["8x", "x8", "8x8x8", "0x8", "8 8", "big"])
def test_sizes_that_are_none_are_refused(text, capsys):
    with pytest.raises(SystemExit):
        generate.parse_args(["--size", text])
    assert "--size" in capsys.readouterr().err


@pytest.mark.parametrize("size", [-2, 9, (8, 9)])
def test_sizes_that_latents_do_not_fill_are_refused(model, size):
    wrong = size[1] if isinstance(size, tuple) else size
    with pytest.raises(ValueError, match=f"size {wrong}: must be a multiple of "):
        generate.generate(model, PROMPT, size=size)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_guidance_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="guidance_prompt is .* finite"):
        Sampling(2, "ddim", 1.0, value)


def test_too_little_memory_says_what_to_reduce(monkeypatch):
    def fails(_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    monkeypatch.setattr(generate, "run", fails)
    monkeypatch.setattr("sys.argv", ["generate"])
    with pytest.raises(SystemExit, match="not enough memory .*--num_images.*--size.*bfloat16"):
        generate.main()


@pytest.mark.parametrize("seed", [-1, 2**32 - 1])
def test_seeds_that_do_not_exist_are_refused(model, seed):
    with pytest.raises(ValueError, match=f"seed {seed} for 2 images"):
        generate.generate(model, PROMPT, num_images=2, seed=seed)


def test_a_folder_that_cannot_be_written_is_told_before_the_model_is_read(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(generate, "load_model", None)
    with pytest.raises(FileExistsError, match="--out=.*file is a file: give a folder"):
        generate.run(generate.parse_args(["--out", str(tmp_path / "file")]))


def test_a_folder_that_holds_no_model_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected model_index.json"):
        model_loading.load_model(tmp_path)


def test_a_model_ships():
    assert (model_loading.SHIPPED / saved_model.INDEX).is_file()


def test_urls_are_refused():
    with pytest.raises(ValueError, match="--checkpoint=s3://a/b is a URL; only files and folders"):
        model_loading.load_model("s3://a/b")


def test_a_url_is_refused_before_the_folder_is_made(tmp_path, monkeypatch):
    out = tmp_path / "out"
    line = f"generate --checkpoint=s3://bucket/model --out {out}"
    monkeypatch.setattr("sys.argv", line.split())
    with pytest.raises(SystemExit, match="--checkpoint=s3://bucket/model is a URL; only files"):
        generate.main()
    assert not out.exists()


def test_missing_shipped_weights_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(model_loading, "SHIPPED", tmp_path)
    with pytest.raises(FileNotFoundError, match="no model ships"):
        model_loading.load_model()


@pytest.mark.parametrize("option", ["--num_images", "--steps"])
def test_numbers_below_one_are_refused(option, capsys):
    with pytest.raises(SystemExit):
        generate.parse_args([option, "0"])
    assert "at least 1" in capsys.readouterr().err


def test_help_explains(capsys):
    with pytest.raises(SystemExit):
        generate.parse_args(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("python -m rbjax.generate", "--checkpoint", "FILE@MASK"))


def test_the_command_ends_with_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["generate", "--face", str(tmp_path / "none.png")])
    with pytest.raises(SystemExit, match="Error: there is no reference image"):
        generate.main()

"""The modules that an export ships, against ours, number for number."""

import importlib.util
import pathlib
import struct
from types import SimpleNamespace

import diffusers
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from PIL import Image

from rbjax.data import crops
from rbjax.diffusion import sampler
from rbjax.diffusion import schedule as schedule_lib
from rbjax.diffusion.schedule import Schedule
from rbjax.inference.reference import Reference, read
from rbjax.interop import diffusers_export, huggingface, saved_model
from rbjax.models import params
from rbjax.models.block_dct import BlockDCT
from rbjax.models.retrinet import RetriNet, RetriNetConfig
from rbjax.models.unet_config import UNetConfig
from rbjax.text import prompts
from tests.tfds_retribooru import test_decoding
from tfds_retribooru.boxes import PixelBox


def load(name: str):
    """A module of torch_pipeline/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, diffusers_export.SOURCES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


modeling, scheduling = load("modeling_retrinet"), load("scheduling_retrinet")
pipeline = load("pipeline")

FIXED = "positions_at_time_zero"
ATTENTION, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
CONFIGS = {
    "three_levels_at_the_targets_time": RetriNetConfig(
        UNetConfig(
            in_channels=5,
            out_channels=5,
            block_out_channels=(6, 12, 18),
            down_block_types=(ATTENTION, PLAIN, ATTENTION),
            layers_per_block=2,
            attention_head_dim=3,
            cross_attention_dim=10,
            norm_num_groups=3,
            use_linear_projection=True,
        ),
        heads=3,
        positions=False,
        reference_timestep="target",
    ),
    FIXED: RetriNetConfig(
        UNetConfig(
            block_out_channels=(10, 14),
            down_block_types=(PLAIN, ATTENTION),
            layers_per_block=1,
            attention_head_dim=1,
            cross_attention_dim=6,
            norm_num_groups=2,
        ),
        heads=2,
        positions=True,
        reference_timestep="zero",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_retrinet_predicts_the_same_in_torch(name):
    config = CONFIGS[name]
    theirs = torch_retrinet(config)
    ours = params.shapes(lambda rngs: RetriNet(config, rngs))
    huggingface.load_state_dict(ours, {k: v.numpy() for k, v in theirs.state_dict().items()})
    rng, c = np.random.default_rng(0), config.unet
    latents = rng.normal(size=(3, 7, 9, c.in_channels)).astype(np.float32)
    references = rng.normal(size=(3, 2, 7, 9, c.in_channels)).astype(np.float32)
    prompt = rng.normal(size=(3, 5, c.cross_attention_dim)).astype(np.float32)
    concepts = rng.normal(size=(3, 2, 3, c.cross_attention_dim)).astype(np.float32)
    times = np.array([0.0, 499.5, 999.0], np.float32)
    mask = np.array([[True, True], [False, True], [False, False]])
    expected = nnx.jit(_call)(ours, latents, times, prompt, references, concepts, mask)
    t = torch.tensor
    with torch.no_grad():
        flat = t(references).permute(0, 1, 4, 2, 3)
        encoded = theirs.encode_references(flat, t(concepts), t(times))
        found = theirs(t(latents).permute(0, 3, 1, 2), t(times), t(prompt), encoded, t(mask))
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), expected, atol=2e-5 * scale)


def _call(net, latents, timesteps, prompt, references, concepts, mask):
    return net(
        latents,
        timesteps,
        prompt=prompt,
        references=references,
        concepts=concepts,
        mask=mask,
    )


def torch_retrinet(config: RetriNetConfig) -> torch.nn.Module:
    """The torch module, with its own random weights."""
    torch.manual_seed(0)
    settings = saved_model.retrinet_config(config)
    del settings["_class_name"]
    return modeling.RetriNetModel(**settings).eval()


SCHEDULES = [
    Schedule(betas="rectified_flow", prediction_type="sample"),
    Schedule(),
    Schedule("linear", 100, 1e-4, 2e-2, "v_prediction", True, "trailing"),
    Schedule("squaredcos_cap_v2", timestep_spacing="linspace", set_alpha_to_one=True),
]


def torch_scheduler(schedule: Schedule, method: str):
    settings = {"beta_schedule": schedule.betas, **vars(schedule), "method": method}
    del settings["betas"]
    return scheduling.RetriNetScheduler(**settings)


@pytest.mark.parametrize("method", sampler.METHODS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.betas)
def test_schedulers_plan_the_same_steps(schedule, method):
    theirs = torch_scheduler(schedule, method)
    for count in (1, 2, 7, 20):
        plan = sampler.plan(schedule, count, method)
        theirs.set_timesteps(count)
        names = ("alpha", "sigma", "next_alpha", "next_sigma", "extrapolation")
        expected = np.stack([getattr(plan, name) for name in names], axis=1)
        np.testing.assert_array_equal(theirs.levels, expected)
        np.testing.assert_array_equal(theirs.timesteps, plan.timesteps.astype(np.float32))
        assert theirs.init_noise_sigma == plan.start


@pytest.mark.parametrize("schedule", SCHEDULES[:3], ids=lambda s: s.prediction_type)
def test_schedulers_take_the_same_steps(schedule):
    noise = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    denoise = lambda x, t: 0.5 * x + 1e-3 * t[:, None, None]  # noqa: E731
    expected = sampler.sample(denoise, jnp.asarray(noise), schedule, num_steps=5, method="dpm++2m")
    theirs = torch_scheduler(schedule, "dpm++2m")
    theirs.set_timesteps(5)
    x = torch.tensor(noise) * theirs.init_noise_sigma
    for t in theirs.timesteps:
        x = theirs.step(denoise(x, t.expand(2)), t, x).prev_sample
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)


def test_impossible_settings_of_the_scheduler_are_refused():
    theirs = torch_scheduler(Schedule(), "ddim")
    with pytest.raises(ValueError, match="1001 steps"):
        theirs.set_timesteps(1001)
    with pytest.raises(ValueError, match="method 'heun'"):
        torch_scheduler(Schedule(), "heun")
    twice = Schedule(num_train_timesteps=100, steps_offset=3), 100, "ddim"
    with pytest.raises(ValueError, match="visit a timestep twice"):
        sampler.plan(*twice)
    with pytest.raises(ValueError, match="visit a timestep twice"):
        torch_scheduler(twice[0], "ddim").set_timesteps(100)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.betas)
def test_training_in_torch_has_the_same_inputs_and_targets(schedule):
    latents, noise = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype(np.float32)
    times = np.array([0, 7, 50, schedule.num_train_timesteps - 1])
    theirs = torch_scheduler(schedule, "ddim")
    for name in ("add_noise", "target"):
        expected = getattr(schedule_lib, name)(schedule, latents, noise=noise, timesteps=times)
        found = getattr(theirs, name)(*map(torch.tensor, (latents, noise, times)))
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)


def test_checkpoints_of_activations_do_not_change_gradients():
    theirs = torch_retrinet(CONFIGS[FIXED]).train()
    inputs = torch.randn(1, 4, 6, 6), torch.randn(1, 2, 4, 6, 6), torch.randn(1, 2, 3, 6)
    time, mask = torch.tensor([5]), torch.ones(1, 2, dtype=torch.bool)

    def gradients() -> list[torch.Tensor]:
        encoded = theirs.encode_references(*inputs[1:], time)
        loss = theirs(inputs[0], time, inputs[2][:, 0], encoded, mask).square().mean()
        return torch.autograd.grad(loss, theirs.parameters(), allow_unused=True)

    plain = gradients()
    theirs.enable_gradient_checkpointing()
    for found, expected in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(found, expected)


def test_an_offloaded_part_is_loaded_before_any_use():
    pytest.importorskip("accelerate")
    loaded = []
    hook = SimpleNamespace(pre_forward=lambda module, *_: loaded.append(type(module).__name__))
    vae, retrinet = load("modeling_block_dct").BlockDCT(2, 3, 1), torch_retrinet(CONFIGS[FIXED])
    vae._hf_hook = retrinet._hf_hook = hook
    latents = vae.encode(torch.zeros(1, 3, 12, 12)).latent_dist.mode()
    vae.decode(latents)
    retrinet.encode_references(torch.zeros(1, 1, 4, 6, 6), torch.zeros(1, 1, 3, 6), torch.zeros(1))
    assert loaded == ["BlockDCT", "BlockDCT", "RetriNetModel"]


def empty_pipeline(vae=None, view: str = "crop", size: int = 12):
    """A pipeline without other models, for its own arithmetic."""
    return pipeline.RetriNetPipeline(None, None, None, None, vae, size=size, view=view)


@pytest.mark.parametrize("is_spaced", [False, True])
def test_prompts_are_spelled_the_same(is_spaced):
    words = ["red_hair", "o_o", ">_<", " v_over_eye", "sendai_(kantai_collection)", "", "赤い_髪"]
    pipe = pipeline.RetriNetPipeline(None, None, None, None, None, underscores_as_spaces=is_spaced)
    for prompt in (*words, ", ".join(words), ",".join(reversed(words))):
        ours = prompts.spelled(prompt, underscores_as_spaces=is_spaced)
        assert pipe._spelled(prompt) == ours
    assert pipe._spelled("red_hair,o_o") == ("red hair,o_o" if is_spaced else "red_hair,o_o")


@pytest.mark.parametrize("view", crops.VIEWS)
def test_views_of_references_are_the_same(view):
    image = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    expected = crops.crop_box(image, PixelBox(2, 5, 13, 25), size=12, view=view)
    found = empty_pipeline(view=view).view("face", Image.fromarray(image), (2, 5, 11, 20))
    np.testing.assert_array_equal(found, expected)


def test_wrong_references_are_refused():
    pipe, image = empty_pipeline(), Image.new("RGB", (7, 5))
    with pytest.raises(ValueError, match="concept 'hat'"):
        pipe.view("hat", image)
    for box in [(4, 0, 4, 5), (-1, 0, 2, 2), (2, 2, 0, 1)]:
        with pytest.raises(ValueError, match="face reference is not inside its picture of 7x5"):
            pipe.view("face", image, box)
    with pytest.raises(ValueError, match="face reference is no PIL image: 'a.png'"):
        pipe.view("face", "a.png")
    with pytest.raises(ValueError, match="give a list of"):
        pipe._reference_encoder(("face", image))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16", "P"])
def test_files_of_references_are_read_the_same(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 4), np.uint8)
    picture = Image.fromarray(pixels)
    if mode == "I;16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)
    else:
        picture = picture.convert(mode)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation
    picture.save(tmp_path / "a.png", exif=turned)
    ours = Reference("face", read(tmp_path / "a.png"), (1, 2, 8, 9)).crop(12, "crop")
    found = empty_pipeline().view("face", Image.open(tmp_path / "a.png"), (1, 2, 8, 9))
    np.testing.assert_array_equal(found, ours)


WRONG_RATIONAL = 0x011A, 10, struct.pack("<ii", -1, 0)  # cannot be written again


@pytest.mark.parametrize(
    "mode, options",
    [
        ("RGB", {"exif": test_decoding.exif(test_decoding.ROTATED, WRONG_RATIONAL)}),
        ("RGB", {"exif": b"broken"}),
        *((mode, {"icc_profile": test_decoding.P3}) for mode in ("RGB", "RGBA", "P", "L")),
        *(("RGB", {"icc_profile": given}) for given in (test_decoding.SRGB, b"broken")),
    ],
)
def test_metadata_of_references_is_read_the_same(tmp_path, mode, options):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 4), np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png", **options)
    assert_read_the_same(tmp_path / "a.png")


@pytest.mark.parametrize("largest", [255, 65535])
def test_whole_numbers_of_32_bits_are_read_the_same(tmp_path, largest):
    grey = np.random.default_rng(0).integers(0, largest + 1, (9, 14), np.int32)
    Image.fromarray(grey).save(tmp_path / "a.tiff")
    assert_read_the_same(tmp_path / "a.tiff")


def assert_read_the_same(path: pathlib.Path) -> None:
    ours = Reference("face", read(path)).crop(14, "crop")
    found = empty_pipeline(size=14).view("face", Image.open(path))
    np.testing.assert_array_equal(found, ours)


def test_noise_that_does_not_fit_is_refused():
    pipe = empty_pipeline(vae=load("modeling_block_dct").BlockDCT(2, 3, 1))
    pipe.retrinet = SimpleNamespace(config=SimpleNamespace(unet_config={"out_channels": 5}))
    one = torch.Generator().manual_seed(0)
    assert pipe._noise(2, 3, one, None).shape == (6, 5, 6, 6)
    with pytest.raises(ValueError, match=r"\[2, 5, 4, 6\], they must be \[images, 5, 6, 6\]"):
        pipe._noise(1, 1, one, torch.zeros(2, 5, 4, 6))
    with pytest.raises(ValueError, match="3 images of 2 prompts"):
        pipe._noise(2, 1, one, torch.zeros(3, 5, 6, 6))
    with pytest.raises(ValueError, match="1 generators for 2 images"):
        pipe._noise(2, 1, [one], None)


@pytest.mark.parametrize(
    "references, prompt, count", [(2, 3, 3), (1.5, 1.5, 2), (1, 1, 1), (0, 4, 3)]
)
def test_guidance_weights_are_the_same(references, prompt, count):
    weights = pipeline._weights(references, prompt)
    assert len(weights) == count
    assert sum(weight for weight, _, _ in weights) == pytest.approx(1)
    assert weights[-1] == (prompt, True, True)


def test_the_block_dct_is_the_same_in_torch(tmp_path):
    ours = BlockDCT(factor=3, luma=7, chroma=4)
    saved_model._save_autoencoder(ours, tmp_path, None)
    theirs = load("modeling_block_dct").BlockDCT.from_pretrained(tmp_path)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 6, 9, 3)).astype(np.float32)
    latents = ours.encode(images)
    with torch.no_grad():
        found = theirs.encode(torch.tensor(images).permute(0, 3, 1, 2)).latent_dist.mode()
        back = theirs.decode(found).sample
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), latents, atol=1e-5)
    np.testing.assert_allclose(back.permute(0, 2, 3, 1), ours.decode(latents), atol=1e-5)


def test_latents_are_the_scaled_mean_of_the_vae():
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 4),
        norm_num_groups=2,
        scaling_factor=0.5,
    ).eval()
    pipe = empty_pipeline(vae=vae)
    images = torch.rand(2, 3, 12, 12)
    with torch.no_grad():
        latents = pipe.encode_images(images)
        moments = vae.encode(images).latent_dist
        torch.testing.assert_close(latents, 0.5 * moments.mean)
        torch.testing.assert_close(pipe.decode_latents(latents), vae.decode(moments.mean).sample)

"""The modules that an export ships, against ours, number for number."""

import importlib.util
import inspect
from types import SimpleNamespace

import diffusers
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from PIL import Image

from rbjax.data import transforms
from rbjax.diffusion import sampler
from rbjax.diffusion.schedule import Schedule
from rbjax.interop import huggingface, model_folder, torch_export
from rbjax.models import abstract
from rbjax.models.autoencoder import BlockDCT
from rbjax.models.retrinet import RetriNet, RetriNetConfig
from rbjax.models.unet import UNetConfig


def load(name: str):
    """A module of torch_pipeline/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, torch_export.SOURCES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


modeling, scheduling = load("modeling_retrinet"), load("scheduling_retrinet")
pipeline, comfyui = load("pipeline"), load("comfyui_retrinet")

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
    "positions_at_time_zero": RetriNetConfig(
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
    ours = abstract.shapes(lambda rngs: RetriNet(config, rngs))
    huggingface.load_state_dict(ours, {k: v.numpy() for k, v in theirs.state_dict().items()})
    rng, c = np.random.default_rng(0), config.unet
    latents = rng.normal(size=(3, 7, 9, c.in_channels)).astype(np.float32)
    references = rng.normal(size=(3, 2, 7, 9, c.in_channels)).astype(np.float32)
    prompt = rng.normal(size=(3, 5, c.cross_attention_dim)).astype(np.float32)
    concepts = rng.normal(size=(3, 2, 3, c.cross_attention_dim)).astype(np.float32)
    times = np.array([0.0, 499.5, 999.0], np.float32)
    mask = np.array([[True, True], [False, True], [False, False]])
    expected = nnx.jit(lambda net, *x: net(*x))(
        ours, latents, times, prompt, references, concepts, mask
    )
    t = torch.tensor
    with torch.no_grad():
        flat = t(references).permute(0, 1, 4, 2, 3)
        encoded = theirs.encode_references(flat, t(concepts), t(times))
        found = theirs(t(latents).permute(0, 3, 1, 2), t(times), t(prompt), encoded, t(mask))
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found.permute(0, 2, 3, 1), expected, atol=2e-5 * scale)


def torch_retrinet(config: RetriNetConfig) -> torch.nn.Module:
    """The torch module, with its own random weights."""
    torch.manual_seed(0)
    settings = model_folder.retrinet_config(config)
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
    expected = sampler.sample(denoise, jnp.asarray(noise), schedule, 5, "dpm++2m")
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


def empty_pipeline(vae=None, view: str = "crop"):
    """A pipeline without other models, for its own arithmetic."""
    return pipeline.RetriNetPipeline(None, None, None, None, vae, size=12, view=view)


@pytest.mark.parametrize("view", transforms.VIEWS)
def test_views_of_references_are_the_same(view):
    image = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    expected = transforms.box_view(image, (5, 25, 2, 13), 12, view)
    found = empty_pipeline(view=view).view("face", Image.fromarray(image), (2, 5, 11, 20))
    np.testing.assert_array_equal(found, expected)


def test_wrong_references_are_refused():
    pipe, image = empty_pipeline(), Image.new("RGB", (7, 5))
    with pytest.raises(ValueError, match="concept 'hat'"):
        pipe.view("hat", image)
    with pytest.raises(ValueError, match="not inside"):
        pipe.view("face", image, (4, 0, 4, 5))


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
    model_folder._save_autoencoder(ours, tmp_path, None)
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


class FakePipeline:
    """Notes its arguments; makes black images."""

    def __call__(self, prompt, references, num_images_per_prompt, generator, **settings):
        self.prompt, self.references, self.settings = prompt, references, settings
        self.seeds = [g.initial_seed() for g in generator]
        return SimpleNamespace(images=torch.zeros(num_images_per_prompt, 3, 4, 6))


@pytest.mark.parametrize("name", comfyui.NODE_CLASS_MAPPINGS)
def test_nodes_keep_comfyuis_contract(name):
    node = comfyui.NODE_CLASS_MAPPINGS[name]
    inputs = node.INPUT_TYPES()
    assert set(inputs) <= {"required", "optional"}
    parameters = inspect.signature(getattr(node, node.FUNCTION)).parameters
    assert set(parameters) - {"self"} == set(inputs["required"]) | set(inputs.get("optional", ()))
    for names in inputs.get("optional", ()):
        assert parameters[names].default is not inspect.Parameter.empty
    assert all(isinstance(kind, str) for kind in node.RETURN_TYPES)
    assert isinstance(node.RETURN_TYPES, tuple) and isinstance(node.CATEGORY, str)
    assert name in comfyui.NODE_DISPLAY_NAME_MAPPINGS


def test_reference_nodes_chain_and_read_masks():
    image, mask = torch.ones(2, 5, 7, 3), torch.zeros(1, 5, 7)
    mask[0, 1:3, 2:6] = 1
    (first,) = comfyui.RetriNetReference().add(image, "face", mask)
    (both,) = comfyui.RetriNetReference().add(image[:1], "clothes", previous=first)
    assert [(c, picture.size, box) for c, picture, box in both] == [
        ("face", (7, 5), (2, 1, 4, 2)),
        ("face", (7, 5), (2, 1, 4, 2)),
        ("clothes", (7, 5), None),
    ]
    with pytest.raises(ValueError, match="mask of a RetriNet reference is empty"):
        comfyui.RetriNetReference().add(image, "face", 0 * mask)


def test_the_generating_node_returns_images_in_comfyuis_axes():
    pipe = FakePipeline()
    (images,) = comfyui.RetriNetGenerate().generate(pipe, "smile", 7, 2, 3, 1.5, 2.5)
    assert images.shape == (2, 4, 6, 3)
    assert pipe.seeds == [7, 8] and pipe.references == []
    assert pipe.settings["num_inference_steps"] == 3
    assert (pipe.settings["guidance_references"], pipe.settings["guidance_prompt"]) == (1.5, 2.5)

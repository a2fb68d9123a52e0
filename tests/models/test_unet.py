"""The UNet against diffusers, on random weights and odd shapes."""

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from rbjax.interop import huggingface
from rbjax.models.autoencoder_kl import AutoencoderKLConfig
from rbjax.models.unet import UNet2DConditionModel
from rbjax.models.unet_config import UNetConfig

ATTENTION, PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
CONFIGS = {
    "three_levels_one_without_attention": (
        dict(
            block_out_channels=(12, 24, 36),
            down_block_types=(ATTENTION, PLAIN, ATTENTION),
            layers_per_block=1,
            attention_head_dim=3,
            norm_num_groups=6,
        ),
        (10, 14),
    ),
    "linear_projection_and_heads_of_each_level": (
        dict(
            block_out_channels=(16, 24),
            down_block_types=(ATTENTION, ATTENTION),
            layers_per_block=1,
            attention_head_dim=(2, 3),
            norm_num_groups=4,
            use_linear_projection=True,
        ),
        (6, 4),
    ),
    "heads_that_do_not_divide_the_channels": (
        dict(
            block_out_channels=(8, 20),
            down_block_types=(ATTENTION, ATTENTION),
            layers_per_block=1,
            attention_head_dim=3,
            norm_num_groups=4,
        ),
        (4, 5),
    ),
    "three_layers_a_block": (
        dict(
            block_out_channels=(8, 16),
            down_block_types=(PLAIN, ATTENTION),
            layers_per_block=3,
            attention_head_dim=1,
            norm_num_groups=8,
        ),
        (4, 6),
    ),
    "odd_maps_and_narrowing_levels": (
        dict(
            block_out_channels=(20, 10, 15),
            down_block_types=(PLAIN, ATTENTION, PLAIN),
            layers_per_block=1,
            attention_head_dim=5,
            norm_num_groups=5,
            in_channels=5,
            out_channels=3,
        ),
        (7, 9),
    ),
    "other_time_and_norm_constants": (
        dict(
            block_out_channels=(8, 8),
            down_block_types=(ATTENTION, PLAIN),
            layers_per_block=2,
            attention_head_dim=2,
            norm_num_groups=2,
            norm_eps=1e-2,
            flip_sin_to_cos=False,
            freq_shift=1,
            transformer_layers_per_block=2,
        ),
        (4, 4),
    ),
}
WITH_GRADIENTS = ("three_levels_one_without_attention", "linear_projection_and_heads_of_each_level")


def oracle(changes: dict) -> diffusers.UNet2DConditionModel:
    torch.manual_seed(0)
    kinds = [kind.replace("Down", "Up") for kind in reversed(changes["down_block_types"])]
    config = dict(in_channels=4, out_channels=4, cross_attention_dim=20) | changes
    model = diffusers.UNet2DConditionModel(sample_size=8, up_block_types=tuple(kinds), **config)
    for parameter in model.parameters():  # none at 0 or 1, where an error would not show
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def twin(model: diffusers.UNet2DConditionModel) -> UNet2DConditionModel:
    config = UNetConfig.from_dict(dict(model.config))
    ours = nnx.eval_shape(lambda: UNet2DConditionModel(config, nnx.Rngs(0)))
    tensors = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    huggingface.load_state_dict(ours, tensors)
    return ours


def inputs(config: UNetConfig, size: tuple[int, int]):
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((2, *size, config.in_channels), np.float32)
    context = rng.standard_normal((2, 7, 20), np.float32)
    return latents, np.array([3, 777]), context


def run_torch(model, latents, timesteps, context):
    """Output [B, h, w, C] and the leaf of the latents, channels first."""
    leaf = torch.tensor(latents).permute(0, 3, 1, 2).contiguous().requires_grad_()
    out = model(leaf, torch.tensor(timesteps), torch.tensor(context)).sample
    return out.permute(0, 2, 3, 1), leaf


def check_close(actual, expected, tolerance: float, floor: float = 0.0) -> None:
    scale = max(np.abs(expected).max(), floor)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in WITH_GRADIENTS])
def test_output_equals_diffusers(name):
    changes, size = CONFIGS[name]
    model = oracle(changes)
    ours = twin(model)
    arrays = inputs(ours.config, size)
    with torch.no_grad():
        expected = run_torch(model, *arrays)[0].numpy()
    check_close(nnx.jit(lambda m, *a: m(*a))(ours, *arrays), expected, 1e-4)


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_output_and_all_gradients_equal_diffusers(name):
    check_gradients(*CONFIGS[name])


@pytest.mark.slow
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("heads, plain", [(1, 0), (3, 1), ((1, 3, 5), 2)])
def test_output_and_all_gradients_equal_diffusers_in_a_sweep(linear, layers, heads, plain):
    kinds = [PLAIN if level == plain else ATTENTION for level in range(3)]
    changes = dict(
        block_out_channels=(15, 30, 45),
        down_block_types=tuple(kinds),
        layers_per_block=layers,
        attention_head_dim=heads,
        norm_num_groups=5,
        use_linear_projection=linear,
    )
    check_gradients(changes, (9, 6))


def check_gradients(changes: dict, size: tuple[int, int]) -> None:
    model = oracle(changes)
    ours = twin(model)
    latents, timesteps, context = inputs(ours.config, size)
    graphdef, state = nnx.split(ours)

    @jax.jit
    @jax.value_and_grad
    def value_and_grads(arguments):
        params, x = arguments
        return jnp.mean(nnx.merge(graphdef, params)(x, timesteps, context) ** 2)

    value, (grads, latents_grad) = value_and_grads((state, jnp.asarray(latents)))
    out, leaf = run_torch(model, latents, timesteps, context)
    loss = (out**2).mean()
    loss.backward()
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    check_close(latents_grad, leaf.grad.permute(0, 2, 3, 1).numpy(), 1e-4)
    found = huggingface.state_dict(nnx.merge(graphdef, grads))
    expected = {key: p.grad.numpy() for key, p in model.named_parameters()}
    assert found.keys() == expected.keys()
    floor = 1e-2 * max(np.abs(grad).max() for grad in expected.values())
    for key, grad in expected.items():
        check_close(found[key], grad, 2e-4, floor)


@pytest.mark.slow
@pytest.mark.parametrize("remat", [True, False])
def test_remat_is_in_the_program_as_the_config_says(remat):
    program = str(jax.make_jaxpr(gradients, static_argnums=0)(*one_level(remat)))
    assert ("prevent_cse" in program) == remat


def test_remat_changes_no_gradient():
    found, expected = (
        jax.jit(gradients, static_argnums=0)(*one_level(remat)) for remat in (True, False)
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * float(jnp.abs(b).max()) + 1e-8)


def one_level(remat: bool):
    """(remat, parameters) of a UNet of one level."""
    return remat, nnx.state(one_level_unet(remat), nnx.Param)


def one_level_unet(remat: bool) -> UNet2DConditionModel:
    config = UNetConfig(
        block_out_channels=(4,),
        down_block_types=(ATTENTION,),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=20,
        norm_num_groups=2,
        remat=remat,
    )
    return nnx.jit(lambda: UNet2DConditionModel(config, nnx.Rngs(0)))()


def gradients(remat, params):
    unet = nnx.eval_shape(lambda: one_level_unet(remat))
    graphdef = nnx.split(unet)[0]
    latents, timesteps, context = inputs(unet.config, (3, 4))
    loss = lambda p: jnp.mean(nnx.merge(graphdef, p)(latents, timesteps, context) ** 2)  # noqa: E731
    return jax.grad(loss)(params)


def test_features_that_sd_lacks_are_refused():
    with pytest.raises(ValueError, match="class_embed_type='timestep' is not supported"):
        UNetConfig.from_dict({"class_embed_type": "timestep"})
    with pytest.raises(ValueError, match="timestep_post_act='silu' is not supported"):
        UNetConfig.from_dict({"timestep_post_act": "silu"})  # it has no weights that would miss
    with pytest.raises(ValueError, match=r"layers_per_block=\[1, 2\] must be one number"):
        UNetConfig.from_dict({"layers_per_block": [1, 2]})


@pytest.mark.parametrize(
    "settings, oracle",
    [
        (UNetConfig, diffusers.UNet2DConditionModel),
        (AutoencoderKLConfig, diffusers.AutoencoderKL),
    ],
)
def test_absent_fields_are_those_of_diffusers(settings, oracle):
    with torch.device("meta"):
        expected = settings.from_dict(dict(oracle().config))
    assert settings.from_dict({}) == expected


def test_heads_of_a_level_without_attention_do_not_count():
    UNetConfig(block_out_channels=(4, 8), down_block_types=(PLAIN, PLAIN), attention_head_dim=8)


def test_one_number_of_heads_holds_for_all_levels():
    assert UNetConfig(attention_head_dim=8).heads == (8, 8, 8, 8)
    assert UNetConfig(attention_head_dim=(5, 10, 20, 20)).heads == (5, 10, 20, 20)

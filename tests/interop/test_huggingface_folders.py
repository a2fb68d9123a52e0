"""Folders of diffusers and transformers: written by them, read by us, written by us, the same."""

import json

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from flax import nnx
from safetensors.numpy import load_file, save_file

from rbjax.interop import huggingface, safetensors_files
from rbjax.parallel import mesh as mesh_lib

UNET = dict(
    block_out_channels=(8, 16),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=1,
    attention_head_dim=2,
    cross_attention_dim=12,
    norm_num_groups=4,
    sample_size=8,
)
TEXT = dict(
    vocab_size=57,
    hidden_size=12,
    intermediate_size=20,
    num_hidden_layers=1,
    num_attention_heads=2,
    max_position_embeddings=13,
)
VISION = dict(TEXT, image_size=8, patch_size=4, projection_dim=6)
for unused in ("vocab_size", "max_position_embeddings"):
    VISION.pop(unused)


def vae() -> diffusers.AutoencoderKL:
    kinds = dict(down_block_types=("DownEncoderBlock2D",), up_block_types=("UpDecoderBlock2D",))
    return diffusers.AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, **kinds)


def clip_model() -> transformers.CLIPModel:
    text, vision = TEXT | {"eos_token_id": 55, "bos_token_id": 1}, VISION
    return transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    )


def blip() -> transformers.BlipForQuestionAnswering:
    text = dict(TEXT, encoder_hidden_size=12, projection_dim=12)
    text |= dict(bos_token_id=1, pad_token_id=0, eos_token_id=2, sep_token_id=2)
    config = transformers.BlipConfig(text_config=text, vision_config=VISION)
    return transformers.BlipForQuestionAnswering(config)


MODELS = {
    "UNet2DConditionModel": lambda: diffusers.UNet2DConditionModel(**UNET),
    "AutoencoderKL": vae,
    "CLIPTextModel": lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT)),
    "CLIPVisionModelWithProjection": lambda: transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**VISION)
    ),
    "CLIPModel": clip_model,
    "BlipForQuestionAnswering": blip,
}


def weights(folder) -> dict[str, np.ndarray]:
    (path,) = folder.glob("*.safetensors")
    return load_file(path)


@pytest.fixture(scope="module")
def unet_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unet")
    MODELS["UNet2DConditionModel"]().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_loaded_and_saved_is_equal_byte_for_byte(name, dtype, tmp_path):
    MODELS[name]().to(getattr(torch, dtype)).save_pretrained(tmp_path / "theirs")
    model = huggingface.load(tmp_path / "theirs")
    assert type(model).__name__ == name
    huggingface.save(model, tmp_path / "ours")
    theirs, ours = weights(tmp_path / "theirs"), weights(tmp_path / "ours")
    owners = getattr(model, "tied_keys", {})
    assert ours.keys() == theirs.keys() - owners.keys()
    for key, value in ours.items():
        assert (value.dtype, value.shape) == (theirs[key].dtype, theirs[key].shape), key
        assert value.tobytes() == theirs[key].tobytes(), key


@pytest.mark.parametrize("name", ["UNet2DConditionModel", "AutoencoderKL", "CLIPModel"])
def test_what_we_save_is_what_they_read(name, tmp_path):
    model = MODELS[name]()
    model.save_pretrained(tmp_path / "theirs")
    huggingface.save(huggingface.load(tmp_path / "theirs"), tmp_path / "ours")
    again, info = type(model).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values())
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_what_only_diffusers_needs_of_the_config_is_kept(tmp_path):
    settings = {"upcast_attention": True, "sample_size": 96}
    diffusers.UNet2DConditionModel(**UNET | settings).save_pretrained(tmp_path / "theirs")
    huggingface.save(huggingface.load(tmp_path / "theirs"), tmp_path / "ours")
    again = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "ours")
    assert {name: again.config[name] for name in settings} == settings


def test_shards_with_an_index_are_read(unet_folder, tmp_path):
    model = diffusers.UNet2DConditionModel.from_pretrained(unet_folder)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    found = huggingface.state_dict(huggingface.load(tmp_path))
    expected = weights(unet_folder)
    assert found.keys() == expected.keys()
    assert all((found[key] == expected[key]).all() for key in expected)
    files = safetensors_files.files(tmp_path)
    assert files == sorted(tmp_path.glob("*.safetensors*"))


def test_a_shard_that_is_not_there_is_named(unet_folder, tmp_path):
    model = diffusers.UNet2DConditionModel.from_pretrained(unet_folder)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=f"names the shard {shard.name}"):
        huggingface.load(tmp_path)


def test_a_single_file_is_read_with_the_config_beside_it(unet_folder):
    (path,) = unet_folder.glob("*.safetensors")
    found = huggingface.state_dict(huggingface.load(path))
    assert all((found[key] == value).all() for key, value in weights(unet_folder).items())


def test_fp16_variant_alone_is_found(tmp_path):
    MODELS["CLIPTextModel"]().half().save_pretrained(tmp_path, variant="fp16")
    assert [p.name for p in tmp_path.glob("*.safetensors")] == ["model.fp16.safetensors"]
    params = nnx.state(huggingface.load(tmp_path, dtype=np.float32), nnx.Param)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}


def test_shards_of_the_fp16_variant_are_found(unet_folder, tmp_path):
    model = diffusers.UNet2DConditionModel.from_pretrained(unet_folder)
    model.save_pretrained(tmp_path, variant="fp16", max_shard_size="40KB")
    assert [p.suffixes[-2:] for p in tmp_path.glob("*.json") if "index" in p.name] == [
        [".fp16", ".json"]
    ]
    found = huggingface.state_dict(huggingface.load(tmp_path))
    assert all((found[key] == value).all() for key, value in weights(unet_folder).items())


@pytest.mark.parametrize("shards", [False, True])
def test_the_bf16_variant_alone_is_found(unet_folder, tmp_path, shards):
    model = diffusers.UNet2DConditionModel.from_pretrained(unet_folder).to(torch.bfloat16)
    size = "40KB" if shards else "5GB"
    model.save_pretrained(tmp_path, variant="bf16", max_shard_size=size)
    assert all("bf16" in p.name for p in tmp_path.glob("*safetensors*"))
    found = huggingface.state_dict(huggingface.load(tmp_path, dtype=np.float32))
    for key, value in model.float().state_dict().items():
        np.testing.assert_array_equal(found[key], value.numpy())


@pytest.mark.parametrize("name", ["CLIPTextModel", "CLIPVisionModelWithProjection"])
def test_the_weights_of_a_whole_clip_are_read_for_a_part_of_it(name, tmp_path):
    """As transformers does: with position ids, projections, the other tower, `logit_scale`."""
    whole = clip_model()
    kind, part = getattr(transformers, name), {"CLIPTextModel": "text"}.get(name, "vision")
    config = getattr(whole.config, f"{part}_config")
    config.projection_dim = 6
    config.architectures = [name]
    config.save_pretrained(tmp_path)
    tensors = {key: value.detach().numpy() for key, value in whole.state_dict().items()}
    positions = np.arange(TEXT["max_position_embeddings"])[None]
    save_file(
        tensors | {f"{part}_model.embeddings.position_ids": positions},
        tmp_path / "model.safetensors",
    )
    theirs = kind.from_pretrained(tmp_path).state_dict()
    with pytest.warns(UserWarning, match="no use for .*logit_scale.*not read"):
        found = huggingface.state_dict(huggingface.load(tmp_path))
    assert {key.removeprefix("text_model.") for key in theirs} == found.keys()
    for key, value in theirs.items():
        np.testing.assert_array_equal(found[key.removeprefix("text_model.")], value.numpy())


def test_half_precision_weights_are_computed_in_float32(unet_folder):
    half, full = huggingface.load(unet_folder, np.float16), huggingface.load(unet_folder)
    arguments = jnp.ones((1, 4, 4, 4)), jnp.array([5]), jnp.ones((1, 3, 12))
    found, expected = half(*arguments), full(*arguments)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3 * float(jnp.abs(expected).max()))


def test_tensors_go_to_the_shards_of_the_rules(unet_folder):
    mesh = mesh_lib.make_mesh(2, 2, 2)
    model = huggingface.load(unet_folder, mesh=mesh)
    query = model.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q.kernel.get_value()
    assert query.sharding.spec == jax.sharding.PartitionSpec("fsdp", "tensor")
    assert query.addressable_shards[0].data.shape == (4, 4)
    found = huggingface.state_dict(model)
    assert all((found[key] == value).all() for key, value in weights(unet_folder).items())


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.ckpt"])
def test_pickles_are_refused_with_the_way_to_convert_them(unet_folder, tmp_path, name):
    (tmp_path / "config.json").write_text((unet_folder / "config.json").read_text())
    (tmp_path / name).write_bytes(b"\x80\x02")
    for path, error in ((tmp_path, FileNotFoundError), (tmp_path / name, ValueError)):
        with pytest.raises(error, match="pickle can run any code.*save_pretrained"):
            huggingface.load(path)


def test_all_keys_that_do_not_fit_are_listed(unet_folder, tmp_path):
    tensors = weights(unet_folder)
    tensors["extra.weight"] = tensors.pop("conv_in.bias")
    tensors["conv_out.bias"] = np.zeros(3, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((unet_folder / "config.json").read_text())
    with pytest.raises(ValueError) as error:
        huggingface.load(tmp_path)
    assert str(error.value).splitlines() == [
        f"{tmp_path}: the weights do not fit the UNet2DConditionModel of the configuration. Take "
        "both from one model:",
        "  misshapen (1): conv_out.bias (file (3,), model (4,))",
        "  missing (1): conv_in.bias",
        "  unexpected (1): extra.weight",
    ]


def test_damaged_files_are_named(unet_folder, tmp_path):
    (path,) = unet_folder.glob("*.safetensors")
    (tmp_path / "config.json").write_text((unet_folder / "config.json").read_text())
    (tmp_path / path.name).write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=f"{path.name} is not a whole safetensors file"):
        huggingface.load(tmp_path)


@pytest.fixture
def copy(unet_folder, tmp_path):
    """copy(changes of the tensors, file name) -> a folder of the UNet with these weights."""

    def make(changes: dict, name: str = "model.safetensors"):
        (tmp_path / "config.json").write_text((unet_folder / "config.json").read_text())
        save_file(changes, tmp_path / name)
        return tmp_path

    return make


def test_a_single_file_without_its_config_says_what_is_missing(copy):
    folder = copy({"conv_in.bias": np.zeros(4)}, "one.safetensors")
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="needs the config.json of its model beside it"):
        huggingface.load(folder / "one.safetensors")


def test_a_single_file_without_tensors_is_not_taken_for_its_folder(copy, unet_folder):
    folder = copy(weights(unet_folder))
    save_file({}, folder / "none.safetensors")
    with pytest.raises(ValueError, match="missing"):
        huggingface.load(folder / "none.safetensors")


def test_keys_under_old_and_new_name_at_once_are_refused(tmp_path):
    MODELS["CLIPTextModel"]().save_pretrained(tmp_path)
    tensors = weights(tmp_path)
    old = {f"text_model.{key.removeprefix('text_model.')}": v for key, v in tensors.items()}
    new = {key.removeprefix("text_model."): v for key, v in tensors.items()}
    for content in (old, new):
        save_file(content, tmp_path / "model.safetensors")
        huggingface.load(tmp_path)
    save_file(new | dict([old.popitem()]), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="old and new name: text_model"):
        huggingface.load(tmp_path)


@pytest.mark.parametrize(
    "content, message", [("{", "is not JSON"), ("[]", r"holds '\[\]' instead of a JSON object")]
)
def test_a_damaged_config_is_named(copy, content, message):
    folder = copy({})
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=f"config.json {message}"):
        huggingface.load(folder)


@pytest.mark.parametrize("heads", [None, 0, 9, [2], [2, 17]])
def test_heads_that_do_not_fit_are_refused(copy, heads):
    folder = copy({})
    config = json.loads((folder / "config.json").read_text()) | {"attention_head_dim": heads}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="attention_head_dim=.*must be a number of heads"):
        huggingface.load(folder)


def test_unknown_classes_and_pipeline_folders_are_refused(unet_folder, tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"_class_name": "Transformer3D"}))
    with pytest.raises(ValueError, match="holds a 'Transformer3D'; supported are UNet2D"):
        huggingface.load(tmp_path / "unet")
    with pytest.raises(FileNotFoundError, match="load one of unet instead"):
        huggingface.load(tmp_path)

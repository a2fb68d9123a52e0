"""Loads, runs and saves a model of Stable Diffusion 1.5's size, and says what that costs.

python -m scripts.benchmarks.check_full_size

diffusers and transformers write a float16 folder with random weights (2.1 GB, temporary). Each
part is loaded as it is stored, saved again and compared byte for byte. The float32 parameters of
RetriNet are made from the folder as training makes them, and one forward pass runs. Each of these
has a process of its own. Needs about 8 GiB of memory and 5 GB of disk.
"""

import argparse
import json
import multiprocessing
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import safe_open

from configs import composition
from rbjax.interop import huggingface, stable_diffusion
from rbjax.models.params import Tree, nnx_state
from rbjax.models.pipeline import abstract_pipeline
from rbjax.parallel import mesh as meshes
from rbjax.text.tokenizer import PAD, word_tokenizer

T = TypeVar("T")


def main(argv: list[str] | None = None) -> None:
    """Runs all checks in a temporary directory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=384, help="pixels of the images")
    parser.add_argument("--references", type=int, default=4, help="of the example")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        in_process(write_folder, folder)
        for part in stable_diffusion.MODELS:
            in_process(load_and_save, folder, part)
        in_process(forward, folder, args.size, args.references)


def in_process(function: Callable[..., None], *args: object) -> None:
    """Calls a function in a process of its own, so that peaks of memory are its own."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=args)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"Error: {function.__name__}{args} failed; see above")


def write_folder(folder: pathlib.Path) -> None:
    """Writes a float16 folder of SD 1.5's sizes with random weights."""
    import diffusers
    import torch
    import transformers

    torch.set_default_dtype(torch.float16)
    unet = diffusers.UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    unet.save_pretrained(folder / "unet")
    diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    ).save_pretrained(folder / "vae")
    config = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12
    )
    transformers.CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    (folder / "tokenizer").mkdir()
    word_tokenizer({"tags": {}}).save(str(folder / "tokenizer" / "tokenizer.json"))
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"pad_token": PAD}))


def measure(what: str, call: Callable[[], T]) -> T:
    """Calls, and prints the time and the peak memory of the process so far."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    seconds = time.perf_counter() - start
    print(f"{what:45} {seconds:7.1f} s   peak memory {peak_memory():6.2f} GB", flush=True)
    return result


def peak_memory() -> float:
    """Returns the largest resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def load_and_save(folder: pathlib.Path, part: str) -> None:
    """Loads a part as it is stored, saves it, and compares the two files tensor by tensor."""
    jax.block_until_ready(jnp.zeros(1))  # what JAX itself takes is not the model's
    before = peak_memory()
    graph, state = measure(
        f"load {part} (float16)", lambda: nnx.split(huggingface.load(folder / part))
    )
    size = sum(x.nbytes for x in jax.tree.leaves(state)) / 1e9
    growth = (peak_memory() - before) / size
    print(f"  {size:.2f} GB of parameters; the peak rose by {growth:.2f} x that")
    model, saved = nnx.merge(graph, state), folder / "saved"
    measure(f"save {part}", lambda: huggingface.save(model, saved))
    (first,) = (folder / part).glob("*.safetensors")
    (second,) = saved.glob("*.safetensors")
    print(f"  {compare(first, second)} tensors are equal byte for byte")
    second.unlink()


def compare(first: pathlib.Path, second: pathlib.Path) -> int:
    """Returns the number of tensors of two files.

    Raises:
        ValueError: they are not the same.
    """
    with safe_open(first, "numpy") as a, safe_open(second, "numpy") as b:
        if set(a.keys()) != set(b.keys()):
            raise ValueError(f"other keys: {sorted(set(a.keys()) ^ set(b.keys()))}")
        for key in a.keys():  # noqa: SIM118  the file is no mapping
            if a.get_tensor(key).tobytes() != b.get_tensor(key).tobytes():
                raise ValueError(f"{key} differs")
        return len(list(a.keys()))


def forward(folder: pathlib.Path, size: int, references: int) -> None:
    """Makes RetriNet's parameters as training does and runs it once on noise, in float32."""
    config = composition.sd15()
    changes = {"pretrained": str(folder), "data.size": size, "model.unet.dtype": "float32"}
    config.update_from_flattened_dict(changes)
    pretrained = stable_diffusion.read(config)
    config = pretrained.config
    mesh = meshes.make_mesh(1, 1, 1)
    params = measure("RetriNet from the folder (float32)", lambda: pretrained.load_params(mesh))
    print(f"  {sum(x.nbytes for x in jax.tree.leaves(params)) / 1e9:.2f} GB of parameters")
    graph = nnx.split(abstract_pipeline(config, pretrained.tokenizer))[0]
    shape = (1, references, size // 8, size // 8, 4)
    text = config.model.text.hidden_size
    latents, timesteps = jnp.ones(shape[:1] + shape[2:]), jnp.array([500])
    conditions = {
        "prompt": jnp.ones((1, 77, text)),
        "references": jnp.ones(shape),
        "concepts": jnp.ones((1, references, 3, text)),
        "mask": jnp.ones((1, references), bool),
    }

    @jax.jit
    def run(
        params: Tree,
        latents: jax.Array,
        timesteps: jax.Array,
        *,
        prompt: jax.Array,
        references: jax.Array,
        concepts: jax.Array,
        mask: jax.Array,
    ) -> jax.Array:
        return nnx.merge(graph, nnx_state(params)).retrinet(
            latents,
            timesteps,
            prompt=prompt,
            references=references,
            concepts=concepts,
            mask=mask,
        )

    compiled = measure(
        "compile", lambda: run.lower(params, latents, timesteps, **conditions).compile()
    )
    what = f"forward, {size} px, {references} references"
    out = measure(what, lambda: compiled(params, latents, timesteps, **conditions))
    if not bool(np.isfinite(out).all()):
        raise ValueError("the output is not finite")


if __name__ == "__main__":
    main()

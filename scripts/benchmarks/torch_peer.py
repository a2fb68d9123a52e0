"""PyTorch beside rbjax: training and generating at Stable Diffusion 1.5's size, in one run.

python -m scripts.benchmarks.torch_peer [--size 384 512] [--batch_size 8] [--images 4]

The peer is the network of our PyTorch export on the modules of diffusers and transformers:
bfloat16, torch.compile, channels last, fused AdamW, flash attention. It reads the same batch,
trains the same parameters and keeps the same averages. train_step.py runs first, in a process of
its own.
"""

import argparse
import functools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import diffusers
import torch
import transformers
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rbjax.diffusion.loss import SNR_LIMIT
from rbjax.interop.stable_diffusion import Parts
from rbjax.interop.torch_pipeline.modeling_retrinet import RetriNetModel
from rbjax.models.config_files import file_fields
from scripts.benchmarks import sd15_model
from scripts.benchmarks.sd15_model import Row

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
# On CPUs torch 2.13 dies in the backward pass of channels-last group norms.
LAYOUT = torch.channels_last if CUDA else torch.contiguous_format


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    args = sd15_model.make_parser(__doc__.split("\n")[0]).parse_args(argv)
    ours = rbjax_rows(sys.argv[1:] if argv is None else argv)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}")
    print(sd15_model.HEADER)
    peers = []
    for row in ours:
        measure = measure_training if row["what"] == "train" else measure_generating
        peer = {**row, **measure(args, row["size"])}
        peers.append(peer)
        print(sd15_model.format_row("rbjax", row))
        print(sd15_model.format_row("torch.compile", peer))
        print(f"  rbjax takes {row['seconds'] / peer['seconds']:.2f} times as long", flush=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"rbjax": ours, "torch": peers}))


def rbjax_rows(options: list[str]) -> list[Row]:
    """Returns the figures of scripts/benchmarks/train_step.py."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rows.json"
        command = [sys.executable, "-m", "scripts.benchmarks.train_step", *options]
        subprocess.run([*command, "--json", str(path)], check=True)
        return json.loads(path.read_text())


class Networks(nn.Module):
    """Autoencoder and text encoder, frozen, and RetriNet; random weights."""

    def __init__(self, parts: Parts, dtype: torch.dtype) -> None:
        super().__init__()
        unet = {k: v for k, v in parts.unet.to_dict().items() if not k.startswith("_")}
        blocks = len(parts.vae.block_out_channels)
        self.retrinet = RetriNetModel(unet, 8, positions=False, reference_timestep="target")
        self.vae = diffusers.AutoencoderKL(
            block_out_channels=parts.vae.block_out_channels,
            norm_num_groups=parts.vae.norm_num_groups,
            layers_per_block=parts.vae.layers_per_block,
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
        ).to(dtype)
        text = transformers.CLIPTextConfig(**file_fields(parts.text_encoder))
        self.text = transformers.CLIPTextModel(text)
        self.requires_grad_(False)

    def encode(self, pixels: torch.Tensor) -> DiagonalGaussianDistribution:
        """Returns the distribution of the latents of images, uint8 [N, H, W, 3]."""
        images = pixels.permute(0, 3, 1, 2).to(self.vae.dtype) / 127.5 - 1
        images = images.contiguous(memory_format=LAYOUT)
        return self.vae.encode(images).latent_dist

    def trained(self) -> list[nn.Parameter]:
        """Returns the parameters that train in configs/composition.py:sd15, made trainable."""
        net = self.retrinet
        parts = (net.unet.up_blocks, net.unet.conv_norm_out, net.unet.conv_out, net.conjunctions)
        encoder = (net.retrieval_encoder.conv_in, net.retrieval_encoder.down_blocks)
        parameters = [p for part in (*parts, *encoder) for p in part.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        return parameters


def make_networks(args: argparse.Namespace) -> Networks:
    """Builds the networks on the device, channels last."""
    torch.manual_seed(0)
    parts = sd15_model.make_parts(tiny=args.tiny)
    networks = Networks(parts, getattr(torch, args.dtype)).to(DEVICE)
    networks.retrinet.to(memory_format=LAYOUT)
    networks.vae.to(memory_format=LAYOUT)
    if args.remat:
        blocks = [*networks.retrinet.unet.up_blocks, networks.retrinet.unet.mid_block]
        for block in (*blocks, *networks.retrinet.retrieval_encoder.down_blocks):
            block.gradient_checkpointing = True
            block._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
    return networks


def measure_training(args: argparse.Namespace, size: int) -> Row:
    """Returns seconds, memory and compile time of an update."""
    reset_torch()
    networks = make_networks(args)
    params, config = networks.trained(), sd15_model.make_config(args, size).train
    ema = [p.detach().clone() for p in params]
    rate, decay = config.learning_rate, config.weight_decay
    adamw = torch.optim.AdamW(params, lr=rate, weight_decay=decay, fused=CUDA)
    batch = torch_batch(size, count=args.batch_size, references=args.references)
    loss_of = compile_on_gpu(
        functools.partial(diffusion_loss, networks, autocast=args.dtype == "bfloat16")
    )

    def update() -> None:
        value = loss_of(batch)
        value.backward()
        nn.utils.clip_grad_norm_(params, config.clip_norm, foreach=True)
        adamw.step()
        adamw.zero_grad(set_to_none=True)
        torch._foreach_lerp_(ema, [p.detach() for p in params], 1 - config.ema_decay)
        if not torch.isfinite(value):
            raise SystemExit("Error: the loss is not finite: the figures mean nothing")

    return time_calls(update, repeats=args.steps, warmup=sd15_model.WARMUP)


def diffusion_loss(
    networks: Networks, batch: dict[str, torch.Tensor], *, autocast: bool
) -> torch.Tensor:
    """Returns the min-SNR loss of a batch at random times, float32 []."""
    count, references = batch["references"].shape[:2]
    scale = networks.vae.config.scaling_factor
    with torch.no_grad():
        latents = networks.encode(batch["target"]).sample().float() * scale
        clean = networks.encode(batch["references"].flatten(0, 1)).mode() * scale
        prompt = networks.text(batch["prompt"]).last_hidden_state
        words = batch["concepts"].flatten(0, 1)
        concepts = networks.text(words).last_hidden_state.unflatten(0, (count, references))
    times = torch.randint(0, 1000, (count,), device=latents.device)
    kept = batch["alphas_cumprod"][times][:, None, None, None]
    noise = torch.randn_like(latents)
    noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
    with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
        clean = clean.unflatten(0, (count, references))
        keys_values = networks.retrinet.encode_references(clean, concepts, times)
        output = networks.retrinet(noisy, times, prompt, keys_values, batch["reference_mask"])
    error = functional.mse_loss(output.float(), noise, reduction="none").mean((1, 2, 3))
    snr = (kept / (1 - kept)).flatten()
    return (error * (SNR_LIMIT / snr).clamp(max=1)).mean()


@torch.no_grad()
def measure_generating(args: argparse.Namespace, size: int) -> Row:
    """Returns seconds, memory and compile time of a batch of images, both guidances on."""
    reset_torch()
    networks = make_networks(args).to(getattr(torch, args.dtype))
    batch = torch_batch(size, count=args.images, references=args.references)
    sampling = sd15_model.make_config(args, size).sampling
    weights = sampling.guidance_references, sampling.guidance_prompt
    predict = compile_on_gpu(functools.partial(predict_guided, networks.retrinet, weights=weights))
    decode = compile_on_gpu(lambda x: networks.vae.decode(x).sample)
    scheduler = diffusers.DPMSolverMultistepScheduler(beta_schedule="scaled_linear")

    def generate() -> None:
        count, references = batch["references"].shape[:2]
        scale = networks.vae.config.scaling_factor
        clean = networks.encode(batch["references"].flatten(0, 1)).mode() * scale
        clean = clean.unflatten(0, (count, references))
        ids = torch.cat([torch.zeros_like(batch["prompt"])] * 2 + [batch["prompt"]])
        prompt = networks.text(ids).last_hidden_state
        words = batch["concepts"].flatten(0, 1)
        concepts = networks.text(words).last_hidden_state.unflatten(0, (count, references))
        mask = batch["reference_mask"]
        mask = torch.cat([torch.zeros_like(mask), mask, mask])
        latents = torch.randn(count, *clean.shape[2:], device=DEVICE)
        scheduler.set_timesteps(sampling.steps, device=DEVICE)
        for t in scheduler.timesteps:
            times = t.expand(count)
            output = predict(
                latents.to(clean.dtype),
                times,
                prompt=prompt,
                references=clean,
                concepts=concepts,
                mask=mask,
            )
            latents = scheduler.step(output, t, latents).prev_sample
        decode(latents.to(clean.dtype) / scale)

    return time_calls(generate, repeats=sd15_model.GENERATIONS, warmup=1)


def predict_guided(
    retrinet: RetriNetModel,
    latents: torch.Tensor,
    times: torch.Tensor,
    *,
    weights: tuple[float, float],
    prompt: torch.Tensor,
    references: torch.Tensor,
    concepts: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Returns the prediction with both guidances, float32 [B, C, h, w].

    Args:
        retrinet: the network.
        latents: noisy ones, [B, C, h, w].
        times: [B].
        weights: of the references' and of the prompt's guidance.
        prompt: states [3B, T, D]: of the empty prompt twice, of the prompts.
        references: clean latents [B, R, C, h, w].
        concepts: states [B, R, Tc, D].
        mask: visible references, [3B, R]: none, those of the batch twice.
    """
    keys_values = retrinet.encode_references(references, concepts, times)
    keys_values = [(k.repeat(3, 1, 1), v.repeat(3, 1, 1)) for k, v in keys_values]
    output = retrinet(latents.repeat(3, 1, 1, 1), times.repeat(3), prompt, keys_values, mask)
    neither, referred, both = output.float().chunk(3)
    return neither + weights[0] * (referred - neither) + weights[1] * (both - referred)


def compile_on_gpu(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Compiles with torch.compile where there is a GPU."""
    return torch.compile(function) if CUDA else function


def torch_batch(size: int, *, count: int, references: int) -> dict[str, torch.Tensor]:
    """Returns the batch of train_step.py, and SD's noise schedule."""
    arrays = vars(sd15_model.make_batch(size, count=count, references=references))
    batch = {k: torch.as_tensor(v).to(DEVICE) for k, v in arrays.items() if v is not None}
    batch |= {k: batch[k].long() for k in ("prompt", "concepts")}
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, device=DEVICE) ** 2
    return batch | {"alphas_cumprod": (1 - betas).cumprod(0)}


def time_calls(call: Callable[[], None], *, repeats: int, warmup: int) -> Row:
    """Returns the median seconds of a call; the first one's count as compilation."""
    times = []
    for _ in range(repeats + warmup):
        start = time.perf_counter()
        call()
        if CUDA:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 2**30 if CUDA else 0.0
    return {"seconds": statistics.median(times[warmup:]), "memory": peak, "compile": times[0]}


def reset_torch() -> None:
    """Forgets what was compiled and the memory's peak."""
    torch._dynamo.reset()
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()

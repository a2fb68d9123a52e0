"""PyTorch beside rbjax: training and generating at Stable Diffusion 1.5's size, in one run.

Run:  python -m scripts.benchmarks.torch_peer [--size 384 512] [--batch_size 8] [--images 4]

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

import diffusers
import torch
import transformers
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from rbjax.diffusion.loss import SNR_LIMIT
from rbjax.interop import stable_diffusion
from rbjax.interop.torch_pipeline.modeling_retrinet import RetriNetModel
from rbjax.models.config_files import file_fields
from scripts.benchmarks import train_step

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
# On CPUs torch 2.13 dies in the backward pass of channels-last group norms.
LAYOUT = torch.channels_last if CUDA else torch.contiguous_format


def main() -> None:
    """Prints the table."""
    args = train_step.parser().parse_args()
    ours = rbjax_rows(sys.argv[1:])
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}")
    print(train_step.HEADER)
    peers = []
    for row in ours:
        measure = measure_training if row["what"] == "train" else measure_generating
        peer = {**row, **measure(args, row["size"])}
        peers.append(peer)
        print(train_step.line("rbjax", row))
        print(train_step.line("torch.compile", peer))
        print(f"  rbjax takes {row['seconds'] / peer['seconds']:.2f} times as long", flush=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"rbjax": ours, "torch": peers}))


def rbjax_rows(options: list[str]) -> list[dict]:
    """The figures of scripts/benchmarks/train_step.py."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rows.json"
        subprocess.run(
            [sys.executable, "-m", train_step.__name__, *options, "--json", str(path)], check=True
        )
        return json.loads(path.read_text())


class Networks(nn.Module):
    """Autoencoder and text encoder, frozen, and RetriNet; random weights."""

    def __init__(self, parts: stable_diffusion.Parts, dtype: torch.dtype):
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

    def encode(self, pixels: torch.Tensor):
        """uint8 [N, H, W, 3] -> the distribution of its latents."""
        images = pixels.permute(0, 3, 1, 2).to(self.vae.dtype) / 127.5 - 1
        images = images.contiguous(memory_format=LAYOUT)
        return self.vae.encode(images).latent_dist

    def trained(self) -> list[nn.Parameter]:
        """The parameters of configs/composition.py:sd15 that train."""
        net = self.retrinet
        parts = (net.unet.up_blocks, net.unet.conv_norm_out, net.unet.conv_out, net.conjunctions)
        encoder = (net.retrieval_encoder.conv_in, net.retrieval_encoder.down_blocks)
        found = [p for part in (*parts, *encoder) for p in part.parameters()]
        for parameter in found:
            parameter.requires_grad_(True)
        return found


def networks(args: argparse.Namespace) -> Networks:
    """On the device, channels last."""
    torch.manual_seed(0)
    parts = train_step.tiny_parts() if args.tiny else train_step.PARTS
    made = Networks(parts, getattr(torch, args.dtype)).to(DEVICE)
    made.retrinet.to(memory_format=LAYOUT)
    made.vae.to(memory_format=LAYOUT)
    if args.remat:
        blocks = [*made.retrinet.unet.up_blocks, made.retrinet.unet.mid_block]
        for block in (*blocks, *made.retrinet.retrieval_encoder.down_blocks):
            block.gradient_checkpointing = True
            block._gradient_checkpointing_func = functools.partial(checkpoint, use_reentrant=False)
    return made


def measure_training(args: argparse.Namespace, size: int) -> dict:
    """Seconds, memory and compile time of an update."""
    reset()
    made = networks(args)
    params, config = made.trained(), train_step.sd15(size, args).train
    ema = [p.detach().clone() for p in params]
    rate, decay = config.learning_rate, config.weight_decay
    adamw = torch.optim.AdamW(params, lr=rate, weight_decay=decay, fused=CUDA)
    batch = torch_batch(size, args.batch_size, args.references)
    loss_of = compiled(functools.partial(loss, made, autocast=args.dtype == "bfloat16"))

    def update() -> None:
        value = loss_of(batch)
        value.backward()
        nn.utils.clip_grad_norm_(params, config.clip_norm, foreach=True)
        adamw.step()
        adamw.zero_grad(set_to_none=True)
        torch._foreach_lerp_(ema, [p.detach() for p in params], 1 - config.ema_decay)
        if not torch.isfinite(value):
            raise SystemExit("Error: the loss is not finite: the figures mean nothing")

    return timed(update, args.steps, train_step.WARMUP)


def loss(made: Networks, batch: dict, autocast: bool) -> torch.Tensor:
    """The min-SNR loss of a batch at random times."""
    count, references = batch["references"].shape[:2]
    scale = made.vae.config.scaling_factor
    with torch.no_grad():
        latents = made.encode(batch["target"]).sample().float() * scale
        clean = made.encode(batch["references"].flatten(0, 1)).mode() * scale
        prompt = made.text(batch["prompt"]).last_hidden_state
        words = batch["concepts"].flatten(0, 1)
        concepts = made.text(words).last_hidden_state.unflatten(0, (count, references))
    times = torch.randint(0, 1000, (count,), device=latents.device)
    kept = batch["alphas_cumprod"][times][:, None, None, None]
    noise = torch.randn_like(latents)
    noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
    with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
        clean = clean.unflatten(0, (count, references))
        keys_values = made.retrinet.encode_references(clean, concepts, times)
        output = made.retrinet(noisy, times, prompt, keys_values, batch["reference_mask"])
    error = functional.mse_loss(output.float(), noise, reduction="none").mean((1, 2, 3))
    snr = (kept / (1 - kept)).flatten()
    return (error * (SNR_LIMIT / snr).clamp(max=1)).mean()


@torch.no_grad()
def measure_generating(args: argparse.Namespace, size: int) -> dict:
    """Seconds, memory and compile time of a batch of images, both guidances on."""
    reset()
    made = networks(args).to(getattr(torch, args.dtype))
    batch = torch_batch(size, args.images, args.references)
    sampling = train_step.sd15(size, args).sampling
    weights = sampling.guidance_references, sampling.guidance_prompt
    predict = compiled(functools.partial(guided, made.retrinet, weights))
    decode = compiled(lambda x: made.vae.decode(x).sample)
    scheduler = diffusers.DPMSolverMultistepScheduler(beta_schedule="scaled_linear")

    def generate() -> None:
        count, references = batch["references"].shape[:2]
        scale = made.vae.config.scaling_factor
        clean = made.encode(batch["references"].flatten(0, 1)).mode() * scale
        clean = clean.unflatten(0, (count, references))
        ids = torch.cat([torch.zeros_like(batch["prompt"])] * 2 + [batch["prompt"]])
        prompt = made.text(ids).last_hidden_state
        words = batch["concepts"].flatten(0, 1)
        concepts = made.text(words).last_hidden_state.unflatten(0, (count, references))
        mask = batch["reference_mask"]
        mask = torch.cat([torch.zeros_like(mask), mask, mask])
        latents = torch.randn(count, *clean.shape[2:], device=DEVICE)
        scheduler.set_timesteps(sampling.steps, device=DEVICE)
        for t in scheduler.timesteps:
            times = t.expand(count)
            output = predict(latents.to(clean.dtype), times, prompt, clean, concepts, mask)
            latents = scheduler.step(output, t, latents).prev_sample
        decode(latents.to(clean.dtype) / scale)

    return timed(generate, train_step.GENERATIONS, 1)


def guided(retrinet: RetriNetModel, weights, latents, times, prompt, clean, concepts, mask):
    """The prediction with both guidances (weights); all three variants in one call."""
    keys_values = retrinet.encode_references(clean, concepts, times)
    keys_values = [(k.repeat(3, 1, 1), v.repeat(3, 1, 1)) for k, v in keys_values]
    output = retrinet(latents.repeat(3, 1, 1, 1), times.repeat(3), prompt, keys_values, mask)
    nothing, references, both = output.float().chunk(3)
    return nothing + weights[0] * (references - nothing) + weights[1] * (both - references)


def compiled(function):
    """By torch.compile, where there is a GPU."""
    return torch.compile(function) if CUDA else function


def torch_batch(size: int, count: int, references: int) -> dict[str, torch.Tensor]:
    """The batch of train_step.py, and SD's noise schedule."""
    arrays = vars(train_step.make_batch(size, count, references))
    batch = {k: torch.as_tensor(v).to(DEVICE) for k, v in arrays.items()}
    batch |= {k: batch[k].long() for k in ("prompt", "concepts")}
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, device=DEVICE) ** 2
    return batch | {"alphas_cumprod": (1 - betas).cumprod(0)}


def timed(call, repeats: int, warmup: int) -> dict:
    """Median seconds of a call; the first one's count as compilation."""
    times = []
    for _ in range(repeats + warmup):
        start = time.perf_counter()
        call()
        if CUDA:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 2**30 if CUDA else 0.0
    return {"seconds": statistics.median(times[warmup:]), "memory": peak, "compile": times[0]}


def reset() -> None:
    """Forgets what was compiled and the memory's peak."""
    torch._dynamo.reset()
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()

"""References and a prompt to images: the diffusers pipeline of an exported RetriNet.

    pipe = DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)
    image = pipe("smile", [("face", Image.open("a.png")), ("clothes", Image.open("b.png"))])[0][0]

Axes: B images times guidance variants, R references, C latent channels, h w latent size.
"""

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils import logging
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

CONCEPTS = ("face", "clothes", "character")
WHITE = (255, 255, 255)
logger = logging.get_logger(__name__)


class RetriNetPipeline(DiffusionPipeline):
    """Generates images of a character from references of its face and clothes, and a prompt."""

    model_cpu_offload_seq = "text_encoder->vae->retrinet"

    def __init__(
        self,
        retrinet,
        text_encoder,
        tokenizer,
        scheduler,
        vae,
        size: int = 512,
        view: str = "crop",
        max_tokens: int = 77,
        sampling: dict | None = None,
    ):
        """Takes the parts.

        Args:
          retrinet: `RetriNetModel`.
          text_encoder: `CLIPTextModel`.
          tokenizer: of prompts and concept words.
          scheduler: `RetriNetScheduler`, or one of diffusers' for the same schedule.
          vae: `AutoencoderKL` or `BlockDCT`.
          size: of images and references, in pixels.
          view: how a reference shows its box: "crop" or "in_place".
          max_tokens: length of a prompt.
          sampling: defaults of steps, guidance_references and guidance_prompt.
        """
        super().__init__()
        self.register_modules(
            retrinet=retrinet,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            vae=vae,
        )
        self.register_to_config(
            size=size, view=view, max_tokens=max_tokens, sampling=sampling or {}
        )

    @torch.no_grad()
    def __call__(
        self,
        prompt: str = "",
        references: list[tuple] = (),
        num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_references: float | None = None,
        guidance_prompt: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:
        """Generates images.

        Args:
          prompt: comma-joined tags.
          references: (concept, picture) or (concept, picture, (left, top, width, height)); the
            concept is "face", "clothes" or "character", the picture a PIL image of any size.
          num_images_per_prompt: how many images.
          num_inference_steps: calls of the model; None = as in its training, like the next two.
          guidance_references: 1 = off; above: closer to the references.
          guidance_prompt: 1 = off; above: closer to the prompt.
          generator: of the noise.
          latents: standard normal noise [images, C, h, w], in place of the generator's.
          output_type: "pil", or "pt" for a float tensor [images, 3, H, W] in [0, 1].
          return_dict: False returns a tuple.

        Raises:
          ValueError: unknown concept or output type, or a box outside of its picture.
        """
        if output_type not in ("pil", "pt"):
            raise ValueError(f"output_type {output_type!r}: use 'pil' or 'pt'")
        defaults = self.config.sampling
        steps = num_inference_steps or defaults["steps"]
        weights = _first(guidance_references, defaults["guidance_references"])
        weights = _weights(weights, _first(guidance_prompt, defaults["guidance_prompt"]))
        if latents is None:
            latents = self._noise(num_images_per_prompt, generator)
        predict = self._guided(prompt, list(references), weights, len(latents))
        latents = self._sample(predict, latents.to(self._execution_device), steps)
        images = (self.decode_latents(latents) / 2 + 0.5).clamp(0, 1)
        if output_type == "pil":
            images = self.numpy_to_pil(images.permute(0, 2, 3, 1).float().cpu().numpy())
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _sample(self, predict, latents: torch.Tensor, steps: int) -> torch.Tensor:
        self.scheduler.set_timesteps(steps, device=latents.device)
        latents = latents * self.scheduler.init_noise_sigma
        for t in self.progress_bar(self.scheduler.timesteps):
            output = predict(self.scheduler.scale_model_input(latents, t), t)
            latents = self.scheduler.step(output, t, latents).prev_sample
        return latents

    def _guided(self, prompt: str, references: list[tuple], weights: list, images: int):
        """predict(latents, timestep): the weighted sum over the variants, in one call."""
        texts = [prompt if with_prompt else "" for _, _, with_prompt in weights]
        context = self.encode_text(texts, self.config.max_tokens)
        context = context.repeat_interleave(images, dim=0)  # [B, T, D]
        seen = [[with_references] * len(references) for _, with_references, _ in weights]
        mask = torch.tensor(seen, dtype=torch.bool, device=context.device)
        mask = mask.repeat_interleave(images, dim=0)  # [B, R]
        encode = self._reference_encoder(references)
        fixed = self.retrinet.config.reference_timestep == "zero"
        once = encode(torch.zeros(1, device=context.device)) if fixed else None

        def predict(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            x = latents.to(context.dtype).repeat(len(weights), 1, 1, 1)
            keys_values = once if fixed else encode(timestep[None])
            outputs = self.retrinet(x, timestep.expand(len(x)), context, keys_values, mask)
            parts = outputs.float().chunk(len(weights))
            return sum(weight * part for (weight, _, _), part in zip(weights, parts, strict=True))

        return predict

    def _reference_encoder(self, references: list[tuple]):
        """encode(timestep [1]): keys and values of every level, of the references together."""
        if not references:
            return lambda timestep: []
        pictures = np.stack([self.view(*reference) for reference in references])
        pixels = torch.tensor(pictures, device=self._execution_device).permute(0, 3, 1, 2)
        latents = self.encode_images(pixels.to(self.retrinet.dtype) / 127.5 - 1)[None]
        length = max(len(self.tokenizer(word).input_ids) for word in CONCEPTS)
        concepts = self.encode_text([concept for concept, *_ in references], length)[None]
        return lambda timestep: self.retrinet.encode_references(latents, concepts, timestep)

    def view(self, concept: str, picture: Image.Image, box: tuple | None = None) -> np.ndarray:
        """What the model sees of a reference: uint8 [size, size, 3]."""
        if concept not in CONCEPTS:
            raise ValueError(f"concept {concept!r}: use one of {', '.join(CONCEPTS)}")
        paper = Image.new("RGBA", picture.size, (*WHITE, 255))
        picture = Image.alpha_composite(paper, picture.convert("RGBA")).convert("RGB")
        left, top, width, height = box or (0, 0, *picture.size)
        right, bottom = left + width, top + height
        if min(left, top) < 0 or right > picture.width or bottom > picture.height:
            raise ValueError(f"the box {box} is not inside the picture of {picture.size} pixels")
        inside = picture.crop((left, top, right, bottom))
        if self.config.view == "crop":
            return _resize(inside, self.config.size)
        painted = Image.new("RGB", picture.size, WHITE)
        painted.paste(inside, (left, top))
        return _resize(painted, self.config.size)

    def encode_text(self, texts: list[str], length: int) -> torch.Tensor:
        """Texts -> states [N, length, D]; says what does not fit."""
        for text in texts:
            count = len(self.tokenizer(text).input_ids)
            if count > length:
                logger.warning(f"{text!r} has {count} tokens; all beyond {length} are cut off")
        tokens = self.tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return self.text_encoder(tokens.input_ids.to(self._execution_device))[0]

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, 3, H, W] in [-1, 1] -> latents [N, C, h, w]."""
        return self.vae.encode(images).latent_dist.mode() * self.vae.config.scaling_factor

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse of `encode_images`."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        return self.vae.decode(scaled).sample

    def _noise(self, images: int, generator) -> torch.Tensor:
        config = self.vae.config
        factor = config.get("factor") or 2 ** (len(config.get("block_out_channels")) - 1)
        side = self.config.size // factor
        shape = (images, self.retrinet.config.unet_config["out_channels"], side, side)
        return randn_tensor(shape, generator=generator, device=self._execution_device)


def _first(value: float | None, default: float) -> float:
    return default if value is None else value


def _weights(references: float, prompt: float) -> list[tuple[float, bool, bool]]:
    """[(weight, with references, with prompt)]; those of weight 0 are left out.

    With u = neither, r = references only, f = both:
    u + references (r - u) + prompt (f - r).
    """
    weighted = [
        (1 - references, False, False),
        (references - prompt, True, False),
        (prompt, True, True),
    ]
    return [part for part in weighted if part[0]]


def _resize(picture: Image.Image, size: int) -> np.ndarray:
    """Area-resizes to fit a white square: uint8 [size, size, 3]."""
    scale = size / max(picture.size)
    shape = tuple(max(1, round(side * scale)) for side in picture.size)
    square = Image.new("RGB", (size, size), WHITE)
    corner = ((size - shape[0]) // 2, (size - shape[1]) // 2)
    square.paste(picture.resize(shape, Image.Resampling.BOX), corner)
    return np.asarray(square)

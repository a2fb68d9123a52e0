"""References and a prompt to images: the diffusers pipeline of an exported RetriNet.

    pipe = DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)
    image = pipe("smile", [("face", Image.open("a.png")), ("clothes", Image.open("b.png"))])[0][0]

diffusers takes a pipeline's code from one file, so what reads references stands in it too.

Axes: B images times guidance variants, R references, C latent channels, h w latent size.
"""

import inspect
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, SchedulerMixin
from diffusers.utils import logging
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image, ImageCms

CONCEPTS = ("face", "clothes", "character")
OUTPUT_TYPES = ("pil", "np", "pt", "latent")
SAMPLING = {"steps": 20, "guidance_references": 1.5, "guidance_prompt": 1.5}
WHITE = (255, 255, 255)
ORIENTATION = 0x0112  # EXIF tag
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # colour space -> Pillow's mode
SRGB_TOLERANCE = 3  # levels; a profile that moves no pixel further is sRGB
LETTERS = re.compile(r"[^\W_]{2}")  # two in a row: not an emoticon
Generator = torch.Generator | list[torch.Generator] | None
Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (latents, timestep) -> output
logger = logging.get_logger(__name__)


class RetriNetPipeline(DiffusionPipeline):
    """Generates images of a character from references of its face and clothes, and a prompt."""

    model_cpu_offload_seq = "text_encoder->vae->retrinet"

    def __init__(
        self,
        retrinet: torch.nn.Module,
        text_encoder: torch.nn.Module,
        tokenizer: object,
        scheduler: SchedulerMixin,
        vae: torch.nn.Module,
        size: int = 512,
        view: str = "crop",
        max_tokens: int = 77,
        sampling: dict | None = None,
        underscores_as_spaces: bool = False,
    ) -> None:
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
            sampling: defaults of steps, guidance_references and guidance_prompt; None = SAMPLING.
            underscores_as_spaces: whether red_hair is read as "red hair", as in training.
        """
        super().__init__()
        self.register_modules(
            retrinet=retrinet,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            vae=vae,
        )
        own = {"sampling": sampling or SAMPLING, "underscores_as_spaces": underscores_as_spaces}
        self.register_to_config(size=size, view=view, max_tokens=max_tokens, **own)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] = "",
        references: Sequence[tuple] = (),
        num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_references: float | None = None,
        guidance_prompt: float | None = None,
        generator: Generator = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable | None = None,
    ) -> ImagePipelineOutput | tuple:
        """Generates images.

        Args:
            prompt: comma-joined tags; several prompts share the references.
            references: (concept, picture) or (concept, picture, (left, top, width, height)); the
                concept is "face", "clothes" or "character", the picture a PIL image of any size.
            num_images_per_prompt: how many images; those of one prompt follow each other.
            num_inference_steps: calls of the model; None = as in its training, like the next two.
            guidance_references: 1 = off; above: closer to the references.
            guidance_prompt: 1 = off; above: closer to the prompt.
            generator: of the noise; a list has one for each image.
            latents: standard normal noise [images, C, h, w], in place of the generator's.
            output_type: "pil", "np" [images, H, W, 3] or "pt" [images, 3, H, W], both in [0, 1], or
                "latent" [images, C, h, w].
            return_dict: False returns a tuple.
            callback_on_step_end: (pipe, step, timestep, {"latents": latents}) -> dict of new ones.

        Raises:
            ValueError: an argument is not of the form above, or a box is outside of its picture.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type {output_type!r}: use one of {', '.join(OUTPUT_TYPES)}")
        given = {"steps": num_inference_steps, "guidance_references": guidance_references}
        given["guidance_prompt"] = guidance_prompt
        settings = {**self.config.sampling, **{k: v for k, v in given.items() if v is not None}}
        weights = _weights(settings["guidance_references"], settings["guidance_prompt"])
        prompts = [prompt] if isinstance(prompt, str) else prompt
        if not isinstance(prompts, list):
            raise ValueError(f"prompt {prompt!r}: give a text or a list of texts")
        noise = self._noise(len(prompts), num_images_per_prompt, generator, latents)
        spelled = [self._spelled(text) for text in prompts]
        predict = self._guided(spelled, references, weights, len(noise))
        self.scheduler.set_timesteps(settings["steps"], device=noise.device)
        sampled = self._sample(predict, noise, generator, callback_on_step_end)
        images = sampled if output_type == "latent" else self._images(sampled, output_type)
        self.maybe_free_model_hooks()
        output = ImagePipelineOutput(images)  # pyrefly: ignore[bad-argument-type]  also a tensor
        return output if return_dict else (images,)

    def save_config(self, save_directory: str | Path, *args, **kwargs) -> None:
        """Ends `save_pretrained`: also writes the Python files that the folder needs to load."""
        super().save_config(save_directory, *args, **kwargs)
        path = Path(save_directory) / self.config_name
        index = json.loads(path.read_text())
        for name, part in {"": self, **self.components}.items():
            kind = type(getattr(part, "_orig_mod", part))  # under torch.compile
            if kind.__module__.startswith("diffusers_modules."):
                source = Path(inspect.getfile(kind))
                shutil.copyfile(source, path.parent / name / source.name)
                if name:
                    index[name][0] = source.stem
        path.write_text(json.dumps(index, indent=2) + "\n")

    def _sample(
        self, predict: Predict, noise: torch.Tensor, generator: Generator, callback: Callable | None
    ) -> torch.Tensor:
        latents = noise * self.scheduler.init_noise_sigma
        takes = inspect.signature(self.scheduler.step).parameters
        chance = {"generator": generator} if "generator" in takes else {}
        for i, t in enumerate(self.progress_bar(self.scheduler.timesteps)):
            output = predict(self.scheduler.scale_model_input(latents, t), t)
            latents = self.scheduler.step(output, t, latents, **chance).prev_sample
            if callback:
                latents = callback(self, i, t, {"latents": latents}).get("latents", latents)
        return latents

    def _images(self, latents: torch.Tensor, output_type: str) -> list | np.ndarray | torch.Tensor:
        images = (self.decode_latents(latents) / 2 + 0.5).clamp(0, 1)
        if output_type == "pt":
            return images
        images = images.permute(0, 2, 3, 1).float().cpu().numpy()
        return self.numpy_to_pil(images) if output_type == "pil" else images

    def _guided(
        self, prompts: list[str], references: Sequence[tuple], weights: list[tuple], images: int
    ) -> Predict:
        """Returns predict(latents, timestep): the weighted sum over the variants, in one call."""
        texts = [text if prompted else "" for _, _, prompted in weights for text in prompts]
        context = self.encode_text(texts, self.config.max_tokens)
        context = context.repeat_interleave(images // len(prompts), dim=0)  # [B, T, D]
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
            weighted = (weight * part for (weight, *_), part in zip(weights, parts, strict=True))
            return sum(weighted)  # pyrefly: ignore[bad-return]  at least one has a weight

        return predict

    def _reference_encoder(self, references: Sequence[tuple]) -> Callable[[torch.Tensor], list]:
        """Returns encode(timestep [1]) -> the references' keys and values of every level."""
        if not references:
            return lambda timestep: []
        if not all(isinstance(r, tuple | list) and len(r) in (2, 3) for r in references):
            raise ValueError("references: give a list of (concept, picture[, box])")
        pictures = np.stack([self.view(*reference) for reference in references])
        pixels = torch.tensor(pictures, device=self._execution_device).permute(0, 3, 1, 2)
        concepts = self.encode_concepts([concept for concept, *_ in references])[None]
        latents = self.encode_images(pixels.to(self.vae.dtype) / 127.5 - 1).to(concepts)[None]
        return lambda timestep: self.retrinet.encode_references(latents, concepts, timestep)

    def view(self, concept: str, picture: Image.Image, box: tuple | None = None) -> np.ndarray:
        """Returns what the model reads of a reference: uint8 [size, size, 3]."""
        if concept not in CONCEPTS:
            raise ValueError(f"concept {concept!r}: use one of {', '.join(CONCEPTS)}")
        if not isinstance(picture, Image.Image):
            raise ValueError(f"the picture of a {concept} reference is no PIL image: {picture!r}")
        picture = _rgb(picture)
        left, top, width, height = box or (0, 0, *picture.size)
        right, bottom = left + width, top + height
        inside = min(left, top) >= 0 and right <= picture.width and bottom <= picture.height
        if not inside or min(width, height) < 1:
            raise ValueError(
                f"the box {box} (left, top, width, height) of a {concept} reference is not inside "
                f"its picture of {picture.width}x{picture.height} pixels"
            )
        part = picture.crop((left, top, right, bottom))
        if self.config.view == "crop":
            return _resize(part, self.config.size)
        painted = Image.new("RGB", picture.size, WHITE)
        painted.paste(part, (left, top))
        return _resize(painted, self.config.size)

    def _spelled(self, prompt: str) -> str:
        """Returns a prompt as those of training are spelled."""
        tags = prompt.split(",") if self.config.underscores_as_spaces else []
        return ",".join(t.replace("_", " ") if LETTERS.search(t) else t for t in tags) or prompt

    def encode_text(self, texts: list[str], length: int) -> torch.Tensor:
        """Encodes texts to states [N, length, D]; warns of long texts and unknown words."""
        for text in dict.fromkeys(texts):
            encoded = self.tokenizer(text, return_offsets_mapping=True)
            pairs = zip(encoded.input_ids, encoded.offset_mapping, strict=True)
            if unknown := [text[a:b] for i, (a, b) in pairs if i == self.tokenizer.unk_token_id]:
                logger.warning(f"the model was not trained with the words {', '.join(unknown)}")
            if (count := len(encoded.input_ids)) > length:
                logger.warning(f"{text!r} has {count} tokens; all beyond {length} are cut off")
        tokens = self.tokenizer(
            texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        states = self.text_encoder(tokens.input_ids.to(self._execution_device))[0]
        return states.to(self.retrinet.dtype)  # transformers loads float16 files as float16

    def encode_concepts(self, concepts: list[str]) -> torch.Tensor:
        """Encodes concepts to states of their words [N, T, D]."""
        return self.encode_text(concepts, max(len(self.tokenizer(w).input_ids) for w in CONCEPTS))

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        """Encodes images [N, 3, H, W] in [-1, 1] to latents [N, C, h, w]."""
        return self.vae.encode(images).latent_dist.mode() * self.vae.config.scaling_factor

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Decodes latents: the inverse of `encode_images`."""
        return self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample

    def _noise(
        self, prompts: int, per_prompt: int, generator: Generator, latents: torch.Tensor | None
    ) -> torch.Tensor:
        """Returns the latents given, checked, or new noise: [images, C, h, w]."""
        vae = self.vae.config
        side = self.config.size // (vae.get("factor") or 2 ** (len(vae["block_out_channels"]) - 1))
        shape = (self.retrinet.config.unet_config["out_channels"], side, side)
        images = prompts * per_prompt if latents is None else len(latents)
        if images < 1 or images % prompts:
            raise ValueError(f"{images} images of {prompts} prompts: not one or more for each")
        if isinstance(generator, list) and len(generator) != images:
            raise ValueError(f"{len(generator)} generators for {images} images: give one for each")
        if latents is None:
            return randn_tensor((images, *shape), generator, self._execution_device)
        if latents.shape[1:] != shape:
            wanted, found = [", ".join(map(str, sizes)) for sizes in (shape, latents.shape)]
            raise ValueError(f"latents are [{found}], they must be [images, {wanted}]")
        return latents.to(self._execution_device)


def _rgb(picture: Image.Image) -> Image.Image:
    """Returns the image upright, in sRGB, and over white where it is transparent."""
    profile = picture.info.get("icc_profile")
    picture = _eight_bits(_upright(picture))
    clear, colours = picture.convert("RGBA"), picture
    if picture.mode in ("L", "LA"):
        colours = clear.getchannel(0)
    elif picture.mode != "CMYK":
        colours = clear.convert("RGB")
    colours = _srgb(colours, profile)
    colours.putalpha(clear.getchannel("A"))
    paper = Image.new("RGBA", picture.size, (*WHITE, 255))
    return Image.alpha_composite(paper, colours).convert("RGB")


def _upright(picture: Image.Image) -> Image.Image:
    """Returns the image turned as EXIF says.

    ImageOps.exif_transpose also writes the EXIF data again, which fails for broken ones.
    """
    try:
        turn = TURNS.get(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # broken EXIF is no reason to reject the image
        return picture
    return picture if turn is None else picture.transpose(turn)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Returns greys of 16 bits, or of 32 that hold 16 or 8, as mode "L"; others as they are."""
    if not picture.mode.startswith("I"):
        return picture
    grey = np.asarray(picture).astype(np.int64)
    grey = grey * 257 if picture.mode == "I" and grey.max() <= 255 else grey
    return Image.fromarray(np.round(grey.clip(0, 65535) / 257).astype(np.uint8))


def _srgb(colours: Image.Image, profile: bytes | None) -> Image.Image:
    """Returns an image of mode RGB, L or CMYK as RGB: in sRGB, where its profile can be read."""
    plain = colours.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
        if PROFILE_MODES.get(source.profile.xcolor_space.strip()) != colours.mode:
            return plain
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            colours.mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        converted = transform.apply(colours)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # no profile, or a broken one
        return plain
    moved = np.abs(np.asarray(converted, int) - np.asarray(plain, int)).max()
    return plain if colours.mode != "CMYK" and moved <= SRGB_TOLERANCE else converted


def _weights(references: float, prompt: float) -> list[tuple[float, bool, bool]]:
    """Returns [(weight, with references, with prompt)] without those of weight 0.

    With u = neither, r = references only, f = both: u + references (r - u) + prompt (f - r).
    """
    only = (references - prompt, True, False)
    return [w for w in ((1 - references, False, False), only, (prompt, True, True)) if w[0]]


def _resize(picture: Image.Image, size: int) -> np.ndarray:
    """Resizes to fit a white square, uint8 [size, size, 3]: by areas, or bicubic to enlarge."""
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = Image.new("RGB", (size, size), WHITE)
    kind = Image.Resampling.BOX if scale <= 1 else Image.Resampling.BICUBIC
    square.paste(picture.resize((width, height), kind), ((size - width) // 2, (size - height) // 2))
    return np.asarray(square)

"""ComfyUI nodes for an exported RetriNet: copy this file into ComfyUI's `custom_nodes` folder.

RetriNet Load (folder of the export) -> RetriNet Generate; a chain of RetriNet Reference nodes, one
for each picture, gives the references.
"""

import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from PIL import Image

try:
    from comfy import model_management
    from comfy.utils import ProgressBar
except ModuleNotFoundError:  # the nodes also work as plain classes, without progress
    model_management = ProgressBar = None

PRECISIONS = ["float32", "float16", "bfloat16"]
_loaded = weakref.WeakValueDictionary()  # (file, its time, precision) -> pipeline that is in use


class RetriNetLoad:
    """Loads an exported folder."""

    RETURN_TYPES = ("RETRINET",)
    FUNCTION = "load"
    CATEGORY = "RetriNet"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Returns the inputs of the node."""
        return {"required": {"folder": ("STRING", {"default": ""}), "precision": (PRECISIONS,)}}

    @classmethod
    def IS_CHANGED(cls, folder: str, precision: str = "float32") -> str:
        """Returns what ComfyUI compares to decide whether to load again: exports may change."""
        return str(_identity(folder, precision))

    def load(self, folder: str, precision: str = "float32") -> tuple:
        """Returns the pipeline on ComfyUI's device; equal nodes share one."""
        key = _identity(folder, precision)
        pipe = _loaded.get(key)
        if pipe is None:
            folder = str(Path(key[0]).parent)
            pipe = DiffusionPipeline.from_pretrained(
                folder, custom_pipeline=folder, trust_remote_code=True
            )
            pipe.to(_device(), getattr(torch, precision))
            pipe.set_progress_bar_config(disable=True)
            _loaded[key] = pipe
        return (pipe,)


class RetriNetReference:
    """Adds the images of a batch to the references."""

    RETURN_TYPES = ("RETRINET_REFERENCES",)
    FUNCTION = "add"
    CATEGORY = "RetriNet"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Returns the inputs of the node."""
        return {
            "required": {"image": ("IMAGE",), "concept": (["face", "clothes", "character"],)},
            "optional": {"mask": ("MASK",), "previous": ("RETRINET_REFERENCES",)},
        }

    def add(
        self,
        image: torch.Tensor,
        concept: str,
        mask: torch.Tensor | None = None,
        previous: tuple = (),
    ) -> tuple:
        """Returns the references.

        Args:
            image: [B, H, W, 1, 3 or 4] in [0, 1], of any float type.
            concept: what to take from the images.
            mask: [1 or B, H, W] or None.
            previous: references to add to.

        Raises:
            ValueError: the images have other channels, or the mask is empty or does not fit them.
        """
        boxes = [None] * len(image) if mask is None else _boxes(mask, image)
        added = [(concept, *both) for both in zip(map(_picture, image), boxes, strict=True)]
        return ((*previous, *added),)


class RetriNetGenerate:
    """Generates images."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "generate"
    CATEGORY = "RetriNet"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Returns the inputs of the node; -1 takes the export's own setting."""
        guidance = ("FLOAT", {"default": -1.0, "min": -1.0, "max": 20.0, "step": 0.1})
        return {
            "required": {
                "model": ("RETRINET",),
                "prompt": ("STRING", {"multiline": True, "default": ""}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**64 - 1}),
                "num_images": ("INT", {"default": 1, "min": 1, "max": 64}),
                "steps": ("INT", {"default": -1, "min": -1, "max": 1000}),
                "guidance_references": guidance,
                "guidance_prompt": guidance,
            },
            "optional": {"references": ("RETRINET_REFERENCES",)},
        }

    def generate(
        self,
        model: DiffusionPipeline,
        prompt: str,
        seed: int,
        num_images: int,
        steps: int,
        guidance_references: float,
        guidance_prompt: float,
        references: tuple = (),
    ) -> tuple:
        """Returns images [num_images, H, W, 3] in [0, 1]; image i has the seed `seed` + i.

        Steps below 1 and guidance below 0 are the export's own settings.
        """
        steps = steps if steps > 0 else model.config.sampling["steps"]
        seeds = [(seed + i) % 2**64 for i in range(num_images)]
        noise = [torch.Generator().manual_seed(number) for number in seeds]
        images = model(
            prompt,
            list(references),
            num_images_per_prompt=num_images,
            num_inference_steps=steps,
            guidance_references=None if guidance_references < 0 else guidance_references,
            guidance_prompt=None if guidance_prompt < 0 else guidance_prompt,
            generator=noise,
            output_type="pt",
            callback_on_step_end=_progress(steps),
        ).images
        return (images.permute(0, 2, 3, 1).float().cpu(),)


def _device() -> torch.device:
    """Returns ComfyUI's device; elsewhere a GPU if there is one."""
    if model_management:
        return model_management.get_torch_device()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _progress(steps: int) -> Callable | None:
    """Returns a callback that moves ComfyUI's bar and ends where the user cancels."""
    if not model_management:
        return None
    bar = ProgressBar(steps)

    def on_step(pipe: DiffusionPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> dict:
        model_management.throw_exception_if_processing_interrupted()
        bar.update(1)
        return tensors

    return on_step


def _identity(folder: str, precision: str) -> tuple:
    """Returns the export's index, when it was written, and the precision."""
    path = Path(folder.strip().strip('"')).expanduser().absolute() / "model_index.json"
    if not path.is_file():
        raise ValueError(
            f"RetriNet Load: {path} is missing; `folder` must be the path of a folder that "
            "export_pytorch.py wrote"
        )
    return str(path), path.stat().st_mtime_ns, precision


def _picture(pixels: torch.Tensor) -> Image.Image:
    """Returns an image of pixels [H, W, 1, 3 or 4] in [0, 1]; those that are no number are black.

    Raises:
        ValueError: for other shapes.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ValueError(
            "RetriNet Reference: images must be [B, H, W, channels] with 1 (grey), 3 (RGB) or 4 "
            f"(RGBA) channels; those of this batch are {list(pixels.shape)}"
        )
    levels = pixels.float().nan_to_num(0.0).clamp(0, 1) * 255  # NumPy has no bfloat16
    array = levels.round().to(torch.uint8).cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def _boxes(mask: torch.Tensor, image: torch.Tensor) -> list[tuple[int, int, int, int]]:
    """Returns the box of every image's mask."""
    mask = mask.reshape(-1, *mask.shape[-2:])
    if not mask.any():
        raise ValueError(
            "RetriNet Reference: the mask is empty (Load Image gives an empty one for a picture "
            "without transparency). Paint what shows the concept in the mask editor, or "
            "disconnect the mask: then all of the picture counts."
        )
    if mask.shape[1:] != image.shape[1:3] or len(mask) not in (1, len(image)):
        counts = [f"{len(x)} of {x.shape[2]}x{x.shape[1]} pixels" for x in (mask, image)]
        raise ValueError(f"RetriNet Reference: masks ({counts[0]}) do not fit images ({counts[1]})")
    return [_box(one) for one in mask.expand(len(image), -1, -1)]


def _box(mask: torch.Tensor) -> tuple[int, int, int, int]:
    """Returns the box (left, top, width, height) of the pixels of a mask [H, W] over one half."""
    rows, columns = torch.nonzero(mask > 0.5, as_tuple=True)
    if not len(rows):
        raise ValueError("RetriNet Reference: a mask is nowhere over one half")
    left, top = int(columns.min()), int(rows.min())
    return left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top


NODE_CLASS_MAPPINGS = {
    "RetriNetLoad": RetriNetLoad,
    "RetriNetReference": RetriNetReference,
    "RetriNetGenerate": RetriNetGenerate,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "RetriNetLoad": "RetriNet Load",
    "RetriNetReference": "RetriNet Reference",
    "RetriNetGenerate": "RetriNet Generate",
}

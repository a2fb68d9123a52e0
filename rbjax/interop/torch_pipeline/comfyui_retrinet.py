"""ComfyUI nodes for an exported RetriNet: copy this file into ComfyUI's `custom_nodes` folder.

RetriNet Load (folder of the export) -> RetriNet Generate; a chain of RetriNet Reference nodes, one
for each picture, gives the references.
"""

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image


class RetriNetLoad:
    """Loads an exported folder."""

    RETURN_TYPES = ("RETRINET",)
    FUNCTION = "load"
    CATEGORY = "RetriNet"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Inputs of the node."""
        return {"required": {"folder": ("STRING", {"default": ""})}}

    def load(self, folder: str) -> tuple:
        """Returns the pipeline, on a GPU where there is one."""
        pipe = DiffusionPipeline.from_pretrained(
            folder, custom_pipeline=folder, trust_remote_code=True
        )
        return (pipe.to("cuda" if torch.cuda.is_available() else "cpu"),)


class RetriNetReference:
    """Adds the images of a batch to the references."""

    RETURN_TYPES = ("RETRINET_REFERENCES",)
    FUNCTION = "add"
    CATEGORY = "RetriNet"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Inputs of the node."""
        return {
            "required": {"image": ("IMAGE",), "concept": (["face", "clothes", "character"],)},
            "optional": {"mask": ("MASK",), "previous": ("RETRINET_REFERENCES",)},
        }

    def add(self, image, concept: str, mask=None, previous: tuple = ()) -> tuple:
        """Returns the references; image [B, H, W, 3] in [0, 1], mask [1 or B, H, W] or None."""
        added = []
        for i, pixels in enumerate(image):
            picture = Image.fromarray(np.round(pixels.cpu().numpy() * 255).astype(np.uint8))
            box = None if mask is None else _box(mask[min(i, len(mask) - 1)])
            added.append((concept, picture, box))
        return ((*previous, *added),)


class RetriNetGenerate:
    """Generates images."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "generate"
    CATEGORY = "RetriNet"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Inputs of the node."""
        guidance = ("FLOAT", {"default": 1.5, "min": 0.0, "max": 20.0, "step": 0.1})
        return {
            "required": {
                "model": ("RETRINET",),
                "prompt": ("STRING", {"multiline": True, "default": ""}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**32 - 1}),
                "num_images": ("INT", {"default": 1, "min": 1, "max": 64}),
                "steps": ("INT", {"default": 20, "min": 1, "max": 1000}),
                "guidance_references": guidance,
                "guidance_prompt": guidance,
            },
            "optional": {"references": ("RETRINET_REFERENCES",)},
        }

    def generate(
        self,
        model,
        prompt: str,
        seed: int,
        num_images: int,
        steps: int,
        guidance_references: float,
        guidance_prompt: float,
        references: tuple = (),
    ) -> tuple:
        """Returns images [num_images, H, W, 3] in [0, 1]; image i has the seed `seed` + i."""
        noise = [torch.Generator().manual_seed(seed + i) for i in range(num_images)]
        images = model(
            prompt,
            list(references),
            num_images_per_prompt=num_images,
            num_inference_steps=steps,
            guidance_references=guidance_references,
            guidance_prompt=guidance_prompt,
            generator=noise,
            output_type="pt",
        ).images
        return (images.permute(0, 2, 3, 1).float().cpu(),)


def _box(mask: torch.Tensor) -> tuple[int, int, int, int]:
    """The box (left, top, width, height) around the pixels of a mask [H, W] over one half."""
    rows, columns = torch.nonzero(mask > 0.5, as_tuple=True)
    if not len(rows):
        raise ValueError("the mask of a RetriNet reference is empty")
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

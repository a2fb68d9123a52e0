"""A small RetriBooru: images drawn by a seed, and their annotations."""

import io
import json
import pathlib

import numpy as np
from PIL import Image

OUTFITS, IMAGES = 2, 3  # of each character


def draw_image(seed: int, size=(48, 64), mode="RGB") -> Image.Image:
    """A smooth image (width, height) that no other seed makes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 3, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def draw_detailed(seed: int, size=(300, 400)) -> Image.Image:
    """An image (width, height) with detail of every size."""
    rng = np.random.default_rng(seed)
    layers = [rng.integers(0, 256, (s * 4 // 3, s, 3), np.uint8) for s in (6, 60, 400)]
    parts = [Image.fromarray(a).resize(size, Image.Resampling.BICUBIC) for a in layers]
    return Image.blend(Image.blend(parts[0], parts[1], 0.5), parts[2], 0.3)


def encoded(image: Image.Image, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def records(characters: int) -> list[dict]:
    """Annotations of `characters` with OUTFITS outfits of IMAGES images each."""
    made = []
    for character in range(characters):
        for outfit in range(OUTFITS):
            first = 6000 + 100 * character + 10 * outfit
            ids = [str(first + i) for i in range(IMAGES)]
            for name in ids:
                made.append(
                    {
                        "id": name,
                        "character": f"girl_{character}_(test)",
                        "artists": f"artist_{character % 3}",
                        "bbox": [0.5, 0.25, 0.4, 0.3],
                        "cloths": ["red skirt", f"hat {outfit}"],
                        "similar": [other for other in ids if other != name],
                        "prompts": f"1girl, blue_hair, closed_eyes, red_skirt, hat_{outfit}, smile",
                    }
                )
    return made


def write(root: pathlib.Path, made: list[dict], masks=True) -> pathlib.Path:
    """Writes annotations, images (flat) and masks under `root`."""
    for folder in ("annotations", "images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(record) + "\n" for record in made)
    (root / "annotations" / "all.json").write_text(lines)
    for record in made:
        name = record["id"]
        (root / "images" / f"{name}.png").write_bytes(encoded(draw_image(int(name))))
        if masks:
            mask = Image.new("L", (48, 64))
            mask.paste(255, (10, 5, 38, 64))
            (root / "masks" / f"{name}.png").write_bytes(encoded(mask))
    return root

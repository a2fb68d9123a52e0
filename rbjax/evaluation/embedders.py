"""Models of a user's folders that turn images and texts into vectors, for measures of similarity.

CLIP (`CLIPModel`, or `CLIPVisionModelWithProjection`), DINO (`ViTModel` or `Dinov2Model`), each in
a folder as transformers saves it with its image processor (and, for texts, tokenizer); and a
network for faces as an ONNX file. None ships with the package.

Axes: N images or texts, H, W the size of an image, D of a vector.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
import tokenizers
from flax import nnx

from rbjax.evaluation import face_model
from rbjax.evaluation.image_processors import ImageProcessor
from rbjax.interop import hub_cache, huggingface
from rbjax.models.clip_vision import CLIPModel, CLIPVisionModelWithProjection
from rbjax.models.dino import DinoModel
from rbjax.text.tokenizer import clip_tokenizer
from rbjax.vqa.batches import digest

BATCH = 32  # images or texts of a compiled call
CLIP, DINO, FACE = "CLIP", "DINO", "face"  # names in results and reports

# N images, float32 [N, H, W, 3] in [-1, 1], or of several sizes -> N vectors [N, D]
Embed = Callable[[Sequence[np.ndarray] | np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Embedders:
    """What there is to embed with.

    Attributes:
        images: name (CLIP, DINO) to the model.
        texts: texts -> vectors [N, D], comparable with those of `images[CLIP]`; None: no such one.
        faces: of crops of faces; None: no such model.
    """

    images: Mapping[str, Embed] = dataclasses.field(default_factory=dict)
    texts: Callable[[Sequence[str]], np.ndarray] | None = None
    faces: Embed | None = None

    @property
    def all(self) -> dict[str, Embed]:
        """All models of images, by name."""
        return {**self.images, **({} if self.faces is None else {FACE: self.faces})}


NOTHING = Embedders()


def load(clip: str = "", dino: str = "", face: str = "") -> Embedders:
    """Opens the models; "" is none.

    Args:
        clip: folder of a CLIP.
        dino: folder of a DINO.
        face: ONNX file.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a folder holds something else, or onnxruntime is missing.
    """
    images, texts = {}, None
    if clip:
        folder = hub_cache.model_folder(Path(clip).expanduser())
        model = _load(folder, (CLIPModel, CLIPVisionModelWithProjection), "CLIP")
        images[CLIP] = remembered(_image_embedder(folder, model))
        if isinstance(model, CLIPModel):
            texts = _text_embedder(model, clip_tokenizer(folder, _length(model)))
    if dino:
        folder = hub_cache.model_folder(Path(dino).expanduser())
        images[DINO] = remembered(_image_embedder(folder, _load(folder, (DinoModel,), "DINO")))
    faces = remembered(face_model.load(Path(face).expanduser())) if face else None
    return Embedders(images, texts, faces)


def remembered(embed: Embed) -> Embed:
    """Returns the function that embeds each image once, however often it is asked for."""
    known: dict[bytes, np.ndarray] = {}

    def look_up(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        keys = [digest(image) for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
        if new:
            known.update(zip(new, embed(list(new.values())), strict=True))
        return np.stack([known[key] for key in keys]) if keys else np.zeros((0, 1), np.float32)

    return look_up


def _load(folder: Path, kinds: tuple[type, ...], name: str) -> nnx.Module:
    model = huggingface.load(folder, dtype=np.dtype(np.float32))
    if not isinstance(model, kinds):
        raise ValueError(
            f"{folder} holds a {type(model).__name__}, not a {name} model for images "
            f"({', '.join(kind.__name__ for kind in kinds)})"
        )
    return model


def _image_embedder(folder: Path, model: nnx.Module) -> Embed:
    process = ImageProcessor.read(folder)
    graph, state = nnx.split(model)

    @jax.jit
    def embed(state: nnx.State, images: jax.Array) -> jax.Array:
        return features(nnx.merge(graph, state), images)

    def of_images(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        return _in_batches(lambda part: embed(state, process(part)), list(images))

    return of_images


def features(model: nnx.Module, images: jax.Array) -> jax.Array:
    """Returns the vectors of processed images: CLIP's embeddings, or DINO's class token."""
    if isinstance(model, CLIPModel):
        return model.get_image_features(images)
    if isinstance(model, CLIPVisionModelWithProjection):
        return model(images)
    assert isinstance(model, DinoModel)
    return model(images)[:, 0]


def _text_embedder(
    model: CLIPModel, tokenizer: tokenizers.Tokenizer
) -> Callable[[Sequence[str]], np.ndarray]:
    graph, state = nnx.split(model)
    padding = tokenizer.padding or {}  # of clip_tokenizer; here to one length
    tokenizer.enable_padding(**padding | {"length": _length(model)})

    @jax.jit
    def embed(state: nnx.State, ids: jax.Array) -> jax.Array:
        return nnx.merge(graph, state).get_text_features(ids)

    def of_texts(texts: Sequence[str]) -> np.ndarray:
        ids = [np.array(tokenizer.encode(text).ids, np.int32) for text in texts]
        return _in_batches(lambda part: embed(state, np.stack(part)), ids)

    return of_texts


def _length(model: CLIPModel) -> int:
    return model.config.text.max_position_embeddings


def _in_batches(
    embed: Callable[[list[np.ndarray]], jax.Array], items: list[np.ndarray]
) -> np.ndarray:
    """Returns the vectors of items, in batches of one shape; the last is filled up."""
    rows = []
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        rows.append(np.asarray(embed(part + part[-1:] * (BATCH - len(part))))[: len(part)])
    return np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)

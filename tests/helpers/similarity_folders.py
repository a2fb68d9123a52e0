"""Small CLIP and DINO folders and a network for faces, with random weights."""

import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import onnx
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper

CLIP_PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 17},
    "crop_size": {"height": 14, "width": 14},
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.2, 0.3, 0.4],
}
VIT_PROCESSOR = {"feature_extractor_type": "ViTFeatureExtractor", "size": 20, "resample": 3}
SIZES = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def make_clip(folder: Path) -> transformers.CLIPModel:
    """Saves a CLIP whose tokens are letters."""
    tokens = ["!", ",", *LETTERS, *(f"{letter}</w>" for letter in LETTERS + "!,")]
    ids = {t: i for i, t in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    text = SIZES | {
        **{"vocab_size": len(ids), "max_position_embeddings": 77, "bos_token_id": len(ids) - 2},
        **{"eos_token_id": len(ids) - 1, "pad_token_id": len(ids) - 1},
    }
    vision = SIZES | {"image_size": 14, "patch_size": 4}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=9)
    return _save(transformers.CLIPModel(config), folder, CLIP_PROCESSOR)


def make_dino(folder: Path) -> transformers.ViTModel:
    """Saves a DINO v1."""
    config = transformers.ViTConfig(**SIZES, image_size=20, patch_size=4)
    return _save(transformers.ViTModel(config), folder, VIT_PROCESSOR)


def make_face(path: Path, side: int = 8) -> np.ndarray:
    """Writes a network that is one matrix, [3 * side * side, 5], which is returned."""
    weight = np.random.default_rng(0).standard_normal((3 * side * side, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "w"], ["y"]),
        ],
        "face",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return weight


def _save(model, folder: Path, processor: dict):
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model

"""Small BLIP-VQA folders with random weights, in the forms in which transformers keeps them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

WORDS = (
    "[PAD] [unused0] [UNK] [CLS] [SEP] [MASK] what is the there person wearing ? ' s color are "
    "clothes red blue dress shirt ##s ##less hair , . yes no a of e 長 い"
).split()
SIDE = 32  # pixels


def make(
    folder: Path, *, words: Sequence[str] = WORDS, **text: int
) -> transformers.BlipForQuestionAnswering:
    """Returns a model of two layers, whose [DEC] is the token after the vocabulary and [ENC]."""
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    config = transformers.BlipConfig(
        vision_config=sizes | {"num_attention_heads": 2, "image_size": SIDE, "patch_size": 16},
        text_config=sizes | {
            "num_attention_heads": 3, "vocab_size": len(words) + 2, "encoder_hidden_size": 24,
            "max_position_embeddings": 40, "bos_token_id": len(words), "pad_token_id": 0,
            "sep_token_id": 4, "eos_token_id": 4,
        } | text,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BlipForQuestionAnswering(config).eval()
    for name, parameter in model.named_parameters():  # so that answers differ and end
        norm = "norm" in name.lower() and name.endswith("weight")
        parameter.data.normal_(float(norm), 0.1 if name.endswith("bias") else 0.6)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    write(
        folder, "tokenizer_config.json", {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}
    )
    write(
        folder,
        "preprocessor_config.json",
        {"image_processor_type": "BlipImageProcessor", "size": {"height": SIDE, "width": SIDE}},
    )
    return model


def write(folder: Path, name: str, content: dict) -> None:
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
